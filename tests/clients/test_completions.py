"""The older completions through the official Python client and LangChain, for every kind of backend."""

import openai
import pytest
from langchain_openai import OpenAI

PROMPT = "Once upon a time"
ASKED = {"prompt": PROMPT, "max_tokens": 8, "temperature": 0, "seed": 7}
# The expected text. Every kind of backend has the same model, but each engine computes differently, so only
# the beginning is compared.
BEGINNING = ", the city of"


@pytest.fixture(autouse=True)
def of_the_suites_model(request):
    """The texts and counts here are those of SmolLM2."""
    if "target" in request.fixturenames and "smollm2" not in request.getfixturevalue("target").model.lower():
        pytest.skip("another model continues a text in words of its own")


def test_a_whole_text_has_its_reason_and_its_usage(client, target):
    made = client.completions.create(model=target.model, **ASKED)
    assert (made.object, made.model) == ("text_completion", target.model)
    assert made.id.startswith("cmpl-")
    [choice] = made.choices
    assert choice.text.startswith(BEGINNING)
    assert (choice.index, choice.finish_reason, choice.logprobs) == (0, "length", None)
    assert (made.usage.prompt_tokens, made.usage.completion_tokens, made.usage.total_tokens) == (4, 8, 12)


def test_a_stream_adds_up_to_the_whole_text_and_ends_with_usage(client, target):
    whole = client.completions.create(model=target.model, **ASKED)
    # The client's strict validation does not allow null as reason, which OpenAI's own API sends in every
    # chunk but the last.
    with openai.OpenAI(base_url=f"{target.url}/v1", api_key="unused", max_retries=0) as usual:
        chunks = list(usual.completions.create(model=target.model, **ASKED, stream=True, stream_options={"include_usage": True}))
    assert {chunk.object for chunk in chunks} == {"text_completion"} and len({chunk.id for chunk in chunks}) == 1
    *said, usage = chunks
    assert usage.choices == [] and usage.usage.total_tokens == 12
    assert "".join(chunk.choices[0].text for chunk in said) == whole.choices[0].text
    assert [chunk.choices[0].finish_reason for chunk in said] == [None] * (len(said) - 1) + ["length"]


def test_log_probabilities_are_lists_side_by_side(client, target):
    made = client.completions.create(model=target.model, **(ASKED | {"max_tokens": 2}), logprobs=2)
    [choice] = made.choices
    logprobs = choice.logprobs
    assert logprobs.tokens == [",", " the"] and logprobs.text_offset == [0, 1] and choice.text == ", the"
    assert all(logprob <= 0 for logprob in logprobs.token_logprobs)
    for token, logprob, top in zip(logprobs.tokens, logprobs.token_logprobs, logprobs.top_logprobs, strict=True):
        assert len(top) in (2, 3) and top[token] == pytest.approx(logprob)


def test_several_prompts_are_answered_in_their_order_and_counted_together(client, target):
    made = client.completions.create(model=target.model, **(ASKED | {"prompt": [PROMPT, PROMPT]}))
    assert [choice.index for choice in made.choices] == [0, 1]
    assert all(choice.text.startswith(BEGINNING) for choice in made.choices)
    assert (made.usage.prompt_tokens, made.usage.completion_tokens) == (8, 16)


def test_the_prompt_is_echoed(client, target):
    made = client.completions.create(model=target.model, **ASKED, echo=True)
    assert made.choices[0].text.startswith(PROMPT + BEGINNING)


@pytest.fixture
def usual(target):
    """The client with its default validation. The strict one does not allow null for the first token, which
    OpenAI's own API sends."""
    with openai.OpenAI(base_url=f"{target.url}/v1", api_key="unused", max_retries=0) as client:
        yield client


def test_a_prompt_is_scored_or_its_log_probabilities_are_named_as_missing(usual, target):
    if target.kind != "embedded":
        raw = usual.completions.with_raw_response.create(model=target.model, **ASKED, echo=True, logprobs=1)
        assert "logprobs" in raw.headers["x-loggia-ignored"] and raw.parse().choices[0].logprobs is None
        return
    asked = ASKED | {"max_tokens": 1, "echo": True, "logprobs": 1}
    # The request of evaluation tools: the prompt's tokens with their log-probabilities, and one more token,
    # which they drop.
    [choice] = usual.completions.create(model=target.model, **asked).choices
    logprobs = choice.logprobs
    assert "".join(logprobs.tokens) == choice.text == PROMPT + ","
    assert logprobs.tokens[:4] == ["Once", " upon", " a", " time"] and logprobs.text_offset == [0, 4, 9, 11, 16]
    assert logprobs.token_logprobs[0] is None and logprobs.top_logprobs[0] is None
    for token, logprob, top in list(zip(logprobs.tokens, logprobs.token_logprobs, logprobs.top_logprobs, strict=True))[1:]:
        assert top[token] == logprob <= max(top.values()) <= 0
    # The value equals that of the same token when it is generated.
    [generated] = usual.completions.create(model=target.model, prompt="Once upon a", max_tokens=1, temperature=0, logprobs=1).choices
    assert generated.text == " time" and generated.logprobs.token_logprobs == pytest.approx([logprobs.token_logprobs[3]], abs=0.05)


def test_a_prompt_is_scored_alone_streamed_and_among_others(usual, target):
    if target.kind != "embedded":
        with pytest.raises(openai.BadRequestError) as refusal:
            usual.completions.create(model=target.model, prompt=PROMPT, max_tokens=0)
        assert (refusal.value.param, refusal.value.code) == ("max_tokens", "unsupported_parameter")
        return
    asked = {"model": target.model, "max_tokens": 0, "echo": True, "logprobs": 2, "temperature": 0}
    [whole] = usual.completions.create(prompt=PROMPT, **asked).choices
    assert (whole.text, whole.finish_reason) == (PROMPT, "length") and len(whole.logprobs.tokens) == 4
    chunks = [chunk.choices[0] for chunk in usual.completions.create(prompt=PROMPT, **asked, stream=True)]
    assert "".join(chunk.text for chunk in chunks) == PROMPT
    streamed = [logprob for chunk in chunks if chunk.logprobs for logprob in chunk.logprobs.token_logprobs]
    offsets = [offset for chunk in chunks if chunk.logprobs for offset in chunk.logprobs.text_offset]
    assert streamed[0] is None and offsets == whole.logprobs.text_offset
    assert streamed[1:] == pytest.approx(whole.logprobs.token_logprobs[1:], abs=0.05)
    several = usual.completions.create(prompt=[PROMPT, "The sky is blue."], n=2, **asked).choices
    assert [choice.text for choice in several] == [PROMPT] * 2 + ["The sky is blue."] * 2
    assert several[1].logprobs.token_logprobs[1:] == pytest.approx(whole.logprobs.token_logprobs[1:], abs=0.05)


def test_token_ids_are_taken_or_refused_by_name(client, target):
    tokens = [6403, 1980, 253, 655]
    if target.is_ollamas:
        with pytest.raises(openai.BadRequestError) as refusal:
            client.completions.create(model=target.model, **(ASKED | {"prompt": tokens}))
        assert (refusal.value.param, refusal.value.code) == ("prompt", "unsupported_parameter")
    else:
        made = client.completions.create(model=target.model, **(ASKED | {"prompt": tokens}))
        assert made.choices[0].text.startswith(BEGINNING) and made.usage.prompt_tokens == 4


def test_a_suffix_is_refused_by_name_where_the_model_has_no_tokens_for_it(client, target):
    with pytest.raises(openai.BadRequestError) as refusal:
        client.completions.create(model=target.model, **ASKED, suffix="The end.")
    assert (refusal.value.param, refusal.value.code) == ("suffix", "unsupported_parameter")


def test_langchains_completions_class_invokes_streams_and_batches(target):
    usual = {"temperature": 0, "seed": 7, "max_tokens": 8, "top_p": 1, "frequency_penalty": 0, "presence_penalty": 0}
    model = OpenAI(base_url=f"{target.url}/v1", api_key="unused", model=target.model, max_retries=0, **usual)
    expects(target, "raw-whole")
    assert model.invoke(PROMPT).startswith(BEGINNING)
    expects(target, "raw-stream")
    assert "".join(model.stream(PROMPT)).startswith(BEGINNING)
    # One request with both prompts, which Loggia sends as two.
    expects(target, "raw-whole", "raw-whole")
    made = model.generate([PROMPT, PROMPT])
    assert [texts[0].text.startswith(BEGINNING) for texts in made.generations] == [True, True]
    assert made.llm_output["token_usage"]["total_tokens"] == 24


def expects(target, *recordings: str) -> None:
    """LangChain sends all of its own defaults."""
    options = {"num_ctx": 4096, "seed": 7, "temperature": 0, "num_predict": 8, "top_p": 1, "frequency_penalty": 0, "presence_penalty": 0}
    target.expects(*((name, {"options": options}) for name in recordings))
