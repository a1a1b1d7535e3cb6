#!/usr/bin/env bash
# OpenAI's Python SDK says that every message of a stored chat is the assistant's: with its strict
# validation, listing the messages raises as soon as the user's own is among them.
#
# Packages: openai 3.57.0 (PyPI)
# Input: chat.completions.messages.list("c"), answered with the user's message that was stored, by a
#   client with and without _strict_response_validation; then with an assistant's message.
# Seen: strict: APIResponseValidationError for the user's message, none for the assistant's. Not
#   strict: both pass, and the role is the string "user" in a field whose type is
#   Literal["assistant"].
# A good guess: the route lists what the client sent, so its type has the roles that can be sent.
# Why it matters: the SDK's own tests of this route fail before a server that stores what it gets,
#   and a server that turns every role into "assistant" passes them. Judge such a server by the
#   messages, not by that validation.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv --without-pip venv
python3 -m pip --python venv/bin/python install --quiet --disable-pip-version-check --no-compile \
  openai==3.57.0 >&2
venv/bin/python - <<'PY'
import json, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import openai

role = "user"


class Server(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        message = {"id": "c-0", "role": role, "content": "x", "refusal": None}
        body = json.dumps({"object": "list", "data": [message], "first_id": "c-0", "last_id": "c-0", "has_more": False})
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(body.encode())


server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()


def seen(strict):
    url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    client = openai.OpenAI(base_url=url, api_key="x", max_retries=0, _strict_response_validation=strict)
    try:
        return client.chat.completions.messages.list("c").data[0].role
    except openai.APIResponseValidationError:
        return "refused"


assert (seen(True), seen(False)) == ("refused", "user")
role = "assistant"
assert (seen(True), seen(False)) == ("assistant", "assistant")
print("as described: the strict client takes a stored message of an assistant only")
PY
