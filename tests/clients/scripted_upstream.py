"""An upstream that misbehaves on purpose: it reads one request a connection and does what its script says.

Only for tests of what a client gets then; a well-behaved Ollama is in `ollama_standin.py`.
"""

import contextlib
import json
import socket
import threading
import time

JSON_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def whole(status: str, body: bytes, content_type: str = "application/json") -> bytes:
    head = f"HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    return head.encode() + body


# What it takes for loggia to believe in a model `m` here.
TAGS = whole("200 OK", json.dumps({"models": [{"name": "m", "model": "m", "modified_at": "2026-11-22T00:00:00Z"}]}).encode())
SHOW = whole("200 OK", json.dumps({"capabilities": ["completion"], "model_info": {}, "details": {}}).encode())


@contextlib.contextmanager
def upstream(answers: dict[str, bytes | list[bytes]], silent_after: bool = False, asked: list[float] | None = None):
    """Serves on a free port. `answers`: for each path the bytes to send, and then to close; or, for a chat, to stay silent until the end.
    A list is sent one after the other, the last one ever after. `asked` is told when each chat came."""
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def answer_to(path: str) -> bytes:
        answer = answers.get(path, whole("404 Not Found", b"404 page not found", "text/plain"))
        if isinstance(answer, bytes):
            return answer
        return answer.pop(0) if len(answer) > 1 else answer[0]

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            path = request_path(connection)
            if asked is not None and path == "/api/chat":
                asked.append(time.monotonic())
            connection.sendall(answer_to(path))
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


def request_path(connection: socket.socket) -> str:
    """Reads one whole request and gives its path."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    while lengths and len(body) < lengths[0]:
        body += connection.recv(65536)
    return head.split(b" ")[1].decode()


@contextlib.contextmanager
def full_backlog():
    """An address that takes no more connections: the kernel holds as many as it was told to, and nobody accepts them."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, contextlib.ExitStack() as waiting:
        for _ in range(8):
            client = waiting.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        yield "http://127.0.0.1:%d" % listener.getsockname()[1]


def refused_address() -> str:
    """An address at which nothing listens: it was free a moment ago, and nobody here takes it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return "http://127.0.0.1:%d" % listener.getsockname()[1]
