"""Keys that are created while the program runs, and limits, through the official clients: the commands `loggia
keys`, the routes `/admin/keys`, and what a client sees beyond a limit."""

import json
import subprocess
import time
import urllib.error
import urllib.request

import anthropic
import openai
import pytest

import official
import questions
from targets import HERE, PROGRAM, clean_environment, launched, listening, loggia, printing_its_address, stop

MODEL = "smollm2:135m"


@pytest.fixture(scope="module")
def upstream():
    with printing_its_address(HERE / "ollama_standin.py") as upstream:
        yield upstream


def keys(folder, *arguments, fails=False) -> str:
    """Runs `loggia keys`, and returns what it prints."""
    command = [str(PROGRAM), "keys", *arguments, "--data-dir", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=clean_environment(), cwd=folder)
    assert (done.returncode != 0) == fails, done.stderr
    return done.stderr if fails else done.stdout.strip()


def asked(url, key, **more):
    client = official.client(url, api_key=key)
    return client.chat.completions.with_raw_response.create(model=MODEL, **(questions.CAPITAL | more))


def may(url, key) -> bool:
    try:
        official.client(url, api_key=key).models.list()
    except openai.AuthenticationError:
        return False
    return True


def within_a_second(is_so) -> None:
    begun = time.monotonic()
    while not is_so():
        assert time.monotonic() - begun < 1, "not within a second"
        time.sleep(0.02)


def test_keys_are_created_rotated_and_revoked_beside_a_running_server(upstream, tmp_path):
    with loggia("--ollama", upstream, data=tmp_path) as url:
        assert may(url, "anything"), "without a key, none is required"
        key = keys(tmp_path, "create", "alice")
        within_a_second(lambda: not may(url, "anything"))
        assert may(url, key)
        assert "Paris" in asked(url, key).parse().choices[0].message.content
        assert key not in keys(tmp_path, "list") and "alice" in keys(tmp_path, "list")
        assert "another API key has the name" in keys(tmp_path, "create", "alice", fails=True)

        second = keys(tmp_path, "rotate", "alice")
        within_a_second(lambda: may(url, second) and not may(url, key))
        third = keys(tmp_path, "rotate", "alice", "--overlap", "1h")
        within_a_second(lambda: may(url, third) and may(url, second))
        keys(tmp_path, "revoke", "alice")
        within_a_second(lambda: not may(url, third) and not may(url, second))
        assert not may(url, "anything"), "the last revocation does not open the server"
        assert "no stored API key" in keys(tmp_path, "revoke", "alice", fails=True)
    state = b"".join(path.read_bytes() for path in tmp_path.glob("state.db*"))
    for secret in (key, second, third):
        assert secret.encode() not in state


def test_a_key_has_its_models_scopes_and_end(upstream, tmp_path):
    bob = keys(tmp_path, "create", "bob", "--model", "gpt-*", "--scope", "chat")
    late = keys(tmp_path, "create", "late", "--expires", "2s")
    with loggia("--ollama", upstream, "--alias", f"gpt-4o={MODEL}", data=tmp_path) as url:
        client = official.client(url, api_key=bob)
        assert "Paris" in client.chat.completions.create(model="gpt-4o", **questions.CAPITAL).choices[0].message.content
        with pytest.raises(openai.NotFoundError):
            asked(url, bob)
        with pytest.raises(openai.PermissionDeniedError) as denied:
            client.files.list()
        assert denied.value.code == "insufficient_permissions"
        end = time.monotonic() + 5
        while may(url, late):
            assert time.monotonic() < end, "the key has not expired"
            time.sleep(0.1)


def test_an_operator_uses_the_admin_api(upstream, tmp_path):
    admin = keys(tmp_path, "create", "ops", "--scope", "admin")

    def call(method, path, body=None, key=admin):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url + path, data=data, method=method, headers={"authorization": f"Bearer {key}"})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    with loggia("--ollama", upstream, data=tmp_path) as url:
        status, created = call("POST", "/admin/keys", {"name": "carol", "limits": {"streams": 2}, "budget": 500})
        assert status == 200 and created["object"] == "api_key" and created["limits"] == {"streams": 2}
        assert may(url, created["value"])
        assert call("GET", "/admin/keys", key=created["value"])[0] == 403
        assert call("GET", "/admin/keys", key="wrong")[0] == 401
        _, listed = call("GET", "/admin/keys")
        assert [key["name"] for key in listed["data"]] == ["ops", "carol"]
        assert all("value" not in key for key in listed["data"])
        assert call("DELETE", f"/admin/keys/{created['id']}") == (200, {"object": "api_key.deleted", "id": created["id"], "deleted": True})
        assert not may(url, created["value"])


def test_limits_are_told_and_kept(upstream, tmp_path):
    key = keys(tmp_path, "create", "alice", "--limits", "requests_per_minute=2,tokens_per_day=10000")
    with loggia("--ollama", upstream, data=tmp_path) as url:
        headers = asked(url, key).headers
        assert headers["x-ratelimit-limit-requests"] == "2" and headers["x-ratelimit-remaining-requests"] == "1"
        assert headers["x-ratelimit-limit-tokens"] == "10000" and headers["x-ratelimit-reset-requests"].endswith("s")
        used = asked(url, key).headers
        assert used["x-ratelimit-remaining-requests"] == "0"
        with pytest.raises(openai.RateLimitError) as refused:
            asked(url, key)
        assert refused.value.code == "rate_limit_exceeded"
        assert 1 <= int(refused.value.response.headers["retry-after"]) <= 30
        with pytest.raises(anthropic.RateLimitError) as refused:
            client = anthropic.Anthropic(base_url=url, api_key=key, max_retries=0)
            client.messages.create(model=MODEL, max_tokens=24, messages=questions.says("What is the capital of France?"))
        assert refused.value.response.json()["error"]["type"] == "rate_limit_error"
        assert refused.value.response.headers["anthropic-ratelimit-requests-remaining"] == "0"


def test_a_budget_survives_a_restart(upstream, tmp_path):
    key = keys(tmp_path, "create", "alice", "--budget", "130")
    with loggia("--ollama", upstream, data=tmp_path) as url:
        usage = asked(url, key).parse().usage
        total = usage.total_tokens
        within_two = time.monotonic() + 2
        while f"used {total} " not in keys(tmp_path, "list"):
            assert time.monotonic() < within_two, keys(tmp_path, "list")
            time.sleep(0.1)
    with loggia("--ollama", upstream, data=tmp_path) as url:
        for _ in range(130 // total + 1):
            try:
                asked(url, key)
            except openai.RateLimitError as refused:
                assert refused.code == "insufficient_quota" and "retry-after" not in refused.response.headers
                break
        else:
            pytest.fail("the budget has no end")


def test_without_a_key_only_this_machine_is_served(upstream, tmp_path):
    arguments, log = ["--ollama", upstream, "--data-dir", str(tmp_path)], tmp_path / "log"
    refused = launched(log, *arguments, listen="0.0.0.0:0").wait(60)
    assert refused != 0 and "loggia keys create" in log.read_text(), log.read_text()
    keys(tmp_path, "create", "alice")
    process = launched(log, *arguments, listen="0.0.0.0:0")
    try:
        url = listening(process, log, "/readyz").replace("0.0.0.0", "127.0.0.1")
        assert not may(url, "anything")
    finally:
        stop(process)


def test_a_proxy_names_users(upstream, tmp_path):
    arguments = ["--trusted-header", "x-user", "--limits", "requests_per_minute=1"]
    with loggia("--ollama", upstream, *arguments, data=tmp_path) as url:
        assert not may(url, "anything")
        users = {name: official.client(url, default_headers={"x-user": name}) for name in ("a@example.com", "b@example.com")}
        for client in users.values():
            assert "Paris" in client.chat.completions.create(model=MODEL, **questions.CAPITAL).choices[0].message.content
            with pytest.raises(openai.RateLimitError):
                client.chat.completions.create(model=MODEL, **questions.CAPITAL)
    with loggia("--ollama", upstream, *arguments, "--trusted-peers", "10.0.0.0/8", data=tmp_path) as url:
        client = official.client(url, default_headers={"x-user": "a@example.com"})
        with pytest.raises(openai.AuthenticationError):
            client.models.list()
