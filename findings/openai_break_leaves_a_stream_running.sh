#!/usr/bin/env bash
# Leaving the loop over a stream ends the request in Node at once; in Python the connection stays
# open and the engine goes on.
#
# Packages: openai 3.57.0 (PyPI); openai 7.59.0 (npm), on Node 20 or later
# Input: a stream of 40 chunks over 2 s; the client breaks out of its `for` loop after the first
#   chunk and keeps the variable that holds the stream.
# Seen: Python: the server can send all 40 chunks. Node: the connection is closed within the first
#   few.
# A good guess: the same in both: an iterator that is left early is closed, as Node's is.
# Why it matters: a server that stops computing when its client leaves sees no leaving from Python
#   programs that found what they searched for; the slot stays busy until the last token. Only
#   `with`, `close()`, or the end of the variable frees it. So a limit on the length of an answer
#   is needed, too.
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
const request = { model: "m", messages: [{ role: "user", content: "x" }], stream: true };
const chunks = await client.chat.completions.create(request);
for await (const chunk of chunks) break;
await new Promise((resolve) => setTimeout(resolve, 2500));
console.log("true");
process.exit(0);
JS
venv/bin/python - <<'PY'
import json, subprocess, threading, time
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


def sent(client):
    """How many chunks the server could send."""

    def answer(handler, body, number):
        piece = event(chunk({"content": "a"})).encode()
        handler.send_response(200)
        handler.send_header("content-type", "text/event-stream")
        handler.send_header("content-length", str(40 * len(piece)))
        handler.end_headers()
        try:
            for _ in range(40):
                handler.wfile.write(piece)
                count.append(1)
                time.sleep(0.05)
        except OSError:
            handler.close_connection = True

    count = []
    kept = client(Upstream(answer).url)
    time.sleep(3)
    return len(count)


def python(url):
    client = openai.OpenAI(base_url=url, api_key="x")
    chunks = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}], stream=True)
    for _ in chunks:
        break
    return client, chunks


seen = sent(python), sent(node)
assert seen[0] == 40 and seen[1] < 20, seen
print(f"as described: {seen[0]} chunks could be sent to Python, {seen[1]} to Node")
PY
