"""`with_raw_response` and `with_streaming_response`: headers first, the body as bytes, lines, or parsed."""

import json

import openai
import pytest

import questions


def test_a_raw_response_has_headers_bytes_and_the_parsed_answer(client, target):
    raw = client.chat.completions.with_raw_response.create(model=target.model, **questions.CAPITAL)
    assert raw.status_code == 200 and raw.headers["content-type"] == "application/json"
    assert raw.request_id == raw.headers["x-request-id"]
    answer = raw.parse()
    assert answer._request_id == raw.request_id
    assert json.loads(raw.content)["id"] == answer.id


def test_a_raw_stream_is_parsed_into_chunks(client, target):
    raw = client.chat.completions.with_raw_response.create(model=target.model, stream=True, **questions.CAPITAL)
    assert raw.headers["content-type"].startswith("text/event-stream")
    assert [chunk.object for chunk in raw.parse()].count("chat.completion.chunk") > 1


def test_a_streaming_response_gives_its_headers_before_its_body_and_then_lines(client, target):
    with client.chat.completions.with_streaming_response.create(model=target.model, stream=True, **questions.CAPITAL) as response:
        assert response.headers["x-loggia-served-by"]
        lines = [line for line in response.iter_lines() if line and not line.startswith(":")]
    assert lines[-1] == "data: [DONE]"
    assert all(line.startswith("data: {") for line in lines[:-1])


def test_a_streaming_response_of_a_whole_answer_can_be_parsed(client, target):
    with client.chat.completions.with_streaming_response.create(model=target.model, **questions.CAPITAL) as response:
        assert response.parse().choices[0].message.content


def test_an_error_has_its_headers_and_its_request_id(client, target):
    with pytest.raises(openai.NotFoundError) as failure:
        client.chat.completions.with_raw_response.create(model="nope", **questions.CAPITAL)
    assert failure.value.request_id == failure.value.response.headers["x-request-id"]
    assert failure.value.body["code"] == "model_not_found"
