#!/usr/bin/env bash
# The `timeout` of the OpenAI SDKs measures different things: silence in Python; in Node the whole
# answer, but of a stream only the time to its headers.
#
# Packages: openai 3.57.0 (PyPI); openai 7.59.0 (npm), on Node 20 or later
# Input: a timeout of 0.6 s in both. First a whole answer that arrives over 2 s, a space every
#   quarter of a second before the JSON. Then a stream with one chunk, 1.2 s of silence, and a
#   second chunk. One retry is allowed.
# Seen: the slow whole answer succeeds in Python, and in Node fails after two requests. The silent
#   stream fails in Python, and in Node is read to its end.
# A good guess: the same in both, since both are SDKs of one maker with one setting: either a
#   limit for the request, or one for silence.
# Why it matters: heartbeats (spaces before JSON, comments in a stream) keep Python's clients
#   alive and not Node's whole answers; without heartbeats a long prompt ends Python's streams
#   only. Node's retry makes the engine compute the slow answer a second time.
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
const [baseURL, kind] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "x", maxRetries: 1, timeout: 600 });
let seen = "read";
try {
  const request = { model: "m", messages: [{ role: "user", content: "x" }], stream: kind === "stream" };
  const given = await client.chat.completions.create(request);
  if (request.stream) for await (const chunk of given) void chunk;
} catch (error) {
  if (!(error instanceof OpenAI.APIConnectionTimeoutError)) throw error;
  seen = "timeout";
}
console.log(JSON.stringify(seen));
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


def node(url, *arguments):
    command = ["node", "client.mjs", url, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def slow_answer(handler):
    text = json.dumps(whole({"content": "a"}))
    handler.send_response(200)
    handler.send_header("content-type", "application/json")
    handler.send_header("content-length", str(len(text) + 8))
    handler.end_headers()
    for _ in range(8):
        handler.wfile.write(b" ")
        time.sleep(0.25)
    handler.wfile.write(text.encode())


def silent_stream(handler):
    parts = [event(chunk({"content": "a"})), event(chunk({}, "stop")) + "data: [DONE]\n\n"]
    handler.send_response(200)
    handler.send_header("content-type", "text/event-stream")
    handler.send_header("content-length", str(len("".join(parts))))
    handler.end_headers()
    handler.wfile.write(parts[0].encode())
    time.sleep(1.2)
    handler.wfile.write(parts[1].encode())


def answer(handler, body, number):
    (silent_stream if body.get("stream") else slow_answer)(handler)


def python(url, streamed):
    client = openai.OpenAI(base_url=url, api_key="x", max_retries=1, timeout=0.6)
    try:
        given = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}], stream=streamed)
        if streamed:
            list(given)
        return "read"
    except openai.APITimeoutError:
        return "timeout"


seen = {}
for name, client in {"python": python, "node": lambda url, streamed: node(url, "stream" if streamed else "whole")}.items():
    for streamed in (False, True):
        upstream = Upstream(answer)
        seen[name, streamed] = client(upstream.url, streamed), len(upstream.requests)
expected = {
    ("python", False): ("read", 1),
    ("python", True): ("timeout", 1),
    ("node", False): ("timeout", 2),
    ("node", True): ("read", 1),
}
assert seen == expected, seen
print("as described: silence in Python; the whole answer, or the headers of a stream, in Node")
PY
