"""Holds answers against OpenAI's published spec, where OPENAI_SPEC names the file. Without it nothing is checked, and the run says so.

The spec is OpenAPI 3.1, so its schemas are JSON Schema 2020-12 but for `nullable`, which some still carry from 3.0.
"""

import functools
import json
import os

import jsonschema

SPEC = os.environ.get("OPENAI_SPEC", "")

# Answers held against the spec so far, for the line at the end of the run.
checked = 0


def check(method: str, path: str, answer) -> None:
    """Fails where the answer's JSON, or a chunk of its stream, is not what the spec says of this route."""
    if not SPEC:
        return
    if answer.status >= 400:
        if path.startswith("/v1/"):
            validate("Error", answer.json()["error"])
    elif answer.headers.get("content-type", "").startswith("text/event-stream"):
        for chunk in answer.chunks():
            if "error" in chunk:
                validate("Error", chunk["error"])
            else:
                validate("CreateChatCompletionStreamResponse", chunk)
    elif path == "/v1/chat/completions":
        validate("CreateChatCompletionResponse", answer.json())
    elif path == "/v1/models":
        validate("ListModelsResponse", answer.json())
    elif path.startswith("/v1/models/") and method == "GET":
        validate("Model", answer.json())


def validate(schema: str, value: object) -> None:
    global checked
    validator(schema).validate(value)
    checked += 1


@functools.cache
def validator(schema: str) -> jsonschema.Draft202012Validator:
    with open(SPEC) as file:
        components = nulls_allowed(json.load(file)["components"])
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
