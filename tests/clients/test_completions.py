"""The older completions through the official Python client and LangChain, in front of every kind of backend."""

import openai
import pytest
from langchain_openai import OpenAI

PROMPT = "Once upon a time"
ASKED = {"prompt": PROMPT, "max_tokens": 8, "temperature": 0, "seed": 7}
# What every kind of backend says, for the same model is behind each; each engine has its own arithmetic, so no more than the beginning.
BEGINNING = ", the city of"


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
    # The package's strictest reading takes no null for a reason, which OpenAI's own API sends in each chunk but the last.
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


def test_token_ids_are_taken_or_refused_by_name(client, target):
    tokens = [6403, 1980, 253, 655]
    if target.kind == "ollama":
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
    # One request with both prompts, which Loggia makes two of.
    expects(target, "raw-whole", "raw-whole")
    made = model.generate([PROMPT, PROMPT])
    assert [texts[0].text.startswith(BEGINNING) for texts in made.generations] == [True, True]
    assert made.llm_output["token_usage"]["total_tokens"] == 24


def expects(target, *recordings: str) -> None:
    """LangChain sends every one of its own defaults."""
    options = {"num_ctx": 4096, "seed": 7, "temperature": 0, "num_predict": 8, "top_p": 1, "frequency_penalty": 0, "presence_penalty": 0}
    target.expects(*((name, {"options": options}) for name in recordings))
