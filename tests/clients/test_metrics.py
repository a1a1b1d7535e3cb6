"""`/metrics`, read by the parser of Prometheus's own Python client."""

import re
import urllib.error
import urllib.request

import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

import questions
from targets import MODEL, REPOSITORY, fetch, loggia, status_of

CHAT = "/v1/chat/completions"


class Scrape:
    """The metrics of one moment."""

    def __init__(self, url: str, headers: dict | None = None):
        request = urllib.request.Request(f"{url}/metrics", headers=headers or {})
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
            self.text = answer.read().decode()
        self.families = {family.name: family for family in text_string_to_metric_families(self.text)}
        self.samples = [sample for family in self.families.values() for sample in family.samples]

    def value(self, name: str, **labels: str) -> float | None:
        """The value of the series with exactly these labels."""
        values = [sample.value for sample in self.samples if sample.name == name and sample.labels == labels]
        assert len(values) <= 1, "a series occurs twice"
        return values[0] if values else None


@pytest.fixture(scope="module")
def embedded():
    arguments = ["--model", str(MODEL), "--context", "2048", "--parallel", "2", "--threads", "1", "--alias", "gpt-*=smollm2:135m"]
    with loggia(*arguments) as url:
        yield url


@pytest.fixture
def client(embedded):
    with openai.OpenAI(base_url=f"{embedded}/v1", api_key="unused", max_retries=0, timeout=120) as client:
        yield client


def name_of(url: str) -> str:
    return fetch(f"{url}/v1/models")["data"][0]["id"]


def test_the_tokens_and_times_of_an_answer_are_those_that_its_client_saw(embedded, client):
    model = name_of(embedded)
    labels = {"model": model, "backend": "embedded"}
    before = Scrape(embedded)
    usage = client.chat.completions.create(model=model, max_tokens=5, **questions.STORY).usage
    stream = client.chat.completions.create(model=model, max_tokens=5, stream=True, stream_options={"include_usage": True}, **questions.STORY)
    streamed = [chunk for chunk in stream][-1].usage
    after = Scrape(embedded)

    def grown(name: str, **labels: str) -> float:
        return (after.value(name, **labels) or 0) - (before.value(name, **labels) or 0)

    assert grown("loggia_prompt_tokens_total", **labels) == usage.prompt_tokens + streamed.prompt_tokens
    assert grown("loggia_completion_tokens_total", **labels) == usage.completion_tokens + streamed.completion_tokens
    cached = [answer.prompt_tokens_details.cached_tokens for answer in (usage, streamed)]
    assert grown("loggia_cached_prompt_tokens_total", **labels) == sum(cached) > 0
    assert grown("loggia_prompt_cache_hits_total", **labels) == sum(tokens > 0 for tokens in cached)
    assert grown("loggia_requests_total", route=CHAT, status="200", outcome="complete", **labels) == 2
    assert grown("loggia_request_duration_seconds_count", route=CHAT) == 2
    assert grown("loggia_queue_wait_seconds_count", **labels) == 2
    assert grown("loggia_time_to_first_token_seconds_count", **labels) == 1
    assert grown("loggia_time_per_output_token_seconds_count", **labels) == 1
    assert 0 < grown("loggia_time_to_first_token_seconds_sum", **labels) < 60


def test_messages_and_responses_count_too(embedded, client):
    model = name_of(embedded)
    before = Scrape(embedded)
    client.responses.create(model=model, input="Say hello.", max_output_tokens=16, store=False)
    fetch(f"{embedded}/v1/messages", {"model": model, "max_tokens": 3, "messages": [{"role": "user", "content": "Hello"}]})
    after = Scrape(embedded)
    for route in ("/v1/responses", "/v1/messages"):
        labels = {"route": route, "model": model, "backend": "embedded", "status": "200", "outcome": "complete"}
        assert (after.value("loggia_requests_total", **labels) or 0) - (before.value("loggia_requests_total", **labels) or 0) == 1


def test_a_stream_is_in_flight_while_it_runs_and_abandoned_if_its_client_leaves(embedded, client):
    model = name_of(embedded)
    stream = client.chat.completions.create(model=model, stream=True, **(questions.DRAGON | {"max_tokens": 1500}))
    next(iter(stream))
    during = Scrape(embedded)
    assert during.value("loggia_streams_in_flight") == 1
    assert during.value("loggia_engine_requests_running", model=model) == 1
    stream.close()
    labels = {"route": CHAT, "model": model, "backend": "embedded", "status": "200", "outcome": "abandoned"}
    for _ in range(1000):
        after = Scrape(embedded)
        if after.value("loggia_streams_in_flight") == 0:
            break
    assert after.value("loggia_requests_total", **labels) == 1


def test_the_embedded_engine_has_its_metrics(embedded):
    scrape = Scrape(embedded)
    model = name_of(embedded)
    assert scrape.value("loggia_engine_up", model=model) == 1
    assert scrape.value("loggia_engine_memory_bytes", model=model) > MODEL.stat().st_size / 2
    version = re.search(r'^version = "(.*)"', (REPOSITORY / "Cargo.toml").read_text(), re.MULTILINE)[1]
    assert scrape.value("loggia_build_info", version=version) == 1
    assert scrape.value("process_resident_memory_bytes") > 1e6
    assert scrape.value("process_cpu_seconds_total") > 0
    assert scrape.families["process_cpu_seconds"].type == "counter"


def test_errors_have_openais_code_and_unknown_names_make_no_series(embedded, client):
    names = [f"my-secret-{number}" for number in range(3)]
    for name in names:
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model=name, messages=[{"role": "user", "content": "a secret"}])
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model=name_of(embedded), messages=[])
    with pytest.raises(openai.NotFoundError):
        client.get("/secret", cast_to=object)
    scrape = Scrape(embedded)
    assert scrape.value("loggia_errors_total", route=CHAT, code="model_not_found") == 3
    assert scrape.value("loggia_requests_total", route=CHAT, model="other", backend="", status="404", outcome="failed") == 3
    assert scrape.value("loggia_errors_total", route="other", code="unknown_url") == 1
    assert "secret" not in scrape.text


def test_an_alias_is_counted_as_the_model_behind_it(embedded, client):
    client.chat.completions.create(model="gpt-metrics", max_tokens=1, messages=[{"role": "user", "content": "x"}])
    assert "gpt-metrics" not in Scrape(embedded).text


def test_with_keys_a_scraper_needs_one_unless_metrics_have_their_own_address(tmp_path):
    log, config = tmp_path / "log", tmp_path / "loggia.toml"
    config.write_text('[[key]]\nname = "prometheus"\nscopes = ["metrics"]\n[[key]]\nname = "alice"\n')
    keys = {"LOGGIA_CONFIG": str(config), "LOGGIA_KEY_PROMETHEUS": "a-long-and-random-key", "LOGGIA_KEY_ALICE": "another-random-key"}
    with loggia("--openai", "none=http://127.0.0.1:9/v1", environment=keys, until="/healthz") as url:
        assert status_of(f"{url}/metrics") == 401
        with pytest.raises(urllib.error.HTTPError, match="403"):
            Scrape(url, {"authorization": "Bearer another-random-key"})
        scrape = Scrape(url, {"authorization": "Bearer a-long-and-random-key"})
        assert scrape.value("loggia_errors_total", route="/metrics", code="invalid_api_key") == 1
        assert "prometheus" not in scrape.text and "random-key" not in scrape.text
    apart = ["--openai", "none=http://127.0.0.1:9/v1", "--metrics-listen", "127.0.0.1:0"]
    with loggia(*apart, environment=keys, until="/healthz", log=log) as url:
        own = re.search(r"metrics at (http://[0-9.:]+)/metrics", log.read_text())[1]
        assert Scrape(own).value("loggia_connections") is not None
        assert status_of(f"{url}/metrics") == 401
        assert status_of(f"{own}/v1/models") == 404


def away():
    """A server whose two nodes are away, with a queue before them, and a backend by a DNS name."""
    nodes = [f"gpu=http://127.0.0.1:{port}/v1" for port in (9, 10)]
    backends = ("--openai", nodes[0], "--openai", nodes[1], "--ollama", "named=dns+http://localhost:9")
    return loggia(*backends, "--at-once", "2", until="/healthz")


def test_nodes_and_queues_have_gauges():
    with away() as url:
        assert status_of(f"{url}/readyz") == 503
        scrape = Scrape(url)
        for node in ("1", "2"):
            assert scrape.value("loggia_node_up", backend="gpu", node=node) == 0
            assert scrape.value("loggia_node_requests_in_flight", backend="gpu", node=node) == 0
        assert scrape.value("loggia_dns_up", host="localhost") == scrape.value("loggia_dns_addresses", host="localhost") == 1
        assert scrape.value("loggia_queue_requests_running", backend="gpu") == 0
        assert scrape.value("loggia_queue_requests_waiting", backend="gpu") == 0


def test_metrics_can_be_turned_off():
    with loggia("--openai", "none=http://127.0.0.1:9/v1", "--metrics=false", until="/healthz") as url:
        assert status_of(f"{url}/metrics") == 404


def test_the_dashboard_and_the_alerts_ask_for_metrics_that_exist(embedded, client):
    model = name_of(embedded)
    for _ in range(2):
        list(client.chat.completions.create(model=model, max_tokens=5, stream=True, **questions.STORY))
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="missing", **questions.STORY)
    served = {sample.name for sample in Scrape(embedded).samples}
    with away() as url:
        served |= {sample.name for sample in Scrape(url).samples}
    for file in ("grafana/loggia.json", "prometheus/alerts.yaml", "helm/loggia/values.yaml"):
        asked = set(re.findall(r"\b(?:loggia|process)_[a-z_]+", (REPOSITORY / "deploy" / file).read_text()))
        assert asked and asked <= served, (file, asked - served)
