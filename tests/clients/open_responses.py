"""What Open Responses (openresponses.org, version 2026-04-24) requires of a response, its items and its events, as JSON Schema.

Written from its schema: every field of a response is there, be it null. OpenAI's own specification leaves many of
them out, so a response can be right for one and not for the other.
"""

import jsonschema

TEXT = {"type": "string"}
INTEGER = {"type": "integer"}
NUMBER = {"type": "number"}
FLAG = {"type": "boolean"}
ANYTHING: dict = {}


def or_null(schema: dict) -> dict:
    return {"anyOf": [schema, {"type": "null"}]}


def one_of(*values: str) -> dict:
    return {"enum": list(values)}


def listed(schema: dict) -> dict:
    return {"type": "array", "items": schema}


def fields(optional: dict | None = None, **required: dict) -> dict:
    return {"type": "object", "properties": required | (optional or {}), "required": list(required)}


def typed(kind: str, optional: dict | None = None, **required: dict) -> dict:
    return fields(optional, type={"const": kind}, **required)


STATUS = one_of("in_progress", "completed", "incomplete")
LOGPROB = fields(token=TEXT, logprob=NUMBER, bytes=listed(INTEGER))
LOGPROBS = listed({"allOf": [LOGPROB, fields(top_logprobs=listed(LOGPROB))]})
CITATION = typed("url_citation", url=TEXT, start_index=INTEGER, end_index=INTEGER, title=TEXT)
PARTS = {
    "input_text": typed("input_text", text=TEXT),
    "output_text": typed("output_text", {"logprobs": LOGPROBS}, text=TEXT, annotations=listed(CITATION)),
    "text": typed("text", text=TEXT),
    "summary_text": typed("summary_text", text=TEXT),
    "reasoning_text": typed("reasoning_text", text=TEXT),
    "refusal": typed("refusal", refusal=TEXT),
    "input_image": typed("input_image", image_url=or_null(TEXT), detail=one_of("low", "high", "auto")),
    "input_file": typed("input_file", {"filename": TEXT, "file_url": TEXT}),
}
PART = {"anyOf": list(PARTS.values())}
PHASE = {"phase": one_of("commentary", "final_answer")}
ITEM = {
    "anyOf": [
        typed("message", PHASE, id=TEXT, status=STATUS, role=one_of("user", "assistant", "system", "developer"), content=listed(PART)),
        typed("function_call", id=TEXT, call_id=TEXT, name=TEXT, arguments=TEXT, status=STATUS),
        typed("function_call_output", id=TEXT, call_id=TEXT, output=ANYTHING, status=STATUS),
        typed("reasoning", {"content": listed(PART), "encrypted_content": TEXT}, id=TEXT, summary=listed(PART)),
        typed("compaction", {"created_by": TEXT}, id=TEXT, encrypted_content=TEXT),
    ]
}
CHOICE = one_of("none", "auto", "required")
FUNCTION_CHOICE = typed("function", {"name": TEXT})
FUNCTION = typed("function", name=TEXT, description=or_null(TEXT), parameters=or_null({"type": "object"}), strict=or_null(FLAG))
FORMAT = {
    "anyOf": [
        typed("text"),
        typed("json_object"),
        typed("json_schema", name=TEXT, description=or_null(TEXT), schema=ANYTHING, strict=FLAG),
    ]
}
USAGE = fields(
    input_tokens=INTEGER,
    output_tokens=INTEGER,
    total_tokens=INTEGER,
    input_tokens_details=fields(cached_tokens=INTEGER),
    output_tokens_details=fields(reasoning_tokens=INTEGER),
)
RESPONSE = fields(
    id=TEXT,
    object={"const": "response"},
    created_at=INTEGER,
    completed_at=or_null(INTEGER),
    status=TEXT,
    incomplete_details=or_null(fields(reason=TEXT)),
    model=TEXT,
    previous_response_id=or_null(TEXT),
    instructions=or_null(TEXT),
    output=listed(ITEM),
    error=or_null(fields(code=TEXT, message=TEXT)),
    tools=listed(FUNCTION),
    tool_choice={"anyOf": [FUNCTION_CHOICE, CHOICE, typed("allowed_tools", tools=listed(FUNCTION_CHOICE), mode=CHOICE)]},
    truncation=one_of("auto", "disabled"),
    parallel_tool_calls=FLAG,
    text=fields({"verbosity": one_of("low", "medium", "high")}, format=FORMAT),
    top_p=NUMBER,
    presence_penalty=NUMBER,
    frequency_penalty=NUMBER,
    top_logprobs=INTEGER,
    temperature=NUMBER,
    reasoning=or_null(
        fields(
            effort=or_null(one_of("none", "low", "medium", "high", "xhigh")),
            summary=or_null(one_of("concise", "detailed", "auto")),
        )
    ),
    usage=or_null(USAGE),
    max_output_tokens=or_null(INTEGER),
    max_tool_calls=or_null(INTEGER),
    store=FLAG,
    background=FLAG,
    service_tier=TEXT,
    metadata=ANYTHING,
    safety_identifier=or_null(TEXT),
    prompt_cache_key=or_null(TEXT),
)
COMPACTION = fields(id=TEXT, object={"const": "response.compaction"}, output=listed(ITEM), created_at=INTEGER, usage=USAGE)

WHOLE = {"response": RESPONSE}
ON_ITEM = {"output_index": INTEGER, "item": or_null(ITEM)}
IN_ITEM = {"item_id": TEXT, "output_index": INTEGER}
IN_CONTENT = IN_ITEM | {"content_index": INTEGER}
IN_SUMMARY = IN_ITEM | {"summary_index": INTEGER}
# Reasoning as text has OpenAI's names for its events here: Open Responses calls them `response.reasoning.…`.
EVENTS = {
    "response.created": WHOLE,
    "response.queued": WHOLE,
    "response.in_progress": WHOLE,
    "response.completed": WHOLE,
    "response.incomplete": WHOLE,
    "response.failed": WHOLE,
    "response.output_item.added": ON_ITEM,
    "response.output_item.done": ON_ITEM,
    "response.content_part.added": IN_CONTENT | {"part": PART},
    "response.content_part.done": IN_CONTENT | {"part": PART},
    "response.output_text.delta": IN_CONTENT | {"delta": TEXT},
    "response.output_text.done": IN_CONTENT | {"text": TEXT},
    "response.refusal.delta": IN_CONTENT | {"delta": TEXT},
    "response.refusal.done": IN_CONTENT | {"refusal": TEXT},
    "response.reasoning_text.delta": IN_CONTENT | {"delta": TEXT},
    "response.reasoning_text.done": IN_CONTENT | {"text": TEXT},
    "response.reasoning_summary_part.added": IN_SUMMARY | {"part": PART},
    "response.reasoning_summary_part.done": IN_SUMMARY | {"part": PART},
    "response.reasoning_summary_text.delta": IN_SUMMARY | {"delta": TEXT},
    "response.reasoning_summary_text.done": IN_SUMMARY | {"text": TEXT},
    "response.function_call_arguments.delta": IN_ITEM | {"delta": TEXT},
    "response.function_call_arguments.done": IN_ITEM | {"arguments": TEXT},
}
OPTIONAL = {"logprobs": LOGPROBS, "obfuscation": TEXT}


def check(schema: dict, value: object) -> None:
    jsonschema.Draft202012Validator(schema).validate(value)


def check_event(event: dict) -> None:
    """Fails for an event that Open Responses does not have, or has with other fields."""
    check(fields(OPTIONAL, type={"const": event["type"]}, sequence_number=INTEGER, **EVENTS[event["type"]]), event)
