"""Holds answers against OpenAI's published spec, where OPENAI_SPEC names the file. Without it nothing is checked, and the run says so.

The spec is OpenAPI 3.1, so its schemas are JSON Schema 2020-12 but for `nullable`, which some still carry from 3.0.
"""

import base64
import functools
import json
import os
import re
import struct

import jsonschema

SPEC = os.environ.get("OPENAI_SPEC", "")

# Answers and chunks held against the spec so far, for the line at the end of the run.
checked = 0

# The spec has no schema for a chunk of the older completions: it is a whole one, in which OpenAI's API writes null for what is not known yet.
OLDER_CHUNK = "a chunk of a CreateCompletionResponse"

# What each route answers: whole, and as the events of a stream.
ROUTES = [
    ("POST", "/v1/chat/completions", "CreateChatCompletionResponse", "CreateChatCompletionStreamResponse"),
    ("GET", "/v1/chat/completions", "ChatCompletionList", None),
    ("GET POST", "/v1/chat/completions/{id}", "CreateChatCompletionResponse", None),
    ("DELETE", "/v1/chat/completions/{id}", "ChatCompletionDeleted", None),
    ("GET", "/v1/chat/completions/{id}/messages", "ChatCompletionMessageList", None),
    ("POST", "/v1/responses", "Response", "ResponseStreamEvent"),
    ("POST", "/v1/responses/input_tokens", "TokenCountsResource", None),
    ("POST", "/v1/responses/compact", "CompactResource", None),
    ("GET", "/v1/responses/{id}", "Response", "ResponseStreamEvent"),
    ("POST", "/v1/responses/{id}/cancel", "Response", None),
    ("GET", "/v1/responses/{id}/input_items", "ResponseItemList", None),
    ("POST", "/v1/conversations", "ConversationResource", None),
    ("GET POST", "/v1/conversations/{id}", "ConversationResource", None),
    ("DELETE", "/v1/conversations/{id}", "DeletedConversationResource", None),
    ("GET POST", "/v1/conversations/{id}/items", "ConversationItemList", None),
    ("GET", "/v1/conversations/{id}/items/{id}", "ConversationItem", None),
    ("DELETE", "/v1/conversations/{id}/items/{id}", "ConversationResource", None),
    ("POST", "/v1/completions", "CreateCompletionResponse", OLDER_CHUNK),
    ("POST", "/v1/embeddings", "CreateEmbeddingResponse", None),
    ("GET", "/v1/models", "ListModelsResponse", None),
    ("GET", "/v1/models/{name}", "Model", None),
]

def check(method: str, path: str, answer) -> None:
    """Fails where the answer's JSON, or an event of its stream, is not what the spec says of this route."""
    if not SPEC:
        return
    if answer.headers.get("content-type", "").startswith("text/event-stream"):
        for event in answer.events():
            check_event(method, path, event)
    elif (schema := schema_of_whole(method, path, answer.status)) is not None:
        check_json(schema, answer.body)


def schema_of_whole(method: str, path: str, status: int) -> str | None:
    """What a whole answer is to be; None where the spec says nothing of it."""
    if status >= 400:
        return "ErrorResponse" if path.startswith("/v1/") and method != "HEAD" else None
    return schemas(method, path)[0]


def schemas(method: str, path: str) -> tuple[str | None, str | None]:
    """What a route answers whole, and as an event."""
    path = path.partition("?")[0]
    for methods, pattern, whole, event in ROUTES:
        # The name of a model may have slashes.
        if method in methods.split() and re.fullmatch(pattern.replace("{id}", "[^/]+").replace("{name}", ".+"), path):
            return whole, event
    return None, None


def check_event(method: str, path: str, data: str) -> None:
    """One event of a stream: a chunk, an error, or the end."""
    schema = schemas(method, path)[1]
    if data == "[DONE]" or not SPEC or schema is None:
        return
    check_json("ErrorResponse" if "error" in json.loads(data) else schema, data)


def check_json(schema: str, text: str | bytes) -> None:
    global checked
    if not SPEC:
        return
    value = json.loads(text)
    if schema == "CreateEmbeddingResponse":
        value = decoded(value)
    if schema == OLDER_CHUNK:
        schema, value = "CreateCompletionResponse", ended(value)
    if schema == "CreateCompletionResponse":
        value = with_a_first_token(value)
    # Thousands of answers differ in nothing but what is new in each.
    steady = {key: inner for key, inner in value.items() if key not in ("id", "created") or type(inner) not in (str, int)}
    validate(schema, json.dumps(value | {key: "" if key == "id" else 0 for key in value.keys() - steady.keys()}))
    checked += 1


def ended(chunk: dict) -> dict:
    """The same with some reason for each choice's end, and without a usage that is null."""
    for choice in chunk["choices"]:
        choice["finish_reason"] = choice["finish_reason"] or "stop"
    return {key: value for key, value in chunk.items() if (key, value) != ("usage", None)}


def with_a_first_token(completion: dict) -> dict:
    """The same with something for the first token of an echoed prompt: nothing comes before it, and OpenAI's API writes null, which the spec lacks."""
    for choice in completion.get("choices", []):
        for name, something in (("token_logprobs", 0), ("top_logprobs", {})):
            if entries := (choice.get("logprobs") or {}).get(name):
                choice["logprobs"][name] = [something if entry is None else entry for entry in entries]
    return completion


def decoded(answer: dict) -> dict:
    """The same with vectors of numbers: the spec has `encoding_format: base64` and no word for what is answered to it."""
    for item in answer["data"]:
        if isinstance(item["embedding"], str):
            numbers = base64.b64decode(item["embedding"], validate=True)
            item["embedding"] = list(struct.unpack(f"<{len(numbers) // 4}f", numbers))
    return answer


@functools.lru_cache(maxsize=4096)
def validate(schema: str, text: str) -> None:
    validator(schema).validate(json.loads(text))


@functools.cache
def validator(schema: str) -> jsonschema.Draft202012Validator:
    with open(SPEC) as file:
        components = nulls_allowed(json.load(file)["components"])
    # The spec has the error, and in words that it stands within this.
    error = {"type": "object", "properties": {"error": {"$ref": "#/components/schemas/Error"}}, "required": ["error"], "additionalProperties": False}
    components["schemas"]["ErrorResponse"] = error
    return jsonschema.Draft202012Validator({"$ref": f"#/components/schemas/{schema}", "components": components})


def nulls_allowed(part):
    """The spec's `nullable: true`, said in JSON Schema."""
    if isinstance(part, list):
        return [nulls_allowed(inner) for inner in part]
    if not isinstance(part, dict):
        return part
    told = {key: nulls_allowed(inner) for key, inner in part.items()}
    if told.get("nullable") is True:
        return {"anyOf": [{key: inner for key, inner in told.items() if key != "nullable"}, {"type": "null"}]}
    return told
