"""Batches of messages through Anthropic's Python SDK, in front of the Ollama stand-in: the results, a kill, canceling,
and what the folder contains."""

import contextlib
import time

import anthropic
import pytest

import questions
from targets import HERE, loggia, printing_its_address

MODEL = "smollm2:135m"


@pytest.fixture(scope="module")
def upstream():
    with printing_its_address(HERE / "ollama_standin.py") as upstream:
        yield upstream


@contextlib.contextmanager
def served(upstream, folder):
    """The client of a loggia that keeps its batches in a folder."""
    with loggia("--ollama", upstream, data=folder) as url:
        with anthropic.Anthropic(base_url=url, api_key="unused", max_retries=0, _strict_response_validation=True) as client:
            yield client


def request(custom_id: str, **more) -> dict:
    return {"custom_id": custom_id, "params": {"model": MODEL, **questions.CAPITAL, **more}}


def ended(client, batch):
    while batch.processing_status != "ended":
        assert batch.results_url is None and batch.ended_at is None
        time.sleep(0.1)
        batch = client.messages.batches.retrieve(batch.id)
    return batch


def contents(folder) -> list:
    return [path for path in (folder / "files").rglob("*") if path.is_file() and path.name != "lock"]


@pytest.mark.parametrize("resource", ["messages", "beta"])
def test_a_batch_of_messages_is_made_listed_and_deleted(upstream, tmp_path, resource):
    with served(upstream, tmp_path) as client:
        batches = (client.beta if resource == "beta" else client).messages.batches
        requests = [request("good"), request("no-limit", max_tokens=-1), request("no-model", model="nowhere")]
        batch = batches.create(requests=requests)
        assert batch.id.startswith("msgbatch_") and batch.type == "message_batch"
        with pytest.raises(anthropic.AnthropicError):
            batches.results(batch.id)
        batch = ended(client, batch)
        counts = batch.request_counts
        assert (counts.succeeded, counts.errored, counts.processing) == (1, 2, 0)
        assert batch.created_at < batch.expires_at and batch.ended_at is not None
        results = {line.custom_id: line.result for line in batches.results(batch.id)}
        assert results["good"].message.content[0].text and results["good"].message.usage.output_tokens > 0
        assert results["no-limit"].error.error.type == "invalid_request_error"
        assert results["no-model"].error.error.type == "not_found_error"
        assert [one.id for one in batches.list(limit=1)] == [batch.id]
        assert batches.delete(batch.id).type == "message_batch_deleted"
        with pytest.raises(anthropic.NotFoundError) as missing:
            batches.retrieve(batch.id)
        assert missing.value.body["error"]["type"] == "not_found_error"
        assert list(batches.list()) == []
        assert contents(tmp_path) == []


def test_a_batch_of_messages_survives_a_kill_and_is_canceled(upstream, tmp_path):
    with served(upstream, tmp_path) as client:
        batch = client.messages.batches.create(requests=[request(f"r-{number}") for number in range(60)])
    with served(upstream, tmp_path) as client:
        batch = ended(client, client.messages.batches.retrieve(batch.id))
        assert batch.request_counts.succeeded == 60
        results = list(client.messages.batches.results(batch.id))
        assert sorted(line.custom_id for line in results) == sorted(f"r-{number}" for number in range(60))
        assert {line.result.type for line in results} == {"succeeded"}
        many = client.messages.batches.create(requests=[request(f"r-{number}") for number in range(2000)])
        assert client.messages.batches.cancel(many.id).processing_status == "canceling"
        with pytest.raises(anthropic.BadRequestError):
            client.messages.batches.delete(many.id)
        many = ended(client, many)
        counts = many.request_counts
        assert counts.canceled > 0 and counts.canceled + counts.succeeded == 2000
        kinds = [line.result.type for line in client.messages.batches.results(many.id)]
        assert (kinds.count("canceled"), kinds.count("succeeded")) == (counts.canceled, counts.succeeded)
        first, second = client.messages.batches.list(limit=1), client.messages.batches.list(limit=1, after_id=many.id)
        assert ([one.id for one in first.data], [one.id for one in second.data]) == ([many.id], [batch.id])
        assert [one.id for one in client.messages.batches.list(before_id=batch.id).data] == [many.id]
