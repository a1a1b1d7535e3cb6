"""An engine whose model follows a script: it answers by what the conversation holds, as OpenAI's chat completions and as an Ollama.

A script is a function of a conversation (`Conversation`) that gives a text, or the calls that the model makes. It is asked anew for every
request, so a request that comes twice gets the same answer twice. What the engine was asked is kept for the tests to look at.
"""

import contextlib
import dataclasses
import json
from collections.abc import Callable

from odd_upstreams import Quiet, serving

WINDOW = 131072
ANSWER_TOKENS = 10
WHEN = "2026-11-22T00:00:00Z"


@dataclasses.dataclass
class Conversation:
    """One request, as the script sees it: the same from both kinds of engine."""

    messages: list[dict]
    tools: list[dict]
    # The schema that the answer is held to, where there is one.
    format: dict | None = None

    @property
    def results(self) -> list[str]:
        """What the tools said since the last message of the user, in order."""
        since = max((at for at, message in enumerate(self.messages) if message["role"] == "user"), default=-1)
        return [text_of(message) for message in self.messages[since + 1 :] if message["role"] == "tool"]

    @property
    def question(self) -> str:
        """The last message of the user."""
        return next((text_of(message) for message in reversed(self.messages) if message["role"] == "user"), "")

    def said_by(self, *roles: str) -> str:
        """All that these have said so far."""
        return "\n".join(text_of(message) for message in self.messages if message["role"] in roles)

    def offers(self, name: str) -> bool:
        return any(tool["function"]["name"] == name for tool in self.tools)


@dataclasses.dataclass
class Said:
    """An answer: a text, thoughts before it, calls after it, and the tokens of its prompt."""

    text: str = ""
    reasoning: str = ""
    calls: list[tuple[str, dict]] = dataclasses.field(default_factory=list)
    prompt_tokens: int = 40

    @property
    def usage(self) -> dict:
        return {"prompt_tokens": self.prompt_tokens, "completion_tokens": ANSWER_TOKENS, "total_tokens": self.prompt_tokens + ANSWER_TOKENS}


def calls(name: str, **arguments) -> Said:
    return Said(calls=[(name, arguments)])


Script = Callable[[Conversation], Said]


def text_of(message: dict) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


@contextlib.contextmanager
def engine(kind: str, script: Script):
    """Gives the arguments for `loggia serve`, and the list of the requests that come; the model is `m`."""
    asked: list[dict] = []
    if kind == "ollama":
        with serving(ollama_of(script, asked)) as url:
            yield ["--ollama", url], asked
    else:
        with serving(openai_of(script, asked)) as url:
            yield ["--openai", f"engine={url}/v1"], asked


class Engine(Quiet):
    def say_stream(self, content_type: str, pieces: list[str]):
        self.answer(content_type, "".join(pieces).encode())


def openai_of(script: Script, asked: list[dict]):
    class OpenAi(Engine):
        def do_GET(self):
            self.say({"object": "list", "data": [{"id": "m", "object": "model", "max_model_len": WINDOW}]})

        def do_POST(self):
            body = json.loads(self.body())
            asked.append(body)
            form = body.get("response_format", {}).get("json_schema", {}).get("schema")
            said = script(Conversation(body["messages"], body.get("tools", []), form))
            deltas = openai_deltas(said, len(body["messages"]))
            reason = "tool_calls" if said.calls else "stop"
            about = {"id": "a", "created": 1, "model": "m"}
            if not body.get("stream"):
                choice = {"index": 0, "message": {"role": "assistant", **together(deltas)}, "finish_reason": reason}
                return self.say(about | {"object": "chat.completion", "choices": [choice], "usage": said.usage})
            about["object"] = "chat.completion.chunk"
            chunks = [about | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
            chunks.append(about | {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
            chunks.append(about | {"choices": [], "usage": said.usage})
            return self.say_stream("text/event-stream", [f"data: {json.dumps(each)}\n\n" for each in chunks] + ["data: [DONE]\n\n"])

    return OpenAi


def openai_deltas(said: Said, turn: int) -> list[dict]:
    """The answer in pieces: texts word by word, a call's arguments in two halves."""
    deltas = [{"reasoning_content": piece} for piece in words(said.reasoning)] + [{"content": piece} for piece in words(said.text)]
    for index, (name, arguments) in enumerate(said.calls):
        written = json.dumps(arguments)
        half = len(written) // 2
        head = {"index": index, "id": f"call_{turn}_{index}", "type": "function", "function": {"name": name, "arguments": written[:half]}}
        deltas += [{"tool_calls": [head]}, {"tool_calls": [{"index": index, "function": {"arguments": written[half:]}}]}]
    return deltas


def together(deltas: list[dict]) -> dict:
    """The message that the pieces make."""
    texts = {key: "".join(delta.get(key, "") for delta in deltas) or None for key in ("reasoning_content", "content")}
    found: list[dict] = []
    for (piece,) in (delta["tool_calls"] for delta in deltas if "tool_calls" in delta):
        if "id" in piece:
            found.append({key: value for key, value in piece.items() if key != "index"})
        else:
            found[-1]["function"]["arguments"] += piece["function"]["arguments"]
    return texts | ({"tool_calls": found} if found else {})


def ollama_of(script: Script, asked: list[dict]):
    class Ollama(Engine):
        def do_GET(self):
            tags = {"models": [{"name": "m", "model": "m", "modified_at": WHEN, "digest": "d"}]}
            self.say({"/api/tags": tags, "/api/version": {"version": "0.13.4"}, "/api/ps": {"models": []}}.get(self.path, {}))

        def do_POST(self):
            body = json.loads(self.body())
            if self.path == "/api/show":
                about = {"general.architecture": "llama", "llama.context_length": WINDOW}
                return self.say({"capabilities": ["completion", "tools", "thinking", "vision"], "model_info": about, "details": {"family": "llama"}})
            asked.append(body)
            said = script(Conversation(body["messages"], body.get("tools", []), body.get("format")))
            messages = [{"content": "", "thinking": piece} for piece in words(said.reasoning)] + [{"content": piece} for piece in words(said.text)]
            made = [{"function": {"name": name, "arguments": arguments}} for name, arguments in said.calls]
            messages += [{"content": "", "tool_calls": made}] if made else []
            ended = {"done": True, "done_reason": "stop", "prompt_eval_count": said.prompt_tokens, "eval_count": ANSWER_TOKENS}
            about = {"model": "m", "created_at": WHEN}
            if not body.get("stream", True):
                whole = {"role": "assistant", "content": said.text}
                whole |= ({"thinking": said.reasoning} if said.reasoning else {}) | ({"tool_calls": made} if made else {})
                return self.say(about | {"message": whole} | ended)
            lines = [about | {"message": {"role": "assistant"} | message, "done": False} for message in messages]
            lines.append(about | {"message": {"role": "assistant", "content": ""}} | ended)
            return self.say_stream("application/x-ndjson", [json.dumps(line) + "\n" for line in lines])

    return Ollama


def words(text: str) -> list[str]:
    """The text in pieces that end with its spaces."""
    return [piece + " " for piece in text.split(" ")[:-1]] + [text.split(" ")[-1]] if text else []
