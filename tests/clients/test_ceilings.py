"""The limits of one request, by default and as configured: the official client gets an error with the field
and the limit."""

import base64
import json

import openai
import pytest

import official
import scripted_upstream as script
from targets import loggia
from test_media import image, png

SAID = [{"role": "user", "content": "x"}]
PICTURE = base64.b64encode(png((255, 0, 0), side=1)).decode()


def nested(levels: int) -> dict:
    """A schema with this nesting depth: an object has one level, its properties another."""
    if levels == 1:
        return {"type": "string"}
    return {"type": "object", "properties": {"a": nested(levels - 2)} if levels > 2 else {}}


def of_bytes(size: int) -> dict:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "description": ""}
    return schema | {"description": "x" * (size - len(json.dumps(schema, separators=(",", ":"))))}


def held_to(schema: dict) -> dict:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}}


def picture_of_bytes(size: int) -> dict:
    return pictures(f"data:image/png;base64,iVBORw0KGgoA{'A' * (size - 34)}")


def pictures(*urls: str) -> dict:
    return {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}, *map(image, urls)]}]}


def function(index: int, **more) -> dict:
    return {"name": f"f{index}", "parameters": {"type": "object", "properties": {}}} | more


def tool(index: int, **more) -> dict:
    return {"type": "function", "function": function(index, **more)}


# For each key of `[ceilings]`: the default; another value; a request with that many; the `param` of a request
# with more.
CEILINGS = {
    "choices": (16, 3, lambda count: {"n": count}, "n"),
    "messages": (4096, 5, lambda count: {"messages": SAID * count}, "messages"),
    "tools": (128, 2, lambda count: {"tools": [tool(i) for i in range(count)]}, "tools"),
    "functions": (128, 2, lambda count: {"functions": [function(i) for i in range(count)]}, "functions"),
    "media": (64, 2, lambda count: pictures(*[f"data:image/png;base64,{PICTURE}"] * count), "messages"),
    "media_bytes": (24 << 20, 1000, picture_of_bytes, "messages"),
    "schema_bytes": (256 << 10, 400, lambda count: held_to(of_bytes(count)), "response_format.json_schema.schema"),
    "schema_depth": (32, 7, lambda count: held_to(nested(count)), "response_format.json_schema.schema"),
    "schema_depth of a tool": (32, 7, lambda count: {"tools": [tool(0, parameters=nested(count))]}, "tools[0].function.parameters"),
    "logit_bias": (300, 3, lambda count: {"logit_bias": {str(token): 1 for token in range(count)}}, "logit_bias"),
    "stop_bytes": (512, 8, lambda count: {"stop": "é" * (count // 2) + "x" * (count % 2)}, "stop"),
}

SETTINGS = """
[ceilings]
choices = 3
messages = 5
tools = 2
media = 2
media_bytes = "1000B"
schema_bytes = "400B"
schema_depth = 7
logit_bias = 3
stop_bytes = "8B"
"""


@pytest.fixture(scope="module")
def engine():
    with script.upstream(script.ollama(script.json_body(script.line()), "vision", "tools")) as upstream:
        yield upstream


@pytest.fixture(scope="module", params=["default", "set"])
def clients(request, engine, tmp_path_factory):
    """Yields the column with the limit that applies, and the client. The server is lenient, so that
    `logit_bias`, which Ollama does not know, is not refused by itself."""
    arguments = ["--ollama", engine, "--lenient"]
    if request.param == "set":
        config = tmp_path_factory.mktemp("ceilings") / "loggia.toml"
        config.write_text(SETTINGS)
        arguments += ["--config", str(config)]
    with loggia(*arguments) as url, official.client(url) as client:
        yield ["default", "set"].index(request.param), client


def ask(client, **fields):
    return client.chat.completions.create(**{"model": "m", "messages": SAID} | fields)


@pytest.mark.parametrize("row", CEILINGS)
def test_as_much_as_the_ceiling_passes_it_and_one_more_is_a_400_with_field_and_number(clients, row):
    which, client = clients
    *numbers, asking_for, param = CEILINGS[row]
    most = numbers[which]
    # The model cannot see. Below the limit it gets a note about the picture.
    assert ask(client, **asking_for(min(most, 1 << 20) if row == "media_bytes" else most)).choices
    with pytest.raises(openai.BadRequestError) as failure:
        ask(client, **asking_for(most + 1))
    assert failure.value.param == param and failure.value.type == "invalid_request_error"
    assert f"{most}" in failure.value.message and f"{most + 1}" in failure.value.message


def test_an_answer_whose_length_nobody_limits_has_the_servers_and_the_clients_own_is_its_own(tmp_path):
    config, heard = tmp_path / "loggia.toml", []
    config.write_text("[ceilings]\nanswer_tokens = 50\n")

    def chat(body: bytes) -> bytes:
        heard.append(json.loads(body).get("options", {}).get("num_predict"))
        return script.json_body(script.line())

    with script.upstream(script.ollama(chat)) as upstream:
        with loggia("--config", str(config), "--ollama", upstream) as url, official.client(url) as client:
            for fields in [{}, {"max_tokens": 7}, {"max_completion_tokens": 700}]:
                ask(client, **fields)
        with loggia("--ollama", upstream) as url, official.client(url) as client:
            ask(client)
    assert heard == [50, 7, 700, None]


def test_a_request_that_takes_too_long_altogether_is_a_504_and_a_stream_ends_with_an_error(tmp_path):
    config = tmp_path / "loggia.toml"
    config.write_text('[ceilings]\nwhole_time = "500ms"\n')
    begun = script.STREAM_HEAD + script.chunk(json.dumps(script.line("Hel", done=False)).encode() + b"\n")
    with script.upstream(script.ollama(begun), silent_after=True) as upstream:
        with loggia("--config", str(config), "--ollama", upstream) as url, official.client(url) as client:
            with pytest.raises(openai.InternalServerError) as failure:
                ask(client)
            assert (failure.value.status_code, failure.value.code) == (504, "backend_timeout")
            assert failure.value.response.headers["x-should-retry"] == "false"
            stream, said = ask(client, stream=True), []
            with pytest.raises(openai.APIError) as failure:
                said.extend(chunk.choices[0].delta.content for chunk in stream)
            assert failure.value.code == "backend_timeout" and "0.5 s" in failure.value.message
            assert said == ["Hel"]
