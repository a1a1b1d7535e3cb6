#!/usr/bin/env bash
# LangChain turns the arguments of a call that `max_tokens` cut into a valid call if the answer is
# streamed, and into an invalid one if not.
#
# Packages: langchain-openai 1.7.4 with langchain-core 1.8.3 (PyPI)
# Input: a call whose arguments end in the middle, {"path": "/tmp/rep, with finish_reason
#   "length"; once streamed, once whole.
# Seen: streamed: `tool_calls` has one call with the argument path = "/tmp/rep", and
#   `invalid_tool_calls` is empty. Whole: the reverse, with the error that the arguments are not
#   JSON.
# A good guess: an invalid call in both forms: the message object is the same, and it has a field
#   for calls that cannot be parsed.
# Why it matters: an agent that streams writes to, or deletes, a path that the model never
#   finished. The only sign is finish_reason, so a server must send "length" faithfully, and not
#   "tool_calls", for a call that it cut.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv --without-pip venv
python3 -m pip --python venv/bin/python install --quiet --disable-pip-version-check --no-compile \
  langchain-openai==1.7.4 langchain-core==1.8.3 >&2
venv/bin/python - <<'PY'
import functools, json, operator, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from langchain_openai import ChatOpenAI


class Upstream:
    """A scripted server on loopback: answer(handler, body, number of the request) writes each answer."""

    def __init__(self, answer):
        self.requests, self.connections = [], set()
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                upstream.requests.append(body)
                upstream.connections.add(self.client_address)
                answer(self, body, len(upstream.requests))

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        server.handle_error = lambda *_: None
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{server.server_address[1]}/v1"


def send(handler, status, body, kind="application/json", **headers):
    data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    handler.send_response(status)
    handler.send_header("content-type", kind)
    handler.send_header("content-length", str(len(data)))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(data)


def whole(message, finish_reason="stop"):
    choice = {"index": 0, "message": {"role": "assistant"} | message, "finish_reason": finish_reason}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    return {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}


def chunk(delta, finish_reason=None, **more):
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]} | more


def event(value):
    return f"data: {json.dumps(value)}\n\n"


def stream(handler, *events):
    send(handler, 200, "".join(events) + "data: [DONE]\n\n", "text/event-stream")


def call_piece(arguments, **more):
    function = {"arguments": arguments} | ({"name": more.pop("name")} if "name" in more else {})
    return {"tool_calls": [{"index": 0, "function": function} | more]}


CUT = '{"path": "/tmp/rep'


def answer(handler, body, number):
    if body.get("stream"):
        begun = chunk({"role": "assistant"} | call_piece("", name="f", id="x", type="function"))
        stream(handler, event(begun), event(chunk(call_piece(CUT))), event(chunk({}, "length")))
    else:
        call = {"id": "x", "type": "function", "function": {"name": "f", "arguments": CUT}}
        send(handler, 200, whole({"content": None, "tool_calls": [call]}, "length"))


model = ChatOpenAI(base_url=Upstream(answer).url, api_key="x", model="m")
streamed = functools.reduce(operator.add, model.stream("x"))
given = model.invoke("x")
assert [call["args"] for call in streamed.tool_calls] == [{"path": "/tmp/rep"}], streamed
assert streamed.invalid_tool_calls == [] and streamed.response_metadata["finish_reason"] == "length"
assert given.tool_calls == [] and [call["args"] for call in given.invalid_tool_calls] == [CUT], given
print("as described: a valid call streamed, an invalid one whole")
PY
