"""Errors as the typed exceptions of the official Python client: the same for every kind of backend."""

import openai
import pytest

import questions


def refused(client, target, **changes) -> openai.BadRequestError:
    with pytest.raises(openai.BadRequestError) as failure:
        client.chat.completions.create(**({"model": target.model} | questions.CAPITAL | changes))
    assert failure.value.type == "invalid_request_error"
    return failure.value


def test_a_missing_model_is_not_found(client, target):
    with pytest.raises(openai.NotFoundError) as failure:
        client.chat.completions.create(model="nope", **questions.CAPITAL)
    error = failure.value
    assert (error.status_code, error.type, error.code) == (404, "invalid_request_error", "model_not_found")
    assert "nope" in error.message


def test_a_missing_model_is_not_found_in_a_stream_either(client, target):
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="nope", stream=True, **questions.CAPITAL)


def test_no_messages_is_refused_with_the_field_named(client, target):
    assert refused(client, target, messages=[]).param == "messages"


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_no_tokens_at_all_is_refused(client, target, field):
    assert refused(client, target, **{field: 0}).param == field


def test_a_wrong_type_is_refused_with_the_field_named(client, target):
    assert refused(client, target, temperature="hot").param == "temperature"


def test_five_stop_strings_are_refused(client, target):
    assert refused(client, target, stop=["a", "b", "c", "d", "e"]).param == "stop"


def test_an_unknown_role_is_refused_with_its_place(client, target):
    error = refused(client, target, messages=[{"role": "wizard", "content": "Hi"}])
    assert error.param.startswith("messages")


def test_an_unknown_response_format_is_refused(client, target):
    assert refused(client, target, response_format={"type": "yaml"}).param.startswith("response_format")


def test_a_prompt_that_does_not_fit_is_refused_with_both_numbers(client, target):
    if target.kind == "ollama":
        pytest.skip("recorded with num_ctx set: test_recorded.py")
    if target.kind == "live_ollama":
        pytest.skip("its context is its own affair")
    error = refused(client, target, messages=questions.says("The quick brown fox jumps over the lazy dog. " * 400))
    assert error.code == "context_length_exceeded"
    assert "2048" in error.message
