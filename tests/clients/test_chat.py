"""Complete answers through the official Python client: the same questions for every kind of backend.

The model is small, so only the form of its answers is checked. `test_recorded.py` checks recorded text.
"""

import re

import openai
import pytest

import questions


def test_a_whole_answer_has_one_choice_with_text_an_ending_and_usage(client, target):
    answer = client.chat.completions.create(model=target.model, **questions.CAPITAL)

    assert answer.object == "chat.completion"
    assert answer.model == target.model
    assert re.fullmatch(r"chatcmpl-[A-Za-z0-9]{24,}", answer.id)
    assert re.fullmatch(r"fp_[0-9a-f]{10}", answer.system_fingerprint)
    assert [choice.index for choice in answer.choices] == [0]
    choice = answer.choices[0]
    assert choice.message.role == "assistant" and choice.message.content
    assert choice.finish_reason in ("stop", "length")
    usage = answer.usage
    assert usage.prompt_tokens > 0 and 0 < usage.completion_tokens <= 24
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def test_ids_are_never_repeated(client, target):
    ids = {client.chat.completions.create(model=target.model, **questions.CAPITAL).id for _ in range(3)}
    assert len(ids) == 3


def test_the_fingerprint_stays_while_the_engine_does(client, target):
    told = {client.chat.completions.create(model=target.model, **questions.CAPITAL).system_fingerprint for _ in range(2)}
    assert len(told) == 1


def test_max_tokens_ends_the_answer_with_length(client, target):
    answer = client.chat.completions.create(model=target.model, max_tokens=3, **questions.STORY)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 3


def test_max_completion_tokens_wins_over_max_tokens(client, target):
    answer = client.chat.completions.create(model=target.model, max_completion_tokens=3, max_tokens=24, **questions.STORY)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 3


def test_a_stop_string_ends_the_answer_before_itself(client, target):
    answer = client.chat.completions.create(model=target.model, **questions.CAPITAL_BEFORE)
    # Only the recorded answer is sure to reach the stop string. The text of the others is not checked.
    assert answer.choices[0].finish_reason == "stop" or target.kind != "ollama"
    assert "of France is" not in answer.choices[0].message.content


def test_the_same_seed_gives_the_same_text(client, target):
    ask = lambda: client.chat.completions.create(model=target.model, **questions.INVENTED)
    first, second = ask(), ask()
    if target.kind == "ollama":
        # Two recordings of one question are answered in turn. The stand-in has checked that the seed arrived.
        return
    assert first.choices[0].message.content == second.choices[0].message.content


def test_content_may_be_parts(client, target):
    parts = [{"type": "text", "text": "What is the capital"}, {"type": "text", "text": " of France?"}]
    asked = questions.CAPITAL | {"messages": [{"role": "user", "content": parts}]}
    assert client.chat.completions.create(model=target.model, **asked).choices[0].message.content


def test_the_answer_says_which_backend_gave_it_and_carries_a_request_id(client, target):
    raw = client.chat.completions.with_raw_response.create(model=target.model, **questions.CAPITAL)
    assert raw.headers["x-loggia-served-by"]
    assert raw.headers["x-request-id"]
    assert raw.parse().choices


def test_a_hint_without_effect_is_named(client, target):
    raw = client.chat.completions.with_raw_response.create(model=target.model, user="someone", **questions.CAPITAL)
    assert "user" in raw.headers.get("x-loggia-ignored", "")


def test_a_field_that_nobody_knows_is_named(client, target):
    raw = client.chat.completions.with_raw_response.create(model=target.model, extra_body={"temprature": 1}, **questions.CAPITAL)
    assert "temprature" in raw.headers["x-loggia-ignored"].split(", ")


@pytest.mark.parametrize("field, value", [("web_search_options", {}), ("modalities", ["text", "audio"]), ("moderation", {"model": "omni"})])
def test_what_only_a_hosted_service_has_is_named(client, target, field, value):
    raw = client.chat.completions.with_raw_response.create(model=target.model, extra_body={field: value}, **questions.CAPITAL)
    assert raw.headers["x-loggia-ignored"] == field and raw.parse().choices


def test_log_probabilities_are_given(client, target):
    asked = questions.CAPITAL | {"max_tokens": 4}
    answer = client.chat.completions.create(model=target.model, logprobs=True, top_logprobs=2, **asked)
    entries = answer.choices[0].logprobs.content
    assert entries and all(entry.logprob <= 0 and len(entry.top_logprobs) == 2 for entry in entries)
    assert "".join(entry.token for entry in entries) == answer.choices[0].message.content


@pytest.mark.parametrize("none", [{}, {"top_logprobs": 0}])
def test_log_probabilities_come_without_alternatives_that_nobody_asked_for(client, target, none):
    if target.kind == "ollama":
        pytest.skip("the stand-in answers only what was recorded, and this was not")
    answer = client.chat.completions.create(model=target.model, logprobs=True, **none, **questions.CAPITAL)
    entries = answer.choices[0].logprobs.content
    assert entries and all(entry.logprob <= 0 and entry.top_logprobs == [] for entry in entries)
