#!/usr/bin/env bash
# After an empty answer Pydantic AI asks a second time: without the answer, and with a system
# message as the last one.
#
# Packages: pydantic-ai-slim 2.68.0 (PyPI)
# Input: an agent that has no instructions and gets the prompt "hi"; the first answer is a whole
#   completion with the content "" and finish_reason "stop", the second has text.
# Seen: the messages of the second request are the user's "hi" and a system message that asks for
#   text or a call. There is no assistant message.
# A good guess: the run ends with an empty text, or asks again with a user message behind the
#   empty answer.
# Why it matters: many chat templates refuse a system message that is not the first, and others
#   print it where no model was trained to see one. For a local model whose first token ends the
#   answer, this request then fails with a 400 that the user cannot explain.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv --without-pip venv
python3 -m pip --python venv/bin/python install --quiet --disable-pip-version-check --no-compile \
  "pydantic-ai-slim[openai]==2.68.0" >&2
venv/bin/python - <<'PY'
import json, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider


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


def answer(handler, body, number):
    send(handler, 200, whole({"content": "" if number == 1 else "hello"}))


upstream = Upstream(answer)
provider = OpenAIProvider(base_url=upstream.url, api_key="x")
assert Agent(OpenAIChatModel("m", provider=provider)).run_sync("hi").output == "hello"
roles = [[message["role"] for message in request["messages"]] for request in upstream.requests]
assert roles == [["user"], ["user", "system"]], roles
print("as described: user, system")
PY
