#!/usr/bin/env bash
# In llguidance a bound on a number forbids exponents, and an `enum` entry 1.0 can be written as 1
# only.
#
# Packages: llguidance 1.9.1 (PyPI), with its own tokenizer of bytes
# Input: the texts 1e3 and 5e-1 with the schema {"type": "number"}, and with "minimum": 0 added;
#   the texts 1 and 1.0 with {"enum": [1.0, 2]}.
# Seen: the plain schema accepts both texts; with the bound both are refused, although they are
#   above it. The enum accepts 1 and refuses 1.0, as it stands in the schema.
# A good guess: a bound only narrows the range of values, and an entry of an enum can at least be
#   written as the schema writes it.
# Why it matters: a model that was shown 1.0 in its prompt has that token masked, and one that
#   wants to write 6.02e23 must write 24 digits; the log-probabilities of such answers are low for
#   no reason in the model. An exact text cannot be expected back.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv --without-pip venv
python3 -m pip --python venv/bin/python install --quiet --disable-pip-version-check --no-compile \
  llguidance==1.9.1 >&2
venv/bin/python - <<'PY'
import json

import llguidance
from llguidance import LLMatcher


TOKENIZER = llguidance.LLTokenizer("byte")


def accepts(schema, text):
    matcher = LLMatcher(TOKENIZER, LLMatcher.grammar_from_json_schema(json.dumps(schema)))
    assert not matcher.is_error(), matcher.get_error()
    tokens = TOKENIZER.tokenize_str(text)
    return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()


number = {"type": "number"}
for text in ("1e3", "5e-1"):
    assert accepts(number, text) and not accepts(number | {"minimum": 0}, text), text
assert accepts(number | {"minimum": 0}, "1000") and accepts(number | {"minimum": 0}, "0.5")
assert accepts({"enum": [1.0, 2]}, "1") and not accepts({"enum": [1.0, 2]}, "1.0")
print("as described: no exponents beside a bound, 1.0 is 1")
PY
