"""Every recorded exchange that an OpenAI client can cause: sent through the official Python client, and the
answer compared with the recorded one. The stand-in checks that Ollama receives the recorded request."""

import json

import openai
import pytest

import recorded
from targets import fetch

WHOLE = [
    "whole",
    "whole-format-json",
    "whole-format-schema",
    "whole-length",
    "whole-logprobs",
    "whole-penalties",
    "whole-stop-reached",
    "whole-stop-sequence-two-tokens",
    "whole-text-then-tool-call",
    "whole-think-false",
    "whole-thinking",
    "whole-thinking-cut-by-length",
    "whole-thinking-with-format",
    "whole-tool-call",
    "whole-tool-result",
    "whole-tools-no-call",
    "whole-two-tool-calls",
    "generation-past-context-shift-false",
]

STREAMED = [
    "stream-conversation",
    "stream-emoji",
    "stream-ends-by-itself",
    "stream-format-schema",
    "stream-length",
    "stream-logprobs",
    "stream-stop-sequence",
    "stream-text-then-tool-call",
    "stream-thinking",
    "stream-tool-call",
    "stream-tools-no-call",
    "stream-two-tool-calls",
]


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_answer_is_the_recorded_one(standin_client, name):
    expected = recorded.answer(name)
    answer = standin_client.chat.completions.create(**recorded.question(name))

    choice = answer.choices[0]
    assert (choice.message.content or "") == expected.content
    assert reasoning_of(choice.message) == expected.reasoning
    assert calls_of(choice.message.tool_calls) == expected.calls
    assert [entry.token for entry in (choice.logprobs.content if choice.logprobs else [])] == expected.tokens
    assert choice.finish_reason == expected.finish_reason
    assert_usage(answer.usage, expected)


@pytest.mark.parametrize("name", STREAMED)
def test_a_stream_is_the_recorded_one(standin_client, name):
    expected = recorded.answer(name)
    *chunks, last = standin_client.chat.completions.create(**recorded.question(name), stream_options={"include_usage": True})

    deltas = [chunk.choices[0].delta for chunk in chunks]
    assert "".join(delta.content or "" for delta in deltas) == expected.content
    assert "".join(reasoning_of(delta) for delta in deltas) == expected.reasoning
    calls = [call for delta in deltas for call in delta.tool_calls or []]
    assert calls_of(calls) == expected.calls
    assert [call.index for call in calls] == list(range(len(calls)))
    logprobs = [chunk.choices[0].logprobs for chunk in chunks if chunk.choices[0].logprobs]
    assert [entry.token for each in logprobs for entry in each.content or []] == expected.tokens
    assert chunks[-1].choices[0].finish_reason == expected.finish_reason
    assert_usage(last.usage, expected)


@pytest.mark.parametrize("name", ["overflow-truncate-false", "overflow-truncate-false-stream"])
def test_an_overflow_is_a_refusal_that_names_both_numbers(standin_client, name):
    with pytest.raises(openai.BadRequestError) as failure:
        standin_client.chat.completions.create(**recorded.question(name))
    assert failure.value.code == "context_length_exceeded"
    assert "1210" in failure.value.message and "512" in failure.value.message


def test_a_full_queue_is_a_503(standin_client):
    with pytest.raises(openai.InternalServerError) as failure:
        standin_client.chat.completions.create(**recorded.question("queue-full"))
    assert failure.value.status_code == 503


def test_an_engine_that_dies_in_a_stream_is_an_error_after_what_it_said(standin_client):
    expected = recorded.RECORDINGS["runner-killed-mid-stream"].body.splitlines()
    heard = []
    with pytest.raises(openai.APIError) as failure:
        for chunk in standin_client.chat.completions.create(**recorded.question("runner-killed-mid-stream")):
            heard.append(chunk.choices[0].delta.content or "")
    assert "".join(heard) == "".join(json.loads(line)["message"]["content"] for line in expected[:-1])
    assert not isinstance(failure.value, openai.APIStatusError)


def test_tools_for_a_model_that_has_none_are_told_in_a_system_message(standin, standin_client):
    asked, tools = recorded.question("whole"), recorded.question("tools-unsupported")["tools"]
    standin.expects(("whole", {"messages": [{"role": "system", "content": "(any text)"}, *asked["messages"]]}))
    said = standin_client.chat.completions.create(**asked, tools=tools).choices[0]
    assert (said.message.content, said.finish_reason) == (recorded.answer("whole").content, recorded.answer("whole").finish_reason)
    assert said.message.tool_calls is None


def test_ollama_was_asked_nothing_but_what_was_recorded(standin):
    assert fetch(f"{standin.upstream}/standin/report")["mismatches"] == []


def reasoning_of(said) -> str:
    return getattr(said, "reasoning_content", None) or ""


def calls_of(calls) -> list[tuple[str, dict]]:
    return [(call.function.name, json.loads(call.function.arguments)) for call in calls or []]


def assert_usage(usage, expected) -> None:
    assert (usage.prompt_tokens, usage.completion_tokens) == (expected.prompt_tokens, expected.completion_tokens)
    assert usage.total_tokens == expected.prompt_tokens + expected.completion_tokens
