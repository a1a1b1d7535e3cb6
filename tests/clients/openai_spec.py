"""Compares answers with OpenAI's published specification, if OPENAI_SPEC is the path of its file. Otherwise
nothing is checked, and the run reports that.

The specification is OpenAPI 3.1, so its schemas are JSON Schema 2020-12, except for `nullable`, which some
still have from 3.0.
"""

import base64
import functools
import json
import os
import re
import struct

import jsonschema

SPEC = os.environ.get("OPENAI_SPEC", "")

# The number of answers and chunks checked so far, for the last line of the run.
checked = 0

# The specification has no schema for a chunk of the older completions. A chunk is like a complete answer, and
# OpenAI's API sends null for what is not known yet.
OLDER_CHUNK = "a chunk of a CreateCompletionResponse"

# Events that OpenAI's SDKs have and the specification does not have yet.
NEWER_EVENTS = {"response.compaction.compacting"}

# The schemas of each route: of its complete answer, and of the events of its stream.
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
    """Fails if the answer's JSON, or an event of its stream, does not match the specification of this route."""
    if not SPEC:
        return
    if answer.headers.get("content-type", "").startswith("text/event-stream"):
        for event in answer.events():
            check_event(method, path, event)
    elif (schema := schema_of_whole(method, path, answer.status)) is not None:
        check_json(schema, answer.body)


def schema_of_whole(method: str, path: str, status: int) -> str | None:
    """Returns the schema of a complete answer; None if the specification has none."""
    if path.startswith("/v1/messages"):
        # Anthropic's, errors too.
        return None
    if status >= 400:
        return "ErrorResponse" if path.startswith("/v1/") and method != "HEAD" else None
    return schemas(method, path)[0]


def schemas(method: str, path: str) -> tuple[str | None, str | None]:
    """Returns the schemas of a route: of its complete answer, and of its events."""
    path = path.partition("?")[0]
    for methods, pattern, whole, event in ROUTES:
        # A model name may contain slashes.
        if method in methods.split() and re.fullmatch(pattern.replace("{id}", "[^/]+").replace("{name}", ".+"), path):
            return whole, event
    return None, None


def check_event(method: str, path: str, data: str) -> None:
    """Checks one event of a stream: a chunk, an error, or the end."""
    schema = schemas(method, path)[1]
    if data == "[DONE]" or not SPEC or schema is None:
        return
    if json.loads(data).get("type") in NEWER_EVENTS:
        return
    check_json("ErrorResponse" if "error" in json.loads(data) else schema, data)


def check_json(schema: str, text: str | bytes) -> None:
    global checked
    if not SPEC:
        return
    value = json.loads(text)
    if schema == "CreateEmbeddingResponse":
        value = decoded(value)
    if schema == "Batch":
        # OpenAI's API sends null for what has not happened, which the specification does not allow.
        value = {key: inner for key, inner in value.items() if inner is not None}
    if schema == OLDER_CHUNK:
        schema, value = "CreateCompletionResponse", ended(value)
    if schema == "CreateCompletionResponse":
        value = with_a_first_token(value)
    # Thousands of answers differ only in the parts that are new each time.
    steady = {key: inner for key, inner in value.items() if key not in ("id", "created") or type(inner) not in (str, int)}
    validate(schema, json.dumps(value | {key: "" if key == "id" else 0 for key in value.keys() - steady.keys()}))
    checked += 1


def ended(chunk: dict) -> dict:
    """Adds a reason for the end of each choice, and removes a usage that is null."""
    for choice in chunk["choices"]:
        choice["finish_reason"] = choice["finish_reason"] or "stop"
    return {key: value for key, value in chunk.items() if (key, value) != ("usage", None)}


def with_a_first_token(completion: dict) -> dict:
    """Adds a value for the first token of an echoed prompt. No token precedes it, so OpenAI's API sends null,
    which the specification does not allow."""
    for choice in completion.get("choices", []):
        for name, something in (("token_logprobs", 0), ("top_logprobs", {})):
            if entries := (choice.get("logprobs") or {}).get(name):
                choice["logprobs"][name] = [something if entry is None else entry for entry in entries]
    return completion


def decoded(answer: dict) -> dict:
    """Decodes vectors: the specification has `encoding_format: base64`, but no type for its answers."""
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
    # The specification has a schema for the error, and says only in prose that `error` contains it.
    error = {"type": "object", "properties": {"error": {"$ref": "#/components/schemas/Error"}}, "required": ["error"], "additionalProperties": False}
    components["schemas"]["ErrorResponse"] = error
    return jsonschema.Draft202012Validator({"$ref": f"#/components/schemas/{schema}", "components": components})


def nulls_allowed(part):
    """Translates `nullable: true` to JSON Schema."""
    if isinstance(part, list):
        return [nulls_allowed(inner) for inner in part]
    if not isinstance(part, dict):
        return part
    told = {key: nulls_allowed(inner) for key, inner in part.items()}
    if told.get("nullable") is True:
        return {"anyOf": [{key: inner for key, inner in told.items() if key != "nullable"}, {"type": "null"}]}
    return told
