"""Every field of a chat request that can be honoured, ignored or refused (docs/dialects.md, part 2), through
the official Python client. Exactly the fields without effect are listed as ignored, a guarantee that cannot
be given is refused with its name, and a field that requests nothing is neither."""

import inspect
import json

import openai
import pytest

import official
import questions
import scripted_upstream as script
from recorded import answer, question
from targets import loggia

BREAKPOINT = {"type": "text", "text": "What is the capital of France?", "prompt_cache_breakpoint": {"mode": "explicit"}, "wat": 1}

# Fields that no kind of backend honours, with their names in `x-loggia-ignored`.
HINTS = {
    "messages[].name": {"messages": [{"role": "user", "name": "bob", "content": [BREAKPOINT]}]},
    "messages[].content[].prompt_cache_breakpoint": {},
    "messages[].content[].wat": {},
    "metadata": {"metadata": {"a": "b"}},
    "user": {"user": "u"},
    "safety_identifier": {"safety_identifier": "s"},
    "service_tier": {"service_tier": "flex"},
    "prompt_cache_key": {"prompt_cache_key": "k"},
    "prompt_cache_retention": {"prompt_cache_retention": "24h"},
    "prompt_cache_options": {"prompt_cache_options": {"mode": "explicit"}},
    "prediction": {"prediction": {"type": "content", "content": "x"}},
    "verbosity": {"verbosity": "low"},
    "audio": {"audio": {"voice": "alloy", "format": "wav"}},
    "temprature": {"temprature": 1},
}

# Fields that Loggia itself honours, for every backend: `test_stored.py`.
KEPT = {"store": True, "metadata": {"a": "b"}}

# Fields that request nothing: the same as if they were absent.
NOTHING = {
    "n": 1,
    "logit_bias": {},
    "modalities": ["text"],
    "service_tier": "auto",
    "verbosity": "medium",
    "store": False,
    "metadata": {},
    "response_format": {"type": "text"},
    "logprobs": False,
    "stop": None,
    "tools": [],
}


def with_part(kind: str, value: dict) -> dict:
    return {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}, {"type": kind, kind: value}]}]}


LOOK = {"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": {"type": "object", "properties": {}}}}
PNG = "data:image/png;base64,iVBORw0KGgo="
SAID_ALOUD = [{"role": "user", "content": "x"}, {"role": "assistant", "audio": {"id": "audio_1"}}, {"role": "user", "content": "y"}]

# Fields that a text model without reasoning cannot honour: their names, and how to request them.
DROPPED = {
    "modalities": {"modalities": ["text", "audio"]},
    "audio, modalities": {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}},
    "web_search_options": {"web_search_options": {}},
    "moderation": {"moderation": {"model": "omni-moderation-latest"}},
    "reasoning_effort": {"reasoning_effort": "low"},
    "tools[].type": {"tools": [{"type": "web_search"}, {"type": "namespace", "name": "n", "tools": []}]},
    "tools[].type, tool_choice": {"tools": [{"type": "mcp", "server_label": "s"}], "tool_choice": "auto"},
    "tool_choice": {"tool_choice": "auto"},
    "verbosity": {"verbosity": "chatty"},
    "service_tier": {"service_tier": "gold"},
    "metadata": {"metadata": {"tags": ["a"]}},
}

# Parts of a message that such a model cannot read: their names, and the note that replaces each.
UNSEEN = {
    "messages[].audio": (SAID_ALOUD, None),
    "messages[].content[].image_url": (with_part("image_url", {"url": PNG})["messages"], "[An image was attached here, but this model cannot see images.]"),
    "messages[].content[].image_url ": (with_part("image_url", {"url": "https://images.example/a.png"})["messages"], "[An image was attached here, but this model cannot see images.]"),
    "messages[].content[].input_audio": (with_part("input_audio", {"data": "AAAA", "format": "wav"})["messages"], "[A sound was attached here, but this model cannot hear sounds.]"),
    "messages[].content[].file": (with_part("file", {"filename": "a.doc", "file_data": "data:application/msword;base64,0M8R4A=="})["messages"], '[The file "a.doc" was attached here, but this model cannot read it.]'),
}

# Mistakes, and guarantees that cannot be given: `param`, `code`, and how to request them.
REFUSED = [
    ("tool_choice", "invalid_value", {"tools": [LOOK], "tool_choice": {"type": "function", "function": {"name": "other"}}}),
    ("tool_choice", "invalid_value", {"tool_choice": "required"}),
    ("tool_choice", "invalid_value", {"tools": [{"type": "web_search"}], "tool_choice": "required"}),
    ("tool_choice", "invalid_value", {"tools": [{"type": "custom", "custom": {"name": "x"}}], "tool_choice": {"type": "custom", "custom": {"name": "other"}}}),
    ("response_format.type", "invalid_value", {"response_format": {"type": "yaml"}}),
    ("response_format.x", "unknown_parameter", {"response_format": {"type": "json_object", "x": 1}}),
    ("top_logprobs", "invalid_value", {"top_logprobs": 2}),
    ("stream_options", "invalid_value", {"stream_options": {"include_usage": True}}),
    ("temperature", "decimal_above_max_value", {"temperature": 3}),
    ("top_p", "decimal_above_max_value", {"top_p": 2}),
    ("frequency_penalty", "decimal_above_max_value", {"frequency_penalty": 3}),
    ("presence_penalty", "decimal_below_min_value", {"presence_penalty": -3}),
    ("logit_bias.5", "decimal_above_max_value", {"logit_bias": {"5": 200}}),
]


def ask(client, target, **fields):
    """Returns the answer to a recorded question, with its headers."""
    known = {name: value for name, value in fields.items() if name in ("messages", "stream", "stream_options")}
    others = {name: value for name, value in fields.items() if name not in known}
    asked = {"model": target.model} | questions.CAPITAL | known
    return client.chat.completions.with_raw_response.create(**asked, extra_body=others)


@pytest.mark.parametrize("stream", [False, True])
def test_what_has_no_effect_is_named_and_nothing_else(client, target, stream):
    obfuscated = {"stream": True, "stream_options": {"include_obfuscation": True}} if stream else {}
    hints = {name: value for fields in HINTS.values() for name, value in fields.items()}
    # The stand-in checks that nothing was added to the recorded request.
    answer = ask(client, target, **hints, **obfuscated)
    names = {*HINTS, "stream_options.include_obfuscation"} if stream else {*HINTS}
    assert sorted(answer.headers["x-loggia-ignored"].split(", ")) == sorted(names)
    assert list(answer.parse()) if stream else answer.parse().choices[0].message.content


def test_what_loggia_honours_itself_is_not_named(client, target):
    answer = ask(client, target, **KEPT)
    assert "x-loggia-ignored" not in answer.headers and answer.parse().choices[0].message.content


def test_what_asks_for_nothing_is_not_named(client, target):
    answer = ask(client, target, **NOTHING)
    assert "x-loggia-ignored" not in answer.headers and answer.parse().choices[0].message.content


@pytest.mark.parametrize("names", DROPPED)
@pytest.mark.parametrize("stream", [False, True])
def test_what_the_model_cannot_do_is_dropped_and_named(client, target, names, stream):
    if names == "reasoning_effort" and "thinking" in target.capabilities:
        pytest.skip("the model thinks as hard as it is asked to")
    answer = ask(client, target, stream=stream, **DROPPED[names])
    assert answer.headers["x-loggia-ignored"] == names
    assert list(answer.parse()) if stream else answer.parse().choices[0].message.content


@pytest.mark.parametrize("name", UNSEEN)
def test_a_part_that_the_model_cannot_take_is_a_note_to_it(client, target, name):
    messages, note = UNSEEN[name]
    if target.kind != "ollama":
        answer = client.chat.completions.with_raw_response.create(model=target.model, messages=messages, max_tokens=4)
        assert answer.headers["x-loggia-ignored"] == name.strip() and answer.parse().choices
        return
    heard: list[dict] = []

    def chat(body: bytes) -> bytes:
        heard.append(json.loads(body))
        return script.json_body(script.line())

    with script.upstream(script.ollama(chat)) as upstream, loggia("--ollama", upstream) as url, official.client(url) as blind:
        answer = blind.chat.completions.with_raw_response.create(model="m", messages=messages)
        assert answer.headers["x-loggia-ignored"] == name.strip() and answer.parse().choices
    assert note is None or heard[0]["messages"][0] == {"role": "user", "content": f"x\n\n{note}"}


@pytest.mark.parametrize(("param", "code", "fields"), REFUSED, ids=[f"{index}-{row[0]}" for index, row in enumerate(REFUSED)])
def test_a_fault_or_a_guarantee_that_cannot_be_given_is_refused_by_its_name(client, target, param, code, fields):
    for stream in [False, True] if "stream_options" not in fields else [False]:
        with pytest.raises(openai.BadRequestError) as failure:
            ask(client, target, stream=stream, **fields)
        assert (failure.value.param, failure.value.code, failure.value.type) == (param, code, "invalid_request_error")


SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}
CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"a": 1}'}}
X = [{"role": "user", "content": "x"}]
OLD_CALL = {"role": "assistant", "content": None, "function_call": {"name": "look", "arguments": "{}"}}

# Honoured fields: how to request each, its place in the request to Ollama, and its value there.
HONOURED = {
    "temperature": ({"temperature": 0.3}, "options.temperature", 0.3),
    "top_p": ({"top_p": 0.4}, "options.top_p", 0.4),
    "frequency_penalty": ({"frequency_penalty": -0.5}, "options.frequency_penalty", -0.5),
    "presence_penalty": ({"presence_penalty": 1.5}, "options.presence_penalty", 1.5),
    "seed": ({"seed": 9}, "options.seed", 9),
    "stop": ({"stop": "a"}, "options.stop", ["a"]),
    "stop, several": ({"stop": ["a", "b"]}, "options.stop", ["a", "b"]),
    "max_tokens": ({"max_tokens": 7}, "options.num_predict", 7),
    "max_completion_tokens": ({"max_completion_tokens": 8}, "options.num_predict", 8),
    "logprobs": ({"logprobs": True}, "logprobs", True),
    "top_logprobs": ({"logprobs": True, "top_logprobs": 2}, "top_logprobs", 2),
    "json_object": ({"response_format": {"type": "json_object"}}, "format", "json"),
    "json_schema": ({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "strict": True, "schema": SCHEMA}}}, "format", SCHEMA),
    "tools": ({"tools": [LOOK], "tool_choice": "auto"}, "tools", [LOOK]),
    "functions": ({"functions": [LOOK["function"]]}, "tools", [LOOK]),
    "tool_choice none": ({"tools": [LOOK], "tool_choice": "none"}, "tools", None),
    "function_call none": ({"functions": [LOOK["function"]], "function_call": "none"}, "tools", None),
    "reasoning_effort": ({"reasoning_effort": "low"}, "think", "low"),
    "reasoning_effort none": ({"reasoning_effort": "none"}, "think", False),
    "stream": ({"stream": True}, "stream", True),
    "no stream": ({}, "stream", False),
    "developer": ({"messages": [{"role": "developer", "content": "Be brief."}, *X]}, "messages.0", {"role": "system", "content": "Be brief."}),
    "parts": ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]}, "messages.0.role", "user"),
    "an image": (with_part("image_url", {"url": "data:image/png;base64,iVBORw0KGgoAAAANSUhEUg=="}), "messages.0.images", ["iVBORw0KGgoAAAANSUhEUg=="]),
    "a file of text": (with_part("file", {"filename": "a.txt", "file_data": "data:text/plain;base64,aGk="}), "messages.0.content", "x\n\na.txt:\n\nhi\n"),
    "a file that is an image": (with_part("file", {"filename": "a.png", "file_data": "data:image/png;base64,iVBORw0KGgoAAAANSUhEUg=="}), "messages.0.images", ["iVBORw0KGgoAAAANSUhEUg=="]),
    "a result": ({"messages": [*X, {"role": "assistant", "tool_calls": [CALL]}, {"role": "tool", "tool_call_id": "call_1", "content": "3"}]}, "messages.2.tool_name", "look"),
    "a call": ({"messages": [*X, {"role": "assistant", "tool_calls": [CALL]}, {"role": "tool", "tool_call_id": "call_1", "content": "3"}]}, "messages.1.tool_calls.0.function.arguments", {"a": 1}),
    "an older call's result": ({"messages": [*X, OLD_CALL, {"role": "function", "name": "look", "content": "3"}]}, "messages.2.tool_name", "look"),
    "earlier reasoning": ({"messages": [*X, {"role": "assistant", "content": "y", "reasoning_content": "hm"}, *X]}, "messages.1.thinking", "hm"),
    "num_ctx": ({"num_ctx": 512}, "options.num_ctx", 512),
    "keep_alive": ({"keep_alive": "5m"}, "keep_alive", "5m"),
    "think": ({"think": True}, "think", True),
    "enable_thinking": ({"enable_thinking": False}, "think", False),
    "thinking": ({"thinking": {"type": "enabled"}}, "think", True),
    "reasoning": ({"reasoning": {"effort": "high"}}, "think", "high"),
    "chat_template_kwargs": ({"chat_template_kwargs": {"enable_thinking": False}}, "think", False),
}
# A field that OpenAI's API does not have goes into `extra_body`.
OFFICIAL = set(inspect.signature(openai.resources.chat.Completions.create).parameters)
LOGPROB = {"token": "Hi", "logprob": -0.5, "bytes": [72, 105], "top_logprobs": [{"token": "Hi", "logprob": -0.5, "bytes": [72, 105]}]}


@pytest.fixture(scope="module")
def capable():
    """A client of a loggia in front of an Ollama that supports everything, and the requests that it received."""
    heard: list[dict] = []

    def chat(body: bytes) -> bytes:
        heard.append(json.loads(body))
        said = script.line() | ({"logprobs": [LOGPROB]} if heard[-1].get("logprobs") else {})
        return script.stream(said) if heard[-1]["stream"] else script.json_body(said)

    with script.upstream(script.ollama(chat, "tools", "vision", "thinking")) as upstream, loggia("--ollama", upstream) as url:
        with official.client(url) as client:
            yield client, heard


@pytest.mark.parametrize("row", HONOURED)
def test_what_is_honoured_reaches_ollama_and_is_not_named(capable, row):
    client, heard = capable
    fields, place, value = HONOURED[row]
    heard.clear()
    extra = {name: fields[name] for name in fields if name not in OFFICIAL}
    asked = {"model": "m", "messages": X} | {name: fields[name] for name in fields if name not in extra}
    answer = client.chat.completions.with_raw_response.create(**asked, extra_body=extra)
    assert "x-loggia-ignored" not in answer.headers
    found = heard[0]
    for step in place.split("."):
        found = found[int(step)] if isinstance(found, list) else found.get(step)
    assert found == value and len(heard) == 1


SHOWN = {"url": "data:image/png;base64,iVBORw0KGgoAAAANSUhEUg=="}
STRICT = {"type": "function", "function": {"name": "look", "strict": True, "parameters": SCHEMA}}

# Fields that are not sent to Ollama, or that a stronger field overrides: their names, and how to request
# them.
NAMED = {
    "messages[].content[].image_url.detail": with_part("image_url", SHOWN | {"detail": "high"}),
    "messages[].content[].image_url.wat": with_part("image_url", SHOWN | {"wat": 1}),
    "messages[].tool_calls": {"messages": [{"role": "user", "content": "x", "tool_calls": [CALL]}]},
    "messages[].reasoning": {"messages": [*X, {"role": "assistant", "content": "y", "reasoning_content": "a", "reasoning": "b"}, *X]},
    "response_format.json_schema.description": {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "description": "d", "schema": SCHEMA}}},
    "tools[].function.strict": {"tools": [STRICT]},
    "functions[].strict": {"functions": [STRICT["function"]]},
    "tools[].function.wat": {"tools": [{"type": "function", "function": {"name": "look", "wat": 1}}]},
    "max_tokens": {"max_tokens": 3, "max_completion_tokens": 4},
    "reasoning_effort": {"reasoning_effort": "low", "think": "high"},
    "options.temperature": {"temperature": 0.1, "options": {"temperature": 0.2}},
    "options.num_predict": {"max_tokens": 3, "options": {"num_predict": 4}},
    "options.mistyped": {"options": {"mistyped": 1}},
    "top_q": {"top_q": 1},
}


@pytest.mark.parametrize("name", NAMED)
def test_what_ollama_makes_nothing_of_is_named(capable, name):
    client, heard = capable
    heard.clear()
    answer = client.chat.completions.with_raw_response.create(model="m", messages=X, extra_body=NAMED[name])
    assert answer.headers["x-loggia-ignored"] == name and answer.parse().choices
    assert len(heard) == 1


def test_several_choices_are_as_many_calls_with_seeds_of_their_own(capable):
    client, heard = capable
    heard.clear()
    answer = client.chat.completions.create(model="m", messages=X, n=3, seed=5)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert sorted(request["options"]["seed"] for request in heard) == [5, 6, 7]
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (3, 6)


@pytest.mark.parametrize(("parallel", "count"), [({}, 2), ({"parallel_tool_calls": True}, 2), ({"parallel_tool_calls": False}, 1)])
def test_one_call_at_a_time_is_the_first_of_those_that_were_recorded(standin_client, parallel, count):
    recorded_calls = answer("whole-two-tool-calls").calls
    message = standin_client.chat.completions.create(**question("whole-two-tool-calls"), **parallel).choices[0].message
    assert [call.function.name for call in message.tool_calls] == [name for name, _ in recorded_calls[:count]]


def test_a_stream_of_several_choices_begins_and_ends_each_once(capable):
    client, _ = capable
    chunks = list(client.chat.completions.create(model="m", messages=X, n=3, stream=True, stream_options={"include_usage": True}))
    *choices, usage = chunks
    told = [chunk.choices[0] for chunk in choices]
    assert sorted(choice.index for choice in told if choice.delta.role) == [0, 1, 2]
    assert sorted(choice.index for choice in told if choice.finish_reason) == [0, 1, 2]
    assert usage.choices == [] and (usage.usage.prompt_tokens, usage.usage.completion_tokens) == (3, 6)


@pytest.fixture
def steered(sampling, target):
    """The same for an engine that accepts grammars and biases, which Ollama does not."""
    target.needs("grammar")
    return sampling


@pytest.fixture
def sampling(client, target):
    """Requests a complete answer from an engine that honours sampling fields. The recordings are of other
    questions."""
    if target.kind == "ollama":
        pytest.skip("the stand-in answers only what was recorded, and this was not")
    question = {"model": target.model} | questions.CAPITAL
    return lambda **fields: client.chat.completions.create(**question | fields)


def test_a_bias_decides_which_token_comes(steered):
    entries = steered(max_tokens=3, logprobs=True, logit_bias={"35": 100}).choices[0].logprobs.content
    assert len(entries) == 3 and len({entry.token for entry in entries}) == 1


def test_the_least_top_p_is_the_likeliest_token_at_any_temperature(sampling):
    text = lambda **fields: sampling(max_tokens=8, **fields).choices[0].message.content
    assert text(temperature=2, top_p=1e-6) == text(temperature=0)
    assert len({text(temperature=2, seed=seed) for seed in range(3)}) > 1


def test_a_penalty_for_frequency_balances_what_a_grammar_leaves_and_its_opposite_repeats_it(steered):
    digits = {"extra_body": {"grammar": "root ::= [01]{24}"}, "max_tokens": 40}
    balanced, repeated = (steered(frequency_penalty=penalty, **digits).choices[0].message.content for penalty in (2, -2))
    assert len(balanced) == 24 and abs(balanced.count("0") - balanced.count("1")) < 12
    assert len(set(repeated)) == 1


def test_a_penalty_for_presence_wants_other_digits_and_its_opposite_the_same(steered):
    digits = {"extra_body": {"grammar": "root ::= [0-9]{6}"}, "max_tokens": 12}
    others, same = (steered(presence_penalty=penalty, **digits).choices[0].message.content for penalty in (2, -2))
    assert len(others) == len(same) == 6 and len(set(others)) > len(set(same))


def test_several_choices_come_with_the_prompt_counted_once(sampling):
    one, two = (sampling(n=n, max_tokens=3, temperature=1) for n in (1, 2))
    assert [choice.index for choice in two.choices] == [0, 1]
    assert (two.usage.prompt_tokens, two.usage.completion_tokens) == (one.usage.prompt_tokens, 6)


def test_an_engine_that_speaks_openai_gets_every_field_as_it_is():
    heard: list[dict] = []

    def chat(body: bytes) -> bytes:
        heard.append(json.loads(body))
        return script.openai_whole({"content": "Hi"})

    fields = {name: value for each in HINTS.values() for name, value in each.items()}
    fields |= {"messages": X, "logit_bias": {"5": 1}, "modalities": ["text", "audio"], "web_search_options": {}, "moderation": {"model": "o"}, "tools": [LOOK], "temperature": 0.3}
    with script.upstream(script.openai(chat)) as upstream, loggia("--openai", f"engine={upstream}/v1") as url, official.client(url) as client:
        answer = client.chat.completions.with_raw_response.create(model="m", messages=X, extra_body=fields)
        assert answer.parse().choices[0].message.content == "Hi" and "x-loggia-ignored" not in answer.headers
    (request,) = heard
    assert request | {"model": "m", "stream": False} == {"model": "m", "stream": False} | fields
