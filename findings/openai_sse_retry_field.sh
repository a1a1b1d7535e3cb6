#!/usr/bin/env bash
# A server-sent event that has only a `retry:` or an `id:` line ends a stream of OpenAI's Python
# SDK with a JSON error; the Node SDK passes over it.
#
# Packages: openai 3.57.0 (PyPI); openai 7.59.0 (npm), on Node 20 or later
# Input: a stream that begins with `retry: 10` and an empty line, as SSE libraries send it to set
#   the time before a reconnection; the same with `id: 1`; the same with a comment.
# Seen: Python raises json.JSONDecodeError for both fields, and reads the stream behind the
#   comment. Node reads all three.
# A good guess: all of them are ignored: the specification of server-sent events says that an
#   event without data is not dispatched, and comments, its nearest relatives, are ignored.
# Why it matters: whoever sends heartbeats or reconnection times must use comments, and a gateway
#   must not copy these fields from an engine to its client.
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
const seen = [];
const request = { model: "m", messages: [{ role: "user", content: "x" }], stream: true };
for await (const chunk of await client.chat.completions.create(request)) seen.push(chunk.choices[0].delta.content);
console.log(JSON.stringify(seen));
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


def python(first):
    upstream = Upstream(lambda handler, body, number: stream(handler, first, event(chunk({"content": "a"}))))
    client = openai.OpenAI(base_url=upstream.url, api_key="x")
    try:
        chunks = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}], stream=True)
        seen = [chunk.choices[0].delta.content for chunk in chunks]
    except ValueError as error:
        seen = type(error).__name__
    return seen, node(upstream.url)


assert python(": comment\n\n") == (["a"], ["a"])
for field in ("retry: 10\n\n", "id: 1\n\n"):
    seen = python(field)
    assert seen == ("JSONDecodeError", ["a"]), (field, seen)
print("as described: JSONDecodeError in Python, passed over in Node")
PY
