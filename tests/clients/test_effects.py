"""Every argument of the official client's `chat.completions.create` is tested; those that are honoured must
have their effect. `test_fields.py` tests the ignored and the refused ones."""

import inspect
import json

import openai
import pytest
from openai.resources.chat.completions import Completions

import official
import questions
import scripted_upstream as script
from targets import TARGETS, loggia

SAID = questions.says("Tell me a story.")
FUNCTIONS = [{"name": name, "parameters": {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}} for name in ("first", "second")]
TOOLS = [{"type": "function", "function": function} for function in FUNCTIONS]

# Ignored or refused: test_fields.py.
NAMED = {
    "audio",
    "metadata",
    "prediction",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "user",
    "verbosity",
}
REFUSED = {"modalities", "moderation", "reasoning_effort", "web_search_options"}

# For each argument: its effect, and the place where the effect is seen.
HONOURED = {
    "frequency_penalty": "here",
    "function_call": "here",
    "functions": "here",
    "logit_bias": "here, and refused for an Ollama: test_strictness.py",
    "logprobs": "test_chat.py",
    "max_completion_tokens": "test_chat.py",
    "max_tokens": "test_chat.py",
    "messages": "test_chat.py",
    "model": "test_chat.py",
    "n": "here",
    "parallel_tool_calls": "here",
    "presence_penalty": "here",
    "response_format": "test_structured.py",
    "seed": "test_chat.py",
    "stop": "test_chat.py",
    "store": "test_stored.py",
    "stream": "test_stream.py",
    "stream_options": "test_stream.py",
    "temperature": "here",
    "tool_choice": "here, and test_tools.py",
    "tools": "test_tools.py",
    "top_logprobs": "test_chat.py",
    "top_p": "here",
}

# Arguments that the client keeps for itself.
THE_PACKAGES_OWN = {"self", "extra_headers", "extra_query", "extra_body", "timeout"}

ENGINES = [kind for kind in ("embedded", "openai") if kind in TARGETS]


class Asking:
    """A client in front of one kind of backend, and the requests that the scripted Ollama received."""

    def __init__(self, client: openai.OpenAI, model: str, kind: str, heard: list[dict]):
        self.client, self.model, self.kind, self.heard = client, model, kind, heard

    def __call__(self, **fields):
        usual = {"model": self.model, "messages": SAID, "max_tokens": 8, "temperature": 0}
        return self.client.chat.completions.create(**usual | fields)

    def text(self, **fields) -> str:
        return self(**fields).choices[0].message.content


@pytest.fixture(scope="module", params=["ollama", *ENGINES])
def ask(request):
    """For each kind of backend. The Ollama here accepts everything, and shows what it received."""
    if request.param != "ollama":
        with TARGETS[request.param]() as target, official.client(target.url, timeout=120) as client:
            yield Asking(client, target.model, request.param, [])
        return
    heard = []

    def chat(body: bytes) -> bytes:
        heard.append(json.loads(body))
        return script.stream(script.line()) if heard[-1]["stream"] else script.json_body(script.line())

    with script.upstream(script.ollama(chat, "tools")) as upstream, loggia("--ollama", upstream) as url, official.client(url) as client:
        yield Asking(client, "m", "ollama", heard)


@pytest.fixture
def engine(ask):
    """For the kinds of backend that generate."""
    if ask.kind == "ollama":
        pytest.skip("nothing generates behind it")
    return ask


def test_no_argument_of_the_package_is_missing_here():
    told = [NAMED, REFUSED, set(HONOURED), THE_PACKAGES_OWN]
    assert set().union(*told) == set(inspect.signature(Completions.create).parameters)
    assert sum(map(len, told)) == len(set().union(*told))


def test_several_choices_come_numbered_and_counted_whole_and_streamed(ask):
    alone, answer = ask(temperature=1, seed=1), ask(n=3, temperature=1, seed=1)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert answer.choices[0].message.content == alone.choices[0].message.content
    assert ask.kind == "ollama" or len({choice.message.content for choice in answer.choices}) == 3
    assert answer.usage.prompt_tokens == alone.usage.prompt_tokens
    assert answer.usage.completion_tokens > 2 * alone.usage.completion_tokens or ask.kind != "ollama"
    chunks = [choice for chunk in ask(n=3, temperature=1, seed=1, stream=True) for choice in chunk.choices]
    for index, whole in enumerate(answer.choices):
        of_it = [choice for choice in chunks if choice.index == index]
        assert "".join(choice.delta.content or "" for choice in of_it) == whole.message.content
        assert [choice.delta.role for choice in of_it if choice.delta.role] == ["assistant"]
        assert [choice.finish_reason for choice in of_it if choice.finish_reason] == [whole.finish_reason]


def test_temperature_and_seed_and_top_p_decide_what_is_drawn(engine):
    greedy = engine.text()
    assert engine.text(seed=5) == greedy
    drawn = [engine.text(temperature=2, seed=seed) for seed in range(3)]
    assert len(set(drawn)) == 3 and engine.text(temperature=2, seed=0) == drawn[0]
    # Only one token is among the most likely 0.001%.
    assert [engine.text(temperature=2, seed=seed, top_p=0.00001) for seed in range(3)] == [greedy] * 3


@pytest.mark.parametrize("penalty", ["presence_penalty", "frequency_penalty"])
def test_penalties_keep_what_was_said_from_being_said_again(engine, penalty):
    plain, kept = (engine.text(max_tokens=40, **fields).split() for fields in ({}, {penalty: 2.0}))
    assert len(set(kept)) / len(kept) > len(set(plain)) / len(plain)


def test_a_bias_bans_and_forces_a_token(engine):
    # The token that ends SmolLM2's answers, and one of its words.
    banned = engine(max_tokens=4, logit_bias={"2": 100}).choices[0]
    assert (banned.message.content, banned.finish_reason) == ("", "stop")
    forced = engine(max_tokens=4, logit_bias={"1000": 100}, logprobs=True).choices[0]
    assert len({entry.token for entry in forced.logprobs.content}) == 1 and forced.finish_reason == "length"


@pytest.mark.parametrize(
    ("choice", "called"),
    [
        ("required", {"first", "second"}),
        ({"type": "function", "function": {"name": "second"}}, {"second"}),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "second"}}]}}, {"second"}),
    ],
    ids=["required", "named", "allowed"],
)
def test_a_call_that_must_be_made_is_made_of_what_may_be_called_and_one_at_a_time(engine, choice, called):
    fields = {"tools": TOOLS, "tool_choice": choice, "max_tokens": 60}
    answer = engine(parallel_tool_calls=False, **fields).choices[0]
    (call,) = answer.message.tool_calls
    assert call.function.name in called and isinstance(json.loads(call.function.arguments)["a"], bool)
    assert answer.finish_reason == "tool_calls"
    chunks = [chunk.choices[0].delta.tool_calls or [] for chunk in engine(parallel_tool_calls=False, stream=True, **fields)]
    calls = [call for calls in chunks for call in calls]
    assert {call.index for call in calls} == {0} and [call.function.name for call in calls if call.function.name] == [answer.message.tool_calls[0].function.name]


def test_none_is_no_call_and_no_tools_for_an_ollama(ask):
    answer = ask(tools=TOOLS, tool_choice="none").choices[0]
    assert not answer.message.tool_calls
    assert ask.kind != "ollama" or "tools" not in ask.heard[-1]


def test_the_older_functions_are_answered_in_their_own_form(engine):
    answer = engine(functions=FUNCTIONS, function_call={"name": "second"}, max_tokens=60).choices[0]
    assert answer.message.function_call.name == "second" and isinstance(json.loads(answer.message.function_call.arguments)["a"], bool)
    assert not answer.message.tool_calls
