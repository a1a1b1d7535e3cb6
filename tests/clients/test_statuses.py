"""Every status of docs/dialects.md, part 5, as the official clients report it: exception, `code`, `param`,
`type`, request id, and the number of tries. Tries that reach the engine are counted there; others in loggia's
log."""

import asyncio
import collections
import functools
import json
import re
import socket
import threading
from urllib.parse import urlsplit

import openai
import pytest

import official
import scripted_upstream as script
import targets
from targets import loggia

SAID = [{"role": "user", "content": "x"}]
KEY = "sk-of-alice-5b1f0a2c"


def engine_error(kind: str, param: str | None = None, code: str | None = None) -> dict:
    return {"error": {"message": "no more", "type": kind, "param": param, "code": code}}


def refused(status: str, error: dict, *headers: str) -> bytes:
    head, _, body = script.json_body(error, status).partition(b"\r\n")
    return head + b"\r\n" + b"".join(header.encode() + b"\r\n" for header in headers) + body


INVALID, LIMITED = engine_error("invalid_request_error", "temperature", "too_hot"), engine_error("rate_limit_exceeded")

# The answers of an engine with OpenAI's API, by the name of the model.
ENGINE = {
    "400": refused("400 Bad Request", INVALID),
    "401": refused("401 Unauthorized", engine_error("invalid_request_error", code="invalid_api_key")),
    "402": refused("402 Payment Required", engine_error("invalid_request_error", code="balance")),
    "403": refused("403 Forbidden", engine_error("invalid_request_error")),
    "408": refused("408 Request Timeout", INVALID),
    "409": refused("409 Conflict", INVALID),
    "422": refused("422 Unprocessable Entity", INVALID),
    "429": refused("429 Too Many Requests", LIMITED),
    "429-soon": refused("429 Too Many Requests", LIMITED, "retry-after-ms: 20"),
    "429-in-a-second": refused("429 Too Many Requests", LIMITED, "retry-after: 1"),
    "429-spent": refused("429 Too Many Requests", engine_error("insufficient_quota", code="insufficient_quota")),
    "500": refused("500 Internal Server Error", engine_error("server_error")),
    "502": script.JSON_HEAD + b'content-length: 500\r\n\r\n{"id": "chatcmpl-1", ',
    "502-rubbish": script.whole("200 OK", b"<html>hello</html>", "text/html"),
    "503": refused("503 Service Unavailable", engine_error("server_error")),
    "504": b"",
}

# Exception, status, code, param, type; the number of tries; the headers that say when to retry.
TOLD = {
    "400": (openai.BadRequestError, 400, "too_hot", "temperature", "invalid_request_error", 1, {}),
    "401": (openai.AuthenticationError, 401, "backend_credentials", None, "invalid_request_error", 1, {}),
    "402": (openai.APIStatusError, 402, "balance", None, "invalid_request_error", 1, {}),
    "403": (openai.PermissionDeniedError, 403, None, None, "invalid_request_error", 1, {}),
    "408": (openai.APIStatusError, 408, "too_hot", "temperature", "invalid_request_error", 3, {}),
    "409": (openai.ConflictError, 409, "too_hot", "temperature", "invalid_request_error", 3, {}),
    "422": (openai.UnprocessableEntityError, 422, "too_hot", "temperature", "invalid_request_error", 1, {}),
    "429": (openai.RateLimitError, 429, "rate_limit_exceeded", None, "rate_limit_exceeded", 3, {"retry-after": "2", "retry-after-ms": "2000"}),
    "429-soon": (openai.RateLimitError, 429, "rate_limit_exceeded", None, "rate_limit_exceeded", 3, {"retry-after": "1", "retry-after-ms": "20"}),
    "429-in-a-second": (openai.RateLimitError, 429, "rate_limit_exceeded", None, "rate_limit_exceeded", 3, {"retry-after": "1", "retry-after-ms": "1000"}),
    "429-spent": (openai.RateLimitError, 429, "insufficient_quota", None, "insufficient_quota", 1, {"x-should-retry": "false"}),
    "500": (openai.InternalServerError, 500, "engine_error", None, "server_error", 3, {}),
    "502": (openai.InternalServerError, 502, "backend_cut_short", None, "server_error", 3, {}),
    "502-rubbish": (openai.InternalServerError, 502, "backend_bad_answer", None, "server_error", 1, {"x-should-retry": "false"}),
    "503": (openai.InternalServerError, 503, "engine_busy", None, "server_error", 3, {"retry-after": "1", "retry-after-ms": "1000"}),
    "504": (openai.InternalServerError, 504, "backend_timeout", None, "server_error", 1, {"x-should-retry": "false"}),
}

RETRY_HEADERS = ("retry-after", "retry-after-ms", "x-should-retry")


@pytest.fixture(scope="module")
def engine():
    """A loggia in front of an engine that fails as the model's name says. Yields also the number of requests
    for each model."""
    asked, over = collections.Counter(), threading.Event()

    def chat(body: bytes) -> bytes:
        model = json.loads(body)["model"]
        asked[model] += 1
        if model == "504":
            over.wait(60)
        return ENGINE[model]

    with script.upstream(script.openai(chat, *ENGINE)) as upstream:
        with loggia("--openai", f"engine={upstream}/v1", environment={"LOGGIA_HEADERS_TIMEOUT": "300ms"}) as url:
            yield url, asked
        over.set()


def trying_again(url: str, **settings) -> openai.OpenAI:
    return official.client(url, max_retries=2, **settings)


@pytest.mark.parametrize("model", ENGINE)
def test_what_an_engine_answers_is_the_packages_exception_and_asked_for_as_often_as_it_may_help(engine, model):
    url, asked = engine
    before = asked[model]
    with trying_again(url) as client, pytest.raises(openai.APIStatusError) as failure:
        client.chat.completions.create(model=model, messages=SAID)
    error, tries = failure.value, asked[model] - before
    headers = {name: error.response.headers[name] for name in RETRY_HEADERS if name in error.response.headers}
    assert (type(error), error.status_code, error.code, error.param, error.type, tries, headers) == TOLD[model]
    assert error.request_id and error.request_id == error.response.headers["x-request-id"]


@pytest.mark.parametrize("model", ["400", "409", "422", "429-soon", "429-spent", "502-rubbish", "503"])
def test_nodes_package_tells_the_same_and_asks_as_often(engine, model):
    url, asked = engine
    before = asked[model]
    told = official.node_tells(url, model)
    kind, status, code, param, type_, tries, _ = TOLD[model]
    assert told.pop("request_id").startswith("req_")
    assert told == {"class": kind.__name__, "status": status, "code": code, "param": param, "type": type_}
    assert asked[model] - before == tries


def test_nobody_at_the_address_is_a_502_and_no_connection_in_time_a_504_both_worth_another_try(tmp_path):
    with script.full_backlog() as full:
        addresses = ["--openai", f"gone={script.refused_address()}/v1", "--openai", f"full={full}/v1"]
        with loggia(*addresses, until="/healthz", log=tmp_path / "log", environment={"LOGGIA_CONNECT_TIMEOUT": "200ms"}) as url, trying_again(url) as client:
            for model, status, code in [("gone/m", 502, "backend_unreachable"), ("full/m", 504, "backend_timeout")]:
                with pytest.raises(openai.InternalServerError) as failure:
                    client.chat.completions.create(model=model, messages=SAID)
                assert (failure.value.status_code, failure.value.code) == (status, code)
                assert "x-should-retry" not in failure.value.response.headers
    assert answers(tmp_path / "log")[("POST", 502)] == 3 and answers(tmp_path / "log")[("POST", 504)] == 3


DOOR = {
    "400": (lambda client: client.chat.completions.create(model="m", messages=[]), openai.BadRequestError, 400, "empty_array", "messages"),
    "401": (lambda client: client.with_options(api_key="sk-of-nobody-at-all").models.list(), openai.AuthenticationError, 401, "invalid_api_key", None),
    "403": (lambda client: client.embeddings.create(model="m", input="x"), openai.PermissionDeniedError, 403, None, "model"),
    "404 model": (lambda client: client.chat.completions.create(model="nope", messages=SAID), openai.NotFoundError, 404, "model_not_found", None),
    "404 route": (lambda client: client.post("/nothing", cast_to=object), openai.NotFoundError, 404, "unknown_url", None),
    "405": (lambda client: client.get("/completions", cast_to=object), openai.APIStatusError, 405, "method_not_supported", None),
    "413": (lambda client: client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x" * 70_000}]), openai.APIStatusError, 413, "request_too_large", None),
    "415": (
        lambda client: client.chat.completions.create(model="m", messages=SAID, extra_headers={"content-type": "text/plain"}),
        openai.APIStatusError,
        415,
        None,
        None,
    ),
}


@pytest.mark.parametrize("case", DOOR)
def test_what_loggia_refuses_itself_is_asked_for_once(tmp_path, case):
    ask, kind, status, code, param = DOOR[case]
    environment = {"LOGGIA_KEYS": "alice", "LOGGIA_KEY_ALICE": KEY, "LOGGIA_BODY_LIMIT": "64KiB"}
    with script.upstream(script.ollama(script.json_body(script.line()))) as upstream:
        with loggia("--ollama", upstream, log=tmp_path / "log", environment=environment) as url, trying_again(url, api_key=KEY) as client:
            with pytest.raises(openai.APIStatusError) as failure:
                ask(client)
    error = failure.value
    assert (type(error), error.status_code, error.code, error.param, error.type) == (kind, status, code, param, "invalid_request_error")
    assert error.request_id and KEY not in str(error)
    assert [count for (_, told), count in answers(tmp_path / "log").items() if told == status] == [1]
    wanted = {"401": ("www-authenticate", "Bearer"), "405": ("allow", "POST")}.get(case)
    assert not wanted or error.response.headers[wanted[0]] == wanted[1]


@pytest.mark.skipif("embedded" not in targets.TARGETS, reason="LOGGIA_TEST_TARGETS leaves the embedded engine out")
def test_more_than_can_wait_for_the_embedded_engine_are_told_when_to_try_again():
    """One request is answered, eight wait, and the others get a 503 with a time: each at once, and none of
    them twice."""

    async def all_at_once(url: str) -> list:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0, timeout=120) as client:
            ask = functools.partial(client.chat.completions.create, model=targets.first_model(url), messages=SAID, max_tokens=4)
            return await asyncio.gather(*(ask() for _ in range(14)), return_exceptions=True)

    with loggia("--model", str(targets.MODEL), "--context", "512", "--parallel", "1", "--threads", "1") as url:
        told = asyncio.run(all_at_once(url))
    busy = [each for each in told if isinstance(each, Exception)]
    assert {(type(each), each.status_code, each.code) for each in busy} == {(openai.InternalServerError, 503, "engine_busy")}
    assert all(each.response.headers["retry-after"] and each.response.headers["retry-after-ms"] for each in busy)
    assert 9 <= len(told) - len(busy) < len(told)


def test_a_body_that_does_not_come_is_a_408():
    with script.upstream(script.ollama(b"")) as upstream, loggia("--ollama", upstream, environment={"LOGGIA_BODY_TIMEOUT": "200ms"}) as url:
        host, port = urlsplit(url).netloc.split(":")
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: l\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{")
            head, _, body = connection.recv(65536).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ") and b"x-request-id: req_" in head
    assert json.loads(body)["error"]["type"] == "invalid_request_error"


def answers(log) -> collections.Counter:
    """Returns how often loggia answered with each method and status, according to its log."""
    told = re.findall(r'answered .*method="(\w+)".* status=(\d+)', log.read_text())
    return collections.Counter((method, int(status)) for method, status in told)
