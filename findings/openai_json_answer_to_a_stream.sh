#!/usr/bin/env bash
# A JSON body in answer to a streamed request is an empty stream for both OpenAI SDKs, even if it
# is an error.
#
# Packages: openai 3.57.0 (PyPI); openai 7.59.0 (npm), on Node 20 or later
# Input: a request with `stream: true`; the server answers 200 with content-type application/json,
#   once with a whole chat completion, once with {"error": {"message": "boom"}}.
# Seen: both SDKs give a stream with no chunks and raise nothing, for the completion and for the
#   error.
# A good guess: an exception about the content type or about the missing events, or at least the
#   error that the body states; the same error inside an event is raised by both.
# Why it matters: an engine that does not stream, or a proxy that reports its errors with 200,
#   looks like a model that said nothing. A gateway must look at the content type itself before it
#   passes a body on as a stream.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --no-audit --no-fund openai@7.59.0 >&2
python3 -m venv --without-pip venv
python3 -m pip --python venv/bin/python install --quiet --disable-pip-version-check --no-compile \
  openai==3.57.0 >&2
cat >client.mjs <<'JS'
import OpenAI from "openai";
const client = new OpenAI({ baseURL: process.argv[2], apiKey: "x" });
let count = 0;
const request = { model: "m", messages: [{ role: "user", content: "x" }], stream: true };
for await (const chunk of await client.chat.completions.create(request)) count += 1;
console.log(count);
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


def whole(message, finish_reason="stop"):
    choice = {"index": 0, "message": {"role": "assistant"} | message, "finish_reason": finish_reason}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    return {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}


def node(url, *arguments):
    command = ["node", "client.mjs", url, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def seen(body):
    upstream = Upstream(lambda handler, _, number: send(handler, 200, body))
    client = openai.OpenAI(base_url=upstream.url, api_key="x")
    chunks = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}], stream=True)
    return len(list(chunks)), node(upstream.url)


assert seen(whole({"content": "hello"})) == (0, 0)
assert seen({"error": {"message": "boom"}}) == (0, 0)
print("as described: no chunk and no error in either SDK")
PY
