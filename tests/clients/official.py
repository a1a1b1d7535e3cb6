"""The official clients, for suites that start a loggia of their own: that of Python, and those of Node."""

import json
import os
import subprocess
from pathlib import Path

import openai
import pytest

NODE = os.environ.get("LOGGIA_NODE", "")


def client(url: str, **settings) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", **{"api_key": "unused", "max_retries": 0, "timeout": 60} | settings)


def node_tells(url: str, *arguments: str) -> dict:
    """Returns what OpenAI's Node package reports for one question: the status; for an error also its class,
    code, param, type and request id."""
    return in_node("retry.js", url, *arguments)


def node_streams(url: str) -> dict:
    """Returns text and reasoning of one streamed answer, each as read by OpenAI's Node package and by the AI
    SDK."""
    return in_node("streams.js", url)


def in_node(program: str, *arguments: str) -> dict:
    needs_node()
    told = subprocess.run([NODE, program, *arguments], cwd=Path(__file__).parent / "node", capture_output=True, text=True, timeout=60)
    assert told.returncode == 0, told.stderr
    return json.loads(told.stdout)


def needs_node() -> None:
    if not NODE:
        pytest.skip("LOGGIA_NODE does not name a Node that is new enough")
