#!/usr/bin/env bash
# An event named `error` is an exception in OpenAI's Node SDK; in the Python SDK it is one more
# chunk, whose `choices` are None.
#
# Packages: openai 3.57.0 (PyPI); openai 7.59.0 (npm), on Node 20 or later
# Input: a chat stream with one chunk, then `event: error` with the data {"message": "boom"}.
# Seen: Node throws an error with the message "boom". Python yields a second chunk, with choices
#   None and message "boom" among its unknown fields, and raises nothing.
# A good guess: both raise: the name says what the event is, and both raise for {"error": {…}} in
#   the data of an event without a name.
# Why it matters: the usual loop, chunk.choices[0], ends with a TypeError about None instead of
#   the words of the error; a loop that skips chunks without choices shows a cut answer as a
#   complete one. The error must be inside an object `error`, with or without a name.
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
let seen = "no error";
try {
  const request = { model: "m", messages: [{ role: "user", content: "x" }], stream: true };
  for await (const chunk of await client.chat.completions.create(request)) void chunk;
} catch (error) {
  seen = error.message;
}
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


def python(error):
    upstream = Upstream(lambda handler, body, number: stream(handler, event(chunk({"content": "a"})), error))
    client = openai.OpenAI(base_url=upstream.url, api_key="x")
    try:
        chunks = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}], stream=True)
        seen = [(chunk.choices and len(chunk.choices), chunk.model_extra) for chunk in chunks]
    except openai.APIError as failure:
        seen = failure.message
    return seen, node(upstream.url)


seen = python('event: error\ndata: {"message": "boom"}\n\n')
assert seen == ([(1, {}), (None, {"message": "boom"})], "boom"), seen
seen = python('data: {"error": {"message": "boom"}}\n\n')
assert seen == ("boom", "boom"), seen
print("as described: a chunk without choices in Python, an exception in Node")
PY
