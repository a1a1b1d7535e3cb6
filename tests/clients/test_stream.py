"""Streamed answers through the official Python client: the same questions for every kind of backend."""

import asyncio

import openai

import questions


def test_a_stream_names_the_role_once_and_ends_with_one_finishing_chunk(client, target):
    chunks = list(client.chat.completions.create(model=target.model, stream=True, **questions.CAPITAL))

    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert {chunk.model for chunk in chunks} == {target.model}
    assert len({chunk.id for chunk in chunks}) == 1
    assert len({chunk.created for chunk in chunks}) == 1
    deltas = [chunk.choices[0].delta for chunk in chunks]
    assert deltas[0].role == "assistant"
    assert all(delta.role is None for delta in deltas[1:])
    finishes = [chunk.choices[0].finish_reason for chunk in chunks]
    assert finishes[-1] in ("stop", "length") and set(finishes[:-1]) == {None}
    assert deltas[-1].model_dump(exclude_unset=True) == {}
    assert all(chunk.usage is None for chunk in chunks)
    assert text_of(chunks)


def test_usage_comes_in_a_chunk_of_its_own_when_asked_for(client, target):
    asked = {"stream": True, "stream_options": {"include_usage": True}}
    *chunks, last = client.chat.completions.create(model=target.model, **asked, **questions.CAPITAL)

    assert last.choices == []
    assert last.usage.total_tokens == last.usage.prompt_tokens + last.usage.completion_tokens > 0
    # On all other chunks the key is present and null. Only `model_fields_set` can tell that from absence.
    assert all(chunk.usage is None and "usage" in chunk.model_fields_set for chunk in chunks)


def test_a_stream_stops_before_a_stop_string(client, target):
    chunks = list(client.chat.completions.create(model=target.model, stream=True, **questions.COUNT_TO_FIVE))
    if target.kind == "ollama":
        # In the recording, the model did not reach a stop string.
        assert chunks[-1].choices[0].finish_reason == "length"
    assert "5" not in text_of(chunks) and "zzz" not in text_of(chunks)


def test_a_stream_says_what_a_whole_answer_says(client, target):
    streamed = text_of(client.chat.completions.create(model=target.model, stream=True, **questions.CAPITAL))
    whole = client.chat.completions.create(model=target.model, **questions.CAPITAL).choices[0].message.content
    assert streamed == whole


def test_earlier_turns_are_part_of_the_question(client, target):
    chunks = list(client.chat.completions.create(model=target.model, stream=True, **questions.COLOUR))
    assert text_of(chunks) and chunks[-1].choices[0].finish_reason


def test_characters_that_straddle_tokens_arrive_whole(client, target):
    chunks = client.chat.completions.create(model=target.model, stream=True, **questions.EMOJI)
    text = text_of(chunks)
    assert text and "\ufffd" not in text


def test_two_streams_run_side_by_side(target):
    async def one(client):
        stream = await client.chat.completions.create(model=target.model, stream=True, **questions.CAPITAL)
        return [chunk async for chunk in stream]

    async def both():
        async with openai.AsyncOpenAI(base_url=f"{target.url}/v1", api_key="unused", max_retries=0, timeout=120) as client:
            return await asyncio.gather(one(client), one(client))

    first, second = asyncio.run(both())
    assert text_of(first) and text_of(second)
    assert first[0].id != second[0].id


def text_of(chunks) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
