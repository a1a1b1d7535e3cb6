"""Aliases with several targets and hedging, by the SDKs of OpenAI and Anthropic, before scripted engines."""

import contextlib
import threading
import time

import anthropic
import pytest

import audio_engine
import official
import scripted_upstream as script
from odd_upstreams import Quiet, serving
from targets import loggia

HELLO = script.stream(script.line("Hel", done=False), script.line("lo"))
BUSY = script.whole("503 Service Unavailable", b'{"error":"server busy, please try again"}')
WRONG = script.whole("400 Bad Request", b'{"error":"this is not valid"}')
AWAY = ("--openai", "vllm=http://127.0.0.1:9")
MESSAGES = [{"role": "user", "content": "x"}]


def answered(client):
    """Streams a chat, and returns its text, its model and the header that says who served."""
    raw = client.chat.completions.with_raw_response.create(model="chat", messages=MESSAGES, stream=True)
    chunks = list(raw.parse())
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    return text, chunks[0].model, raw.headers["x-loggia-served-by"]


@pytest.mark.parametrize("first", [None, BUSY], ids=["away", "busy"])
def test_the_next_target_of_an_alias_answers_with_the_name_that_was_asked_for(first):
    with script.upstream(script.ollama(first or HELLO)) as one, script.upstream(script.ollama(HELLO)) as other:
        targets = "vllm/big|other/m" if first is None else "one/m|other/m"
        backends = AWAY if first is None else ("--ollama", f"one={one}")
        with loggia(*backends, "--ollama", f"other={other}", "--alias", f"chat={targets}") as url, official.client(url) as client:
            assert answered(client) == ("Hello", "chat", "other; model=m")
            with anthropic.Anthropic(base_url=url, api_key="unused", max_retries=0, timeout=60) as messages:
                with messages.messages.stream(model="chat", max_tokens=9, messages=MESSAGES) as stream:
                    message = stream.get_final_message()
            assert (message.model, message.content[0].text) == ("chat", "Hello")


class Busy(Quiet):
    """An engine that has every model and no time."""

    def do_GET(self):
        names = ("whisper", "tts", "ranks", "big")
        self.say({"object": "list", "data": [{"id": name, "object": "model", "created": 1, "owned_by": "tests"} for name in names]})

    def do_POST(self):
        self.body()
        self.answer("application/json", b'{"error":{"message":"no time"}}', 503)


class Ranks(Busy):
    """An engine that only reranks."""

    def do_POST(self):
        if self.path != "/v1/rerank":
            return super().do_POST()
        self.body()
        results = [{"index": index, "relevance_score": score} for index, score in enumerate((0.1, 0.9))]
        self.say({"model": "ranks", "results": results, "usage": {"prompt_tokens": 5, "total_tokens": 5}})


def test_every_kind_of_request_goes_to_the_next_target():
    with contextlib.ExitStack() as stack:
        busy, ranks = (stack.enter_context(serving(kind)) for kind in (Busy, Ranks))
        able, _ = stack.enter_context(audio_engine.engine())
        ollama = stack.enter_context(script.upstream(script.ollama(script.json_body(script.line("Hello")))))
        backends = [f"busy={busy}/v1", f"ranks={ranks}/v1", f"able={able}/v1"]
        # An Ollama server neither hears, speaks nor reranks.
        aliases = [
            "hear=ollama/m|busy/whisper|able/whisper",
            "speak=ollama/m|busy/tts|able/tts",
            "rank=ollama/m|busy/ranks|ranks/ranks",
            "chat=busy/big|ollama/m",
        ]
        arguments = [word for flag, values in (("--openai", backends), ("--alias", aliases)) for value in values for word in (flag, value)]
        url = stack.enter_context(loggia("--ollama", ollama, *arguments))
        client = stack.enter_context(official.client(url))
        heard = client.audio.transcriptions.with_raw_response.create(model="hear", file=("a.wav", b"RIFF"))
        assert (heard.parse().text, heard.headers["x-loggia-served-by"]) == (audio_engine.WORDS, "able; model=whisper")
        assert client.audio.speech.create(model="speak", voice="alloy", input="Hi").content == b"RIFFHi"
        assert client.responses.input_tokens.count(model="chat", input="x").input_tokens == 3
        ranked = client.post("/rerank", body={"model": "rank", "query": "x", "documents": ["a", "b"]}, cast_to=object)
        assert [one["index"] for one in ranked["results"]] == [1, 0]


def test_what_an_engine_refuses_as_invalid_is_not_asked_elsewhere():
    asked = []
    other = script.ollama(HELLO)
    other["/api/chat"] = lambda _: asked.append(1) or HELLO
    with script.upstream(script.ollama(WRONG)) as one, script.upstream(other) as spare:
        backends = ("--ollama", f"one={one}", "--ollama", f"spare={spare}")
        with loggia(*backends, "--alias", "chat=one/m|spare/m") as url, official.client(url) as client:
            with pytest.raises(official.openai.BadRequestError):
                answered(client)
    assert not asked


def test_a_slow_node_is_hedged():
    let = threading.Event()

    def slow(_):
        let.wait(30)
        return HELLO

    first, second = script.ollama(HELLO), script.ollama(HELLO)
    first["/api/chat"] = slow
    with script.upstream(first) as one, script.upstream(second) as other:
        nodes = ("--ollama", f"gpu={one}", "--ollama", f"gpu={other}", "--hedge-after", "100ms", "--alias", "chat=m")
        with loggia(*nodes) as url, official.client(url) as client:
            since = time.monotonic()
            # One of two is asked at the slow node first.
            served = [answered(client) for _ in range(2)]
            assert time.monotonic() - since < 20
            let.set()
    assert all(text == "Hello" and "gpu@2" in by for text, _, by in served), served
