"""Tools through the SDK's helpers: functions from Pydantic classes, calls parsed back into them, and a
conversation with a tool."""

import json

import openai
import pydantic

import questions
from recorded import question, recording
from refusals import unless_refused


class GetWeather(pydantic.BaseModel):
    """The weather in a city"""

    model_config = pydantic.ConfigDict(extra="forbid")

    city: str = pydantic.Field(max_length=10)


TOOL = openai.pydantic_function_tool(GetWeather, name="get_weather")
FORCED = {
    "messages": questions.says("Weather in Paris? Call get_weather."),
    "tools": [TOOL],
    "tool_choice": {"type": "function", "function": {"name": "get_weather"}},
    "max_tokens": 60,
    **questions.GREEDY,
}
# A forced call reaches Ollama as a schema that only the call matches, and as a description before the
# conversation.
HELD_TO_THE_CALL = {
    "format": {
        "type": "object",
        "properties": {"name": {"const": "get_weather"}, "arguments": TOOL["function"]["parameters"]},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    },
    "messages": [{"role": "system", "content": "(any text)"}, *FORCED["messages"]],
}


def test_a_call_that_must_be_made_is_parsed_into_the_class(client, target):
    target.expects(("whole-call-forced-by-format", HELD_TO_THE_CALL))
    with unless_refused(target, "tools"):
        answer = client.chat.completions.parse(model=target.model, **FORCED)
        (call,) = answer.choices[0].message.tool_calls
        assert call.type == "function" and call.id
        assert isinstance(call.function.parsed_arguments, GetWeather)
        assert answer.choices[0].message.content is None


def test_a_streamed_call_that_must_be_made_is_parsed_into_the_class(client, target):
    target.expects(("whole-call-forced-by-format", HELD_TO_THE_CALL | {"stream": True}))
    with unless_refused(target, "tools"):
        with client.chat.completions.stream(model=target.model, **FORCED) as stream:
            events = list(stream)
        (done,) = [event for event in events if event.type == "tool_calls.function.arguments.done"]
        assert done.name == "get_weather" and isinstance(done.parsed_arguments, GetWeather)
        deltas = [event.arguments_delta for event in events if event.type == "tool_calls.function.arguments.delta"]
        assert "".join(deltas) == done.arguments
        (call,) = stream.get_final_completion().choices[0].message.tool_calls
        assert call.function.parsed_arguments == done.parsed_arguments


def test_any_of_several_calls_can_be_required(client, target):
    if target.kind == "ollama":
        # One call must match its own schema; of several, each must match one of the schemas.
        both = {"anyOf": [HELD_TO_THE_CALL["format"], held_to("get_time", {"type": "object", "properties": {}, "additionalProperties": False})]}
        target.expects(("whole-call-forced-by-format", HELD_TO_THE_CALL | {"format": both}))
    time = {"type": "function", "function": {"name": "get_time", "parameters": {"type": "object", "properties": {}}}}
    with unless_refused(target, "tools"):
        asked = FORCED | {"tools": [TOOL, time], "tool_choice": "required"}
        answer = client.chat.completions.create(model=target.model, **asked)
        assert answer.choices[0].finish_reason == "tool_calls"
        for call in answer.choices[0].message.tool_calls:
            assert call.function.name in ("get_weather", "get_time") and isinstance(json.loads(call.function.arguments), dict)


def test_a_recorded_call_streams_as_events(standin, standin_client):
    asked = strictly(question("stream-tool-call"))
    standin.expects(("stream-tool-call", {"tools": asked["tools"]}))
    with standin_client.chat.completions.stream(**asked) as stream:
        events = list(stream)
    (done,) = [event for event in events if event.type == "tool_calls.function.arguments.done"]
    assert (done.name, done.index, json.loads(done.arguments)) == ("get_weather", 0, {"city": "Paris"})
    assert stream.get_final_completion().choices[0].finish_reason == "tool_calls"


def test_a_conversation_calls_a_tool_and_uses_its_result(standin, standin_client):
    asked = question("whole-tool-call")
    first = standin_client.chat.completions.create(**asked).choices[0].message
    (call,) = first.tool_calls
    result = {"role": "tool", "tool_call_id": call.id, "content": "18 degrees, sunny"}
    # The message is sent back as the SDK has parsed it, including empty fields.
    turn = {"role": "assistant", "content": "", "tool_calls": [as_ollama_has_it(call)]}
    told = result | {"tool_name": "get_weather"}
    standin.expects(("whole-tool-result", {"messages": [*asked["messages"], turn, told], "options": recording("whole-tool-call").request["options"]}))
    asked["messages"] += [first, result]
    second = standin_client.chat.completions.create(**asked).choices[0].message
    assert second.content == "The weather in Paris is indeed sunny."


def as_ollama_has_it(call) -> dict:
    return {"id": call.id, "function": {"index": 0, "name": call.function.name, "arguments": json.loads(call.function.arguments)}}


def strictly(asked: dict) -> dict:
    """The SDK streams events only for strict tools, and sets `stream` itself."""
    tools = [{**tool, "function": tool["function"] | {"strict": True}} for tool in asked["tools"]]
    return {key: value for key, value in asked.items() if key != "stream"} | {"tools": tools}


def held_to(name: str, parameters: dict) -> dict:
    properties = {"name": {"const": name}, "arguments": parameters}
    return {"type": "object", "properties": properties, "required": ["name", "arguments"], "additionalProperties": False}
