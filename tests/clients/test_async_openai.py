"""The Rust crate `async-openai` with every kind of backend. Its client is in `rust/`; `scripts/test-clients`
builds it before the tests."""

import os
import subprocess

import pytest

from test_tools import FORCED

PROGRAM = os.environ.get("LOGGIA_ASYNC_OPENAI", "")
LIMIT = 120

pytestmark = pytest.mark.skipif(not PROGRAM, reason="LOGGIA_ASYNC_OPENAI does not name the program of rust/")


@pytest.mark.parametrize("topic", ["whole", "stream", "models", "missing"])
def test_the_rust_client_understands(target, topic):
    run(target, topic)


def test_the_rust_client_is_given_a_call_that_must_be_made(target):
    parameters = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 10}}, "required": ["city"], "additionalProperties": False}
    properties = {"name": {"const": "get_weather"}, "arguments": parameters}
    held = {"type": "object", "properties": properties, "required": ["name", "arguments"], "additionalProperties": False}
    messages = [{"role": "system", "content": "(any text)"}, *FORCED["messages"]]
    target.expects(("whole-call-forced-by-format", {"format": held, "messages": messages}))
    told = run(target, "call")
    assert told.startswith("refused: tool" if "tools" in target.refuses else "called")


def run(target, topic: str) -> str:
    told = subprocess.run([PROGRAM, topic, target.url, target.model], capture_output=True, text=True, timeout=LIMIT)
    assert told.returncode == 0, told.stderr
    return told.stdout
