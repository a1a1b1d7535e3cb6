"""Chats with the shapes that agents and chat pages send: their fields, roles, parts and schemas, with texts
of our own.

No kind of backend may refuse them.
"""

PNG = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkM+9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
MOST = 9007199254740991


def function(name: str, properties: dict, **more) -> dict:
    fields = {"name": name, "description": f"Does {name}.", "parameters": {"type": "object", "properties": properties} | more.pop("schema", {}), **more}
    return {"type": "function", "function": fields}


def turn(content: str | None, result: str | list, **message) -> list[dict]:
    call = {"id": "call_0123456789abcdef01234567", "type": "function", "function": {"name": "run", "arguments": '{"command":"ls"}'}}
    return [{"role": "assistant", "content": content, "tool_calls": [call], **message}, {"role": "tool", "tool_call_id": call["id"], "content": result}]


SYSTEM = {"role": "system", "content": "You help with code."}
HI = {"role": "user", "content": "Say hi."}
STREAM = {"stream": True, "stream_options": {"include_usage": True}}
DRAFT = {"schema": {"$schema": "https://json-schema.org/draft/2020-12/schema", "required": ["command"], "additionalProperties": False}}
RUN = function("run", {"command": {"type": "string"}})
LIMITS = {
    "command": {"type": "string", "minLength": 1},
    "timeout": {"type": "integer", "minimum": -MOST, "exclusiveMinimum": 0, "maximum": MOST},
    "line": {"anyOf": [{"type": "integer", "exclusiveMinimum": 0, "maximum": MOST}, {"type": "null"}]},
    "env": {"type": "object", "propertyNames": {"type": "string"}, "additionalProperties": {"type": "string"}},
}
SEEN = {"role": "user", "content": [{"type": "text", "text": "The picture:"}, {"type": "image_url", "image_url": {"url": PNG}}]}
FORM = {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object", "properties": {"a": {"type": "string", "maxLength": 4}}, "required": ["a"], "additionalProperties": False}

SHAPES = {
    "an agent's title": {"messages": [SYSTEM, {"role": "user", "content": "Make a title for this:"}, HI], "max_tokens": 32000, **STREAM},
    "an agent's first turn": {"messages": [SYSTEM, HI], "tools": [function("run", LIMITS, **DRAFT), RUN], "tool_choice": "auto", "max_tokens": 32000, **STREAM},
    "an agent's second turn": {"messages": [SYSTEM, HI, *turn("", "a.txt")], "tools": [RUN], "tool_choice": "auto", "max_tokens": 32000, **STREAM},
    "reasoning sent back": {"messages": [SYSTEM, HI, *turn("", "a.txt", reasoning_content="I list.")], "tools": [RUN], **STREAM},
    "a picture after a result": {"messages": [SYSTEM, HI, *turn(None, "It is attached."), SEEN], "tools": [RUN], **STREAM},
    "a picture alone": {"messages": [SYSTEM, HI, *turn(None, "Done."), {"role": "user", "content": [SEEN["content"][1]]}], "tools": [RUN], **STREAM},
    "a picture of earlier turns": {"messages": [SEEN, {"role": "assistant", "content": "A dot."}, HI]},
    "parts for everything": {"messages": [SYSTEM, {"role": "user", "content": [{"type": "text", "text": text} for text in ("Date.", "Folder.", "Say hi.")]}, *turn(None, [{"type": "text", "text": "a"}])], "tools": [RUN], **STREAM},
    "an editor's rules": {"messages": [SYSTEM, {"role": "user", "content": "Example?"}, {"role": "assistant", "content": "Yes."}, {"role": "user", "content": "Begin."}, {"role": "assistant", "content": "Ok."}, HI], "stream": True, "temperature": 0},
    "strict that is null": {"messages": [SYSTEM, HI], "tools": [function("run", {"command": {"type": "string"}}, strict=None)], "reasoning_effort": "low", "max_tokens": 128000},
    "all that is null": {"messages": [HI], "tools": [{"type": "function", "function": {"name": "run", "description": None, "parameters": None, "strict": None}}], "tool_choice": None, "stop": None, "max_tokens": 16, "n": None, "logit_bias": None},
    "no tools": {"messages": [HI], "tools": [], "tool_choice": "auto", "parallel_tool_calls": False},
    "a chat page's tools": {"messages": [HI], "tools": [function(f"tool_{number}", {}) for number in range(28)], "stream": True},
    "a chat page's knobs": {"messages": [HI], "stream": True, "temperature": 0.3, "max_tokens": 50, "top_k": 20, "repeat_penalty": 1.1, "seed": 5, "num_ctx": 131072, "mirostat": 1, "reasoning_effort": "low"},
    "a chat page's tasks": {"messages": [{"role": "user", "content": "Make tags for this chat."}], "stream": False, "max_tokens": 1000},
    "output as a call": {"messages": [SYSTEM, HI], "tools": [function("final_result", {"a": {"type": "string", "maxLength": 4}}, schema={"required": ["a"], "additionalProperties": False}, strict=True)], "tool_choice": "required", "stream": False},
    "output as a format": {"messages": [HI], "response_format": {"type": "json_schema", "json_schema": {"name": "response", "schema": FORM}}},
    "two system messages": {"messages": [SYSTEM, SYSTEM, HI, {"role": "assistant", "content": "Hi."}, SYSTEM, HI], "max_completion_tokens": 64},
    "hosted tools": {"messages": [SYSTEM, HI], "tools": [RUN, {"type": "web_search"}, {"type": "custom", "custom": {"name": "patch", "format": {"type": "text"}}}, {"type": "namespace", "name": "n", "tools": [RUN]}, {"type": "mcp", "server_label": "s"}], **STREAM},
    "thinking as other APIs have it": {"messages": [HI], "enable_thinking": False, "chat_template_kwargs": {"enable_thinking": False, "thinking": False}, "thinking": {"type": "disabled"}},
    "labels and caches": {"messages": [{"role": "user", "content": [{"type": "text", "text": "Say hi.", "cache_control": {"type": "ephemeral"}, "prompt_cache_breakpoint": {"mode": "explicit", "ttl": "12h"}}]}], "metadata": {"tags": ["a"]}, "store": False, "prompt_cache_key": "k", "prompt_cache_options": {"ttl": "12h", "prewarm": False}, "service_tier": "ultrafast"},
}
