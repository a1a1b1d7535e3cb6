"""The proxy between the clients and Loggia (`relay.py`): it reports violations of the specification, and
forwards all bytes unchanged.

The test is both ends: the client on one side, Loggia on the other. So it knows what has arrived before it
sends more.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
from urllib.parse import urlsplit

import pytest

import openai_spec
from targets import HERE, STOP_LIMIT

LIMIT = 20.0

# The part of the specification that these tests need, if OpenAI's own is missing.
CHOICE = {"type": "object", "properties": {"index": {"type": "integer"}}, "required": ["index"]}
ANSWER = {
    "type": "object",
    "properties": {"id": {"type": "string"}, "choices": {"type": "array", "items": CHOICE}, "created": {"type": "integer"}},
    "required": ["id", "choices", "created", "model", "object"],
}
TEXT_OR_NULL = {"type": ["string", "null"]}
ERROR = {"type": "object", "properties": {"message": {"type": "string"}, "code": TEXT_OR_NULL}, "required": ["type", "message", "param", "code"]}
SMALL_SPEC = {"components": {"schemas": {"CreateChatCompletionResponse": ANSWER, "CreateChatCompletionStreamResponse": ANSWER, "Error": ERROR}}}

REQUEST = b"POST /v1/chat/completions HTTP/1.1\r\nhost: loggia\r\ncontent-length: 2\r\n\r\n{}"

MESSAGE = {"role": "assistant", "content": "Paris.", "refusal": None}
WHOLE = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": MESSAGE, "logprobs": None, "finish_reason": "stop"}],
}
CHUNK = {
    "id": "chatcmpl-1",
    "object": "chat.completion.chunk",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "delta": {"content": "Paris."}, "finish_reason": None}],
}
REFUSAL = {"error": {"message": "no such model", "type": "invalid_request_error", "param": "model", "code": "model_not_found"}}


class Ends:
    """Both ends of the proxy, and its report when it is stopped."""

    def __init__(self, process: subprocess.Popen, listener: socket.socket):
        self.process, self.listener = process, listener
        address = urlsplit(process.stdout.readline().decode().strip())
        self.address = (address.hostname, address.port)

    @contextlib.contextmanager
    def connected(self):
        """Yields a connection through the proxy, as the client and as Loggia see it."""
        with socket.create_connection(self.address, LIMIT) as client, self.listener.accept()[0] as loggia:
            loggia.settimeout(LIMIT)
            yield client, loggia

    def answered(self, answer: bytes) -> dict:
        """Returns the report after this answer to a chat, which the client has received completely."""
        with self.connected() as (client, loggia):
            client.sendall(REQUEST)
            assert received(loggia, len(REQUEST)) == REQUEST
            loggia.sendall(answer)
            loggia.shutdown(socket.SHUT_WR)
            assert until_its_end(client) == answer
        return self.report()

    def report(self) -> dict:
        told, _ = self.process.communicate(timeout=STOP_LIMIT)
        return json.loads(told)


@pytest.fixture(params=["small"] + (["openai"] if openai_spec.SPEC else []))
def ends(request, tmp_path):
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps(SMALL_SPEC))
    environment = os.environ | {"OPENAI_SPEC": str(spec) if request.param == "small" else openai_spec.SPEC}
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(LIMIT)
        command = [sys.executable, str(HERE / "relay.py"), "http://127.0.0.1:%d" % listener.getsockname()[1]]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        try:
            yield Ends(process, listener)
        finally:
            process.kill()
            process.wait()


def test_what_is_as_the_spec_has_it_is_counted_and_nothing_is_told(ends):
    told = ends.answered(stream(CHUNK, CHUNK))

    assert told == {"checked": 2, "faults": []}


@pytest.mark.parametrize("missing", ["id", "created", "choices"])
def test_a_field_that_is_missing_is_told(ends, missing):
    told = ends.answered(whole("200 OK", {key: value for key, value in WHOLE.items() if key != missing}))

    (fault,) = told["faults"]
    assert fault.startswith("POST /v1/chat/completions: 200") and f"'{missing}'" in fault, fault


def test_a_wrong_type_in_one_chunk_of_many_is_told_with_its_place(ends):
    wrong = CHUNK | {"choices": [CHUNK["choices"][0] | {"index": "0"}]}

    told = ends.answered(stream(CHUNK, wrong, CHUNK))

    (fault,) = told["faults"]
    assert "'choices/0/index'" in fault, fault
    assert told["checked"] == 2


@pytest.mark.parametrize(
    "body",
    [{"error": "no such model"}, {"message": "no such model"}, {"error": {"message": "no such model", "type": "x", "code": 404}}],
)
def test_an_error_of_another_shape_is_told(ends, body):
    (fault,) = ends.answered(whole("404 Not Found", body))["faults"]

    assert fault.startswith("POST /v1/chat/completions: 404"), fault


def test_an_error_within_a_stream_is_held_against_the_spec_too(ends):
    assert len(ends.answered(stream(CHUNK, {"error": "broke off"}))["faults"]) == 1


def test_a_body_that_is_no_json_is_told(ends):
    assert len(ends.answered(whole("502 Bad Gateway", b"<html>"))["faults"]) == 1


@pytest.mark.parametrize("tail", [b"data: {}\n\n", b"event: x\ndata: {}\n\n", b"data: {"])
def test_what_is_no_event_of_such_a_stream_is_told(ends, tail):
    assert len(ends.answered(head_of_a_stream() + chunked(events(CHUNK) + b"data: [DONE]\n\n" + tail) + b"0\r\n\r\n")["faults"]) == 1


def test_answers_on_one_connection_are_held_each_against_its_own_question(ends):
    with ends.connected() as (client, loggia):
        for asked, answer in [(REQUEST, whole("200 OK", WHOLE)), (REQUEST, stream(CHUNK)), (REQUEST, whole("404 Not Found", REFUSAL))]:
            client.sendall(asked)
            assert received(loggia, len(asked)) == asked
            loggia.sendall(answer)
            assert received(client, len(answer)) == answer

    assert ends.report() == {"checked": 3, "faults": []}


def test_bytes_go_through_as_they_come_both_ways(ends):
    with ends.connected() as (client, loggia):
        # One byte at a time, each received before the next is sent: parsing holds nothing back.
        for byte in split(REQUEST):
            client.sendall(byte)
            assert received(loggia, 1) == byte
        for byte in split(stream(CHUNK)):
            loggia.sendall(byte)
            assert received(client, 1) == byte

    assert ends.report() == {"checked": 1, "faults": []}


def test_a_client_that_leaves_is_seen_to_leave(ends):
    with ends.connected() as (client, loggia):
        client.sendall(REQUEST)
        received(loggia, len(REQUEST))
        client.close()

        assert loggia.recv(1) == b""


def whole(status: str, body: dict | bytes) -> bytes:
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


def stream(*chunks: dict) -> bytes:
    return head_of_a_stream() + chunked(events(*chunks)) + chunked(b"data: [DONE]\n\n") + b"0\r\n\r\n"


def head_of_a_stream() -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def events(*chunks: dict) -> bytes:
    return b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks)


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def split(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def received(end: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (piece := end.recv(size - len(data))):
        data += piece
    return data


def until_its_end(end: socket.socket) -> bytes:
    data = b""
    while piece := end.recv(65536):
        data += piece
    return data
