#!/usr/bin/env bash
# Each stream costs a new connection with the Python SDK of OpenAI, although its answers that are
# not streamed share one, and so do the streams of the Node SDK.
#
# Packages: openai 3.57.0 (PyPI); openai 7.59.0 (npm), on Node 20 or later
# Input: three streamed answers, 0.3 s apart, each read to its end; each has a content-length,
#   ends with [DONE] and leaves the connection open. Then three whole answers.
# Seen: Python: 3 connections for the 3 streams, 1 for the 3 whole answers. Node: 1 and 1.
# A good guess: one connection each time: both clients pool connections, and every stream was
#   complete.
# Why it matters: the Python SDK stops at [DONE] and closes what it has not read to the very end.
#   Behind TLS each chat turn pays for a handshake, and a limit on new connections meets these
#   programs first. A server that sees its connection closed right after [DONE] must not take that
#   for a client that left.
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
const client = new OpenAI({ baseURL, apiKey: "x" });
const request = { model: "m", messages: [{ role: "user", content: "x" }], stream: kind === "stream" };
for (let i = 0; i < 3; i++) {
  const given = await client.chat.completions.create(request);
  if (request.stream) for await (const chunk of given) void chunk;
  await new Promise((resolve) => setTimeout(resolve, 300));
}
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


def answer(handler, body, number):
    if body.get("stream"):
        stream(handler, event(chunk({"content": "a"})), event(chunk({}, "stop")))
    else:
        send(handler, 200, whole({"content": "a"}))


def python(url, streamed):
    with openai.OpenAI(base_url=url, api_key="x") as client:
        for _ in range(3):
            given = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}], stream=streamed)
            if streamed:
                assert [chunk.choices[0].finish_reason for chunk in given] == [None, "stop"]
            time.sleep(0.3)


counts = {}
for name, client in {"python": python, "node": lambda url, streamed: node(url, "stream" if streamed else "whole")}.items():
    for streamed in (True, False):
        upstream = Upstream(answer)
        client(upstream.url, streamed)
        assert len(upstream.requests) == 3
        counts[name, streamed] = len(upstream.connections)
expected = {("python", True): 3, ("python", False): 1, ("node", True): 1, ("node", False): 1}
assert counts == expected, counts
print("as described: 3 connections for 3 streams of the Python SDK")
PY
