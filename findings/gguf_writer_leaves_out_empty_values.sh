#!/usr/bin/env bash
# The gguf package writes no key for an empty text or an empty list, and says nothing about it.
#
# Packages: gguf 0.19.0 (PyPI)
# Input: a file with add_string("a.text", ""), add_array("a.list", []), add_bool("a.no", False)
#   and add_uint32("a.zero", 0), read again with the package's own reader.
# Seen: the file has a.no and a.zero; a.text and a.list are not there. add_key_value("a.raw", "",
#   STRING) does write an empty text.
# A good guess: four keys: False and 0 are written, so being empty is no reason to leave a key
#   out.
# Why it matters: empty and absent mean different things to a reader: an empty chat template is a
#   template, an absent one makes engines use their own. A converter cannot say "none" with this
#   call, and a test file made with it does not test what it seems to.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv --without-pip venv
python3 -m pip --python venv/bin/python install --quiet --disable-pip-version-check --no-compile \
  gguf==0.19.0 >&2
venv/bin/python - <<'PY'
import gguf


writer = gguf.GGUFWriter("model.gguf", "llama")
writer.add_string("a.text", "")
writer.add_array("a.list", [])
writer.add_bool("a.no", False)
writer.add_uint32("a.zero", 0)
writer.add_key_value("a.raw", "", gguf.GGUFValueType.STRING)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.close()
keys = {key for key in gguf.GGUFReader("model.gguf").fields if key.startswith("a.")}
assert keys == {"a.no", "a.zero", "a.raw"}, keys
print("as described: a.text and a.list are missing")
PY
