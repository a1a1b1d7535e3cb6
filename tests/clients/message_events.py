"""The rules of a streamed message of Anthropic's API: order, numbers of blocks, deltas of the block's own kind, exactly one end.

`relay.py` passes it every event of every stream of `/v1/messages`.
"""

DELTAS = {"text_delta": "text", "input_json_delta": "tool_use", "thinking_delta": "thinking", "signature_delta": "thinking", "compaction_delta": "compaction"}


class Broken(AssertionError):
    """A rule that an event violates."""


class MessageEvents:
    """The state of one stream: call `push` with each event, then `end`."""

    def __init__(self):
        self.has_begun = False
        self.done = 0
        # The type of the open block, and whether it has its signature.
        self.open: str | None = None
        self.is_signed = False
        self.has_stopped = False
        self.has_ended = False

    def push(self, event: dict) -> None:
        kind = event["type"]
        require(not self.has_ended, "an event after the end", event)
        if kind == "ping":
            return
        if kind == "error":
            require({"type", "message"} <= event["error"].keys(), "an error without type or message", event)
            self.has_ended = True
            return
        require(self.has_begun != (kind == "message_start"), "message_start is the first event, once", event)
        if kind == "message_start":
            require(event["message"]["content"] == [] and "usage" in event["message"], "a message that is not empty", event)
            self.has_begun = True
        elif kind == "content_block_start":
            require(self.open is None and not self.has_stopped and event["index"] == self.done, "a block out of order", event)
            self.open, self.is_signed = event["content_block"]["type"], False
        elif kind == "content_block_delta":
            require(event["index"] == self.done and DELTAS.get(event["delta"]["type"]) == self.open, "a delta of another block", event)
            require(not self.is_signed, "a delta after the signature", event)
            self.is_signed = event["delta"]["type"] == "signature_delta"
        elif kind == "content_block_stop":
            require(self.open is not None and event["index"] == self.done, "the end of another block", event)
            require(self.open != "thinking" or self.is_signed, "a thinking block without a signature", event)
            self.done, self.open = self.done + 1, None
        elif kind == "message_delta":
            require(self.open is None and not self.has_stopped, "message_delta within a block, or twice", event)
            require(event["delta"]["stop_reason"] is not None and "output_tokens" in event["usage"], "an end without a reason", event)
            self.has_stopped = True
        elif kind == "message_stop":
            require(self.has_stopped, "message_stop before message_delta", event)
            self.has_ended = True
        else:
            raise Broken(f"an unknown event: {event}")

    def end(self) -> None:
        if not self.has_ended:
            raise Broken("the stream has no end")


def require(holds: bool, rule: str, event: dict) -> None:
    if not holds:
        raise Broken(f"{rule}: {event}")
