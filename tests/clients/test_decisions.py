"""Decisions (`POST /v1/decisions`) through the official Python client, for every kind of backend that returns
log-probabilities."""

import openai
import pytest

LETTER = "I ordered a blue lamp three weeks ago. It never came, and nobody answers me. I want my money back!"
QUESTIONS = [
    {"type": "predicate", "name": "angry", "instructions": "The writer is angry."},
    {
        "type": "choice",
        "instructions": [{"type": "input_text", "text": "What is the letter about?"}, {"type": "input_json", "data": {"shop": "lamps"}}],
        "choices": [{"value": "delivery", "description": "something did not arrive"}, {"value": "praise"}, {"value": True}],
    },
    {"type": "score", "instructions": "How urgent is it?", "levels": [{"label": "low"}, {"label": "medium"}, {"label": "high"}]},
]


def test_each_question_has_an_answer_of_its_kind_in_its_place(client, target):
    if target.kind == "ollama":
        pytest.skip("the stand-in has no recording of this; crates/api/tests/api/decisions.rs asks an Ollama")
    decision = client.decisions.create(model=target.model, input=LETTER, questions=QUESTIONS)
    assert decision.model == target.model
    assert decision.usage.output_tokens == len(QUESTIONS) and decision.usage.input_tokens > len(QUESTIONS)
    assert len(decision.answers) == len(QUESTIONS)
    for question, answer in zip(QUESTIONS, decision.answers, strict=True):
        assert answer.name == question.get("name")
        # Only the embedded engine has a real model.
        if answer.type == "refusal" and target.kind != "embedded":
            continue
        assert answer.type == question["type"]
        if answer.type == "predicate":
            assert 0 <= answer.probability <= 1
            continue
        assert abs(sum(one.probability for one in answer.probabilities) - 1) < 1e-6
        assert answer.confidence == max(one.probability for one in answer.probabilities)
        if answer.type == "choice":
            assert [one.value for one in answer.probabilities] == ["delivery", "praise", True]
        else:
            assert 1 <= answer.score <= 3


def test_the_same_questions_have_the_same_answers(client, target):
    if target.kind != "embedded":
        pytest.skip("recorded answers are always the same")
    items = [{"role": "system", "content": "Letters of customers."}, {"role": "user", "content": LETTER}]
    first, second = (client.decisions.create(model=target.model, input=items, questions=QUESTIONS[:1]) for _ in range(2))
    # The second time the prompt is cached, so its last tokens are computed in another step, which rounds differently.
    assert abs(first.answers[0].probability - second.answers[0].probability) < 0.1


def test_a_question_that_cannot_be_asked_is_named(client, target):
    with pytest.raises(openai.BadRequestError) as refusal:
        client.decisions.create(model=target.model, input=LETTER, questions=[*QUESTIONS, {"type": "choice", "instructions": "?", "choices": [{"value": "one"}]}])
    assert refusal.value.param == "questions[3].choices"
