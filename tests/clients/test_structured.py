"""Structured outputs as applications request them: `chat.completions.parse` with a Pydantic class, and the
same as a stream of events."""

import json

import openai
import pydantic
import pytest

import questions
from refusals import unless_refused


class Person(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    name: str = pydantic.Field(max_length=12)
    age: int = pydantic.Field(ge=0, le=150)


INVENT = {"messages": questions.says("Invent a person."), "max_tokens": 64, **questions.GREEDY}
AS_OLLAMA_GETS_IT = {"format": Person.model_json_schema()}


def test_parse_gives_an_instance_of_the_class(client, target):
    target.expects(("whole-format-schema", AS_OLLAMA_GETS_IT))
    with unless_refused(target, "response_format"):
        answer = client.chat.completions.parse(model=target.model, response_format=Person, **INVENT)
        person = answer.choices[0].message.parsed
        assert isinstance(person, Person) and answer.choices[0].finish_reason == "stop"
        if target.kind == "ollama":
            assert person == Person(name="Ethan", age=25)


def test_a_stream_of_events_ends_with_an_instance_of_the_class(client, target):
    target.expects(("stream-format-schema", AS_OLLAMA_GETS_IT))
    with unless_refused(target, "response_format"):
        with client.chat.completions.stream(model=target.model, response_format=Person, **INVENT) as stream:
            events = list(stream)
        text = "".join(event.delta for event in events if event.type == "content.delta")
        (done,) = [event for event in events if event.type == "content.done"]
        assert done.content == text
        assert done.parsed == Person.model_validate_json(text)
        assert stream.get_final_completion().choices[0].message.parsed == done.parsed


def test_an_answer_cut_by_its_length_is_the_packages_own_exception(client, target):
    target.expects(("whole-length", AS_OLLAMA_GETS_IT | {"messages": INVENT["messages"], "options": sized(max_tokens=3)}))
    with unless_refused(target, "response_format"):
        with pytest.raises(openai.LengthFinishReasonError) as failure:
            client.chat.completions.parse(model=target.model, response_format=Person, **INVENT | {"max_tokens": 3})
        assert failure.value.completion.usage.completion_tokens == 3


def test_json_object_gives_json(client, target):
    asked = questions.says("Give me a JSON object with a name and an age.")
    with unless_refused(target, "response_format"):
        answer = client.chat.completions.create(
            model=target.model, messages=asked, response_format={"type": "json_object"}, max_tokens=64, **questions.GREEDY
        )
        # Only a recorded answer is sure to end within the limit.
        if answer.choices[0].finish_reason == "stop":
            assert isinstance(json.loads(answer.choices[0].message.content), dict)


def sized(max_tokens: int) -> dict:
    """The options that Ollama gets with this token limit. Its model is loaded with a context of 4,096 tokens."""
    return {"num_ctx": 4096, "num_predict": max_tokens, **questions.GREEDY}
