#!/usr/bin/env bash
# OpenAI's Python SDK describes the output of a compaction as "all user messages, followed by a
# single compaction item", and its types have no user message: the strict client refuses one.
#
# Packages: openai 3.57.0 (PyPI)
# Input: responses.compact(model="m"), answered with a user's message and a compaction item, then
#   with the compaction item alone; by a client with and without _strict_response_validation.
# Seen: strict: APIResponseValidationError for the first answer, none for the second. Not strict:
#   both pass, and the user's message is a ResponseOutputMessage whose role is "user".
# A good guess: the type can hold what its own comment says is in it.
# Why it matters: a server that follows the comment fails before strict clients in every compaction.
#   It can keep the user's messages inside the encrypted content, which only it reads.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv --without-pip venv
python3 -m pip --python venv/bin/python install --quiet --disable-pip-version-check --no-compile \
  openai==3.57.0 >&2
venv/bin/python - <<'PY'
import inspect, json, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import openai
from openai.types.responses import compacted_response

MESSAGE = {"id": "msg_1", "type": "message", "role": "user", "status": "completed", "content": [{"type": "input_text", "text": "x"}]}
COMPACTION = {"id": "cmp_1", "type": "compaction", "encrypted_content": "E"}
USAGE = {
    "input_tokens": 1,
    "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
    "output_tokens": 1,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 2,
}
output = [MESSAGE, COMPACTION]


class Server(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        body = {"id": "resp_1", "object": "response.compaction", "created_at": 1, "output": output, "usage": USAGE}
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())


server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()


def seen(strict):
    url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    client = openai.OpenAI(base_url=url, api_key="x", max_retries=0, _strict_response_validation=strict)
    try:
        return [(type(item).__name__, getattr(item, "role", None)) for item in client.responses.compact(model="m").output]
    except openai.APIResponseValidationError:
        return "refused"


assert "all user messages, followed by a single compaction item" in inspect.getsource(compacted_response)
assert seen(True) == "refused"
assert seen(False)[0] == ("ResponseOutputMessage", "user"), seen(False)
output = [COMPACTION]
assert seen(True) == seen(False) == [("ResponseCompactionItem", None)], seen(True)
print("as described: the strict client takes a compaction without the user's messages only")
PY
