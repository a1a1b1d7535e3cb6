"""The SDKs retry by themselves: if Loggia's answer allows it, after the time that it gives, and not if Loggia
says that a retry does not help.

The tests count the requests that reach the upstream.
"""

import json

import openai
import pytest

import official
import scripted_upstream as script
from targets import loggia

LINE = {"model": "m", "created_at": "2026-11-22T00:00:00Z", "message": {"role": "assistant", "content": "Hi"}, "done": True, "done_reason": "stop"}
GOOD = script.whole("200 OK", json.dumps(LINE).encode())
BUSY = script.whole("503 Service Unavailable", b'{"error":"server busy, please try again.  maximum pending requests exceeded"}')
LIMITED = script.whole("429 Too Many Requests", b'{"error":{"message":"slow down","type":"requests"}}')
SPENT = script.whole("429 Too Many Requests", b'{"error":{"message":"nothing left","type":"insufficient_quota"}}')
FAULT = script.whole("500 Internal Server Error", b'{"error":"llama runner process has terminated"}')
REFUSED = script.whole("400 Bad Request", b'{"error":"cannot do that"}')
RUBBISH = script.whole("200 OK", b"<html>hello</html>", "text/html")
BROKEN_OFF = script.JSON_HEAD + b"content-length: 500\r\n\r\n" + json.dumps(LINE).encode()


def python(url: str) -> int:
    with official.client(url, max_retries=2) as client:
        try:
            client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}])
        except openai.APIStatusError as error:
            return error.status_code
        return 200


def python_as_it_is(url: str) -> int:
    with official.client(url) as client:
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}])
    return 200


def node(url: str) -> int:
    return official.node_tells(url)["status"]


@pytest.fixture(params=[python, node])
def ask(request):
    return request.param


def tried(ask, *answers: bytes, silent: bool = False, **limits: str) -> tuple[int, list[float]]:
    """Returns the result of the question, and the delay before each retry."""
    asked: list[float] = []
    paths = {"/api/tags": script.TAGS, "/api/show": script.SHOW, "/api/chat": list(answers)}
    with script.upstream(paths, silent, asked) as upstream, loggia("--ollama", upstream, environment=limits) as url:
        status = ask(url)
    return status, [later - earlier for earlier, later in zip(asked, asked[1:])]


def test_a_busy_engine_is_tried_again_after_as_long_as_it_says(ask):
    status, waits = tried(ask, BUSY, BUSY, GOOD)
    assert status == 200 and len(waits) == 2
    # Without Loggia's header, the SDKs wait at most half a second before their second try.
    assert all(0.99 <= wait < 3 for wait in waits)


def test_a_limit_that_stays_is_a_429():
    with pytest.raises(openai.RateLimitError, match="slow down"):
        tried(python_as_it_is, LIMITED)


def test_an_engine_that_stays_busy_is_not_tried_for_ever(ask):
    status, waits = tried(ask, BUSY)
    assert (status, len(waits)) == (503, 2)


@pytest.mark.parametrize("failure", [FAULT, BROKEN_OFF, LIMITED], ids=["fault", "broken off", "limited"])
def test_what_may_pass_is_tried_again(ask, failure):
    status, waits = tried(ask, failure, GOOD)
    assert (status, len(waits)) == (200, 1)


@pytest.mark.parametrize(("failure", "status"), [(REFUSED, 400), (RUBBISH, 502), (SPENT, 429)], ids=["refused", "rubbish", "spent"])
def test_what_another_try_cannot_help_is_not_tried_again(ask, failure, status):
    assert tried(ask, failure, GOOD) == (status, [])


def test_a_prompt_that_took_too_long_is_not_read_from_its_beginning_again(ask):
    assert tried(ask, b"", silent=True, LOGGIA_HEADERS_TIMEOUT="300ms") == (504, [])
