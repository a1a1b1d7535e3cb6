"""A stream of a slow engine begins with comments: checked as bytes, and with the SDKs, which must skip them.

The engine answers when the test lets it, which is after enough comments.
"""

import contextlib
import http.client
import json
import threading
from urllib.parse import urlsplit

import anthropic
import pytest
from langchain_openai import ChatOpenAI

import official
import raw
import scripted_upstream as script
from targets import loggia

QUESTION = {"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": True, "user": "someone"}
SOON = {"LOGGIA_HEARTBEAT_AFTER": "50ms", "LOGGIA_HEARTBEAT_EVERY": "20ms"}
NEVER = {"LOGGIA_HEARTBEAT_AFTER": "0s", "LOGGIA_HEARTBEAT_EVERY": "20ms"}
GOOD = script.stream(script.line("Hel", done=False), script.line("lo"))
BUSY = script.whole("503 Service Unavailable", b'{"error":"server busy, please try again"}')


class Engine:
    """An Ollama that answers a chat, or describes its model, when the test lets it."""

    def __init__(self, chat: bytes = GOOD, holds: str = "/api/chat"):
        self.let, self.asked = threading.Event(), threading.Semaphore(0)
        self.paths = script.ollama(chat)
        held = self.paths[holds]
        self.paths[holds] = lambda _: self.answer(held)

    def answer(self, held: bytes) -> bytes:
        self.asked.release()
        self.let.wait(60)
        return held

    @contextlib.contextmanager
    def behind(self, environment: dict):
        with script.upstream(self.paths) as upstream, loggia("--ollama", upstream, environment=environment) as url:
            try:
                yield url
            finally:
                self.let.set()


@contextlib.contextmanager
def opened(url: str, question: dict = QUESTION):
    """Returns the open answer to a question."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=raw.LIMIT)
    with contextlib.closing(connection):
        connection.request("POST", "/v1/chat/completions", json.dumps(question), {"content-type": "application/json"})
        yield connection.getresponse()


def comments(answer, count: int) -> list[bytes]:
    """Asserts exactly this many comments, each followed by a blank line."""
    blocks = [answer.readline() + answer.readline() for _ in range(count)]
    assert all(block.startswith(b":") and block.endswith(b"\n\n") for block in blocks), blocks
    return blocks


@pytest.mark.parametrize("holds", ["/api/chat", "/api/show"], ids=["prompt", "model"])
def test_comments_come_until_the_answer_does_and_what_is_ignored_is_named_in_one(holds):
    engine = Engine(holds=holds)
    with engine.behind(SOON) as url, opened(url) as answer:
        assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream")
        assert not any(b"ignored" in comment for comment in comments(answer, 3))
        assert "x-loggia-ignored" not in answer.headers, "it went out before it was known"
        engine.let.set()
        rest = raw.Answer(200, {}, answer.read())
    assert b": x-loggia-ignored: user\n\n" in rest.body
    assert rest.events()[-1] == "[DONE]"
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in rest.chunks()) == "Hello"


def test_what_fails_after_comments_is_an_error_event_and_a_proper_end():
    engine = Engine(chat=BUSY)
    with engine.behind(SOON) as url, opened(url) as answer:
        comments(answer, 3)
        engine.let.set()
        (event,) = raw.Answer(200, {}, answer.read()).events()
    assert json.loads(event)["error"]["code"] == "engine_busy"


@pytest.mark.parametrize(
    ("environment", "question"),
    [(NEVER, QUESTION), (SOON, QUESTION | {"stream": False}), ({}, QUESTION)],
    ids=["turned off", "a whole answer", "by default not so soon"],
)
def test_without_comments_what_fails_later_is_still_a_status(environment, question):
    engine = Engine(chat=BUSY)
    with engine.behind(environment) as url:
        # Waits longer than a first comment would take, which would have made this a 200.
        threading.Thread(target=lambda: engine.asked.acquire(timeout=30) and engine.asked.acquire(timeout=0.4) or engine.let.set()).start()
        assert raw.chat(url, question).status == 503


@pytest.mark.parametrize("every", ["1h", "0s"])
def test_a_configuration_file_says_when_and_how_often(tmp_path, every):
    config = tmp_path / "loggia.toml"
    config.write_text(f'heartbeat_after = "50ms"\nheartbeat_every = "{every}"\n')
    engine = Engine()
    with script.upstream(engine.paths) as upstream, loggia("--config", str(config), "--ollama", upstream) as url, opened(url) as answer:
        comments(answer, 1)
        # Another stream, which began later, has had its own comments.
        with opened(url) as later:
            comments(later, 1)
        engine.let.set()
        assert raw.Answer(200, {}, answer.read()).body.count(b": still working") == 0


def python(url: str) -> str:
    with official.client(url) as client:
        return "".join(chunk.choices[0].delta.content or "" for chunk in client.chat.completions.create(**QUESTION))


def python_helper(url: str) -> str:
    asked = {name: value for name, value in QUESTION.items() if name != "stream"}
    with official.client(url) as client, client.chat.completions.stream(**asked) as stream:
        return stream.get_final_completion().choices[0].message.content


def langchain(url: str) -> str:
    return "".join(chunk.text for chunk in ChatOpenAI(base_url=f"{url}/v1", api_key="unused", model="m", max_retries=0, timeout=60).stream("x"))


def node(url: str) -> str:
    told = official.node_streams(url)
    assert told["openai"] == told["ai"]
    return told["ai"]["text"]


@pytest.mark.parametrize("client", [python, python_helper, langchain, node])
def test_a_package_passes_over_the_comments(client):
    if client is node:
        official.needs_node()
    engine, said = Engine(), []
    with engine.behind(SOON) as url:
        asking = threading.Thread(target=lambda: said.append(client(url)))
        asking.start()
        # Node runs two requests, one with the AI SDK.
        for _ in range(2 if client is node else 1):
            assert engine.asked.acquire(timeout=30)
        # Another stream, which began later, has had as many comments.
        with opened(url) as answer:
            comments(answer, 5)
            engine.let.set()
        asking.join(60)
    assert said == ["Hello"]


def messages(url: str) -> str:
    with anthropic.Anthropic(base_url=url, api_key="unused", max_retries=0, timeout=60) as client:
        asked = {"model": "m", "max_tokens": 9, "messages": QUESTION["messages"]}
        with client.messages.stream(**asked) as stream:
            return stream.get_final_text()


def response(url: str) -> str:
    with official.client(url) as client, client.responses.stream(model="m", input="x") as stream:
        return stream.get_final_response().output_text


@pytest.mark.parametrize("client", [python, python_helper, response, messages, langchain, node])
def test_a_package_passes_over_its_place_in_a_queue(client):
    if client is node:
        official.needs_node()
    engine, said = Engine(), []
    with engine.behind(SOON | {"LOGGIA_AT_ONCE": "1"}) as url, opened(url) as running:
        comments(running, 1)
        asking = threading.Thread(target=lambda: said.append(client(url)))
        asking.start()
        # Until one is behind all requests of the client, which have comments then.
        behind = b": queued 3\n" if client is node else b": queued 2\n"
        while not engine.let.is_set():
            with opened(url) as last:
                if behind in comments(last, 1)[0]:
                    comments(last, 5)
                    engine.let.set()
        asking.join(60)
    assert said == ["Hello"]
