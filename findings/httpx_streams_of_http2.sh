#!/usr/bin/env bash
# Over HTTP/2, OpenAI's Python SDK does not tell the server that it closes a stream, and gives up
# every stream of a connection when the server says that it will close the connection.
#
# Packages: openai 3.57.0 with httpx2 2.16.2 and h2 4.4.1 (pip)
# Input: an `OpenAI` client with `DefaultHttpxClient(http1=False, http2=True)` and a server that
#   streams two chats on one connection. The program closes the first one after a piece. During the
#   second one the server sends GOAWAY with the number of that stream, and then its last piece.
# Seen: the first stream gets no RST_STREAM; the next request comes on the same connection. The
#   second stream fails at GOAWAY (`RemoteProtocolError: <ConnectionTerminated …>`).
# A good guess: `stream.close()` resets the stream, as it closes the connection of HTTP/1.1; streams
#   up to the number in GOAWAY finish (RFC 9113, section 6.8).
# Why it matters: an engine works on an answer that nobody reads until it ends or the client's window
#   of 64 KiB is full; such a stream must not stay for ever. A server that stops must send GOAWAY as
#   late as it can, and not in the same packet as the end of an answer.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check openai==3.57.0 httpx2==2.16.2 httpcore2==2.16.2 h2==4.4.1 >&2
venv/bin/python - <<'PY'
import json, queue, socket, threading
import h2.config, h2.connection, h2.events, openai
from hyperframe.frame import DataFrame, GoAwayFrame


def event(word):
    choice = {"index": 0, "delta": {"content": word}, "finish_reason": None}
    return b"data: " + json.dumps({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}).encode() + b"\n\n"


seen, connections = queue.Queue(), []
listener = socket.create_server(("127.0.0.1", 0))


def serve(connection):
    state = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    state.initiate_connection()
    connection.sendall(state.data_to_send())
    while data := connection.recv(65536):
        for got in state.receive_data(data):
            if isinstance(got, h2.events.StreamReset):
                seen.put(("reset", got.stream_id))
            if isinstance(got, h2.events.StreamEnded):
                state.send_headers(got.stream_id, [(":status", "200"), ("content-type", "text/event-stream")])
                state.send_data(got.stream_id, event("one"))
                seen.put(("asked", got.stream_id))
        connection.sendall(state.data_to_send())


def accept():
    while True:
        connection, _ = listener.accept()
        connections.append(connection)
        threading.Thread(target=serve, args=(connection,), daemon=True).start()


threading.Thread(target=accept, daemon=True).start()
url = "http://127.0.0.1:%d/v1" % listener.getsockname()[1]
http_client = openai.DefaultHttpxClient(http1=False, http2=True)
client = openai.OpenAI(base_url=url, api_key="unused", max_retries=0, timeout=20, http_client=http_client)


def begin():
    stream = client.chat.completions.create(model="m", stream=True, messages=[{"role": "user", "content": "x"}])
    assert next(stream).choices[0].delta.content == "one"
    return stream


first = begin()
assert seen.get(timeout=20) == ("asked", 1)
first.close()
second = begin()
# In the order of the connection: had the first stream been reset, that would come before.
assert seen.get(timeout=20) == ("asked", 3), "the stream was reset"
assert len(connections) == 1
connections[0].sendall(GoAwayFrame(0, last_stream_id=3).serialize())
connections[0].sendall(DataFrame(3, data=event("two") + b"data: [DONE]\n\n", flags=["END_STREAM"]).serialize())
try:
    rest = [chunk.choices[0].delta.content for chunk in second]
except Exception as error:
    assert "ConnectionTerminated" in str(error) or "CLOSED" in str(error), repr(error)
    print("as described: no reset, and the stream failed at GOAWAY:", type(error).__name__)
else:
    raise AssertionError(f"the stream went on: {rest}")
PY
