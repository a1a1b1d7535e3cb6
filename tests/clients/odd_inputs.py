"""Odd requests: valid requests that together use every field, each with one random change."""

import copy
import dataclasses
import json
import random

# A marker in every prompt, to search for in the log.
MARKER = "zanzibar-7431"

PNG = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
SCHEMA = {"type": "object", "properties": {"a": {"type": "string", "maxLength": 4}}, "required": ["a"], "additionalProperties": False}
FUNCTION = {"name": "look", "description": "Looks", "parameters": SCHEMA}
TOOL = {"type": "function", "function": FUNCTION}
CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"a": "b"}'}}


def user(content: str | list) -> dict:
    return {"role": "user", "content": content}


HI = user(f"Hi {MARKER}")
CHATS = [
    {"messages": [HI]},
    {
        "messages": [{"role": "system", "content": "Be brief."}, HI, {"role": "assistant", "content": "Yes?"}, HI],
        "temperature": 0.5, "top_p": 0.9, "presence_penalty": 0.1, "frequency_penalty": 0.1, "seed": 3, "stop": ["x", "y"], "n": 2,
    },
    {
        "messages": [HI, {"role": "assistant", "content": "I look.", "tool_calls": [CALL]}, {"role": "tool", "tool_call_id": "call_1", "content": "3"}],
        "tools": [TOOL], "tool_choice": "auto", "parallel_tool_calls": False,
    },
    {"messages": [HI], "tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "look"}}},
    {"messages": [{"role": "developer", "content": "Be brief."}, HI], "response_format": {"type": "json_schema", "json_schema": {"name": "s", "strict": True, "schema": SCHEMA}}},
    {"messages": [user([{"type": "text", "text": MARKER}, {"type": "image_url", "image_url": {"url": PNG, "detail": "low"}}])]},
    {"messages": [user([{"type": "text", "text": MARKER}, {"type": "file", "file": {"filename": "a.txt", "file_data": "data:text/plain;base64,aGk="}}])]},
    {"messages": [HI], "stream": True, "stream_options": {"include_usage": True}, "logprobs": True, "top_logprobs": 2, "max_completion_tokens": 4},
    {"messages": [HI], "functions": [FUNCTION], "function_call": "auto"},
    {
        "messages": [HI, {"role": "assistant", "content": None, "function_call": {"name": "look", "arguments": "{}"}}, {"role": "function", "name": "look", "content": "3"}],
        "stream": True,
    },
    {"messages": [{"role": "user", "name": "bob", "content": MARKER}, {"role": "assistant", "content": "x", "refusal": "No.", "reasoning_content": "hm"}, HI], "reasoning_effort": "low"},
    {"messages": [HI], "metadata": {"a": "b"}, "user": "u", "store": True, "service_tier": "flex", "verbosity": "low", "prompt_cache_key": "k", "safety_identifier": "s"},
    {"messages": [HI], "options": {"top_k": 3, "num_ctx": 512}, "keep_alive": 5, "min_p": 0.1, "repeat_penalty": 1.1},
    {"messages": [HI], "modalities": ["text"], "prediction": {"type": "content", "content": "x"}, "logit_bias": {}, "response_format": {"type": "text"}},
]
COMPLETIONS = [
    {"prompt": f"Once {MARKER}", "temperature": 0.5, "stop": "x", "seed": 3},
    {"prompt": [f"a {MARKER}", "b"], "n": 2, "best_of": 2, "logprobs": 1, "user": "u"},
    {"prompt": f"Once {MARKER}", "stream": True, "stream_options": {"include_usage": True}, "echo": True},
]

# Values that replace the value of a field.
ODD = [
    None, True, False, 0, -1, 1, 1.5, -0.0, 1e308, 10**30, "", " ", "x", "auto", "none", "\u0000", "\ud800", "é" * 300, "🦀", "a" * 5000,
    [], [None], ["x"], [[]], [{}], {}, {"x": 1}, {"type": "x"}, {"type": "text", "text": "x"}, {"type": "function"}, "null", "NaN",
]

# Added fields: of OpenAI, of Ollama, of other engines, and misspelled ones.
ADDED = {
    "temperature": [0.3, 3], "max_tokens": [2, 0, 10**12], "web_search_options": [{}, {"search_context_size": "low"}], "audio": [{"voice": "alloy", "format": "wav"}],
    "modalities": [["text", "audio"], ["text"]], "moderation": [{"model": "m"}], "reasoning_effort": ["high", "none", "enormous"], "seed": [7], "n": [2, 200],
    "logit_bias": [{"5": 1}, {"x": 1}], "grammar": ['root ::= "a"', ""], "response_format": [{"type": "json_object"}, {"type": "yaml"}], "stop": [["a", "b", "c", "d", "e"]],
    "top_logprobs": [3], "logprobs": [True, 2], "service_tier": ["flex", "gold"], "verbosity": ["high", "chatty"], "store": [True], "metadata": [{"k": "v"}, {"k": 1}],
    "tool_choice": ["required", "none"], "tools": [[TOOL], [{"type": "custom", "custom": {"name": "x"}}]], "parallel_tool_calls": [False], "prompt_cache_retention": ["24h"],
    "think": [True, "low", 7], "options": [{"temperature": 0.1}, {"mistyped": 1}], "num_ctx": [256], "top_k": [3], "keep_alive": ["5m"], "stream": [True],
    "temprature": [0.3], "chat_template_kwargs": [{"x": 1}], "tool_call_id": ["x"], "refusal": ["no"], "name": ["bob"], "tool_calls": [[CALL]], "image_url": [{"url": PNG}],
    "strict": [True], "cache_control": [{"type": "ephemeral"}], "detail": ["high"], "reasoning": ["hm"], "echo": [True], "suffix": ["x"], "best_of": [2], "prompt": ["x"],
}


@dataclasses.dataclass
class Odd:
    """A request, the change, and the place of the change."""

    route: str
    body: bytes
    what: str
    place: str
    # The request without the change, if both can be compared.
    before: dict | None = None
    value: object = None


def requests(seed: int, model: str):
    """An endless sequence of odd requests. The same seed gives the same sequence."""
    chance = random.Random(seed)
    while True:
        if chance.random() < 0.85:
            route, base, least = "/v1/chat/completions", chance.choice(CHATS), {"max_tokens": 4}
        else:
            route, base, least = "/v1/completions", chance.choice(COMPLETIONS), {"max_tokens": 4}
        request = {"model": model} | ({} if "max_completion_tokens" in base else least) | copy.deepcopy(base)
        yield odd(chance, route, request)


def odd(chance: random.Random, route: str, request: dict) -> Odd:
    before = copy.deepcopy(request)
    way = chance.choice(["put", "put", "put", "add", "add", "add", "unknown", "take", "twice", "break"])
    if way == "break":
        return Odd(route, broken(chance, json.dumps(request)), way, "")
    places = list(objects(request))
    path, within = chance.choice(places)
    if way == "twice" and isinstance(within, dict) and within:
        key = chance.choice(list(within))
        marked = copy.deepcopy(request)
        at(marked, path)["\u0001twice"] = chance.choice(ODD)
        return Odd(route, json.dumps(marked).replace("\\u0001twice", key).encode(), way, named(path, key))
    if way == "unknown" and isinstance(within, dict):
        within["x_unknown"] = value = chance.choice([1, "x", {"y": 1}, [], None])
        return Odd(route, json.dumps(request).encode(), way, named(path, "x_unknown"), before, value)
    if way == "add" and isinstance(within, dict):
        key = chance.choice(list(ADDED))
        value = chance.choice(ADDED[key])
        if key not in within:
            within[key] = value
            return Odd(route, json.dumps(request).encode(), way, named(path, key), before, value)
    keys = list(within) if isinstance(within, dict) else list(range(len(within)))
    if not keys:
        return Odd(route, json.dumps(request).encode(), "as it is", "")
    key = chance.choice(keys)
    if way == "take":
        del within[key]
        return Odd(route, json.dumps(request).encode(), way, named(path, key))
    within[key] = value = copy.deepcopy(chance.choice(ODD))
    return Odd(route, json.dumps(request).encode(), "put", named(path, key), before, value)


def broken(chance: random.Random, text: str) -> bytes:
    """Invalid or barely valid JSON."""
    body = text.encode()
    middle = chance.randrange(1, len(body))
    return chance.choice(
        [
            body[:middle], body + b"x", b"", b"null", b"[]", b"\xff\xfe" + body, body[:middle] + b"\xc3" + body[middle:],
            body.replace(b"0.5", b"1e999"), body.replace(b": 4", b": 1e999"), body[:-1] + b',"x":' + b"[" * 5000, b" " * 10_000 + body,
            body.replace(b'"', b"'"), body[:middle] + b"\x00" + body[middle:], b"{" + body, body[:-1] + b",}",
        ]
    )


def objects(value: object, path: tuple = ()):
    """Returns every object and list, with its path."""
    if isinstance(value, (dict, list)):
        yield path, value
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from objects(inner, (*path, key))


def at(value: object, path: tuple) -> object:
    for key in path:
        value = value[key]
    return value


def named(path: tuple, key: object) -> str:
    """Returns the path as `x-loggia-ignored` lists it: `messages[].content`."""
    text = ""
    for step in (*path, key):
        text += "[]" if isinstance(step, int) else f".{step}" if text else str(step)
    return text
