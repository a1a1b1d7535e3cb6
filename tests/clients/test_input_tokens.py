"""`POST /v1/responses/input_tokens` and `truncation: "auto"` through the Python SDK, for every kind of
backend."""

import openai
import pytest

CAPITAL = "What is the capital of France?"
TOOL = {"type": "function", "name": "get_weather", "description": "Returns the weather.", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
PERSON = {"type": "json_schema", "name": "person", "schema": {"type": "object", "properties": {"name": {"type": "string"}}}}

# What a client can send to be counted: the count must be the usage of the response to the same request.
INPUTS = {
    "text": {"input": CAPITAL},
    "instructions": {"input": CAPITAL, "instructions": "Answer in French."},
    "items": {
        "input": [
            {"role": "user", "content": "Weather in Köln? 🌦"},
            {"type": "function_call", "call_id": "call_1", "name": "get_weather", "arguments": '{"city": "Köln"}'},
            {"type": "function_call_output", "call_id": "call_1", "output": "Rain."},
        ],
        "tools": [TOOL],
    },
    "tools": {"input": CAPITAL, "tools": [TOOL], "tool_choice": "auto", "parallel_tool_calls": False},
    "format": {"input": CAPITAL, "text": {"format": PERSON}},
}

# A conversation of about 4,000 tokens, twice the context of the engines here.
LONG = [
    message
    for turn in range(40)
    for message in (
        {"role": "user", "content": f"Question {turn}: " + "how does the sea look today? " * 6},
        {"role": "assistant", "content": f"Answer {turn}: " + "it is blue and wide and calm. " * 6},
    )
] + [{"role": "user", "content": CAPITAL}]


def test_a_count_is_the_usage_of_the_same_response(client, target):
    # An answer of one token, which Ollama reports the number of prompt tokens with.
    target.expects(("whole", {"options": {"num_predict": 1, "num_ctx": 4096}}))
    counted = client.responses.input_tokens.count(model=target.model, input=CAPITAL)
    assert counted.object == "response.input_tokens"
    response = client.responses.create(model=target.model, input=CAPITAL, max_output_tokens=24, temperature=0, extra_body={"seed": 7})
    assert counted.input_tokens == response.usage.input_tokens > 0


@pytest.mark.parametrize("name", INPUTS)
def test_everything_that_the_model_reads_is_counted(client, target, name):
    if target.kind == "ollama":
        pytest.skip("these requests were not recorded")
    counted = client.responses.input_tokens.with_raw_response.count(model=target.model, **INPUTS[name])
    response = client.responses.create(model=target.model, max_output_tokens=16, temperature=0, **INPUTS[name])
    assert counted.parse().input_tokens == response.usage.input_tokens
    assert "x-loggia-estimated" not in counted.headers


def test_a_count_may_exceed_the_context(client, target):
    if target.kind == "ollama":
        pytest.skip("such a request was not recorded")
    counted = client.responses.input_tokens.count(model=target.model, input=LONG)
    assert counted.input_tokens > 3000


def test_a_model_that_does_not_exist_is_a_404(client, target):
    with pytest.raises(openai.NotFoundError) as error:
        client.responses.input_tokens.count(model="no-such-model", input=CAPITAL)
    assert error.value.code == "model_not_found"


@pytest.mark.parametrize("stream", [False, True])
def test_the_oldest_items_are_dropped_where_the_client_allows_it(client, target, stream):
    if target.is_ollamas:
        pytest.skip("such requests were not recorded, and a real Ollama has a larger context")
    asked = {"model": target.model, "input": LONG, "max_output_tokens": 16, "temperature": 0}
    with pytest.raises(openai.BadRequestError) as error:
        client.responses.create(truncation="disabled", **asked)
    assert error.value.code == "context_length_exceeded"
    raw = client.responses.with_raw_response.create(truncation="auto", stream=stream, **asked)
    response = list(raw.parse())[-1].response if stream else raw.parse()
    assert response.truncation == "auto" and response.output_text != ""
    assert 1700 < response.usage.input_tokens <= 2048 - 16
    dropped = raw.headers["x-loggia-truncated"].split(", ")
    assert dropped == [f"input[{index}]" for index in range(len(dropped))] and 20 < len(dropped) < 80
