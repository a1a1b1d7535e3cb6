#!/usr/bin/env bash
# `schema.items` in a chat template is the schema of the items in minijinja, and a method of the
# object in jinja2.
#
# Packages: jinja2 3.1.6 and minijinja 3.1.0 (PyPI); @huggingface/jinja 0.5.11 (npm), on Node 20
#   or later
# Input: the template {{ schema.items.type }} with the JSON schema {"type": "array", "items":
#   {"type": "string"}}.
# Seen: jinja2 prints nothing, as the method `items` has no attribute `type`; minijinja and
#   Hugging Face's engine for JavaScript print "string".
# A good guess: "string" everywhere: a dot reaches into an object, and templates write schema.type
#   and schema.properties this way.
# Why it matters: the prompt in which a model was trained, printed by transformers with jinja2,
#   lacks the type of each list, and an engine with minijinja adds it. To print what the model
#   knows, the method must win over the key, for `items`, `keys`, `values` and `get` alike.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --no-audit --no-fund @huggingface/jinja@0.5.11 >&2
python3 -m venv --without-pip venv
python3 -m pip --python venv/bin/python install --quiet --disable-pip-version-check --no-compile \
  jinja2==3.1.6 minijinja==3.1.0 >&2
cat >client.mjs <<'JS'
import { Template } from "@huggingface/jinja";
const schema = { type: "array", items: { type: "string" } };
console.log(new Template("{{ schema.items.type }}").render({ schema }));
JS
venv/bin/python - <<'PY'
import subprocess

import jinja2
import minijinja


template = "{{ schema.items.type }}"
schema = {"type": "array", "items": {"type": "string"}}
seen = [
    jinja2.Environment().from_string(template).render(schema=schema),
    minijinja.Environment().render_str(template, schema=schema),
    subprocess.run(["node", "client.mjs"], capture_output=True, check=True, text=True).stdout.strip(),
]
assert seen == ["", "string", "string"], seen
print("as described: nothing in jinja2, string in the other two")
PY
