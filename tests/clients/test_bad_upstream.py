"""What a client gets if the backend is down, slow, sends nonsense, or dies: status and bytes as they arrive
on the socket."""

import json

import pytest

import raw
import scripted_upstream as script
from recorded import RECORDINGS
from targets import loggia

QUESTION = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
LINE = b'{"model":"m","created_at":"2026-11-22T00:00:00Z","message":{"role":"assistant","content":"Hi"},"done":false}\n'


def behind(chat: bytes, stream: bool, silent_after: bool = False, **limits: str) -> raw.Answer:
    """Sends a chat to loggia in front of an Ollama whose `/api/chat` sends these bytes. `limits` are settings
    of loggia, as environment variables."""
    answers = {"/api/tags": script.TAGS, "/api/show": script.SHOW, "/api/chat": chat}
    with script.upstream(answers, silent_after) as address, loggia("--ollama", address, environment=limits) as url:
        return raw.chat(url, QUESTION | {"stream": stream})


@pytest.mark.parametrize("stream", [False, True])
def test_an_upstream_that_is_down_is_a_502(stream):
    with loggia("--ollama", script.refused_address(), until="/healthz") as url:
        answer = raw.chat(url, QUESTION | {"stream": stream})
    assert_error(answer, 502)


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_is_rubbish_is_a_502(stream):
    assert_error(behind(script.whole("200 OK", b"<html>hello</html>", "text/html"), stream), 502)


def test_an_upstream_that_speaks_no_http_is_a_502():
    assert_error(behind(b"SSH-2.0-OpenSSH_9.2\r\n", False), 502)


def test_a_whole_answer_that_breaks_off_is_a_502():
    body = script.JSON_HEAD + b"content-length: 500\r\n\r\n" + LINE
    assert_error(behind(body, False), 502)


def test_a_stream_that_breaks_off_ends_with_one_error_event_and_no_done():
    answer = behind(script.STREAM_HEAD + script.chunk(LINE), True)
    assert_failed_stream(answer, text="Hi")


def test_a_stream_that_ends_without_its_last_line_ends_with_one_error_event():
    answer = behind(script.STREAM_HEAD + script.chunk(LINE) + b"0\r\n\r\n", True)
    assert_failed_stream(answer, text="Hi")


def test_a_stream_that_turns_to_rubbish_ends_with_one_error_event():
    answer = behind(script.STREAM_HEAD + script.chunk(LINE + b"<html>\n") + b"0\r\n\r\n", True)
    assert_failed_stream(answer, text="Hi")


def test_an_error_line_in_a_stream_is_its_last_event():
    answer = behind(script.STREAM_HEAD + script.chunk(LINE + b'{"error":"out of memory"}\n') + b"0\r\n\r\n", True)
    assert_failed_stream(answer, text="Hi")


def test_an_error_wrapped_in_a_string_of_json_is_opened():
    wrapped = RECORDINGS["overflow-truncate-false"].body
    answer = behind(script.whole("400 Bad Request", wrapped), False)
    assert (answer.status, answer.error()["code"]) == (400, "context_length_exceeded")
    assert "1210" in answer.error()["message"] and "{" not in answer.error()["message"]


@pytest.mark.parametrize("stream", [False, True])
def test_an_upstream_that_is_silent_is_a_504(stream):
    assert_error(behind(b"", stream, silent_after=True, LOGGIA_HEADERS_TIMEOUT="300ms"), 504)


@pytest.mark.parametrize("stream", [False, True])
def test_an_upstream_that_is_slow_to_connect_is_a_504(stream):
    with script.full_backlog() as address:
        with loggia("--ollama", address, until="/healthz", environment={"LOGGIA_CONNECT_TIMEOUT": "300ms"}) as url:
            assert_error(raw.chat(url, QUESTION | {"stream": stream}), 504)


def test_a_stream_that_falls_silent_ends_with_one_error_event():
    answer = behind(script.STREAM_HEAD + script.chunk(LINE), True, silent_after=True, LOGGIA_IDLE_TIMEOUT="300ms")
    assert_failed_stream(answer, text="Hi")


def assert_error(answer: raw.Answer, status: int) -> None:
    assert (answer.status, answer.headers["content-type"]) == (status, "application/json"), answer
    error = answer.error()
    assert list(error) == ["message", "type", "param", "code"]
    assert error["type"] == "server_error" and error["param"] is None
    assert "127.0.0.1" not in error["message"]


def assert_failed_stream(answer: raw.Answer, text: str) -> None:
    """Asserts that the text so far stays, one error event follows, and the body ends properly (`raw` fails if
    it does not)."""
    assert answer.status == 200
    *said, last = answer.events()
    assert "".join(json.loads(event)["choices"][0]["delta"].get("content", "") for event in said) == text
    assert list(json.loads(last)) == ["error"]
    assert "[DONE]" not in answer.body.decode()
