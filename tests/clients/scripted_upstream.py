"""An upstream that misbehaves on purpose: it reads one request per connection and follows its script.

It is only for tests of what a client gets then. A well-behaved Ollama is in `ollama_standin.py`.
"""

import contextlib
import json
import socket
import threading
import time

JSON_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def whole(status: str, body: bytes, content_type: str = "application/json") -> bytes:
    head = f"HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    return head.encode() + body


def json_body(value: object, status: str = "200 OK") -> bytes:
    return whole(status, json.dumps(value).encode())


def tags(*models: str) -> bytes:
    return json_body({"models": [{"name": name, "model": name, "modified_at": "2026-11-22T00:00:00Z"} for name in models]})


def show(*capabilities: str) -> bytes:
    return json_body({"capabilities": ["completion", *capabilities], "model_info": {}, "details": {}})


def line(content: str = "Hi", done: bool = True, **message) -> dict:
    """Returns one line of Ollama's answer to a chat. The last line is a complete answer."""
    said = {"model": "m", "created_at": "2026-11-22T00:00:00Z", "message": {"role": "assistant", "content": content, **message}, "done": done}
    return said | ({"done_reason": "stop", "prompt_eval_count": 3, "eval_count": 2} if done else {})


def stream(*lines: dict) -> bytes:
    """Returns Ollama's stream, each line as one HTTP chunk."""
    return STREAM_HEAD + b"".join(chunk(json.dumps(each).encode() + b"\n") for each in lines) + b"0\r\n\r\n"


# The answers that make loggia find a model `m` here.
TAGS = tags("m")
SHOW = show()


def ollama(chat, *capabilities: str) -> dict:
    """Returns the paths of an Ollama with a model `m`, whose chats get this answer."""
    return {"/api/tags": TAGS, "/api/show": show(*capabilities), "/api/chat": chat}


def openai(chat, *models: str) -> dict:
    """Returns the paths of an engine with OpenAI's API and these models (by default `m`), whose chats get
    this answer."""
    listed = [{"id": model, "object": "model"} for model in models or ["m"]]
    return {"/v1/models": json_body({"object": "list", "data": listed}), "/v1/chat/completions": chat}


def openai_stream(*deltas: dict) -> bytes:
    """Returns such an engine's stream of these deltas."""
    about = {"id": "a", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    chunks = [about | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    chunks.append(about | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    chunks.append(about | {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 9, "total_tokens": 12}})
    events = b"".join(b"data: " + json.dumps(each).encode() + b"\n\n" for each in chunks) + b"data: [DONE]\n\n"
    return whole("200 OK", events, "text/event-stream")


def openai_whole(message: dict, **usage) -> bytes:
    """Returns such an engine's complete answer with this message. `usage` replaces or adds fields of its
    usage."""
    usage = {"prompt_tokens": 3, "completion_tokens": 9, "total_tokens": 12} | usage
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop"}
    return json_body({"id": "a", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage})


@contextlib.contextmanager
def upstream(answers: dict, silent_after: bool = False, asked: list[float] | None = None):
    """Serves on a free port. `answers` has the bytes for each path, after which the connection is closed; a
    chat can also stay silent until the end. A list is sent item by item, the last one for ever; a function
    makes the bytes from the request's body. `asked` gets the time of each chat."""
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def answer_to(path: str, body: bytes) -> bytes:
        answer = answers.get(path, whole("404 Not Found", b"404 page not found", "text/plain"))
        if isinstance(answer, bytes):
            return answer
        if callable(answer):
            return answer(body)
        return answer.pop(0) if len(answer) > 1 else answer[0]

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            path, body = read_request(connection)
            if asked is not None and path == "/api/chat":
                asked.append(time.monotonic())
            connection.sendall(answer_to(path, body))
            if silent_after and path == "/api/chat":
                over.wait(60)
            connection.shutdown(socket.SHUT_WR)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield "http://127.0.0.1:%d" % listener.getsockname()[1]
    finally:
        over.set()
        listener.close()


def read_request(connection: socket.socket) -> tuple[str, bytes]:
    """Reads one complete request, and returns its path and body."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    while lengths and len(body) < lengths[0]:
        body += connection.recv(65536)
    return head.split(b" ")[1].decode(), body


@contextlib.contextmanager
def full_backlog():
    """Yields an address that accepts no more connections: the kernel's queue is full, and nobody accepts from
    it."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, contextlib.ExitStack() as waiting:
        for _ in range(8):
            client = waiting.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        yield "http://127.0.0.1:%d" % listener.getsockname()[1]


def refused_address() -> str:
    """Returns an address without a listener. It was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return "http://127.0.0.1:%d" % listener.getsockname()[1]
