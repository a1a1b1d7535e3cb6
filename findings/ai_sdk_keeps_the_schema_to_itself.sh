#!/usr/bin/env bash
# The AI SDK's provider for compatible servers asks for "a JSON object" and shows the schema
# neither to the server nor to the model.
#
# Packages: ai 7.0.173 with @ai-sdk/openai-compatible 3.0.92 (npm) on Node 22
# Input: generateText with `Output.object` and a schema that requires the integer `quantity`; the
#   provider has its default settings, then `supportsStructuredOutputs: true`.
# Seen: by default the request has response_format {"type": "json_object"}, and the word
#   "quantity" is nowhere in it; with the setting it is a json_schema that has it. The answer is
#   validated against the schema in both cases.
# A good guess: if the schema cannot be a response_format, it becomes part of the prompt;
#   otherwise the model could not know what to write.
# Why it matters: the model has to guess the names of the fields, the SDK refuses the result, and
#   the server, which could have enforced the schema, is blamed. The server cannot repair it: it
#   must document the setting.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
export PATH="$dir/node_modules/.bin:$PATH"
npm install --silent --no-audit --no-fund ai@7.0.173 @ai-sdk/openai-compatible@3.0.92 node@22.23.3 >&2
cat >client.mjs <<'JS'
import { generateText, jsonSchema, Output } from "ai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
globalThis.AI_SDK_LOG_WARNINGS = false;
const schema = jsonSchema({ type: "object", properties: { quantity: { type: "integer" } }, required: ["quantity"] });
const outputs = [];
for (const settings of [{}, { supportsStructuredOutputs: true }]) {
  const model = createOpenAICompatible({ name: "p", baseURL: process.argv[2], ...settings })("m");
  outputs.push((await generateText({ model, prompt: "x", output: Output.object({ schema }) })).output);
}
console.log(JSON.stringify(outputs));
process.exit(0);
JS
python3 - <<'PY'
import json, subprocess, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


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


def answer(handler, body, number):
    send(handler, 200, whole({"content": '{"quantity": 1}'}))


upstream = Upstream(answer)
assert node(upstream.url) == [{"quantity": 1}, {"quantity": 1}]
default, told = upstream.requests
assert default["response_format"] == {"type": "json_object"} and "quantity" not in json.dumps(default), default
assert told["response_format"]["type"] == "json_schema" and "quantity" in json.dumps(told), told
print("as described: json_object, and no schema anywhere")
PY
