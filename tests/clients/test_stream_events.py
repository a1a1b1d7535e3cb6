"""The SDK's stream of events (`chat.completions.stream`): it joins the chunks to an answer, and fails if they
do not fit."""

import asyncio
import itertools

import openai

import questions


def test_the_events_add_up_to_the_answer(client, target):
    asked = {**questions.CAPITAL, "stream_options": {"include_usage": True}}
    with client.chat.completions.stream(model=target.model, **asked) as stream:
        events = list(stream)
        answer = stream.current_completion_snapshot

    deltas = [event for event in events if event.type == "content.delta"]
    assert [event.snapshot for event in deltas] == growing([event.delta for event in deltas])
    (done,) = [event for event in events if event.type == "content.done"]
    choice = answer.choices[0]
    assert deltas[-1].snapshot == done.content == choice.message.content != ""
    assert choice.message.role == "assistant" and choice.finish_reason in ("stop", "length")
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0
    assert sum(event.type == "chunk" for event in events) >= len(deltas)


def test_the_events_of_log_probabilities_add_up_too(client, target):
    asked = questions.CAPITAL | {"max_tokens": 4}
    with client.chat.completions.stream(model=target.model, logprobs=True, top_logprobs=2, **asked) as stream:
        events = list(stream)
    entries = [entry for event in events if event.type == "logprobs.content.delta" for entry in event.content]
    (done,) = [event for event in events if event.type == "logprobs.content.done"]
    assert done.content == entries and len(entries) == 4
    assert "".join(entry.token for entry in entries) == stream.current_completion_snapshot.choices[0].message.content


def test_the_asynchronous_stream_gives_the_same(target):
    async def answer() -> str:
        async with openai.AsyncOpenAI(
            base_url=f"{target.url}/v1", api_key="unused", max_retries=0, timeout=120, _strict_response_validation=True
        ) as client:
            async with client.chat.completions.stream(model=target.model, **questions.CAPITAL) as stream:
                texts = [event.delta async for event in stream if event.type == "content.delta"]
                final = stream.current_completion_snapshot
        assert "".join(texts) == final.choices[0].message.content
        return final.choices[0].message.content

    assert asyncio.run(answer())


def test_a_stream_that_is_closed_half_way_leaves_the_next_question_alone(client, target):
    with client.chat.completions.stream(model=target.model, **questions.CAPITAL) as stream:
        next(event for event in stream if event.type == "content.delta")
    assert client.chat.completions.create(model=target.model, **questions.CAPITAL).choices[0].message.content


def growing(pieces: list[str]) -> list[str]:
    return list(itertools.accumulate(pieces))
