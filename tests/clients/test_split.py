"""The recorded bytes, split at every possible place: the client must receive the same each time."""

import json

import pytest

import raw
import recorded
from targets import fetch


@pytest.mark.parametrize("name", ["stream-length", "stream-tool-call", "runner-killed-mid-stream"])
def test_a_stream_is_the_same_wherever_its_bytes_are_split(standin, name):
    places = ["recorded", "bytes", *range(1, len(recorded.RECORDINGS[name].body))]
    heard = {place: heard_when_split(standin, name, place) for place in places}

    expected = heard["recorded"]
    assert len(expected) > 2
    assert [place for place in places if heard[place] != expected] == []


def heard_when_split(standin, name: str, place) -> list:
    fetch(f"{standin.upstream}/standin/next", {"split": place})
    question = recorded.question(name)
    answer = raw.chat(standin.url, {"stream": True, **question})
    assert answer.status == 200
    return [without_what_is_new_each_time(event) for event in answer.events()]


def without_what_is_new_each_time(event: str):
    if event == "[DONE]":
        return event
    chunk = json.loads(event)
    return {key: value for key, value in chunk.items() if key not in ("id", "created")}
