"""LangChain's `langchain-openai` with every kind of backend. Many agents use it."""

import openai
import pydantic
import pytest
from langchain_core.exceptions import ModelNotFoundError
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

import questions
import scripted_model
from recorded import RECORDINGS
from refusals import unless_refused
from targets import loggia, watched
from test_structured import Person
from weather import weather

CAPITAL = questions.CAPITAL["messages"][0]["content"]


class Weather(pydantic.BaseModel):
    """The weather in a city"""

    model_config = pydantic.ConfigDict(title="get_weather")

    city: str


@tool
def get_weather(city: str) -> str:
    """The weather in a city"""
    return f"18 degrees, sunny in {city}"


def chat(target, **settings) -> ChatOpenAI:
    settings = {"model": target.model, "max_tokens": 24, "temperature": 0, "seed": 7} | settings
    return ChatOpenAI(base_url=f"{target.url}/v1", api_key="unused", max_retries=0, timeout=120, **settings)


def test_invoke_gives_text_and_usage(target):
    answer = chat(target).invoke(CAPITAL)
    assert answer.text and answer.response_metadata["finish_reason"] in ("stop", "length")
    usage = answer.usage_metadata
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"] > 0


def test_stream_adds_up_to_an_answer_with_usage(target):
    chunks = list(chat(target, stream_usage=True).stream(CAPITAL))
    answer = sum(chunks[1:], chunks[0])
    assert len(chunks) > 2 and answer.text and answer.usage_metadata["total_tokens"] > 0


def responses(target) -> ChatOpenAI:
    """The same over `/v1/responses`. The package has no `seed` there."""
    return chat(target, use_responses_api=True, seed=None, extra_body={"seed": 7})


def test_responses_give_the_same_text_whole_and_streamed(target):
    whole = responses(target).invoke(CAPITAL)
    chunks = list(responses(target).stream(CAPITAL))
    streamed = sum(chunks[1:], chunks[0])
    assert whole.text == streamed.text == chat(target).invoke(CAPITAL).text != ""
    assert whole.response_metadata["id"].startswith("resp_")
    assert whole.usage_metadata["total_tokens"] == streamed.usage_metadata["total_tokens"] > 0


@pytest.mark.parametrize("kind", ["openai", "ollama"])
def test_turns_go_on_from_the_last_response(kind):
    """Only what is new is sent: the server remembers the rest."""
    with scripted_model.engine(kind, weather) as (arguments, asked), loggia(*arguments) as direct, watched(direct) as url:
        settings = {"base_url": f"{url}/v1", "api_key": "unused", "max_retries": 0, "use_responses_api": True, "use_previous_response_id": True}
        agent = ChatOpenAI(model="m", **settings).bind_tools([get_weather])
        conversation = []
        for question in ("Weather in Paris?", "And in Rome?", "What did I ask?"):
            conversation.append(HumanMessage(question))
            conversation.append(agent.invoke(conversation))
            for call in conversation[-1].tool_calls:
                conversation.append(ToolMessage(get_weather.invoke(call["args"]), tool_call_id=call["id"]))
            if isinstance(conversation[-1], ToolMessage):
                conversation.append(agent.invoke(conversation))
        assert conversation[-1].text == "You asked about Paris and Rome."
        assert len(asked[-1]["messages"]) == 9


def test_a_missing_model_is_langchains_own_exception_and_openais(target):
    with pytest.raises(ModelNotFoundError) as failure:
        chat(target, model="nope").invoke(CAPITAL)
    assert isinstance(failure.value, openai.NotFoundError) and failure.value.code == "model_not_found"


def test_with_structured_output_gives_an_instance_of_the_class(target):
    target.expects(("whole-format-schema", {"format": Person.model_json_schema()}))
    with unless_refused(target, "response_format"):
        asked = chat(target, max_tokens=64).with_structured_output(Person, method="json_schema")
        assert isinstance(asked.invoke("Invent a person."), Person)


def test_with_structured_output_by_a_call_gives_an_instance_too(target):
    asked = "Weather in Paris? Call get_weather."
    target.expects(("whole-call-forced-by-format", forced_for_ollama(asked)))
    with unless_refused(target, "tools"):
        asking = chat(target, max_tokens=60).with_structured_output(Weather, method="function_calling")
        assert isinstance(asking.invoke(asked), Weather)


def test_a_tool_that_must_be_called_is_called(target):
    asked = "Weather in Paris? Call get_weather."
    target.expects(("whole-call-forced-by-format", forced_for_ollama(asked)))
    with unless_refused(target, "tools"):
        answer = chat(target, max_tokens=60).bind_tools([get_weather], tool_choice="get_weather").invoke(asked)
        (call,) = answer.tool_calls
        assert call["name"] == "get_weather" and isinstance(call["args"]["city"], str)


def test_a_conversation_calls_a_tool_and_uses_its_result(standin):
    recorded = RECORDINGS["whole-tool-call"].request
    told = {"tools": [as_langchain_writes_it()], "messages": [{"role": "user", "content": "Weather in Paris?"}]}
    call = {"id": "(any text)", "function": {"index": 0, "name": "get_weather", "arguments": {"city": "Paris"}}}
    result = {"role": "tool", "tool_name": "get_weather", "tool_call_id": "(any text)", "content": "18 degrees, sunny in Paris"}
    later = [*told["messages"], {"role": "assistant", "content": "", "tool_calls": [call]}, result]
    standin.expects(("whole-tool-call", told), ("whole-tool-result", told | {"messages": later, "options": recorded["options"]}))

    agent = chat(standin, model="smollm2-tools:135m", max_tokens=60).bind_tools([get_weather])
    conversation = [HumanMessage("Weather in Paris?")]
    conversation.append(agent.invoke(conversation))
    (call,) = conversation[-1].tool_calls
    conversation.append(ToolMessage(get_weather.invoke(call["args"]), tool_call_id=call["id"]))
    answer = agent.invoke(conversation)
    assert isinstance(answer, AIMessage) and answer.text == "The weather in Paris is indeed sunny."


def as_langchain_writes_it() -> dict:
    parameters = {"properties": {"city": {"type": "string"}}, "required": ["city"], "type": "object"}
    return {"type": "function", "function": {"name": "get_weather", "description": "The weather in a city", "parameters": parameters}}


def forced_for_ollama(asked: str) -> dict:
    """How Ollama receives a forced call: as a schema that only the call matches, and as a description before
    the conversation."""
    properties = {"name": {"const": "get_weather"}, "arguments": as_langchain_writes_it()["function"]["parameters"]}
    held = {"type": "object", "properties": properties, "required": ["name", "arguments"], "additionalProperties": False}
    return {"format": held, "messages": [{"role": "system", "content": "(any text)"}, {"role": "user", "content": asked}]}
