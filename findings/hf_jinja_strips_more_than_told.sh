#!/usr/bin/env bash
# Hugging Face's Jinja for JavaScript ignores which characters `strip`, `lstrip` and `rstrip` are
# told to remove.
#
# Packages: @huggingface/jinja 0.5.11 (npm), on Node 20 or later; jinja2 3.1.6 and minijinja 3.1.0
#   (PyPI) for comparison
# Input: text.lstrip("\n"), text.rstrip("\n") and text.strip("x") for the text "\n code\n" and
#   "xabcx".
# Seen: the JavaScript engine removes all whitespace, "code\n" and "\n code", and no x: "xabcx".
#   jinja2 and minijinja remove line breaks only, " code\n" and "\n code", and give "abc".
# A good guess: the argument is honoured, or refused as an unknown one: the package exists to run
#   the templates of transformers, and well-known ones of reasoning models call lstrip("\n") on
#   what stands behind the thoughts.
# Why it matters: the same conversation becomes another prompt in a browser than in an engine:
#   indentation at the beginning of an earlier answer is lost. Prompts recorded with one of them
#   are no reference for the other.
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
console.log(new Template(process.argv[2]).render({}));
JS
venv/bin/python - <<'PY'
import json, subprocess

import jinja2
import minijinja


template = '{{ ["\\n  code\\n".lstrip("\\n"), "\\n  code\\n".rstrip("\\n"), "xabcx".strip("x")] | tojson }}'
python = jinja2.Environment()
python.filters["tojson"] = json.dumps
seen = {
    "jinja2": json.loads(python.from_string(template).render()),
    "minijinja": json.loads(minijinja.Environment().render_str(template)),
    "javascript": json.loads(subprocess.run(["node", "client.mjs", template], capture_output=True, check=True).stdout),
}
told = ["  code\n", "\n  code", "abc"]
assert seen == {"jinja2": told, "minijinja": told, "javascript": ["code\n", "\n  code", "xabcx"]}, seen
print("as described: the argument has no effect in JavaScript")
PY
