"""Shared by all suites: a running loggia for each kind of backend, and the official client connected to it."""

import openai
import pytest

import openai_spec
from targets import ALL, TARGETS


@pytest.fixture(scope="session", params=list(TARGETS))
def target(request):
    """A running loggia, once in front of each kind of backend."""
    with TARGETS[request.param]() as running:
        yield running


@pytest.fixture(scope="session")
def standin():
    """A running loggia in front of the Ollama stand-in only, for tests that need a recorded answer."""
    with ALL["ollama"]() as running:
        yield running


@pytest.fixture
def client(target):
    yield from connected(target)


@pytest.fixture
def standin_client(standin):
    yield from connected(standin)


def connected(target):
    """OpenAI's client with strict validation of answers and without retries, which would hide a first
    failure."""
    with openai.OpenAI(
        base_url=f"{target.url}/v1", api_key="unused", max_retries=0, timeout=120, _strict_response_validation=True
    ) as client:
        yield client


def pytest_terminal_summary(terminalreporter):
    if openai_spec.SPEC:
        terminalreporter.write_line(f"{openai_spec.checked} answers and chunks held against OpenAI's spec")
    else:
        terminalreporter.write_line("not held against OpenAI's spec: OPENAI_SPEC does not name its file")
