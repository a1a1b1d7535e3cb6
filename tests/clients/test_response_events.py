"""The rules of streamed responses (`response_events.py`): a correct stream passes, and any change to it is
reported."""

import copy

import pytest

from response_events import Broken, ResponseEvents

RESPONSE = {"id": "resp_1", "status": "in_progress", "output": [], "error": None, "incomplete_details": None, "usage": None}
PART = {"type": "output_text", "text": "Hi you", "annotations": [], "logprobs": []}
SUMMARY = {"type": "summary_text", "text": "So."}
REASONING = {"type": "reasoning", "id": "rs_1", "summary": [SUMMARY], "content": []}
MESSAGE = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [PART]}
CALL = {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "f", "arguments": '{"a":1}', "status": "completed"}
CUSTOM = {"type": "custom_tool_call", "id": "ctc_1", "call_id": "d", "name": "g", "input": "x"}
OUTPUT = [REASONING, MESSAGE, CALL, CUSTOM]


def stream() -> list[dict]:
    """A response with one item of each type that arrives in pieces."""
    events = [{"type": f"response.{name}", "response": RESPONSE} for name in ("created", "in_progress")]

    def of(index: int, kind: str, **more) -> None:
        events.append({"type": f"response.{kind}", "output_index": index, "item_id": OUTPUT[index]["id"], **more})

    def item(index: int, empty: dict, inner) -> None:
        events.append({"type": "response.output_item.added", "output_index": index, "item": OUTPUT[index] | empty})
        inner()
        events.append({"type": "response.output_item.done", "output_index": index, "item": OUTPUT[index]})

    def summary():
        of(0, "reasoning_summary_part.added", summary_index=0, part=SUMMARY | {"text": ""})
        of(0, "reasoning_summary_text.delta", summary_index=0, delta="So.")
        of(0, "reasoning_summary_text.done", summary_index=0, text="So.")
        of(0, "reasoning_summary_part.done", summary_index=0, part=SUMMARY)

    def text():
        of(1, "content_part.added", content_index=0, part=PART | {"text": ""})
        of(1, "output_text.delta", content_index=0, delta="Hi ", logprobs=[])
        of(1, "output_text.delta", content_index=0, delta="you", logprobs=[])
        of(1, "output_text.done", content_index=0, text="Hi you", logprobs=[])
        of(1, "content_part.done", content_index=0, part=PART)

    def arguments():
        of(2, "function_call_arguments.delta", delta='{"a"')
        of(2, "function_call_arguments.delta", delta=":1}")
        of(2, "function_call_arguments.done", arguments='{"a":1}', name="f")

    def custom():
        of(3, "custom_tool_call_input.delta", delta="x")
        of(3, "custom_tool_call_input.done", input="x")

    item(0, {"summary": []}, summary)
    item(1, {"content": [], "status": "in_progress"}, text)
    item(2, {"arguments": "", "status": "in_progress"}, arguments)
    item(3, {"input": ""}, custom)
    final = RESPONSE | {"status": "completed", "output": OUTPUT, "usage": {"total_tokens": 3}}
    return events + [{"type": "response.completed", "response": final}]


def check(events: list[dict], first: int = 0) -> None:
    rules = ResponseEvents(first)
    for number, event in enumerate(events, first):
        rules.push({"sequence_number": number} | event)
    rules.end()


def test_a_stream_that_keeps_the_rules_passes():
    check(stream())


@pytest.mark.parametrize("at", range(len(stream())))
def test_an_event_that_lacks_is_seen(at):
    events = stream()
    del events[at]
    with pytest.raises(Broken):
        check(events)


@pytest.mark.parametrize("at", range(len(stream())))
def test_an_event_that_comes_twice_is_seen(at):
    events = stream()
    with pytest.raises(Broken):
        check(events[: at + 1] + events[at:])


@pytest.mark.parametrize("at", range(len(stream()) - 1))
def test_events_in_another_order_are_seen(at):
    events = stream()
    with pytest.raises(Broken):
        check(events[:at] + [events[at + 1], events[at]] + events[at + 2 :])


@pytest.mark.parametrize("at", range(len(stream())))
def test_another_value_in_an_event_is_seen(at):
    for field in ("response", "item", "part", "item_id", "output_index", "content_index", "summary_index", "delta", "text", "arguments", "input"):
        events = stream()
        if field in events[at]:
            events[at] = changed(events[at], field)
            with pytest.raises(Broken):
                check(events)


@pytest.mark.parametrize("field, value", [("status", "incomplete"), ("output", OUTPUT[:-1]), ("error", {}), ("usage", None), ("id", "resp_2")])
def test_an_end_that_does_not_fit_is_seen(field, value):
    events = stream()
    events[-1]["response"] |= {field: value}
    with pytest.raises(Broken):
        check(events)


def test_numbers_go_up_by_one_from_where_a_stream_is_resumed():
    check(stream()[9:], 9)
    with pytest.raises(Broken):
        check([{"sequence_number": 9} | event for event in stream()[9:]], 9)
    with pytest.raises(Broken):
        check(stream()[9:-1], 9)


def test_a_response_may_fail_in_the_middle_of_an_item():
    events = stream()[:11]
    open_item = MESSAGE | {"status": "incomplete", "content": [PART | {"text": "Hi "}]}
    failed = RESPONSE | {"status": "failed", "error": {"code": "server_error", "message": "x"}, "output": [REASONING, open_item]}
    check(events + [{"type": "response.failed", "response": failed}])
    with pytest.raises(Broken):
        check(events)


def changed(event: dict, field: str) -> dict:
    """Returns the event with another value in this field."""
    event = copy.deepcopy(event)
    value = event[field]
    if isinstance(value, dict):
        value[next(key for key in ("id", "text") if key in value)] += "x"
    else:
        event[field] = value + (1 if isinstance(value, int) else "x")
    return event
