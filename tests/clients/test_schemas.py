"""Keywords of JSON schemas with llama.cpp's own server. A keyword that Loggia accepts must have an effect on
the server's grammar; one without effect is listed as ignored, and refused by a strict server.

These tests show when the schema converter of a newer llama.cpp reads more or less
(`crates/backend/src/schema/llama_cpp.rs`).
"""

import contextlib
import copy

import openai
import pytest

from targets import ALL, HERE, MODEL, fetch, loggia, printing_its_address

TEXT = {"type": "string"}
NUMBER = {"type": "integer"}
LIST = {"type": "array", "items": NUMBER}
OBJECT = {"type": "object", "properties": {"p": TEXT, "q": TEXT}}

HELD = [
    (TEXT, {"minLength": 2}),
    (TEXT, {"maxLength": 9}),
    (TEXT, {"enum": ["x", "y"]}),
    (TEXT, {"const": "x"}),
    (TEXT, {"format": "date-time"}),
    (TEXT, {"format": "uuid"}),
    (TEXT, {"pattern": "^#?([a-f0-9]{6}|[a-f0-9]{3})$"}),
    (NUMBER, {"minimum": 3}),
    (NUMBER, {"exclusiveMaximum": 9}),
    (LIST, {"minItems": 2}),
    (LIST, {"maxItems": 4}),
    (OBJECT, {"required": ["q"]}),
    (OBJECT, {"additionalProperties": NUMBER}),
]

PASSED_OVER = [
    # The server treats each of these like any unknown keyword.
    (TEXT | {"pattern": "a"}, {"pattern": r"^\d+$"}),
    (TEXT | {"pattern": "a"}, {"pattern": "^a$|^b$"}),
    (TEXT, {"format": "uri"}),
    (TEXT | {"pattern": "^a+$"}, {"maxLength": 4}),
    (NUMBER, {"multipleOf": 3}),
    ({"type": "number"}, {"minimum": 3}),
    (LIST, {"uniqueItems": True}),
    (OBJECT, {"minProperties": 2}),
    (OBJECT, {"allOf": [{"required": ["q"]}]}),
    (OBJECT, {"not": {"required": ["q"]}}),
]


@pytest.fixture(scope="module")
def llama_server():
    with ALL["openai"]() as running:
        yield running


@pytest.fixture(scope="module")
def official(llama_server):
    with openai.OpenAI(base_url=f"{llama_server.url}/v1", api_key="unused", max_retries=0) as client:
        yield client


@pytest.mark.parametrize(("schema", "more"), HELD, ids=str)
def test_what_is_let_through_has_an_effect(official, llama_server, schema, more):
    official.chat.completions.create(**asked(llama_server, schema | more))
    assert grammar(llama_server, schema | more) != grammar(llama_server, schema)


@pytest.mark.parametrize(("schema", "more"), PASSED_OVER, ids=str)
def test_what_has_no_effect_is_named_and_refused_where_it_is_strict(official, llama_server, schema, more):
    assert grammar(llama_server, schema | more) == grammar(llama_server, schema)
    with pytest.raises(openai.BadRequestError) as refusal:
        official.chat.completions.create(**asked(llama_server, schema | more, strict=True))
    assert (refusal.value.code, refusal.value.param) == ("invalid_json_schema", "response_format.json_schema.schema")
    keyword = next(iter(more))
    assert f"'{keyword}'" in refusal.value.message
    served = official.chat.completions.with_raw_response.create(**asked(llama_server, schema | more))
    assert f"response_format.json_schema.schema#/{keyword}" in served.headers["x-loggia-ignored"]


@pytest.mark.parametrize("schema", [{"properties": {"p": TEXT}}, {"allOf": [OBJECT], "title": "T"}, {"required": ["p"]}], ids=str)
def test_an_object_is_made_where_one_is_meant(official, llama_server, schema):
    # The server lets a model begin with spaces.
    answer = official.chat.completions.create(**asked(llama_server, schema) | {"max_tokens": 40})
    assert answer.choices[0].message.content.strip().startswith("{")


@pytest.mark.parametrize("more", [{"minItems": 3, "maxItems": 2}, {"items": TEXT | {"minLength": 3, "maxLength": 2}}], ids=str)
def test_what_the_server_never_comes_back_from_does_not_reach_it(official, llama_server, more):
    with pytest.raises(openai.BadRequestError) as refusal:
        official.chat.completions.create(**asked(llama_server, LIST | more))
    assert "no value can match" in refusal.value.message
    assert official.chat.completions.create(**asked(llama_server, LIST)).choices


# Parameters of tools that clients send. A single one of them makes the server refuse the whole request.
ODD_PARAMETERS = [
    {"properties": {"a": TEXT, "b": True}},
    {"properties": {"a": TEXT, "b": False}},
    {"properties": {"a": {"type": "array", "items": True}}},
    {"properties": {"a": {"anyOf": [True, {"type": "null"}]}}},
    {"properties": {"a": {"$ref": "#/$defs/X"}}, "$defs": {"X": True}},
    {"properties": {"a": {"$ref": "#/$defs/a~1b"}}, "$defs": {"a/b": TEXT}},
    {"properties": {"a": {"$ref": "#/$defs/a%20b"}}, "$defs": {"a b": TEXT}},
    {"properties": {"child": {"$ref": "#"}}},
    {"properties": {"a": {"$ref": "https://example.com/x.json"}}},
]


@pytest.fixture(scope="module", params=["embedded", "openai"])
def with_tools(request):
    """The engine: llama.cpp's own server with a template that supports tools."""
    template = HERE.parents[1] / "fixtures/templates/qwen-3.jinja"
    with contextlib.ExitStack() as stack:
        if request.param == "embedded":
            url = stack.enter_context(loggia("--model", str(MODEL), "--context", "2048", "--threads", "1"))
        else:
            upstream = stack.enter_context(printing_its_address(HERE / "llamacpp_server.py", str(MODEL), str(template)))
            url = stack.enter_context(loggia("--openai", f"llamacpp={upstream}/v1"))
        client = stack.enter_context(openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0))
        yield client, fetch(f"{url}/v1/models")["data"][0]["id"]


@pytest.mark.parametrize("choice", ["auto", "required"])
@pytest.mark.parametrize("parameters", ODD_PARAMETERS, ids=str)
def test_a_tool_in_an_odd_form_is_served(with_tools, parameters, choice):
    client, model = with_tools
    answer = client.chat.completions.create(**offering(model, parameters, choice))
    assert answer.choices[0].finish_reason in ("stop", "length", "tool_calls")


@pytest.mark.parametrize("choice", ["auto", "required"])
def test_a_reference_that_leads_nowhere_is_a_400_about_its_tool(with_tools, choice):
    client, model = with_tools
    asked = offering(model, {"type": "object", "properties": {"a": {"$ref": "#/$defs/None"}}}, choice)
    if choice == "auto" and model != "smollm2":
        # The engine reads the schema of a call only if the call is forced.
        assert client.chat.completions.create(**asked).choices
        return
    with pytest.raises(openai.BadRequestError) as refusal:
        client.chat.completions.create(**asked)
    assert (refusal.value.code, refusal.value.param) == ("invalid_json_schema", "tools[0].function.parameters")


def offering(model: str, parameters: dict, choice: str) -> dict:
    tool = {"type": "function", "function": {"name": "f", "parameters": parameters}}
    return {"model": model, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1, "tools": [tool], "tool_choice": choice}


def asked(target, schema: dict, strict: bool = False) -> dict:
    form = {"type": "json_schema", "json_schema": {"name": "s", "strict": strict, "schema": copy.deepcopy(schema)}}
    return {"model": target.model, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1, "response_format": form}


def grammar(target, schema: dict) -> str:
    """Returns the grammar that the server makes of a schema."""
    told = fetch(f"{target.upstream}/v1/chat/completions", asked(target, schema) | {"verbose": True})
    return str(told["__verbose"]["generation_settings"]["grammar"])
