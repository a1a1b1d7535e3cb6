#!/usr/bin/env bash
# Ollama's `/v1/messages` drops `tool_choice`, documents, formats, images of results and `is_error`
# without a word, and cannot turn reasoning off.
#
# Packages: github.com/ollama/ollama v0.17.4 (Go module); its package `anthropic`, which the route
#   `/v1/messages` translates requests with
# Input: one request of Anthropic's API: `tool_choice` of the type "tool", a JSON schema in
#   `output_config.format`, `thinking` of the type "disabled", a document, two blocks of text, a call
#   with an integer of 20 digits, and its result with `is_error` and an image.
# Seen: no error. The chat for the model has neither the document, nor the image, nor a sign that the
#   call failed, nor a format, a choice or `think`. The two texts are joined without a space, and the
#   integer ends with zeros.
# A good guess: what cannot be translated is a 400, as for Anthropic's own server.
# Why it matters: a client takes the answer for one about the document or the image, waits for the
#   call that it required, and believes that a tool has worked. A gateway must send such requests as
#   chats, and check them itself.
set -euo pipefail
dir=$(mktemp -d)
trap 'chmod -R u+w "$dir"; rm -rf "$dir"' EXIT
cd "$dir"
export GOMODCACHE="$dir/modules" GOFLAGS=-mod=mod CGO_ENABLED=0
cat > go.mod <<'MOD'
module finding

go 1.24

require github.com/ollama/ollama v0.17.4
MOD
cat > main.go <<'GO'
package main

import (
	"encoding/json"
	"os"

	"github.com/ollama/ollama/anthropic"
)

func main() {
	var request anthropic.MessagesRequest
	if err := json.NewDecoder(os.Stdin).Decode(&request); err != nil {
		panic(err)
	}
	chat, err := anthropic.FromMessagesRequest(request)
	if err != nil {
		panic(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(chat); err != nil {
		panic(err)
	}
}
GO
go build -o translate . >&2
cat > request.json <<'JSON'
{"model": "m", "max_tokens": 50, "tool_choice": {"type": "tool", "name": "f"}, "thinking": {"type": "disabled"},
 "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}},
 "tools": [{"name": "f", "input_schema": {"type": "object", "properties": {}}}],
 "messages": [
  {"role": "user", "content": [
   {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "The sky is green."}},
   {"type": "text", "text": "First."}, {"type": "text", "text": "Second."}]},
  {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "f", "input": {"n": 12345678901234567890}}]},
  {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "is_error": true, "content": [
   {"type": "text", "text": "no"},
   {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}]}]}]}
JSON
./translate < request.json > chat.json
python3 - <<'PY'
import json

chat = json.load(open("chat.json"))
user, call, result = chat["messages"]
assert user == {"role": "user", "content": "First.Second."}, user
arguments = call["tool_calls"][0]["function"]["arguments"]
assert arguments == {"n": 12345678901234567000}, arguments
assert result == {"role": "tool", "content": "no", "tool_call_id": "t1"}, result
assert not {"think", "format", "tool_choice"} & set(chat), chat
print("as described: the document, the image, the error, the format, the choice and `thinking` are gone")
PY
