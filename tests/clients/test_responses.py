"""`POST /v1/responses` through the Python SDK: complete, streamed, with its helpers, for every kind of
backend."""

import asyncio
import json

import openai
import pytest

import questions
from recorded import question
from refusals import unless_refused
from test_structured import AS_OLLAMA_GETS_IT, Person
from test_tools import HELD_TO_THE_CALL, TOOL, GetWeather

CAPITAL = {"input": "What is the capital of France?", "max_output_tokens": 24, "temperature": 0, "extra_body": {"seed": 7}}


WATER = {"input": "Answer yes or no: is water wet?", "temperature": 0, "extra_body": {"seed": 7}}
INVENT = {"input": "Invent a person.", "max_output_tokens": 64, "temperature": 0, "extra_body": {"seed": 7}}
FORCED = {
    "input": "Weather in Paris? Call get_weather.",
    "tools": [{"type": "function", "strict": True, **{key: TOOL["function"][key] for key in ("name", "description", "parameters")}}],
    "tool_choice": {"type": "function", "name": "get_weather"},
    "max_output_tokens": 60,
    "temperature": 0,
    "extra_body": {"seed": 7},
}


def test_a_whole_response(client, target):
    response = client.responses.create(model=target.model, **CAPITAL)
    assert response.id.startswith("resp_") and response.object == "response" and response.model == target.model
    (message,) = response.output
    assert message.role == "assistant" and message.status == response.status
    assert response.output_text == message.content[0].text != ""
    usage = response.usage
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens > usage.output_tokens > 0
    chat = client.chat.completions.create(model=target.model, **questions.CAPITAL)
    assert response.output_text == chat.choices[0].message.content
    is_cut = chat.choices[0].finish_reason == "length"
    assert response.status == ("incomplete" if is_cut else "completed")
    assert (response.incomplete_details.reason if is_cut else None) == ("max_output_tokens" if is_cut else None)


STORY = "The cat sat on the mat and looked at the moon. " * 95


def test_a_long_conversation_is_compacted_before_the_answer(client, target):
    if target.kind not in ("embedded", "openai"):
        pytest.skip("nothing was recorded for it")
    said = [{"role": "user", "content": STORY}, {"role": "assistant", "content": "I see."}, {"role": "user", "content": "What did it look at?"}]
    limits = {"max_output_tokens": 8, "temperature": 0}
    manage = [{"type": "compaction", "compact_threshold": 1000}]
    *_, end = client.responses.create(model=target.model, input=said, context_management=manage, stream=True, **limits)
    assert [item.type for item in end.response.output] == ["compaction", "message"]
    assert client.responses.retrieve(end.response.id).output == end.response.output
    new = {"role": "user", "content": "And then?"}
    by_id = client.responses.create(model=target.model, input=[new], previous_response_id=end.response.id, **limits)
    whole = client.responses.create(model=target.model, input=[*said, *end.response.output, new], store=False, **limits)
    assert by_id.usage.input_tokens == whole.usage.input_tokens < 1000
    assert by_id.output_text == whole.output_text


def test_a_streamed_response(client, target):
    events = list(client.responses.create(model=target.model, stream=True, **CAPITAL))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.type for event in events[:2]] == ["response.created", "response.in_progress"]
    assert events[-1].type in ("response.completed", "response.incomplete")
    deltas = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    whole = client.responses.create(model=target.model, **CAPITAL)
    assert deltas == events[-1].response.output_text == whole.output_text
    assert {event.response.id for event in events if hasattr(event, "response")} == {events[0].response.id}


def test_the_helper_puts_the_events_together(client, target):
    with client.responses.stream(model=target.model, **WATER) as stream:
        texts = [event.delta for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert "".join(texts) == final.output_text != ""
    assert final.status == "completed"


def test_parse_gives_an_instance_of_the_class(client, target):
    target.expects(("whole-format-schema", AS_OLLAMA_GETS_IT))
    with unless_refused(target, "text.format"):
        response = client.responses.parse(model=target.model, text_format=Person, **INVENT)
        assert isinstance(response.output_parsed, Person) and response.status == "completed"


def test_a_stream_ends_with_an_instance_of_the_class(client, target):
    target.expects(("stream-format-schema", AS_OLLAMA_GETS_IT))
    with unless_refused(target, "text.format"):
        with client.responses.stream(model=target.model, text_format=Person, **INVENT) as stream:
            list(stream)
            assert isinstance(stream.get_final_response().output_parsed, Person)


def test_a_call_that_must_be_made_is_made(client, target):
    target.expects(("whole-call-forced-by-format", HELD_TO_THE_CALL), ("whole-call-forced-by-format", HELD_TO_THE_CALL | {"stream": True}))
    with unless_refused(target, "tools"):
        response = client.responses.create(model=target.model, **FORCED)
        (call,) = response.output
        assert (call.type, call.name, call.status) == ("function_call", "get_weather", "completed")
        assert GetWeather.model_validate_json(call.arguments) and call.call_id and call.id != call.call_id
        with client.responses.stream(model=target.model, **FORCED) as stream:
            deltas = [event.delta for event in stream if event.type == "response.function_call_arguments.delta"]
            (streamed,) = stream.get_final_response().output
        assert "".join(deltas) == streamed.arguments


def test_recorded_calls_of_an_ollama_are_items(standin_client):
    asked = question("stream-text-then-tool-call")
    tools = [{"type": "function", "strict": None, **tool["function"]} for tool in asked["tools"]]
    limits = {"temperature": asked.get("temperature"), "max_output_tokens": asked.get("max_tokens")}
    more = {key: value for key, value in limits.items() if value is not None}
    extra = asked.get("extra_body", {}) | ({"seed": asked["seed"]} if "seed" in asked else {})
    with standin_client.responses.stream(
        model=asked["model"], input=asked["messages"], tools=tools, extra_body=extra, **more
    ) as stream:
        list(stream)
        message, call = stream.get_final_response().output
    assert message.content[0].text and json.loads(call.arguments) == {"city": "Paris"}


def test_the_asynchronous_stream_gives_the_same(target):
    async def texts() -> tuple[str, str]:
        async with openai.AsyncOpenAI(
            base_url=f"{target.url}/v1", api_key="unused", max_retries=0, timeout=120, _strict_response_validation=True
        ) as client:
            stream = await client.responses.create(model=target.model, stream=True, **CAPITAL)
            streamed = "".join([event.delta async for event in stream if event.type == "response.output_text.delta"])
            whole = await client.responses.create(model=target.model, **CAPITAL)
        return streamed, whole.output_text

    streamed, whole = asyncio.run(texts())
    assert streamed == whole != ""


def test_a_turn_goes_on_from_an_earlier_one(client, target):
    first = client.responses.create(model=target.model, **CAPITAL)
    assert client.responses.retrieve(first.id) == first
    said = [("user", CAPITAL["input"]), ("assistant", first.output_text), ("user", "And of Italy?")]
    messages = [{"role": role, "content": content} for role, content in said]
    target.expects(("whole-length", {"messages": messages, "options": {"num_ctx": 4096, "num_predict": 3, "temperature": 0}}))
    second = client.responses.create(model=target.model, previous_response_id=first.id, input="And of Italy?", max_output_tokens=3, temperature=0)
    assert second.previous_response_id == first.id and second.usage.input_tokens > 0
    items = client.responses.input_items.list(second.id, order="asc").data
    assert items[-1].content[0].text == "And of Italy?"


def test_an_unknown_response_is_a_404_in_openais_shape(client, target):
    with pytest.raises(openai.NotFoundError) as refused:
        client.responses.create(model=target.model, previous_response_id="resp_1", **CAPITAL)
    assert (refused.value.code, refused.value.param) == ("previous_response_not_found", "previous_response_id")


def test_a_missing_model_is_a_404(client, target):
    with pytest.raises(openai.NotFoundError) as refused:
        client.responses.create(model="no-such-model", **CAPITAL)
    assert refused.value.code == "model_not_found"
