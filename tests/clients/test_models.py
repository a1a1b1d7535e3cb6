"""The model list and single models through the official Python client."""

import contextlib
import http.server
import json
import threading
from urllib.parse import quote

import openai
import pytest

import raw
from targets import loggia


def test_the_list_has_the_model_and_every_entry_is_one(client, target):
    models = client.models.list().data
    assert target.model in [model.id for model in models]
    assert {model.object for model in models} == {"model"}
    assert all(model.created >= 0 and model.owned_by for model in models)


def test_one_model_can_be_asked_for_by_its_id(client, target):
    assert client.models.retrieve(target.model).id == target.model


def test_an_id_may_come_encoded_or_not(target):
    plain = raw.ask(target.url, "GET", f"/v1/models/{target.model}")
    encoded = raw.ask(target.url, "GET", f"/v1/models/{quote(target.model, safe='')}")
    assert plain.status == encoded.status == 200
    assert plain.json()["id"] == encoded.json()["id"] == target.model


def test_a_model_behind_a_named_backend_answers_to_both_names(client, target):
    if target.kind != "openai":
        pytest.skip("only --openai names its backend")
    assert client.models.retrieve("llamacpp/smollm2").id == "llamacpp/smollm2"


def test_a_model_that_is_not_there_is_not_found(client, target):
    with pytest.raises(openai.NotFoundError) as failure:
        client.models.retrieve("nope")
    assert failure.value.code == "model_not_found"


def test_a_model_that_is_not_there_cannot_be_deleted(client):
    with pytest.raises(openai.NotFoundError) as failure:
        client.models.delete("nope")
    assert failure.value.code == "model_not_found"


def test_a_model_that_is_not_loggias_own_is_not_deleted(client, target):
    if target.kind not in ("embedded", "openai"):
        pytest.skip("Ollama's models are deleted; see below")
    # A file that was given by its path, or a model of an engine that stores its own.
    with pytest.raises(openai.PermissionDeniedError) as failure:
        client.models.delete(target.model)
    assert failure.value.code == "model_not_deletable"
    assert target.model in [model.id for model in client.models.list().data]


def test_a_model_of_ollamas_is_deleted_whatever_stands_in_its_name():
    with an_ollama_with("small:latest", "hf.co/owner/repo:Q4_K_M") as (upstream, asked), loggia("--ollama", upstream, until="/healthz") as url:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0)
        deleted = client.models.delete("hf.co/owner/repo:Q4_K_M")
        assert (deleted.id, deleted.object, deleted.deleted) == ("hf.co/owner/repo:Q4_K_M", "model", True)
        assert [model.id for model in client.models.list().data] == ["small:latest"]
        with pytest.raises(openai.NotFoundError):
            client.models.delete("hf.co/owner/repo:Q4_K_M")
        assert client.models.delete("small").id == "small"
        assert client.models.list().data == []
    assert [body["model"] for path, body in asked if path == "/api/delete"] == ["hf.co/owner/repo:Q4_K_M", "small:latest"]


@contextlib.contextmanager
def an_ollama_with(*names: str):
    """A minimal Ollama that can delete models. Yields its address, and the requests (path and body) that it
    received."""
    models, asked = list(names), []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def do_GET(self):
            self.say({"models": [{"name": name, "model": name, "modified_at": "2026-01-02T03:04:05Z", "size": 7, "digest": "a"} for name in models]})

        def do_POST(self):
            asked.append((self.path, json.loads(self.rfile.read(int(self.headers["content-length"])))))
            if self.command == "DELETE":
                models.remove(asked[-1][1]["model"])
            self.say({})

        do_DELETE = do_POST

        def say(self, value):
            body = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


def test_health_and_readiness_are_told(target):
    assert raw.ask(target.url, "GET", "/healthz").status == 200
    assert raw.ask(target.url, "GET", "/readyz").status == 200
