#!/usr/bin/env bash
# LangChain adds what a stream repeats: usage that is sent with each chunk is summed, and a second
# finish_reason is appended to the first.
#
# Packages: langchain-openai 1.7.4 with langchain-core 1.8.3 (PyPI); ai 7.0.173 with
#   @ai-sdk/openai-compatible 3.0.92 (npm) on Node 22 for comparison
# Input: a stream of three chunks, each with the usage so far: 5 prompt tokens, and 1, 2, 2
#   completion tokens, as vLLM sends it with continuous usage; the last two chunks both have
#   finish_reason "stop".
# Seen: LangChain reports 15 input and 5 output tokens, and the finish_reason "stopstop". The AI
#   SDK reports 5 and 2, and "stop".
# A good guess: the last value counts: each chunk states the usage of the whole request up to
#   there.
# Why it matters: bills and limits are several times too high, growing with the length of the
#   answer; and code that compares the reason with "stop" or "length" finds neither. A gateway
#   must send one usage and one reason, whatever its engine sends.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
export PATH="$dir/node_modules/.bin:$PATH"
npm install --silent --no-audit --no-fund ai@7.0.173 @ai-sdk/openai-compatible@3.0.92 node@22.23.3 >&2
python3 -m venv --without-pip venv
python3 -m pip --python venv/bin/python install --quiet --disable-pip-version-check --no-compile \
  langchain-openai==1.7.4 langchain-core==1.8.3 >&2
cat >client.mjs <<'JS'
import { streamText } from "ai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
const model = createOpenAICompatible({ name: "p", baseURL: process.argv[2] })("m");
const answer = streamText({ model, prompt: "x" });
await answer.consumeStream();
const usage = await answer.usage;
console.log(JSON.stringify([usage.inputTokens, usage.outputTokens, await answer.finishReason]));
process.exit(0);
JS
venv/bin/python - <<'PY'
import functools, json, operator, subprocess, threading
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


def chunk(delta, finish_reason=None, **more):
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]} | more


def event(value):
    return f"data: {json.dumps(value)}\n\n"


def stream(handler, *events):
    send(handler, 200, "".join(events) + "data: [DONE]\n\n", "text/event-stream")


def node(url, *arguments):
    command = ["node", "client.mjs", url, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def answer(handler, body, number):
    usage = [{"prompt_tokens": 5, "completion_tokens": count, "total_tokens": 5 + count} for count in (1, 2, 2)]
    stream(
        handler,
        event(chunk({"role": "assistant", "content": "a"}, usage=usage[0])),
        event(chunk({"content": "b"}, "stop", usage=usage[1])),
        event(chunk({}, "stop", usage=usage[2])),
    )


url = Upstream(answer).url
streamed = functools.reduce(operator.add, ChatOpenAI(base_url=url, api_key="x", model="m").stream("x"))
seen = streamed.usage_metadata["input_tokens"], streamed.usage_metadata["output_tokens"]
assert seen == (15, 5), seen
assert streamed.content == "ab" and streamed.response_metadata["finish_reason"] == "stopstop", streamed
seen = node(url)
assert seen == [5, 2, "stop"], seen
print("as described: 15, 5 and stopstop in LangChain")
PY
