#!/usr/bin/env bash
# A Retry-After of ten minutes makes one client give up at once and two others come back within
# seconds; none waits.
#
# Packages: openai 3.57.0 (PyPI); openai 7.59.0, ai 7.0.173 with @ai-sdk/openai-compatible 3.0.92
#   (npm) on Node 22; one retry allowed in each
# Input: a 429 with `Retry-After: 600`, then a 200; and a 429 with `Retry-After: 0`, then a 200.
# Seen: 600: Python raises RateLimitError after 1 request although a retry is allowed; Node asks
#   again after less than 1 s, the AI SDK after about 2 s. 0: Node and the AI SDK ask again at
#   once, Python after about 0.4 s.
# A good guess: all wait, perhaps up to a limit, and all retry at once for 0: the header has one
#   meaning.
# Why it matters: a server that is busy for long is asked again soonest by those whom it told the
#   longest time. To be obeyed, it must send a time below the smallest of the limits; and 0 does
#   not mean "now" to every client.
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
const [baseURL, kind] = process.argv.slice(2);
const messages = [{ role: "user", content: "x" }];
let text;
if (kind === "openai") {
  const client = new OpenAI({ baseURL, apiKey: "x", maxRetries: 1 });
  text = (await client.chat.completions.create({ model: "m", messages })).choices[0].message.content;
} else {
  const model = createOpenAICompatible({ name: "p", baseURL })("m");
  text = (await generateText({ model, messages, maxRetries: 1 })).text;
}
console.log(JSON.stringify(text));
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


def node(url, *arguments):
    command = ["node", "client.mjs", url, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def asked_again(client, seconds):
    """How long after the first request the second came, or None."""

    def answer(handler, body, number):
        times.append(time.monotonic())
        if number == 1:
            send(handler, 429, {"error": {"message": "busy"}}, retry_after=str(seconds))
        else:
            send(handler, 200, whole({"content": "a"}))

    times = []
    client(Upstream(answer).url)
    return times[1] - times[0] if len(times) > 1 else None


def python(url):
    client = openai.OpenAI(base_url=url, api_key="x", max_retries=1)
    try:
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}])
    except openai.RateLimitError:
        pass


def sdk(url):
    assert node(url, "openai") == "a"


def ai(url):
    assert node(url, "ai") == "a"


assert asked_again(python, 600) is None
after = asked_again(sdk, 600)
assert after < 1.5, after
after = asked_again(ai, 600)
assert 1 < after < 10, after
after = asked_again(python, 0)
assert 0.25 < after < 1.5, after
for client in (sdk, ai):
    after = asked_again(client, 0)
    assert after < 0.2, after
print("as described: gives up, comes back soon, comes back soon; and 0 is not 0 in Python")
PY
