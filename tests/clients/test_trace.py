"""A client's trace (W3C Trace Context) is passed on to engines."""

import contextlib
import http.server
import json
import threading

import openai
import pytest

import scripted_upstream as script
from targets import loggia

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

EMBEDDINGS = script.json_body({"model": "m", "embeddings": [[1.0]], "prompt_eval_count": 1})
OLLAMA = script.ollama(script.json_body(script.line("Hi")), "completion", "embedding") | {"/api/embed": EMBEDDINGS}


@contextlib.contextmanager
def engine(seen: list):
    """An engine that keeps the headers of each POST. It has OpenAI's API and Ollama's."""

    class Engine(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path in OLLAMA:
                return self.answer_as_ollama()
            self.answer({"object": "list", "data": [{"id": "m", "object": "model"}]})

        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
            if self.path in OLLAMA:
                self.answer_as_ollama()
            elif self.path.endswith("/embeddings"):
                self.answer({"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [1.0]}], "model": "m", "usage": {"prompt_tokens": 1, "total_tokens": 1}})
            else:
                assert b"messages" in body
                choice = {"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}
                self.answer({"id": "a", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}})

        def answer_as_ollama(self):
            self.wfile.write(OLLAMA[self.path])
            self.close_connection = True

        def answer(self, value):
            text = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Engine) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def seen_and_client():
    seen = []
    with engine(seen) as upstream, loggia("--openai", f"gpu={upstream}/v1") as url:
        with openai.OpenAI(base_url=f"{url}/v1", api_key="a-key-of-the-client", max_retries=0, timeout=60) as client:
            yield seen, client


def posted(seen: list, path: str, ask) -> dict:
    """Makes a request, and returns the headers that the engine got."""
    before = len(seen)
    ask()
    return [headers for one, headers in seen[before:] if one == path][-1]


def chat(client, headers: dict):
    return lambda: client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}], extra_headers=headers)


def test_a_chat_and_an_embedding_belong_to_the_trace_of_the_client(seen_and_client):
    seen, client = seen_and_client
    headers = {"traceparent": PARENT, "tracestate": "vendor=1", "baggage": "secret=1", "x-own": "1"}
    got = posted(seen, "/v1/chat/completions", chat(client, headers))
    assert (got["traceparent"], got["tracestate"]) == (PARENT, "vendor=1")
    # Nothing else of the client is.
    assert not {"baggage", "x-own", "authorization"} & set(got)
    got = posted(seen, "/v1/embeddings", lambda: client.embeddings.create(model="m", input="x", extra_headers=headers))
    assert got["traceparent"] == PARENT


@pytest.mark.parametrize("headers", [{}, {"traceparent": "00-secret-words"}, {"tracestate": "vendor=1"}])
def test_without_a_valid_traceparent_nothing_is_passed_on(seen_and_client, headers):
    seen, client = seen_and_client
    got = posted(seen, "/v1/chat/completions", chat(client, headers))
    assert not {"traceparent", "tracestate"} & set(got)


def test_ollama_gets_the_trace_of_a_client_too():
    seen = []
    with engine(seen) as upstream, loggia("--ollama", upstream) as url:
        with openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0, timeout=60) as client:
            headers = {"traceparent": PARENT, "x-own": "1"}
            got = posted(seen, "/api/chat", chat(client, headers))
            assert got["traceparent"] == PARENT and "x-own" not in got
            got = posted(seen, "/api/embed", lambda: client.embeddings.create(model="m", input="x", extra_headers=headers))
            assert got["traceparent"] == PARENT
