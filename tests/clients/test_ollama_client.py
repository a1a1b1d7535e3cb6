"""Ollama's own Python client, whose requests Loggia passes on to the Ollama behind it (`ollama_api`)."""

import re
import urllib.request

import ollama
import pytest

import questions
import scripted_upstream as script
from targets import HERE, fetch, loggia, printing_its_address
from test_keys import keys
from test_usage import rows

MODEL = "smollm2:135m"
MESSAGES = questions.says("What is the capital of France?")
OPTIONS = {"seed": 7, "temperature": 0, "num_predict": 24}
READS = [flag for path in ("chat", "generate", "embed", "show", "ps") for flag in ("--ollama-api", f"/api/{path}")]


@pytest.fixture(scope="module")
def upstream():
    with printing_its_address(HERE / "ollama_standin.py") as upstream:
        yield upstream


def client(url: str, key: str) -> ollama.Client:
    return ollama.Client(host=url, headers={"authorization": f"Bearer {key}"}, timeout=60)


def expects(upstream: str, recording: str, **changed) -> None:
    """Announces a recorded request, as this client writes it."""
    fetch(f"{upstream}/standin/expect", [{"recording": recording, "changed": {"tools": []} | changed, "passed_on": True}])


def metric(url: str, key: str, name: str, **labels: str) -> float:
    request = urllib.request.Request(f"{url}/metrics", headers={"authorization": f"Bearer {key}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    fitting = [line for line in lines if re.match(rf"{name}[{{ ]", line) and all(label in line for label in wanted)]
    return sum(float(line.rsplit(" ", 1)[1]) for line in fitting)


def refusal(call) -> tuple[int, str]:
    with pytest.raises(ollama.ResponseError) as refused:
        call()
    return refused.value.status_code, refused.value.error


def test_the_client_chats_with_the_ollama_behind_and_its_tokens_are_counted(upstream, tmp_path):
    alice = keys(tmp_path, "create", "alice", "--model", MODEL)
    ops = keys(tmp_path, "create", "ops", "--scope", "metrics", "--scope", "chat")
    with loggia("--ollama", upstream, *READS, data=tmp_path) as url:
        mine = client(url, alice)
        expects(upstream, "whole")
        whole = mine.chat(model=MODEL, messages=MESSAGES, options=OPTIONS)
        assert "Paris" in whole.message.content and whole.done and whole.eval_count
        expects(upstream, "stream", stream=True)
        lines = list(mine.chat(model=MODEL, messages=MESSAGES, options=OPTIONS, stream=True))
        assert len(lines) > 2 and lines[-1].done and "Paris" in "".join(line.message.content for line in lines)
        counted = {"prompt": whole.prompt_eval_count + lines[-1].prompt_eval_count, "completion": whole.eval_count + lines[-1].eval_count}

        assert "completion" in mine.show(MODEL).capabilities
        assert [model.model for model in mine.list().models] == [MODEL]
        assert refusal(lambda: mine.chat(model="all-minilm:22m", messages=MESSAGES))[0] == 404
        assert refusal(mine.ps)[0] == 403
        assert client(url, ops).ps().models
        status, message = refusal(lambda: client(url, "sk-wrong").chat(model=MODEL, messages=MESSAGES))
        assert status == 401 and "API key" in message
        assert refusal(lambda: mine.delete(MODEL))[0] == 404

        assert metric(url, ops, "loggia_requests_total", route="/api/chat") == 4
        for kind, tokens in counted.items():
            assert metric(url, ops, f"loggia_{kind}_tokens_total", model=MODEL) == tokens, kind
    assert not fetch(f"{upstream}/standin/report")["mismatches"]


def test_limits_of_the_key_count_these_requests_and_their_tokens(upstream, tmp_path):
    key = keys(tmp_path, "create", "alice", "--limits", "requests_per_minute=2")
    with loggia("--ollama", upstream, *READS, data=tmp_path) as url:
        mine = client(url, key)
        prompt = answer = 0
        for _ in range(2):
            expects(upstream, "whole")
            whole = mine.chat(model=MODEL, messages=MESSAGES, options=OPTIONS)
            prompt, answer = prompt + whole.prompt_eval_count, answer + whole.eval_count
        assert refusal(lambda: mine.chat(model=MODEL, messages=MESSAGES))[0] == 429
    # The end of the program writes what was not written yet.
    [row] = rows(tmp_path)
    assert (row["key"], row["prompt_tokens"], row["completion_tokens"]) == ("alice", prompt, answer)


def test_a_stream_that_breaks_off_ends_with_an_error():
    broken = script.STREAM_HEAD + script.chunk(b'{"message":{"role":"assistant","content":"Hel"},"done":false}\n{"mess')
    with script.upstream(script.ollama(broken)) as upstream, loggia("--ollama", upstream, *READS) as url:
        lines = client(url, "unused").chat(model="m", messages=MESSAGES, stream=True)
        assert next(lines).message.content == "Hel"
        with pytest.raises(ollama.ResponseError, match="ollama"):
            list(lines)


def test_models_are_changed_only_where_it_is_allowed_and_by_an_admin(tmp_path):
    deleted = []
    answers = script.ollama(script.stream(script.line()))
    answers["/api/delete"] = lambda body: deleted.append(body) or script.whole("200 OK", b"")
    user = keys(tmp_path, "create", "user")
    admin = keys(tmp_path, "create", "admin", "--scope", "chat", "--scope", "admin")
    with script.upstream(answers) as upstream:
        with loggia("--ollama", upstream, *READS, data=tmp_path) as url:
            assert refusal(lambda: client(url, admin).delete("m"))[0] == 404
        with loggia("--ollama", upstream, "--ollama-api", "/api/delete", data=tmp_path) as url:
            status, message = refusal(lambda: client(url, user).delete("m"))
            assert (status, deleted) == (403, []) and "'admin'" in message
            assert client(url, admin).delete("m").status == "success"
    assert deleted == [b'{"model":"m"}']
