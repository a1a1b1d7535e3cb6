"""The command line tool `llm` with every kind of backend, configured by a line of its
`extra-openai-models.yaml`."""

import os
import subprocess
import sys

import pytest

import questions
from recorded import answer

QUESTION = questions.CAPITAL["messages"][0]["content"]
SETTINGS = ["-o", "temperature", "0", "-o", "seed", "7", "-o", "max_tokens", "24"]
LIMIT = 120


@pytest.fixture
def llm(target, tmp_path):
    """Runs `llm` with these arguments, and returns its output."""
    (tmp_path / "extra-openai-models.yaml").write_text(
        f"- model_id: local\n  model_name: {target.model}\n  api_base: {target.url}/v1\n"
        f"- model_id: nope\n  model_name: nope\n  api_base: {target.url}/v1\n"
    )
    environment = os.environ | {"LLM_USER_PATH": str(tmp_path), "OPENAI_API_KEY": "unused"}

    def run(*arguments: str, said: str = "") -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "llm", *arguments]
        return subprocess.run(command, input=said, env=environment, capture_output=True, text=True, timeout=LIMIT)

    return run


def test_a_prompt_is_answered(llm, target):
    told = llm("prompt", "-m", "local", *SETTINGS, QUESTION)
    assert told.returncode == 0, told.stderr
    assert told.stdout.strip()
    if target.kind != "ollama":
        return
    assert told.stdout.strip() == answer("stream").content
    told = llm("prompt", "-m", "local", *SETTINGS, "--no-stream", QUESTION)
    assert told.stdout.strip() == answer("whole").content


def test_a_chat_is_held(llm, target):
    told = llm("chat", "-m", "local", *SETTINGS, said=f"{QUESTION}\nquit\n")
    assert told.returncode == 0, told.stderr
    if target.kind == "ollama":
        assert answer("stream").content in told.stdout


def test_a_missing_model_is_told_in_loggias_words(llm, target):
    if target.kind != "ollama":
        pytest.skip("the same words from every kind: each start of llm takes seconds")
    told = llm("prompt", "-m", "nope", QUESTION)
    assert told.returncode != 0 and "nope" in told.stderr and "Traceback" not in told.stderr
