"""An engine with OpenAI's chat completions whose models `small` and `large` write word by word, with a pause after each.

The last message of the user says what it writes: `long` in it gets an answer of some seconds, `fail` an error. With
tools it calls the first one, and answers when it has the result; with a schema it writes an object of it.
"""

import json
import time

from odd_upstreams import Quiet

PAUSE = 0.03
ANSWER = "The capital of France is Paris, on the river Seine."
WEATHER = "It is 21 degrees in Paris."
OBJECT = '{"answer": "Paris", "certainty": "high"}'
LONG = 250


class SlowModel(Quiet):
    def do_GET(self):
        models = [{"id": name, "object": "model", "max_model_len": 32768} for name in ("small", "large")]
        self.say({"object": "list", "data": models})

    def do_POST(self):
        body = json.loads(self.body())
        question = next((text_of(message) for message in reversed(body["messages"]) if message["role"] == "user"), "")
        if "fail" in question:
            return self.answer("application/json", b'{"error": {"message": "The engine has run out of memory."}}', 500)
        deltas = [{"content": word} for word in words(answer_to(question, body))]
        reason = "stop"
        if body.get("tools") and body["messages"][-1]["role"] != "tool":
            name = body["tools"][0]["function"]["name"]
            deltas = [{"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": {"name": name, "arguments": '{"city": "Paris"}'}}]}]
            reason = "tool_calls"
        usage = {"prompt_tokens": 20 + len(question), "completion_tokens": len(deltas), "total_tokens": 20 + len(question) + len(deltas)}
        about = {"id": "a", "created": 1, "model": body["model"]}
        if not body.get("stream"):
            time.sleep(PAUSE * len(deltas))
            message = {"role": "assistant", "content": "".join(delta.get("content", "") for delta in deltas) or None}
            message |= {"tool_calls": deltas[0]["tool_calls"]} if reason == "tool_calls" else {}
            choice = {"index": 0, "message": message, "finish_reason": reason}
            return self.say(about | {"object": "chat.completion", "choices": [choice], "usage": usage})
        about["object"] = "chat.completion.chunk"
        self.begin()
        for delta in deltas:
            if not self.send(about | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}):
                return None
            time.sleep(PAUSE)
        self.send(about | {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
        self.send(about | {"choices": [], "usage": usage})
        self.write(b"data: [DONE]\n\n")
        return self.write(b"")

    def begin(self):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()

    def send(self, chunk: dict) -> bool:
        return self.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")

    def write(self, data: bytes) -> bool:
        """Writes a piece, or the end. Returns whether somebody reads it."""
        try:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.flush()
        except OSError:
            self.close_connection = True
            return False
        return True


def answer_to(question: str, body: dict) -> str:
    if body.get("response_format", {}).get("type") == "json_schema":
        return OBJECT
    if body["messages"][-1]["role"] == "tool":
        return WEATHER
    if "long" in question:
        return " ".join(f"word{number}" for number in range(LONG))
    return ANSWER


def text_of(message: dict) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else " ".join(part.get("text", "") for part in content)


def words(text: str) -> list[str]:
    """The text in pieces that end with its spaces."""
    return [word + " " for word in text.split(" ")[:-1]] + [text.split(" ")[-1]]
