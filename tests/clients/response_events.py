"""The rules of a streamed response: sequence numbers, indices, ids, nesting, deltas that add up to the text,
and exactly one end.

`relay.py` passes it every event of every stream of `/v1/responses`.
"""

import copy

ENDS = {"response.completed": "completed", "response.incomplete": "incomplete", "response.failed": "failed"}

# The list of an item that contains its parts, and the field with the index of a part.
LISTS = {"content": "content_index", "summary": "summary_index"}

# For each delta: the list, the type of the part, and the field of the text. The event `.done` of the same
# name has the whole text in that field.
TEXTS = {
    "response.output_text": ("content", "output_text", "text"),
    "response.refusal": ("content", "refusal", "refusal"),
    "response.reasoning_text": ("content", "reasoning_text", "text"),
    "response.reasoning_summary_text": ("summary", "summary_text", "text"),
}

# The same for calls whose arguments arrive in pieces.
CALLS = {
    "response.function_call_arguments": ("function_call", "arguments"),
    "response.custom_tool_call_input": ("custom_tool_call", "input"),
    "response.mcp_call_arguments": ("mcp_call", "arguments"),
}

# Events that only report the progress of an item.
PROGRESS = {
    "response.mcp_call.in_progress": "mcp_call",
    "response.mcp_call.completed": "mcp_call",
    "response.mcp_call.failed": "mcp_call",
    "response.mcp_list_tools.in_progress": "mcp_list_tools",
    "response.mcp_list_tools.completed": "mcp_list_tools",
    "response.mcp_list_tools.failed": "mcp_list_tools",
    "response.compaction.compacting": "compaction",
}


class Broken(AssertionError):
    """A rule that an event violates."""


class ResponseEvents:
    """The state of one stream: call `push` with each event, then `end`."""

    def __init__(self, first: int = 0):
        """`first` is the sequence number of the first event. It is not 0 if a stream is resumed."""
        self.next = first
        self.is_resumed = first > 0
        self.begun: list[str] = []
        self.id: str | None = None
        self.done: list[dict] = []
        # The open item with the text that the deltas added, and whether its arguments are complete.
        self.open: dict | None = None
        self.call_is_done = False
        # The open part: its list, its index, and whether its text is complete.
        self.part: tuple[str, int, bool] | None = None
        self.final: dict | None = None

    def push(self, event: dict) -> None:
        holds(event.get("sequence_number") == self.next, f"its number is to be {self.next}", event)
        self.next += 1
        holds(self.final is None, "after the end", event)
        kind = event.get("type", "")
        if self.is_resumed:
            # The beginning is not known here, so only the end can be checked.
            if kind in ENDS:
                self.check_status(kind, event)
                self.final = event["response"]
        elif kind in ("response.created", "response.queued", "response.in_progress"):
            self.begin(kind, event)
        else:
            self.after_the_beginning(kind, event)

    def end(self) -> None:
        """Called at the end of the stream."""
        if self.final is None:
            raise Broken("a stream without a terminal event")

    def after_the_beginning(self, kind: str, event: dict) -> None:
        name, _, last = kind.rpartition(".")
        holds("response.in_progress" in self.begun or kind in ENDS, "before response.in_progress", event)
        if kind in ENDS:
            self.finish(kind, event)
        elif kind == "response.output_item.added":
            self.item_added(event)
        elif kind == "response.output_item.done":
            self.item_done(event)
        elif kind in ("response.content_part.added", "response.reasoning_summary_part.added"):
            self.part_added("content" if "content" in kind else "summary", event)
        elif kind in ("response.content_part.done", "response.reasoning_summary_part.done"):
            self.part_done("content" if "content" in kind else "summary", event)
        elif name in TEXTS and last in ("delta", "done"):
            getattr(self, f"text_{last}")(*TEXTS[name], event)
        elif name in CALLS and last in ("delta", "done"):
            getattr(self, f"call_{last}")(*CALLS[name], event)
        elif kind in PROGRESS:
            holds(self.item(event)["type"] == PROGRESS[kind], "another type of item", event)
        elif kind == "response.steer.accepted":
            holds(event["steer"]["previous_response_id"] == self.id and event["steer"]["id"], "another response", event)
        else:
            raise Broken(f"an unknown event: {short(event)}")

    def begin(self, kind: str, event: dict) -> None:
        response = event["response"]
        order = ["response.created", "response.queued", "response.in_progress"]
        holds(bool(self.begun) == (kind != "response.created"), "response.created comes first, and once", event)
        holds(not self.begun or order.index(self.begun[-1]) < order.index(kind), "out of order", event)
        holds(self.open is None and not self.done, "after an item", event)
        self.begun.append(kind)
        holds(self.id in (None, response["id"]) and response["id"].startswith("resp_"), "another id", event)
        self.id = response["id"]
        holds(response["status"] in ("queued", "in_progress"), "a status that is not the beginning's", event)
        holds(response["output"] == [] and response["error"] is None, "an output before the first item", event)

    def item_added(self, event: dict) -> None:
        item = copy.deepcopy(event["item"])
        holds(self.open is None, "before the last item is done", event)
        holds(event["output_index"] == len(self.done), "another output_index", event)
        holds(bool(item.get("id")) and all(item["id"] != done["id"] for done in self.done), "an id that is not new", event)
        holds(item.get("status", "in_progress") == "in_progress" or item["type"] not in ("message", "function_call", "reasoning"), "a status that is not the beginning's", event)
        holds(not item.get("content") and not item.get("summary"), "content before its parts", event)
        self.open, self.call_is_done = item, False

    def item(self, event: dict) -> dict:
        """Returns the open item, after checking that the event refers to it."""
        holds(self.open is not None, "no item is under way", event)
        holds(event["output_index"] == len(self.done), "another output_index", event)
        holds(event["item_id"] == self.open["id"], "another item_id", event)
        return self.open

    def part_added(self, where: str, event: dict) -> None:
        holds(self.part is None, "before the last part is done", event)
        item = self.item(event)
        parts = item[where] = item.get(where) or []
        holds(event[LISTS[where]] == len(parts), f"another {LISTS[where]}", event)
        part = copy.deepcopy(event["part"])
        holds(not part.get("text") and not part.get("refusal"), "text before the first delta", event)
        self.part = (where, len(parts), False)
        parts.append(part)

    def part_under_way(self, where: str, event: dict) -> dict:
        """Returns the open part, after checking that the event refers to it."""
        item = self.item(event)
        holds(self.part is not None and self.part[0] == where, "no such part is under way", event)
        holds(event[LISTS[where]] == self.part[1], f"another {LISTS[where]}", event)
        return item[where][self.part[1]]

    def text_delta(self, where: str, kind: str, field: str, event: dict) -> None:
        part = self.part_under_way(where, event)
        holds(not self.part[2], "after the text is done", event)
        holds(part["type"] == kind, "another type of part", event)
        holds(isinstance(event["delta"], str) and event["delta"] != "", "a delta that adds nothing", event)
        part[field] += event["delta"]
        if event.get("logprobs"):
            part["logprobs"] = part.get("logprobs", []) + event["logprobs"]

    def text_done(self, where: str, kind: str, field: str, event: dict) -> None:
        part = self.part_under_way(where, event)
        holds(not self.part[2], "done twice", event)
        holds(part["type"] == kind and event[field] == part[field], "not what the deltas add up to", event)
        if "logprobs" in event:
            holds(event["logprobs"][: len(part.get("logprobs", []))] == part.get("logprobs", []), "log-probabilities that are not those of the deltas", event)
            part["logprobs"] = event["logprobs"]
        self.part = (*self.part[:2], True)

    def part_done(self, where: str, event: dict) -> None:
        part = self.part_under_way(where, event)
        holds(self.part[2], "before its text is done", event)
        holds(without_empty(event["part"]) == without_empty(part), "not what the deltas add up to", event)
        self.part = None

    def call_delta(self, kind: str, field: str, event: dict) -> None:
        item = self.item(event)
        holds(not self.call_is_done, "after the call is done", event)
        holds(item["type"] == kind, "another type of item", event)
        holds(isinstance(event["delta"], str) and event["delta"] != "", "a delta that adds nothing", event)
        item[field] += event["delta"]

    def call_done(self, kind: str, field: str, event: dict) -> None:
        item = self.item(event)
        holds(not self.call_is_done, "done twice", event)
        holds(item["type"] == kind and event[field] == item[field], "not what the deltas add up to", event)
        self.call_is_done = True

    def item_done(self, event: dict) -> None:
        item = event["item"]
        holds(self.open is not None and event["output_index"] == len(self.done), "no such item is under way", event)
        holds(self.part is None, "before its part is done", event)
        holds((item["id"], item["type"]) == (self.open["id"], self.open["type"]), "another item", event)
        if any(item["type"] == kind for kind, _ in CALLS.values()):
            holds(self.call_is_done, "before its arguments are", event)
        # Only deltas may change an added item, except for its status and for fields that are known only at
        # the end.
        for field in ("content", "summary", "arguments", "input", "name", "call_id", "namespace", "role"):
            if field in self.open and not (item["type"] == "compaction"):
                holds(without_empty(item.get(field)) == without_empty(self.open[field]), f"'{field}' is not what came before", event)
        holds(item.get("status", "completed") != "in_progress", "a status that is not an end's", event)
        self.done.append(item)
        self.open = None

    def check_status(self, kind: str, event: dict) -> None:
        response = event["response"]
        holds(response["status"] == ENDS[kind], "another status", event)
        holds((response["error"] is not None) == (kind == "response.failed"), "an error belongs to a failed response", event)
        holds((response["incomplete_details"] is not None) == (kind == "response.incomplete"), "incomplete_details belong to an incomplete response", event)
        holds(kind != "response.completed" or response["usage"] is not None, "no usage", event)

    def finish(self, kind: str, event: dict) -> None:
        response = event["response"]
        holds(response["id"] == self.id, "another id", event)
        self.check_status(kind, event)
        if kind == "response.failed":
            holds(response["output"][: len(self.done)] == self.done, "an output that was not shown", event)
            holds(len(response["output"]) == len(self.done) + (self.open is not None), "an output that was not shown", event)
        else:
            holds(self.open is None, "an item that is never done", event)
            holds(response["output"] == self.done, "an output that was not shown", event)
        self.final = response


def without_empty(value):
    """Returns the part without empty lists, which it may have from the start or not."""
    if isinstance(value, list):
        return [without_empty(each) for each in value]
    if isinstance(value, dict):
        return {key: without_empty(inner) for key, inner in value.items() if inner != []}
    return value


def holds(is_so: bool, why: str, event: dict) -> None:
    if not is_so:
        raise Broken(f"{why}: {short(event)}")


def short(event: dict) -> str:
    return str(event)[:400]
