"""Chats with the shapes of real clients (`shapes.py`) for every kind of backend: each is answered, and each
stream has a finish reason."""

import pytest

import raw
import scripted_upstream as script
from shapes import SHAPES
from targets import loggia

# Ends the answer of a model that would never stop. Schemas and calls are still enforced.
ENDS = ["a", "e", "o", "."]


@pytest.fixture(scope="module", params=["ollama", "openai"])
def scripted(request):
    """A loggia in front of an engine that answers anything."""
    if request.param == "ollama":
        answer = lambda body: script.stream(script.line()) if b'"stream":true' in body else script.json_body(script.line())
        behind, argument = script.ollama(answer, "tools"), "--ollama"
    else:
        answer = lambda body: script.openai_stream({"content": "Hi"}) if b'"stream":true' in body else script.openai_whole({"content": "Hi"})
        behind, argument = script.openai(answer), "--openai"
    with script.upstream(behind) as upstream:
        with loggia(argument, upstream if argument == "--ollama" else f"engine={upstream}/v1") as url:
            yield url


@pytest.mark.parametrize("shape", [name for name in SHAPES if name != "output as a call"])
def test_a_shape_is_answered_by_an_engine_of_another_make(scripted, shape):
    answered(raw.chat(scripted, {"model": "m"} | SHAPES[shape]), shape)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_is_answered_by_a_real_model(target, shape):
    if target.kind == "ollama":
        pytest.skip("the stand-in answers only what was recorded, and this was not")
    is_held = "output" in shape
    ends = {} if is_held or "stop" in SHAPES[shape] else {"stop": ENDS}
    asked = {"model": target.model} | ends | SHAPES[shape]
    answered(raw.chat(target.url, asked), shape)


def answered(answer: raw.Answer, shape: str) -> None:
    assert answer.status == 200, (shape, answer.body)
    if SHAPES[shape].get("stream"):
        assert answer.events()[-1] == "[DONE]"
        reasons = [choice["finish_reason"] for chunk in answer.chunks() for choice in chunk["choices"] if choice["finish_reason"]]
        assert len(reasons) == 1
    else:
        (choice,) = answer.json()["choices"]
        assert choice["finish_reason"] in ("stop", "length", "tool_calls")
        assert choice["finish_reason"] == "tool_calls" if shape == "output as a call" else choice["message"]["content"] is not None
