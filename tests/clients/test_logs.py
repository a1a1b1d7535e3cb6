"""The log at its most verbose level: every line is JSON, and none has text of a client or of a model, on any route that
takes some."""

import http.client
import json
from urllib.parse import urlsplit

import scripted_upstream as script
from targets import loggia

CANARY = "ZX9canaryQ7"
TEXT = f"Tell me about {CANARY}"
CHAT = {"model": "m", "messages": [{"role": "system", "content": TEXT}, {"role": "user", "content": TEXT}], "stop": [CANARY], "user": CANARY}
TOOL = {"type": "function", "function": {"name": CANARY, "description": TEXT, "parameters": {"type": "object", "properties": {CANARY: {"type": "string"}}}}}
REQUESTS = (
    ("/v1/chat/completions", CHAT),
    ("/v1/chat/completions", CHAT | {"tools": [TOOL], "metadata": {CANARY: CANARY}, "store": True}),
    ("/v1/completions", {"model": "m", "prompt": TEXT, "suffix": CANARY}),
    ("/v1/responses", {"model": "m", "input": TEXT, "instructions": TEXT}),
    ("/v1/responses", {"model": "m", "input": TEXT, "background": True}),
    ("/v1/responses/input_tokens", {"model": "m", "input": TEXT}),
    ("/v1/messages", {"model": "m", "max_tokens": 9, "system": TEXT, "messages": [{"role": "user", "content": TEXT}]}),
    ("/v1/messages/count_tokens", {"model": "m", "messages": [{"role": "user", "content": TEXT}]}),
    ("/v1/embeddings", {"model": "m", "input": TEXT}),
    ("/v1/moderations", {"model": "m", "input": TEXT}),
    ("/v1/decisions", {"model": "m", "input": TEXT, "choices": [CANARY, "other"]}),
    ("/v1/rerank", {"model": "m", "query": TEXT, "documents": [TEXT, "other"]}),
    ("/v1/conversations", {"items": [{"type": "message", "role": "user", "content": TEXT}], "metadata": {"topic": CANARY}}),
    ("/v1/vector_stores", {"name": CANARY}),
    ("/api/chat", CHAT),
    ("/api/generate", {"model": "m", "prompt": TEXT}),
)


def answers(chat: bytes) -> dict:
    embeddings = script.json_body({"model": "m", "embeddings": [[1.0, 0.0]], "prompt_eval_count": 3})
    return script.ollama(chat, "completion", "embedding", "tools") | {"/api/generate": chat, "/api/embed": embeddings}


def status_of_post(url: str, path: str, request: dict) -> int:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    try:
        connection.request("POST", path, json.dumps(request), {"content-type": "application/json", "authorization": f"Bearer {CANARY}"})
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()


def without_duplicates(pairs: list) -> dict:
    assert len({key for key, _ in pairs}) == len(pairs), pairs
    return dict(pairs)


def test_no_level_logs_what_a_client_or_a_model_wrote(tmp_path):
    good = script.stream(script.line(CANARY, done=False), script.line(CANARY))
    broken = script.STREAM_HEAD + script.chunk(json.dumps(script.line(CANARY, done=False)).encode() + b"\n")
    bad = script.whole("500 Internal Server Error", json.dumps({"error": f"cannot say {CANARY}"}).encode())
    environment = {"LOGGIA_LOG": "trace", "LOGGIA_LOG_FORMAT": "json"}
    for number, chat in enumerate((good, broken, bad)):
        log = tmp_path / f"log-{number}"
        with script.upstream(answers(chat)) as upstream:
            arguments = ["--ollama", upstream, "--ollama-api", "/api/chat", "--ollama-api", "/api/generate", "--moderation-model", "m"]
            with loggia(*arguments, "--moderation-format", "questions", log=log, environment=environment) as url:
                for path, request in REQUESTS:
                    for stream in (False, True):
                        assert status_of_post(url, path, request | {"stream": stream}) not in (404, 405), path
        lines = log.read_text().splitlines()
        # What the program prints at its start goes to standard output, which is the same file here.
        written = [line for line in lines if line and not line.startswith(("loggia: ", "try it:", "curl ", " "))]
        entries = [json.loads(line, object_pairs_hook=without_duplicates) for line in written]
        routes = {entry["route"] for entry in entries if entry.get("message") == "answered" and "route" in entry}
        assert {path for path, _ in REQUESTS} <= routes
        assert all(entry["request_id"] for entry in entries if entry.get("message") == "answered")
        assert [line for line in lines if CANARY in line] == []
