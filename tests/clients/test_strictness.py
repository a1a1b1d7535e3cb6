"""Fields that cannot be honoured (docs/dialects.md, part 3), by the strictness of the server, the model and
the key. The key's setting overrides the model's, which overrides the server's. Each combination is tested
with each kind of field, through the official client, with Ollama."""

import openai
import pytest

import official
import scripted_upstream as script
from targets import loggia

SAID = [{"role": "user", "content": "x"}]
WORDS = ["strict", "lenient", None]

# Each kind of field: how to request it, and the code of its refusal.
HINT = ({"user": "someone"}, "unsupported_parameter")
CANNOT = ({"logit_bias": {"1": 5}}, "unsupported_parameter")
GUARANTEE = ({"extra_body": {"grammar": 'root ::= "a"'}}, "unsupported_parameter")
UNKNOWN = ({"extra_body": {"usr": "someone"}}, "unknown_parameter")

# The kinds that each strictness refuses. The others are listed as ignored.
KINDS = [HINT, CANNOT, GUARANTEE, UNKNOWN]
REFUSES = {"strict": KINDS, None: [GUARANTEE], "lenient": []}

CONFIG = """
[per_model.a-strict-one]
strict = true
[per_model.a-lenient-one]
lenient = true
[aliases]
"a-strict-one" = "m"
"a-lenient-one" = "m"
[[key]]
name = "strict"
key = "sk-of-the-strict-one"
strict = true
[[key]]
name = "lenient"
key = "sk-of-the-lenient-one"
lenient = true
[[key]]
name = "plain"
key = "sk-of-the-plain-one"
"""


@pytest.fixture(scope="module", params=[["--strict"], ["--lenient"], [], {"LOGGIA_STRICT": "true"}], ids=str)
def server(request, tmp_path_factory):
    """Yields the server's own strictness, and its address."""
    config = tmp_path_factory.mktemp("strictness") / "loggia.toml"
    config.write_text(CONFIG)
    arguments, environment = (request.param, {}) if isinstance(request.param, list) else ([], request.param)
    word = next((word for word in WORDS if word and f"--{word}" in arguments), "strict" if environment else None)
    with script.upstream(script.ollama(script.json_body(script.line()))) as upstream:
        with loggia("--ollama", upstream, "--config", str(config), *arguments, environment=environment, until="/healthz") as url:
            yield word, url


@pytest.mark.parametrize("keys", WORDS)
@pytest.mark.parametrize("models", WORDS)
def test_the_keys_word_is_stronger_than_the_models_and_that_than_the_servers(server, keys, models):
    servers, url = server
    model = f"a-{models}-one" if models else "m"
    with official.client(url, api_key=f"sk-of-the-{keys or 'plain'}-one") as client:
        for kind in KINDS:
            fields, code = kind
            (name,) = fields.get("extra_body", fields)
            asking = client.chat.completions.with_raw_response
            if kind in REFUSES[keys or models or servers]:
                with pytest.raises(openai.BadRequestError) as failure:
                    asking.create(model=model, messages=SAID, **fields)
                assert (failure.value.code, failure.value.param) == (code, name)
            else:
                answer = asking.create(model=model, messages=SAID, **fields)
                assert answer.headers["x-loggia-ignored"] == name and answer.parse().choices


FAULTS = {
    "stream_options": {"stream_options": {"include_usage": True}},
    "functions": {"functions": [{"name": "f"}], "tools": [{"type": "function", "function": {"name": "g"}}]},
    "tool_choice": {"tool_choice": "required"},
}


@pytest.mark.parametrize("field", FAULTS)
def test_a_fault_that_clients_are_known_for_is_dropped_and_named_for_a_lenient_key_alone(server, field):
    for key, fails in (("plain", True), ("strict", True), ("lenient", False)):
        with official.client(server[1], api_key=f"sk-of-the-{key}-one") as client:
            asking = client.chat.completions.with_raw_response
            if fails:
                # The plain key has no setting, so the server's applies.
                if server[0] == "lenient" and key == "plain":
                    continue
                with pytest.raises(openai.BadRequestError) as failure:
                    asking.create(model="m", messages=SAID, **FAULTS[field])
                assert failure.value.param == field
            else:
                assert asking.create(model="m", messages=SAID, **FAULTS[field]).headers["x-loggia-ignored"] == field


def test_what_is_asked_for_without_effect_is_named_in_a_stream_too(server):
    with official.client(server[1], api_key="sk-of-the-lenient-one") as client:
        fields = HINT[0] | CANNOT[0] | UNKNOWN[0]
        with client.chat.completions.with_streaming_response.create(model="m", messages=SAID, stream=True, **fields) as answer:
            assert answer.headers["x-loggia-ignored"] == "logit_bias, user, usr"
