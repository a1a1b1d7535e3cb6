"""Recorded exchanges with Ollama, as an OpenAI client would send and receive them.

`question` converts a recorded request to the arguments of `chat.completions.create`. `Answer` is what the
recorded answer must become. This uses no code of Loggia: it is an independent second translation.
"""

import dataclasses
import json

from ollama_standin import Recording, read

RECORDINGS = {recording.name: recording for recording in read("chat")}

# OpenAI's names for Ollama's `options`. An option without such a name is sent under its own.
OPENAI_NAMES = {"num_predict": "max_tokens"}
OPENAI_HAS = {"seed", "temperature", "top_p", "frequency_penalty", "presence_penalty", "stop", "max_tokens"}


def question(name: str) -> dict:
    """Returns the arguments of `create` for the request recorded under this name."""
    request = RECORDINGS[name].request
    asked = {"model": request["model"], "stream": request.get("stream", True), "messages": [message(m) for m in request["messages"]]}
    extra = {}
    for key, value in request.get("options", {}).items():
        key = OPENAI_NAMES.get(key, key)
        (asked if key in OPENAI_HAS else extra)[key] = value
    for key in ("tools", "logprobs", "top_logprobs"):
        if key in request:
            asked[key] = request[key]
    if "format" in request:
        asked["response_format"] = response_format(request["format"])
    if "think" in request:
        extra["think"] = request["think"]
    return asked | ({"extra_body": extra} if extra else {})


def message(recorded: dict) -> dict:
    """Converts a message to OpenAI's format: arguments in a string, and no `tool_name`, which Loggia finds by
    the id of the call."""
    told = {key: value for key, value in recorded.items() if key not in ("tool_name", "tool_calls")}
    if "tool_calls" in recorded:
        told["tool_calls"] = [
            {
                "id": call["id"],
                "type": "function",
                "function": {"name": call["function"]["name"], "arguments": json.dumps(call["function"]["arguments"])},
            }
            for call in recorded["tool_calls"]
        ]
    return told


def response_format(recorded: str | dict) -> dict:
    if recorded == "json":
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": recorded}}


@dataclasses.dataclass
class Answer:
    """What an OpenAI client must receive, complete or as a stream."""

    content: str
    reasoning: str
    calls: list[tuple[str, dict]]
    tokens: list[str]
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


def answer(name: str) -> Answer:
    lines = [json.loads(line) for line in RECORDINGS[name].body.splitlines() if line.strip()]
    messages = [line["message"] for line in lines]
    calls = [call["function"] for message in messages for call in message.get("tool_calls", [])]
    last = lines[-1]
    return Answer(
        content="".join(message.get("content", "") for message in messages),
        reasoning="".join(message.get("thinking", "") for message in messages),
        calls=[(call["name"], call["arguments"]) for call in calls],
        tokens=[entry["token"] for line in lines for entry in line.get("logprobs", [])],
        # Ollama reports `stop` after a call; OpenAI reports `tool_calls`.
        finish_reason="tool_calls" if calls else last["done_reason"],
        prompt_tokens=last.get("prompt_eval_count", 0),
        completion_tokens=last.get("eval_count", 0),
    )


def recording(name: str) -> Recording:
    return RECORDINGS[name]
