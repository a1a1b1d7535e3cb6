"""Sends odd requests to every kind of backend, and checks each answer.

    odd.py [--seed 1] [--minutes 5] [KIND ...]

`make odd MINUTES=5` runs it. The same seed gives the same requests. It prints each violation with its
request, and then exits with 1.

These rules are checked. The answer is 200 or an error in OpenAI's format, and never a 500 caused by the
request. A stream is well-formed. A duplicate field is refused. Nothing is dropped silently: a field added to
a valid request changes what the engine receives, or changes the answer, or is listed in `x-loggia-ignored`,
or is refused. At the end the server still answers, and its log contains no panic and no text of a prompt.
"""

import argparse
import collections
import contextlib
import dataclasses
import http.client
import json
import re
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import unquote

import jsonschema
import odd_inputs
import odd_upstreams
import raw
from targets import ALL, MODEL, first_model, loggia

TYPES = {400: "invalid_request_error", 404: "invalid_request_error", 413: "invalid_request_error", 415: "invalid_request_error"}

# Fields that only the engine or the client interprets, or that repeat a default, so that they change nothing.
SAYS_NOTHING = {
    "messages[].content[].image_url.detail": "named where it asks for something",
    "parallel_tool_calls": "calls are left out of the answer, where there are several",
    "stream_options.include_usage": "of an answer that is no stream",
    "messages[].tool_calls[].id": "ids only bind results to calls",
    "messages[].tool_call_id": "the same",
    "response_format.json_schema.name": "a label",
    "messages[].content[].file.filename": "a name of nothing is none",
    "keep_alive": "Ollama's own default may be said",
}


@dataclasses.dataclass
class Stand:
    """A running loggia, its model, the last request to its engine, and its log."""

    kind: str
    url: str
    model: str
    asked: list[dict] | None
    log: Path


@contextlib.contextmanager
def embedded(log: Path):
    with loggia("--model", str(MODEL), "--context", "2048", "--parallel", "2", "--threads", "1", log=log) as url:
        yield Stand("embedded", url, first_model(url), None, log)


@contextlib.contextmanager
def ollama(log: Path):
    with odd_upstreams.ollama() as (upstream, asked), loggia("--ollama", upstream, log=log) as url:
        yield Stand("ollama", url, "m", asked, log)


@contextlib.contextmanager
def openai(log: Path):
    with ALL["openai"]() as behind, odd_upstreams.through_to(behind.upstream) as (upstream, asked):
        with loggia("--openai", f"llamacpp={upstream}/v1", log=log) as url:
            yield Stand("openai", url, behind.model, asked, log)


STANDS = {"embedded": embedded, "ollama": ollama, "openai": openai}


def run(stand: Stand, seed: int, most: int, seconds: float) -> tuple[collections.Counter, list[str]]:
    """Sends this many odd requests, or for this long. Returns the statuses and the violations."""
    statuses, faults = collections.Counter(), []
    until = time.monotonic() + seconds
    for count, odd in enumerate(odd_inputs.requests(seed, stand.model)):
        if count >= most or time.monotonic() > until:
            break
        about = f"{odd.what} at {odd.place or 'the whole'}: {odd.body[:600]!r}"
        try:
            answer, asked = ask(stand, odd.route, odd.body)
            fault = wrong_with(answer, odd) or dropped_unseen(stand, odd, answer, asked)
        except (OSError, http.client.HTTPException, AssertionError, ValueError) as broken:
            # A timeout, a closed connection, or an answer that violates the specification.
            faults.append(f"{stand.kind}: {broken!r}: {about}")
            continue
        statuses[answer.status] += 1
        if fault:
            faults.append(f"{stand.kind}: {fault}: {about} -> {answer.status} {answer.body[:300]!r}")
    faults += wrong_in_the_end(stand)
    return statuses, faults


def ask(stand: Stand, route: str, body: bytes) -> tuple[raw.Answer, list[dict]]:
    if stand.asked is not None:
        stand.asked.clear()
    answer = raw.ask(stand.url, "POST", route, body, {"content-type": "application/json"})
    return answer, list(stand.asked or [])


def wrong_with(answer: raw.Answer, odd: odd_inputs.Odd) -> str | None:
    if answer.status == 200:
        if odd.what == "twice":
            return "a field that is there twice is no matter"
        return wrong_with_stream(answer) if answer.headers["content-type"].startswith("text/event-stream") else None
    if answer.status not in TYPES:
        return "a status that odd input does not explain"
    error = answer.error()
    if set(error) != {"message", "type", "param", "code"} or error["type"] != TYPES[answer.status] or not error["message"]:
        return "an error that is not OpenAI's"
    names_a_field = error["param"] or error["code"] == "model_not_found" or "could not parse the JSON" in error["message"]
    # llama-server refuses a `repeat_penalty` of 0 without naming the field.
    names_a_field = names_a_field or error["message"].startswith("Failed to initialize samplers")
    return None if names_a_field or odd.what in ("break", "twice") else "an error that names no field"


def wrong_with_stream(answer: raw.Answer) -> str | None:
    events = answer.events()
    chunks = answer.chunks()
    if "error" in chunks[-1]:
        return None if events[-1] != "[DONE]" else "an error before [DONE]"
    if events[-1] != "[DONE]" or events.count("[DONE]") != 1:
        return "a stream without its end"
    if len({(chunk["id"], chunk["created"]) for chunk in chunks}) != 1:
        return "a stream of several ids"
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    numbers = {choice["index"] for choice in choices}
    ends = [choice["index"] for choice in choices if choice["finish_reason"]]
    if sorted(ends) != sorted(numbers):
        return "choices that do not end once"
    roles = [choice["index"] for choice in choices if "role" in choice.get("delta", {})]
    if roles and sorted(roles) != sorted(numbers):
        return "roles that are not told once"
    return None


def dropped_unseen(stand: Stand, odd: odd_inputs.Odd, answer: raw.Answer, asked: list[dict]) -> str | None:
    """Whether the added field changed nothing, and is not listed as ignored."""
    if answer.status != 200 or odd.before is None or odd.value is None or odd.place in SAYS_NOTHING:
        return None
    if odd.body == json.dumps(odd.before).encode():
        return None
    if is_named(odd.place, ignored(answer)):
        return None
    if odd.what == "unknown" and not is_free_form(odd.place):
        return "an unknown field that is not named"
    if stand.asked is None or is_an_annotation(odd.place) or is_stored(odd):
        return None
    before, asked_before = ask(stand, odd.route, json.dumps(odd.before).encode())
    if before.status != 200 or asked != asked_before or shape(answer) != shape(before):
        return None
    return None if says_the_same(odd) else "a field without effect that is not named"


def is_stored(odd: odd_inputs.Odd) -> bool:
    """Whether Loggia itself stores the field, so that neither the backend nor the answer shows it."""
    return odd.route == "/v1/chat/completions" and json.loads(odd.body).get("store") is True and odd.place.partition(".")[0] in ("store", "metadata")


def says_the_same(odd: odd_inputs.Odd) -> bool:
    """Whether the added field repeats what the request said, or requests nothing."""
    key = odd.place.rpartition(".")[2]
    nothing = {
        "modalities": [["text"], []], "n": [1], "logit_bias": [{}], "stop": [[], "", ["x"]], "top_k": [3], "grammar": [""], "tools": [[]], "functions": [[]], "metadata": [{}], "store": [False],
        "logprobs": [False], "stream": [False], "service_tier": ["auto", "default"], "verbosity": ["medium"], "response_format": [{"type": "text"}], "tool_choice": ["auto", "none"],
        "function_call": ["auto", "none"], "reasoning_effort": ["none"], "strict": [False], "tool_calls": [[]], "best_of": [1], "echo": [False], "options": [{}],
        "content": ["", []], "refusal": [""], "reasoning": ["", "hm"], "reasoning_content": [""], "include_usage": [True, False], "include_obfuscation": [False], "stream_options": [{}],
    }
    return odd.value in nothing.get(key, [])


def shape(answer: raw.Answer) -> object:
    """Returns an answer without the parts that differ each time."""
    def steady(value):
        if isinstance(value, dict):
            return {key: steady(inner) for key, inner in value.items() if key not in ("id", "created", "system_fingerprint", "timings", "usage")}
        return [steady(inner) for inner in value] if isinstance(value, list) else value

    if answer.headers["content-type"].startswith("text/event-stream"):
        return [steady(chunk) for chunk in answer.chunks()]
    return steady(answer.json())


def ignored(answer: raw.Answer) -> list[str]:
    """Returns the listed fields, spelled as the places of odd requests are: without indexes, and with periods in schemas."""
    names = answer.headers.get("x-loggia-ignored", "")
    listed = [unquote(name.strip()) for name in names.split(",") if name.strip()]
    return [re.sub(r"\[\d+\]", "[]", name.replace("#/", ".").replace("/", ".")) for name in listed]


def is_named(place: str, names: list[str]) -> bool:
    return any(place == name or place.startswith((f"{name}.", f"{name}[")) or name.startswith((f"{place}.", f"{place}[")) for name in names)


def is_free_form(place: str) -> bool:
    """Objects whose keys the client chooses."""
    free = {"metadata", "logit_bias", "schema", "parameters", "options", "chat_template_kwargs", "prediction", "custom"}
    return not free.isdisjoint(place.replace("[]", "").split("."))


def is_an_annotation(place: str) -> bool:
    """A keyword that JSON Schema does not know; or, in a tool's schema, `additionalProperties`, which has no
    effect if the engine does not enforce the schema."""
    place = place.replace("[]", "")
    is_of_a_tool = ".parameters." in place
    _, within, path = place.partition(".parameters." if is_of_a_tool else ".json_schema.schema.")
    *parents, key = path.split(".")
    if not within or parents[-1:] == ["properties"]:
        return False
    known = jsonschema.Draft202012Validator.VALIDATORS.keys() | {"description"}
    return (is_of_a_tool and key == "additionalProperties") or key not in known


def wrong_in_the_end(stand: Stand) -> list[str]:
    answer = raw.ask(stand.url, "GET", "/readyz")
    faults = [] if answer.status == 200 else [f"{stand.kind}: not ready in the end: {answer.status}"]
    log = stand.log.read_text(errors="replace")
    return faults + [f"{stand.kind}: the log has {word!r}" for word in ("panicked", odd_inputs.MARKER) if word in log]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seed", type=int, default=int(time.time()))
    arguments.add_argument("--minutes", type=float, default=5)
    arguments.add_argument("kinds", nargs="*", default=[], choices=[*STANDS, []])
    given = arguments.parse_args()
    found = 0
    for kind in given.kinds or STANDS:
        with tempfile.TemporaryDirectory(prefix="loggia-odd-") as folder, STANDS[kind](Path(folder) / "log") as stand:
            statuses, faults = run(stand, given.seed, sys.maxsize, given.minutes * 60 / len(given.kinds or STANDS))
        found += len(faults)
        print(f"{kind}: seed {given.seed}, {statuses.total()} requests: {dict(sorted(statuses.items()))}, {len(faults)} faults", flush=True)
        print("\n".join(faults[:40]), flush=True)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
