"""Reasoning is separated from the answer: by Ollama, by an engine with OpenAI's API, or by Loggia if both
leave it in the text. `test_recorded.py` has recorded answers of a reasoning model; the tests here are about
the clients that read them, and about where streams are split."""

import json
import re

import pytest
from langchain_openai import ChatOpenAI

import official
import scripted_upstream as script
from recorded import answer, question
from targets import loggia

THOUGHT, SAID = "One and one:\n make <two>.\n", "It is <b>2</b>."
SAID_WITH_TAGS = f"<think>\n{THOUGHT}</think>\n\n{SAID}"
ASKED = {"model": "m", "messages": [{"role": "user", "content": "1+1?"}]}


class Engine:
    """A kind of engine with a model `m`, whose complete answers and streams have the same pieces."""

    def __init__(self, kind: str):
        self.kind, self.pieces = kind, []

    def chat(self, body: bytes) -> bytes:
        streams = json.loads(body)["stream"] if self.kind == "ollama" else json.loads(body).get("stream")
        if self.kind == "openai":
            if streams:
                return script.openai_stream(*({"content": piece} for piece in self.pieces))
            return script.openai_whole({"content": "".join(self.pieces)})
        if streams:
            return script.stream(*(script.line(piece, done=False) for piece in self.pieces), script.line(""))
        return script.json_body(script.line("".join(self.pieces)))


@pytest.fixture(scope="module", params=["ollama", "openai"])
def untold(request):
    """A model that writes its reasoning into the text, between tags, and a client."""
    engine = Engine(request.param)
    paths, flag = (script.ollama(engine.chat), "") if engine.kind == "ollama" else (script.openai(engine.chat), "engine=")
    with script.upstream(paths) as upstream, loggia(f"--{engine.kind}", f"{flag}{upstream}") as url:
        yield engine, url


def streamed(url: str) -> tuple[str, str]:
    """Returns reasoning and content of a stream. It must have the reasoning under both names, and all of it
    before the content."""
    with official.client(url) as client:
        deltas = [chunk.choices[0].delta for chunk in client.chat.completions.create(stream=True, **ASKED)]
    told = [(getattr(delta, "reasoning_content", None) or "", delta.content or "") for delta in deltas]
    assert [getattr(delta, "reasoning", None) or "" for delta in deltas] == [thought for thought, _ in told]
    begun = next((at for at, (_, said) in enumerate(told) if said), len(told))
    assert not any(thought for thought, _ in told[begun + 1 :])
    return "".join(thought for thought, _ in told), "".join(said for _, said in told)


def test_thoughts_between_tags_are_reasoning_in_a_whole_answer(untold):
    engine, url = untold
    engine.pieces = [SAID_WITH_TAGS]
    with official.client(url) as client:
        message = client.chat.completions.create(**ASKED).choices[0].message
    assert (message.reasoning_content, message.reasoning, message.content) == (THOUGHT, THOUGHT, SAID)


def test_they_are_wherever_the_stream_is_cut(untold):
    engine, url = untold
    for cut in range(1, len(SAID_WITH_TAGS)):
        engine.pieces = [SAID_WITH_TAGS[:cut], SAID_WITH_TAGS[cut:]]
        assert streamed(url) == (THOUGHT, SAID), engine.pieces
    engine.pieces = list(SAID_WITH_TAGS)
    assert streamed(url) == (THOUGHT, SAID)


@pytest.mark.parametrize(
    ("text", "thought", "said"),
    [
        ("<think>never closed", "never closed", ""),
        ("text, <think>no thought</think>", "", "text, <think>no thought</think>"),
        ("no thought</think>text", "", "no thought</think>text"),
        ("  \n<think>a</think>b", "a", "b"),
        ("<think></think>b", "", "b"),
        ("<thinking>b", "", "<thinking>b"),
        ("<thi", "", "<thi"),
        ("<think>a</think>b<think>c</think>", "a", "b<think>c</think>"),
    ],
)
def test_only_tags_at_the_very_beginning_are_told_apart(untold, text, thought, said):
    engine, url = untold
    engine.pieces = [text]
    with official.client(url) as client:
        message = client.chat.completions.create(**ASKED).choices[0].message
    assert (getattr(message, "reasoning_content", None) or "", message.content or "") == (thought, said)
    engine.pieces = list(text)
    assert streamed(url) == (thought, said)


def test_langchain_and_the_ai_sdk_and_nodes_package_get_them_apart(untold):
    engine, url = untold
    engine.pieces = re.findall(r"\s*\S+", SAID_WITH_TAGS)
    # `langchain-openai` has no field for reasoning, by its own decision. It only matters that the text does
    # not contain it.
    assert "".join(chunk.text for chunk in ChatOpenAI(base_url=f"{url}/v1", api_key="unused", model="m", max_retries=0).stream("1+1?")) == SAID
    told = official.node_streams(url)
    assert told["openai"] == told["ai"] == {"text": SAID, "reasoning": THOUGHT}


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_an_engine_that_tells_them_under_one_name_is_read_under_both_with_its_count(name):
    usage = {"completion_tokens_details": {"reasoning_tokens": 5}}
    paths = script.openai([script.openai_whole({"content": SAID, name: THOUGHT}, **usage), script.openai_stream({name: THOUGHT[:4]}, {name: THOUGHT[4:]}, {"content": SAID})])
    with script.upstream(paths) as upstream, loggia("--openai", f"engine={upstream}/v1") as url:
        with official.client(url) as client:
            whole = client.chat.completions.create(**ASKED)
        assert (whole.choices[0].message.reasoning_content, whole.choices[0].message.reasoning) == (THOUGHT, THOUGHT)
        assert whole.choices[0].message.content == SAID
        assert whole.usage.completion_tokens_details.reasoning_tokens == 5
        assert streamed(url) == (THOUGHT, SAID)


def test_reasoning_tokens_are_counted_where_each_token_is_known():
    texts = ["<think>", "two", "</think>", "2"]
    logprobs = {"content": [{"token": text, "logprob": -0.1, "bytes": list(text.encode()), "top_logprobs": []} for text in texts]}
    choice = {"index": 0, "message": {"role": "assistant", "content": "".join(texts)}, "logprobs": logprobs, "finish_reason": "stop"}
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    paths = script.openai(script.json_body({"id": "a", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}))
    with script.upstream(paths) as upstream, loggia("--openai", f"engine={upstream}/v1") as url, official.client(url) as client:
        told = client.chat.completions.create(logprobs=True, **ASKED)
    assert (told.choices[0].message.reasoning_content, told.choices[0].message.content) == ("two", "2")
    assert [entry.token for entry in told.choices[0].logprobs.content] == ["2"]
    assert told.usage.completion_tokens_details.reasoning_tokens == 3


def test_a_recorded_thinking_model_streams_the_same_to_langchain(standin):
    expected, asked = answer("stream-thinking"), question("stream-thinking")
    messages, _ = asked.pop("messages"), asked.pop("stream")
    client = ChatOpenAI(base_url=f"{standin.url}/v1", api_key="unused", max_retries=0, **asked)
    assert "".join(chunk.text for chunk in client.stream(messages)) == expected.content
