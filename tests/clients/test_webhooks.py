"""Webhooks through the official Python client: endpoints, events about background responses and batches that the
client verifies, attempts after a failure, and a kill."""

import contextlib
import http.server
import json
import queue
import threading

import openai
import pytest

import official
import scripted_model
from scripted_model import Said
from targets import killed, loggia

RESPONSES = ["response.completed", "response.failed", "response.cancelled", "response.incomplete"]
BATCHES = ["batch.completed", "batch.failed", "batch.cancelled", "batch.expired"]


class Receiver:
    """A server that gets webhooks: answers with the statuses of a list, then with its usual one."""

    def __init__(self):
        self.got, self.statuses, self.usual = queue.Queue(), [], 200
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.got.put((dict(self.headers), body))
                self.send_response(receiver.statuses.pop(0) if receiver.statuses else receiver.usual)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        self.url = f"http://127.0.0.1:{self.port}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def next(self) -> tuple[dict, bytes]:
        return self.got.get(timeout=30)


@pytest.fixture
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()


@contextlib.contextmanager
def engine(receiver, folder, says=lambda _: Said("Whales sing.")):
    """The arguments of a loggia that may call the receiver, in front of a scripted model."""
    config = folder / "loggia.toml"
    config.write_text(f'[images]\nports = [{receiver.port}]\nnetworks = ["127.0.0.1/32"]\n')
    with scripted_model.engine("ollama", says) as (arguments, _):
        yield [*arguments, "--config", str(config)]


@pytest.fixture
def client(receiver, tmp_path):
    with engine(receiver, tmp_path) as arguments, loggia(*arguments, data=tmp_path) as url:
        yield official.client(url)


def in_background(client):
    return client.responses.create(model="m", input="How do whales talk?", background=True)


def test_an_event_is_verified_by_the_client_and_no_other_secret_does(client, receiver):
    endpoint = client.webhooks.create(name="mine", url=receiver.url, event_types=RESPONSES)
    response = in_background(client)
    headers, body = receiver.next()
    event = client.webhooks.unwrap(body, headers, secret=endpoint.signing_secret)
    assert (event.type, event.object, event.data.id) == ("response.completed", "event", response.id)
    assert set(json.loads(body)) == {"id", "object", "created_at", "type", "data"}
    assert client.responses.retrieve(response.id).output_text == "Whales sing."
    other = client.webhooks.create(name="other", url=receiver.url, event_types=BATCHES)
    for wrong, payload in ((other.signing_secret, body), (endpoint.signing_secret, body.replace(b"completed", b"cancelled"))):
        with pytest.raises(openai.InvalidWebhookSignatureError):
            client.webhooks.unwrap(payload, headers, secret=wrong)


def test_a_failed_attempt_is_made_again_and_a_deleted_endpoint_gets_no_more(client, receiver):
    endpoint = client.webhooks.create(name="mine", url=receiver.url, event_types=RESPONSES)
    receiver.statuses = [500, 302]
    in_background(client)
    attempts = [receiver.next() for _ in range(3)]
    assert len({headers["webhook-id"] for headers, _ in attempts}) == 1
    assert len({body for _, body in attempts}) == 1
    for headers, body in attempts:
        client.webhooks.verify_signature(body, headers, secret=endpoint.signing_secret)
    receiver.usual = 503
    in_background(client)
    receiver.next()
    assert client.webhooks.delete(endpoint.id).deleted
    receiver.usual = 200
    last = client.webhooks.create(name="last", url=receiver.url, event_types=RESPONSES)
    response = in_background(client)
    headers, body = receiver.next()
    assert client.webhooks.unwrap(body, headers, secret=last.signing_secret).data.id == response.id


def test_a_batch_sends_its_end(client, receiver):
    endpoint = client.webhooks.create(name="mine", url=receiver.url, event_types=BATCHES)
    line = {"custom_id": "1", "method": "POST", "url": "/v1/responses", "body": {"model": "m", "input": "Hi"}}
    for content, expected in ((json.dumps(line), "batch.completed"), ("", "batch.failed")):
        file = client.files.create(file=("lines.jsonl", content.encode() or b"\n"), purpose="batch")
        batch = client.batches.create(input_file_id=file.id, endpoint="/v1/responses", completion_window="24h")
        headers, body = receiver.next()
        event = client.webhooks.unwrap(body, headers, secret=endpoint.signing_secret)
        assert (event.type, event.data.id) == (expected, batch.id)
        assert f"batch.{client.batches.retrieve(batch.id).status}" == expected


def test_endpoints_are_listed_changed_tested_and_rotated(client, receiver):
    assert sorted(client.webhooks.event_types.list().data) == sorted(RESPONSES + BATCHES)
    first, second = (client.webhooks.create(name=name, url=receiver.url, event_types=BATCHES) for name in ("first", "second"))
    assert [one.id for one in client.webhooks.list(limit=1)] == [second.id, first.id]
    changed = client.webhooks.update(first.id, event_types=RESPONSES)
    assert client.webhooks.retrieve(first.id) == changed
    assert (changed.event_types, changed.name, changed.url) == (RESPONSES, "first", receiver.url)
    rotated = client.webhooks.rotate_secret(first.id, keep_old_secret_active_for_24_hours=True)
    assert client.webhooks.test(first.id, event_type="batch.failed").status_code == 200
    headers, body = receiver.next()
    for secret in (first.signing_secret, rotated.signing_secret):
        assert client.webhooks.unwrap(body, headers, secret=secret).type == "batch.failed"
    again = client.webhooks.rotate_secret(first.id)
    client.webhooks.test(first.id, event_type="response.failed")
    headers, body = receiver.next()
    client.webhooks.verify_signature(body, headers, secret=again.signing_secret)
    with pytest.raises(openai.InvalidWebhookSignatureError):
        client.webhooks.verify_signature(body, headers, secret=rotated.signing_secret)


def test_a_response_whose_server_is_killed_has_failed_and_nobody_has_to_fetch_it(receiver, tmp_path):
    asked, ends = threading.Event(), threading.Event()

    def never_answers(_):
        asked.set()
        ends.wait(120)
        return Said("Too late.")

    with engine(receiver, tmp_path, never_answers) as arguments:
        with killed(*arguments, data=tmp_path) as url:
            client = official.client(url)
            endpoint = client.webhooks.create(name="mine", url=receiver.url, event_types=RESPONSES)
            response = in_background(client)
            assert asked.wait(30)
        with loggia(*arguments, data=tmp_path) as url:
            headers, body = receiver.got.get(timeout=90)
            failed = official.client(url).responses.retrieve(response.id)
            assert receiver.got.empty()
        ends.set()
    event = official.client("http://unused").webhooks.unwrap(body, headers, secret=endpoint.signing_secret)
    assert (event.type, event.data.id) == ("response.failed", response.id)
    assert (failed.status, failed.error.message) == ("failed", "The server was stopped before the response ended.")


def test_an_event_survives_a_kill(receiver, tmp_path):
    with engine(receiver, tmp_path) as arguments:
        with killed(*arguments, data=tmp_path) as url:
            client = official.client(url)
            endpoint = client.webhooks.create(name="mine", url=receiver.url, event_types=RESPONSES)
            receiver.usual = 503
            response = in_background(client)
            first, _ = receiver.next()
            # The next attempt is stored when the server is killed, or its hold runs out.
        receiver.usual = 200
        with loggia(*arguments, data=tmp_path):
            headers, body = receiver.got.get(timeout=90)
        event = official.client("http://unused").webhooks.unwrap(body, headers, secret=endpoint.signing_secret)
        assert (event.type, event.data.id) == ("response.completed", response.id)
        assert headers["webhook-id"] == first["webhook-id"]
