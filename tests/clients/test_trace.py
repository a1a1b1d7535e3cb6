"""A client's trace (W3C Trace Context) is passed on to engines, and spans are sent to a collector. `crates/server/tests/it/traces.rs`
tests all that is in them."""

import contextlib
import http.server
import json
import threading
import urllib.request

import openai
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

import scripted_upstream as script
from targets import loggia
from test_keys import keys

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

EMBEDDINGS = script.json_body({"model": "m", "embeddings": [[1.0]], "prompt_eval_count": 1})
OLLAMA = script.ollama(script.json_body(script.line("Hi")), "completion", "embedding") | {"/api/embed": EMBEDDINGS}


@contextlib.contextmanager
def engine(seen: list, is_busy: bool = False):
    """An engine that keeps the headers of each POST. It has OpenAI's API and Ollama's. If it is busy, it answers no chat."""

    class Engine(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path in OLLAMA:
                return self.answer_as_ollama()
            self.answer({"object": "list", "data": [{"id": "m", "object": "model"}]})

        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
            if is_busy:
                self.answer({"error": {"message": "busy"}}, 503)
            elif self.path in OLLAMA:
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

        def answer(self, value, status=200):
            text = json.dumps(value).encode()
            self.send_response(status)
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


class Collector:
    """What an OpenTelemetry collector got."""

    def __init__(self):
        self.headers, self.requests = [], []

    def spans(self) -> list:
        scopes = [scope for request in self.requests for resource in request.resource_spans for scope in resource.scope_spans]
        return sorted((span for scope in scopes for span in scope.spans), key=lambda span: span.start_time_unix_nano)

    def service(self) -> str:
        """Returns the name of the service that sent the spans."""
        return attributes(self.requests[0].resource_spans[0].resource)["service.name"]


def attributes(of) -> dict:
    """Returns the attributes of a span or a resource."""

    def plain(value):
        kind = value.WhichOneof("value")
        return [plain(one) for one in value.array_value.values] if kind == "array_value" else getattr(value, kind)

    return {one.key: plain(one.value) for one in of.attributes}


@contextlib.contextmanager
def collecting():
    """A collector, and its URL."""
    collector = Collector()

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            assert self.path == "/v1/traces" and self.headers["content-type"] == "application/x-protobuf"
            body = self.rfile.read(int(self.headers["content-length"]))
            collector.headers.append(self.headers)
            collector.requests.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield collector, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@contextlib.contextmanager
def client_of(url: str, key: str = "unused"):
    with openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=60) as client:
        yield client


@pytest.mark.parametrize("is_setting", [False, True])
def test_spans_reach_the_collector_that_a_variable_or_the_setting_names(is_setting, tmp_path):
    seen, log = [], tmp_path / "log"
    with engine(seen) as upstream, collecting() as (collector, endpoint):
        variables = {"OTEL_EXPORTER_OTLP_HEADERS": "api-key=of-the-collector", "OTEL_SERVICE_NAME": "gateway", "LOGGIA_LOG_FORMAT": "json"}
        arguments = ["--openai", f"gpu={upstream}/v1"]
        if is_setting:
            arguments += ["--otlp-endpoint", endpoint]
        else:
            variables["OTEL_EXPORTER_OTLP_ENDPOINT"] = endpoint
        with loggia(*arguments, environment=variables, log=log) as url, client_of(url) as client:
            headers = posted(seen, "/v1/chat/completions", chat(client, {"traceparent": PARENT, "tracestate": "vendor=1"}))
    # The end of the program has sent what was left.
    request, call = collector.spans()
    assert collector.service() == "gateway"
    assert all(headers["api-key"] == "of-the-collector" for headers in collector.headers)
    trace, sender = PARENT.split("-")[1:3]
    assert request.trace_id.hex() == call.trace_id.hex() == trace
    assert (request.parent_span_id.hex(), call.parent_span_id) == (sender, request.span_id)
    assert (request.name, request.kind, call.name, call.kind) == ("POST /v1/chat/completions", Span.SPAN_KIND_SERVER, "chat m", Span.SPAN_KIND_CLIENT)
    assert headers["traceparent"] == f"00-{trace}-{call.span_id.hex()}-01" and headers["tracestate"] == "vendor=1"
    both = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.response.model": "m", "gen_ai.usage.input_tokens": 3, "gen_ai.usage.output_tokens": 1}
    assert attributes(request).items() >= (both | {"http.response.status_code": 200, "http.route": "/v1/chat/completions"}).items()
    server = {"server.address": "127.0.0.1", "server.port": int(upstream.rsplit(":", 1)[1])}
    assert attributes(call).items() >= (both | server | {"gen_ai.provider.name": "openai"}).items()
    assert attributes(call)["gen_ai.response.finish_reasons"] == ["stop"]
    written = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    assert [line["trace_id"] for line in written if line.get("route") == "/v1/chat/completions"] == [trace]


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({}, "loggia"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=of-attributes,team=a"}, "of-attributes"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=of-attributes", "OTEL_SERVICE_NAME": "gateway"}, "gateway"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "team=a", "OTEL_SERVICE_NAME": ""}, "loggia"),
    ],
)
def test_the_service_has_the_name_that_the_variables_give_it(variables, name):
    seen = []
    with engine(seen) as upstream, collecting() as (collector, endpoint):
        with loggia("--openai", f"gpu={upstream}/v1", "--otlp-endpoint", endpoint, environment=variables) as url, client_of(url) as client:
            posted(seen, "/v1/chat/completions", chat(client, {}))
    assert collector.spans() and collector.service() == name


def test_each_attempt_has_a_span_also_at_a_node_that_was_added_while_the_program_ran(tmp_path):
    seen = []
    key = keys(tmp_path, "create", "ops", "--scope", "admin", "--scope", "chat")
    with engine(seen, is_busy=True) as busy, engine(seen) as added, collecting() as (collector, endpoint):
        with loggia("--openai", f"gpu={busy}/v1", "--otlp-endpoint", endpoint, data=tmp_path) as url, client_of(url, key) as client:
            with pytest.raises(openai.APIStatusError):
                chat(client, {"traceparent": PARENT})()
            node = json.dumps({"backend": "gpu", "url": f"{added}/v1"}).encode()
            headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
            urllib.request.urlopen(urllib.request.Request(f"{url}/admin/nodes", node, headers)).close()
            headers = posted(seen, "/v1/chat/completions", chat(client, {"traceparent": PARENT}))
    calls = [span for span in collector.spans() if span.kind == Span.SPAN_KIND_CLIENT]
    failed, answered = calls[0], calls[-1]
    assert attributes(failed)["server.port"] == int(busy.rsplit(":", 1)[1])
    assert attributes(failed)["error.type"] == "busy"
    assert attributes(answered)["server.port"] == int(added.rsplit(":", 1)[1]) and "error.type" not in attributes(answered)
    assert headers["traceparent"].split("-")[2] == answered.span_id.hex()


def test_a_collector_that_is_away_stops_neither_requests_nor_the_end(tmp_path):
    seen, log = [], tmp_path / "log"
    endpoint = script.refused_address()
    with engine(seen) as upstream, loggia("--openai", f"gpu={upstream}/v1", "--otlp-endpoint", endpoint, log=log) as url, client_of(url) as client:
        for _ in range(20):
            posted(seen, "/v1/chat/completions", chat(client, {}))
    assert log.read_text().count("spans for the OpenTelemetry collector are dropped") == 1


def test_ollama_gets_the_trace_of_a_client_too():
    seen = []
    with engine(seen) as upstream, loggia("--ollama", upstream) as url, client_of(url) as client:
        headers = {"traceparent": PARENT, "x-own": "1"}
        got = posted(seen, "/api/chat", chat(client, headers))
        assert got["traceparent"] == PARENT and "x-own" not in got
        got = posted(seen, "/api/embed", lambda: client.embeddings.create(model="m", input="x", extra_headers=headers))
        assert got["traceparent"] == PARENT
