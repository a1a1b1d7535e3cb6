#!/usr/bin/env bash
# An error whose words stand in a string, as Ollama and FastAPI send it, has no words in OpenAI's
# Python SDK and in the AI SDK.
#
# Packages: openai 3.57.0 (PyPI); openai 7.59.0, ai 7.0.173 with @ai-sdk/openai-compatible 3.0.92
#   (npm) on Node 22
# Input: a 400 with the body {"error": "model is too small"}, and one with {"detail": "model is
#   too small"}.
# Seen: the message of the exception is "Error code: 400" in Python and "Bad Request" in the AI
#   SDK, for both bodies. Only the Node SDK shows the words: 400 "model is too small", and 400
#   {"detail":"model is too small"}.
# A good guess: the words, or the raw body, are part of the message: the body is short, it is
#   JSON, and the SDK has it (Python's `body` attribute holds it).
# Why it matters: users paste the message into a report. A gateway that passes an engine's error
#   on in the engine's own shape takes away the only sentence that explains it, so it must rewrite
#   it as {"error": {"message": …}}.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
export PATH="$dir/node_modules/.bin:$PATH"
npm install --silent --no-audit --no-fund openai@7.59.0 ai@7.0.173 @ai-sdk/openai-compatible@3.0.92 node@22.23.3 >&2
python3 -m venv --without-pip venv
python3 -m pip --python venv/bin/python install --quiet --disable-pip-version-check --no-compile \
  openai==3.57.0 >&2
cat >client.mjs <<'JS'
import OpenAI from "openai";
import { generateText } from "ai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
const baseURL = process.argv[2];
const messages = [{ role: "user", content: "x" }];
const failure = async (call) => { try { await call(); } catch (error) { return error.message; } };
const client = new OpenAI({ baseURL, apiKey: "x" });
const model = createOpenAICompatible({ name: "p", baseURL })("m");
console.log(JSON.stringify([
  await failure(() => client.chat.completions.create({ model: "m", messages })),
  await failure(() => generateText({ model, messages })),
]));
process.exit(0);
JS
venv/bin/python - <<'PY'
import json, subprocess, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import openai


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


def node(url, *arguments):
    command = ["node", "client.mjs", url, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def messages(body):
    upstream = Upstream(lambda handler, _, number: send(handler, 400, body))
    client = openai.OpenAI(base_url=upstream.url, api_key="x")
    try:
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}])
    except openai.BadRequestError as error:
        assert "model is too small" in str(error.body)
        return str(error), *node(upstream.url)


words = "model is too small"
seen = messages({"error": words})
assert seen == ("Error code: 400", f'400 "{words}"', "Bad Request"), seen
seen = messages({"detail": words})
assert seen == ("Error code: 400", '400 {"detail":"%s"}' % words, "Bad Request"), seen
seen = messages({"error": {"message": words}})
assert all(words in message for message in seen), seen
print("as described: no words in Python and in the AI SDK")
PY
