"""The usage of API keys: what a server writes, and `loggia usage` prints."""

import json
import subprocess
import time

import openai

import scripted_upstream as script
from targets import PROGRAM, START_LIMIT, clean_environment, killed, loggia

KEYS = {"LOGGIA_KEYS": "alice,bob", "LOGGIA_KEY_ALICE": "the-long-key-of-alice", "LOGGIA_KEY_BOB": "the-long-key-of-bob"}
GOOD = script.stream(script.line("Hel", done=False), script.line("lo"))


def ask(url: str, key: str, model: str = "m") -> None:
    with openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=60) as client:
        list(client.chat.completions.create(model=model, stream=True, messages=[{"role": "user", "content": "secret words"}]))


def usage(data, *arguments: str) -> str:
    command = [str(PROGRAM), "usage", "--data-dir", str(data), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=clean_environment()).stdout


def rows(data) -> list[dict]:
    return json.loads(usage(data, "--json"))["usage"]


def test_each_key_has_its_requests_and_tokens_by_day_and_model(tmp_path):
    assert rows(tmp_path) == [] and usage(tmp_path) == ""
    with script.upstream(script.ollama(GOOD)) as upstream, loggia("--ollama", upstream, "--alias", "gpt-*=m", environment=KEYS, data=tmp_path) as url:
        ask(url, "the-long-key-of-alice")
        ask(url, "the-long-key-of-alice", "gpt-4o")
        ask(url, "the-long-key-of-bob")
    # The end of the program writes what was not written yet.
    found = rows(tmp_path)
    assert [(row["key"], row["model"], row["requests"], row["prompt_tokens"], row["completion_tokens"]) for row in found] == [
        ("alice", "m", 2, 6, 4),
        ("bob", "m", 1, 3, 2),
    ]
    assert all(row["day"] == time.strftime("%Y-%m-%d", time.gmtime()) for row in found)
    table = usage(tmp_path, "--by", "key")
    assert table.splitlines()[1].split()[:6] == ["alice", "2", "0", "6", "0", "4"] and "█" in table
    assert "bob" not in usage(tmp_path, "--by", "key", "--key", "alice")
    assert not any(b"secret words" in file.read_bytes() for file in tmp_path.glob("state.db*"))


def test_what_was_used_survives_a_kill_but_for_the_last_second(tmp_path):
    with script.upstream(script.ollama(GOOD)) as upstream, killed("--ollama", upstream, data=tmp_path, environment=KEYS) as url:
        for _ in range(5):
            ask(url, "the-long-key-of-alice")
        end = time.monotonic() + START_LIMIT
        while sum(row["requests"] for row in rows(tmp_path)) < 5 and time.monotonic() < end:
            time.sleep(0.1)
    assert sum(row["requests"] for row in rows(tmp_path)) == 5


def test_lines_of_a_batch_are_in_it(tmp_path):
    whole = script.json_body(script.line("Hello"))
    line = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "m", "messages": [{"role": "user", "content": "x"}]}}
    with script.upstream(script.ollama(whole)) as upstream, loggia("--ollama", upstream, environment=KEYS, data=tmp_path) as url:
        with openai.OpenAI(base_url=f"{url}/v1", api_key="the-long-key-of-bob", max_retries=0, timeout=60) as client:
            file = client.files.create(file=("b.jsonl", json.dumps(line).encode()), purpose="batch")
            batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
            end = time.monotonic() + START_LIMIT
            while client.batches.retrieve(batch.id).status != "completed" and time.monotonic() < end:
                time.sleep(0.05)
    assert [(row["key"], row["requests"], row["prompt_tokens"]) for row in rows(tmp_path)] == [("bob", 1, 3)]


def test_without_keys_nothing_is_written(tmp_path):
    with script.upstream(script.ollama(GOOD)) as upstream, loggia("--ollama", upstream, data=tmp_path) as url:
        ask(url, "unused")
    assert not list(tmp_path.glob("state.db*"))
