"""Bad input, byte by byte: status, headers and body as they arrive on the socket."""

import json
import socket
from urllib.parse import urlsplit

import pytest

import raw
import scripted_upstream as script
from targets import loggia

HELLO = [{"role": "user", "content": "x"}]


def test_broken_json(target):
    assert_refused(raw.chat(target.direct, b'{"model": "m", '), param=None)


def test_no_body_at_all(target):
    assert_refused(raw.chat(target.direct, b""), param=None)


def test_json_that_is_no_object(target):
    assert_refused(raw.chat(target.direct, b"[1,2]"), param=None)


def test_bytes_that_are_no_text(target):
    assert_refused(raw.chat(target.direct, b'{"model": "\xff\xfe"}'), param=None)


def test_nesting_without_end(target):
    assert_error(raw.chat(target.direct, b'{"model":"m","messages":' + b"[" * 100_000), 400, "invalid_request_error")
    assert_error(raw.chat(target.direct, b'{"messages":[{}],"odd":' + b'{"a":' * 100_000), 400, "invalid_request_error")


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"model": 3}, "model"),
        ({"messages": "x"}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"max_completion_tokens": 0}, "max_completion_tokens"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": 2.5}, "temperature"),
        ({"top_p": -0.5}, "top_p"),
        ({"stream": "yes"}, "stream"),
        ({"stop": 3}, "stop"),
        ({"stop": ["a", 3]}, "stop[1]"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"seed": 1.5}, "seed"),
        ({"n": 0}, "n"),
        ({"response_format": {"type": "yaml"}}, "response_format.type"),
        ({"reasoning_effort": 3}, "reasoning_effort"),
        ({"messages": [{"role": None, "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "tool", "tool_call_id": "a", "content": "x"}]}, "messages[0].role"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": {"type": "function", "function": {"name": "g"}}}, "tool_choice"),
        ({"function_call": {"name": "f"}}, "function_call"),
    ],
)
def test_a_field_that_is_wrong_is_named(target, changes, param):
    assert_refused(raw.chat(target.direct, {"model": target.model, "messages": HELLO} | changes), param=param)


def test_a_field_that_is_missing_is_named(target):
    assert_refused(raw.chat(target.direct, {"messages": HELLO}), param="model")
    assert_refused(raw.chat(target.direct, {"model": target.model}), param="messages")


def test_no_messages_has_the_words_of_the_original(target):
    answer = raw.chat(target.direct, {"model": target.model, "messages": []})
    assert answer.body == (
        b"""{"error":{"message":"[] is too short - 'messages'","type":"invalid_request_error","param":"messages","code":"empty_array"}}"""
    )


def test_an_unknown_model(target):
    answer = raw.chat(target.direct, {"model": "nope", "messages": HELLO})
    assert_error(answer, 404, "invalid_request_error", param=None, code="model_not_found")


def test_another_content_type(target):
    answer = raw.chat(target.direct, {"model": target.model, "messages": HELLO}, content_type="text/plain")
    assert_error(answer, 415, "invalid_request_error", param=None, code=None)


def test_a_content_type_with_its_character_set_is_fine(target):
    answer = raw.chat(target.direct, {"model": target.model, "messages": []}, content_type="application/json; charset=utf-8")
    assert answer.status == 400


def test_a_body_over_the_limit(target):
    # The length alone decides, so the body is not sent.
    host, port = urlsplit(target.direct).netloc.split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: loggia\r\ncontent-type: application/json\r\n")
        connection.sendall(b"content-length: 1000000000000\r\nconnection: close\r\n\r\n")
        head, _, body = read_all(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 413 ")
    assert json.loads(body)["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/nothing", 404),
        ("GET", "/nothing", 404),
        ("PUT", "/v1/chat/completions", 405),
        ("POST", "/v1/models", 405),
    ],
)
def test_an_unknown_route_or_method_is_json_too(target, method, path, status):
    assert_error(raw.ask(target.direct, method, path), status, "invalid_request_error")


def test_every_answer_has_a_request_id_and_an_error_has_it_too(target):
    good = raw.ask(target.direct, "GET", "/v1/models").headers["x-request-id"]
    bad = raw.ask(target.direct, "GET", "/v1/nothing").headers["x-request-id"]
    assert good and bad and good != bad


def test_nothing_that_a_client_sent_is_in_the_log(tmp_path):
    """The log contains no prompts, settings, keys or odd fields, from good and bad requests, and from an
    upstream that repeats its input."""
    canary, log = "ZX9canaryQ7", tmp_path / "log"
    repeated = script.whole("400 Bad Request", json.dumps({"error": f"cannot make sense of {canary}"}).encode())
    said = [{"role": "user", "content": canary}]
    requests = (
        {"model": "m", "messages": said},
        {"model": "m", "messages": said, "stream": True},
        {"model": "m", "messages": [{"role": "wizard", "content": canary}]},
        {"model": "m", "messages": said, "temperature": canary},
        {"model": "m", "messages": said, canary: canary},
        {"model": canary, "messages": said},
        f'{{"model": "{canary}'.encode(),
        f'{{"messages": {canary}}}'.encode(),
    )
    with script.upstream({"/api/tags": script.TAGS, "/api/show": script.SHOW, "/api/chat": repeated}) as upstream:
        with loggia("--ollama", upstream, log=log, environment={"LOGGIA_LOG": "debug"}) as url:
            for request in requests:
                raw.chat(url, request, authorization=f"Bearer {canary}")
            raw.ask(url, "GET", f"/v1/models/{canary}")
    written = log.read_text()
    assert "listening" in written and canary not in written


def assert_refused(answer: raw.Answer, param: str | None) -> None:
    assert_error(answer, 400, "invalid_request_error", param=param)


def assert_error(answer: raw.Answer, status: int, kind: str, **named) -> None:
    """Asserts OpenAI's error: JSON with exactly the four keys, in OpenAI's order."""
    assert (answer.status, answer.headers["content-type"]) == (status, "application/json"), answer
    assert list(answer.json()) == ["error"]
    error = answer.error()
    assert list(error) == ["message", "type", "param", "code"]
    assert error["type"] == kind and error["message"]
    assert {name: error[name] for name in named} == named, error
    assert answer.body == json.dumps(answer.json(), separators=(",", ":"), ensure_ascii=False).encode()


def read_all(connection: socket.socket) -> bytes:
    data = b""
    while piece := connection.recv(65536):
        data += piece
    return data
