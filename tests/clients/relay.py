"""A proxy between any client and a running loggia that checks all answers: the rules of streams, and OpenAI's
specification.

    relay.py http://127.0.0.1:11435

It forwards all bytes unchanged in both directions, and so the end of a connection: Loggia sees when a client
leaves. It parses the bytes on the side: each complete answer, each event of a stream as soon as it arrives,
and the body of each error. Streams of responses, over a WebSocket too, must follow the rules of `response_events.py`, those of messages the rules of `message_events.py`. If OPENAI_SPEC
is the path of OpenAI's specification, everything is compared with it too.

It listens on a free port and prints its address. When its standard input ends, it prints a line of JSON: the
number of checks against the specification, and the violations.
"""

import asyncio
import json
import re
import sys
from urllib.parse import parse_qs, urlsplit

import openai_spec
from message_events import MessageEvents
from response_events import ENDS, ResponseEvents

PIECE = 65536
LINGER = 5.0

# The first few are enough.
MOST_FAULTS = 20


class Unreadable(Exception):
    """Bytes that are not HTTP, so that nothing after them can be parsed."""


class Messages:
    """One direction of a connection, split into messages. Feed it bytes, and it calls `head`, `data` and
    `end` for each message."""

    def __init__(self):
        self.rest = b""
        self.step = self.in_head
        self.left = 0

    def feed(self, piece: bytes) -> None:
        self.rest += piece
        # Each step consumes some of the buffer and sets the next step. It returns False if it needs more bytes.
        while self.step():
            pass

    def take(self, end: bytes) -> bytes | None:
        taken, found, rest = self.rest.partition(end)
        if not found:
            return None
        self.rest = rest
        return taken

    def in_head(self) -> bool:
        head = self.take(b"\r\n\r\n")
        if head is None:
            return False
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        # "chunked", a number of bytes, or -1 if the body ends with the connection.
        length = self.head(first, headers)
        self.step = self.in_chunk_head if length == "chunked" else self.in_body if length else self.at_end
        self.left = length
        return True

    def in_body(self) -> bool:
        taken = self.rest if self.left < 0 else self.rest[: self.left]
        self.rest = self.rest[len(taken) :]
        self.data(taken)
        if self.left > 0:
            self.left -= len(taken)
            self.step = self.in_body if self.left else self.at_end
        return self.left == 0 or bool(self.rest)

    def in_chunk_head(self) -> bool:
        line = self.take(b"\r\n")
        if line is None:
            return False
        self.left = int(line.partition(b";")[0], 16)
        self.step = self.in_chunk if self.left else self.after_chunks
        return True

    def in_chunk(self) -> bool:
        if len(self.rest) < self.left + 2:
            return False
        self.data(self.rest[: self.left])
        self.rest = self.rest[self.left + 2 :]
        self.step = self.in_chunk_head
        return True

    def after_chunks(self) -> bool:
        # Loggia sends no trailers.
        if self.take(b"\r\n") is None:
            return False
        self.step = self.at_end
        return True

    def at_end(self) -> bool:
        self.step = self.in_head
        self.end()
        return bool(self.rest)


class Requests(Messages):
    """The client's requests. Keeps only method and path, for the answers."""

    def __init__(self):
        super().__init__()
        self.asked: list[tuple[str, str]] = []

    def head(self, first: str, headers: dict[str, str]) -> int | str:
        words = first.split(" ")
        length = headers.get("content-length", "0")
        if len(words) != 3 or not length.isdigit():
            raise Unreadable(first[:80])
        path = words[1]
        if "anthropic-version" in headers and not path.startswith("/v1/messages"):
            # The answer has Anthropic's form: OpenAI's specification says nothing about it.
            path = "/anthropic" + path
        self.asked.append((words[0], path))
        return "chunked" if "chunked" in headers.get("transfer-encoding", "") else int(length)

    def data(self, piece: bytes) -> None:
        pass

    def end(self) -> None:
        pass


class Answers(Messages):
    """Loggia's answers, checked as they arrive."""

    def __init__(self, requests: Requests, fault):
        super().__init__()
        self.requests = requests
        self.fault = fault
        # The checker of the current stream, if it is a response or a message.
        self.response: ResponseEvents | MessageEvents | None = None
        # The checkers of a WebSocket's lanes.
        self.lanes: dict[str | None, ResponseEvents] = {}

    def head(self, first: str, headers: dict[str, str]) -> int | str:
        self.status = int(first.split(" ")[1])
        if self.status == 101:
            self.asking = self.requests.asked.pop(0)
            return 0
        if self.status < 200:
            self.asking, self.body, self.is_stream = None, b"", False
            return 0
        if not self.requests.asked:
            # An answer to a request that could not be parsed.
            raise Unreadable(first)
        self.asking = self.requests.asked.pop(0)
        self.is_stream = headers.get("content-type", "").startswith("text/event-stream")
        self.body, self.done = b"", False
        self.response = events_of(*self.asking) if self.is_stream else None
        if self.asking[0] == "HEAD" or self.status in (204, 304):
            return 0
        if "chunked" in headers.get("transfer-encoding", ""):
            return "chunked"
        return int(headers.get("content-length", -1))

    def data(self, piece: bytes) -> None:
        self.body += piece
        while self.is_stream and b"\n\n" in self.body:
            event, _, self.body = self.body.partition(b"\n\n")
            self.event(event.decode())

    def event(self, event: str) -> None:
        if event.startswith(":"):
            return
        name = None
        if self.response is not None:
            # Events of responses and messages have an `event:` line.
            first, _, event = event.partition("\n")
            name = first.removeprefix("event: ")
        if self.done or not event.startswith("data: ") or "\n" in event:
            self.fault(self.asking, f"no event that belongs here: {event[:200]!r}")
            return
        data = event.removeprefix("data: ")
        self.done = data == "[DONE]"
        if name is not None and (self.done or json.loads(data)["type"] != name):
            self.fault(self.asking, f"an event called {name!r} is none of that name: {data[:200]!r}")
            return
        if self.response is not None:
            self.held(lambda: self.response.push(json.loads(data)))
        self.held(lambda: openai_spec.check_event(*self.asking, data))

    def in_frame(self) -> bool:
        """A frame of a WebSocket from the server: whole, and not masked."""
        if len(self.rest) < 10 and len(self.rest) < 2 + {126: 2, 127: 8}.get(self.rest[1] if len(self.rest) > 1 else 127, 0):
            return False
        size, start = self.rest[1], 2
        if size > 125:
            start = 4 if size == 126 else 10
            size = int.from_bytes(self.rest[2:start], "big")
        if len(self.rest) < start + size:
            return False
        if self.rest[0] == 0x81:
            self.held(lambda frame=self.rest[start : start + size]: self.frame(json.loads(frame)))
        self.rest = self.rest[start + size :]
        return True

    def frame(self, event: dict) -> None:
        lane = event.pop("stream_id", None)
        kind = event["type"]
        if kind in ("error", "response.steer.pending", "response.steer.failed"):
            self.lanes.pop(lane, None)
        elif kind == "response.steer.accepted" and lane not in self.lanes:
            pass  # The response ended before the input came.
        else:
            self.lanes.setdefault(lane, ResponseEvents()).push(event)
            if kind in ENDS:
                self.lanes.pop(lane).end()

    def end(self) -> None:
        if self.status == 101:
            self.step = self.in_frame
            return
        if self.asking is None or self.asking[0] == "HEAD":
            return
        if self.is_stream:
            if self.body:
                self.fault(self.asking, f"the stream ends within an event: {self.body[-200:]!r}")
            if self.response is not None:
                self.held(self.response.end)
            self.response = None
        elif (schema := openai_spec.schema_of_whole(*self.asking, self.status)) is not None:
            self.held(lambda: openai_spec.check_json(schema, self.body))

    def cut(self) -> None:
        """Loggia closed the connection while the client was still connected."""
        if self.response is not None:
            self.held(self.response.end)

    def held(self, check) -> None:
        try:
            check()
        except Exception as error:  # Any exception here means that the answer is wrong.
            place = "/".join(map(str, getattr(error, "absolute_path", ())))
            self.fault(self.asking, f"{self.status}, at '{place}': {str(error)[:500]}")


class Relay:
    def __init__(self, upstream: str):
        self.host, self.port = urlsplit(upstream).netloc.rsplit(":", 1)
        self.faults: list[str] = []

    def fault(self, asking, why: str) -> None:
        if len(self.faults) < MOST_FAULTS:
            self.faults.append(f"{' '.join(asking)}: {why}")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            back_reader, back_writer = await asyncio.open_connection(self.host, int(self.port))
        except OSError:
            writer.transport.abort()
            return
        requests = Requests()
        answers = Answers(requests, self.fault)
        ways = [asyncio.create_task(forward(reader, back_writer, requests)), asyncio.create_task(forward(back_reader, writer, answers))]
        # The connection ends when Loggia closes it, except for what the client is still sending: Loggia reads
        # that for a while.
        await asyncio.wait([ways[1]])
        if not ways[0].done():
            answers.cut()
        await asyncio.wait([ways[0]], timeout=LINGER)
        ways[0].cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        for end in (writer, back_writer):
            end.close()


def events_of(method: str, path: str) -> ResponseEvents | MessageEvents | None:
    """Returns the checker for the stream, if this requests a streamed response or message."""
    path, _, query = path.partition("?")
    if (method, path) == ("POST", "/v1/responses"):
        return ResponseEvents()
    if (method, path) == ("POST", "/v1/messages"):
        return MessageEvents()
    if method == "GET" and re.fullmatch("/v1/responses/[^/]+", path):
        after = parse_qs(query).get("starting_after")
        return ResponseEvents(int(after[0]) + 1 if after else 0)
    return None


async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, messages: Messages) -> None:
    """Forwards one direction until its end. A reset is forwarded as a reset."""
    readable = True
    try:
        while piece := await reader.read(PIECE):
            writer.write(piece)
            if readable:
                try:
                    messages.feed(piece)
                except (Unreadable, ValueError, IndexError):
                    readable = False
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except OSError:
        writer.transport.abort()


async def main() -> None:
    relay = Relay(sys.argv[1])
    server = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    print(f"http://{host}:{port}", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    print(json.dumps({"checked": openai_spec.checked, "faults": relay.faults}), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
