"""An Ollama that answers from recordings, and compares every request with the recorded ones.

It is strict: a request that differs from every recorded one in any field is stored as a mismatch and answered
with a 500, so that its test fails; `GET /standin/report` shows the difference. `ALWAYS_SENT` lists what
Loggia adds to each request by design. Nothing else may be added.

A test can also control how an answer is sent (`POST /standin/next`, for the next chat or completion): the
bytes split at one place, or one by one; or stopped after some lines until the client leaves, which `GET
/standin/left` waits for. Stopped after 0 lines, it does not even send headers, like Ollama while it reads a
prompt.

SDKs write some parts of a request themselves: a schema from a class, a turn that they assemble. For these a
test gives the exact request to expect (`POST /standin/expect`): a recorded one with the SDK's own fields
replaced. Several are expected in the given order. With `passed_on`, the client speaks Ollama's own API, and
Loggia adds nothing to the request.

Run as a program, it listens on a free port, prints its address, and ends when its standard input ends.
"""

import asyncio
import copy
import json
import sys
from pathlib import Path

RECORDINGS = Path(__file__).resolve().parents[2] / "fixtures" / "ollama"

# Loggia always sends `stream`, and always turns truncation off.
ALWAYS_SENT = {"truncate": False, "shift": False}

# Recordings that show what Ollama does without `truncate`. Loggia must never send these requests.
NEVER_SENT = {"overflow-default", "overflow-many-messages-default", "generation-past-context-default"}

# The context size of each loaded model, as `/api/ps` reports it. Loggia requests the same size, so that no
# model is reloaded.
LOADED = {
    model["name"]: model["context_length"]
    for model in json.loads((RECORDINGS / "server" / "ps.response.http").read_bytes().partition(b"\r\n\r\n")[2])["models"]
}

# How long `/standin/left` waits for the client to close the connection.
PATIENCE = 10.0


class Recording:
    """One recorded exchange: the request's JSON, and the answer's status line, headers, body and HTTP chunks."""

    def __init__(self, path: Path):
        self.name = path.name.removesuffix(".request.json")
        exchange = json.loads(path.read_text())
        self.path = exchange["path"]
        self.request = exchange.get("body")
        self.chunks = exchange.get("chunks")
        head, _, self.body = path.with_name(f"{self.name}.response.http").read_bytes().partition(b"\r\n\r\n")
        self.status, *headers = head.decode().split("\r\n")
        self.content_type = next(h.split(": ", 1)[1] for h in headers if h.lower().startswith("content-type"))

    def is_a_chat(self) -> bool:
        """Whether it contains a conversation, so that Loggia could send it."""
        return isinstance(self.request, dict) and isinstance(self.request.get("messages"), list) and self.request["messages"] != []

    def is_a_completion(self) -> bool:
        """Whether Loggia would send this completion: raw, and without a context."""
        return bool(self.request.get("raw") and self.request.get("prompt") and "system" not in self.request)

    def expected(self) -> dict:
        """Returns the request that Loggia sends for the same question."""
        messages = self.request.get("messages")
        numbered = {"messages": [with_numbered_calls(message) for message in messages]} if messages else {}
        loaded = {"num_ctx": LOADED[self.request["model"]]} if self.request.get("model") in LOADED else {}
        options = {**loaded, **self.request.get("options", {})}
        sized = {"options": options} if options else {}
        return {**self.request, **numbered, **sized, "stream": self.request.get("stream", True), **ALWAYS_SENT}


def without_annotations(schema: object) -> object:
    """A schema as Loggia sends it to constrain an answer: without annotations, which constrain nothing and
    which no model sees here."""
    if isinstance(schema, list):
        return [without_annotations(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    describing = ("title", "description", "$schema")
    return {key: without_annotations(inner) for key, inner in schema.items() if not (key in describing and isinstance(inner, str))}


def as_ollama_shows(schema: object) -> object:
    """A tool's schema with the keywords that Ollama shows its models. Loggia sends only these, and lists the
    others as ignored."""
    if not isinstance(schema, dict):
        return schema
    kept = {key: inner for key, inner in schema.items() if key in ("type", "anyOf", "items", "description", "enum", "properties", "required")}
    if "properties" in kept:
        kept["properties"] = {name: as_ollama_shows(inner) for name, inner in kept["properties"].items()}
    return kept


def with_numbered_calls(message: dict) -> dict:
    """Numbers the calls of earlier turns, as Loggia does and as Ollama numbers its own. The recorded requests
    have no numbers."""
    if not isinstance(message, dict) or "tool_calls" not in message:
        return message
    calls = [{**call, "function": {"index": index, **call["function"]}} for index, call in enumerate(message["tool_calls"])]
    return {**message, "tool_calls": calls}


def as_loggia_asks(embed: dict) -> dict:
    """A single text is a list of one, and truncation is always off."""
    return {**embed, "input": [embed["input"]] if isinstance(embed["input"], str) else embed["input"], "truncate": False}


def read(folder: str) -> list[Recording]:
    return [Recording(path) for path in sorted((RECORDINGS / folder).glob("*.request.json"))]


def same_json(value: object) -> str:
    """Returns the same text for equal JSON: keys sorted, and 1.0 written as 1."""

    def plain(value):
        if isinstance(value, float) and value.is_integer():
            return int(value)
        if isinstance(value, dict):
            return {key: plain(inner) for key, inner in value.items()}
        return [plain(inner) for inner in value] if isinstance(value, list) else value

    return json.dumps(plain(value), sort_keys=True)


def fits(sent: object, expected: object) -> bool:
    """Whether the JSON is equal. "(any text)" in the expected request matches any text."""
    if expected == "(any text)":
        return isinstance(sent, str)
    if isinstance(sent, dict) and isinstance(expected, dict):
        return sent.keys() == expected.keys() and all(fits(sent[key], expected[key]) for key in sent)
    if isinstance(sent, list) and isinstance(expected, list):
        return len(sent) == len(expected) and all(map(fits, sent, expected))
    return same_json(sent) == same_json(expected)


def differing(request: dict, expected: dict) -> dict:
    keys = sorted(expected.keys() | request.keys())
    return {
        key: {"sent": request.get(key, "(absent)"), "recorded": expected.get(key, "(absent)")}
        for key in keys
        if same_json(request.get(key, "(absent)")) != same_json(expected.get(key, "(absent)"))
    }


def difference(request: dict, recorded: dict[str, list[Recording]]) -> dict:
    """Returns the difference between the request and the most similar recorded one."""
    nearest = min((same[0] for same in recorded.values()), key=lambda recording: len(differing(request, recording.expected())))
    return {"nearest": nearest.name, "differs": differing(request, nearest.expected())}


class Plan:
    """How to send the next answer to a chat."""

    def __init__(self, split=None, hold_after=None):
        self.split = split
        self.hold_after = hold_after

    def pieces(self, recording: Recording) -> list[bytes]:
        body = recording.body
        if self.hold_after is not None:
            return [line + b"\n" for line in body.split(b"\n")[: self.hold_after]]
        if self.split == "bytes":
            return [body[i : i + 1] for i in range(len(body))]
        if isinstance(self.split, int):
            return [piece for piece in (body[: self.split], body[self.split :]) if piece]
        if self.split == "recorded" and recording.chunks:
            ends = [sum(recording.chunks[: i + 1]) for i in range(len(recording.chunks))]
            return [body[start:end] for start, end in zip([0, *ends], ends)]
        return [body]


class StandIn:
    def __init__(self):
        self.chats: dict[str, list[Recording]] = {}
        for recording in read("chat"):
            if recording.is_a_chat() and recording.name not in NEVER_SENT:
                self.chats.setdefault(same_json(recording.expected()), []).append(recording)
        self.completions = {same_json(one.expected()): [one] for one in read("generate") if one.is_a_completion()}
        self.embeddings = {same_json(as_loggia_asks(recording.request)): recording for recording in read("embed")}
        self.server = {recording.name: recording for recording in read("server")}
        self.plan = Plan()
        self.expected: list[dict] = []
        self.turn = 0
        self.served: list[str] = []
        self.mismatches: list[dict] = []
        self.left = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers the requests of one connection, one after the other."""
        try:
            while (request := await read_request(reader)) is not None:
                method, path, body = request
                if path.startswith("/standin/"):
                    await self.steer(writer, path, body)
                elif (method, path) == ("POST", "/api/chat"):
                    await self.chat(reader, writer, body, self.chats)
                elif (method, path) == ("POST", "/api/generate"):
                    await self.chat(reader, writer, body, self.completions)
                elif (method, path) == ("POST", "/api/embed"):
                    await self.embed(writer, body)
                else:
                    await self.other(writer, method, path, body)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def chat(self, reader, writer, body: bytes, recorded: dict[str, list[Recording]]) -> None:
        plan, self.plan = self.plan, Plan("recorded")
        recording = self.find(body, recorded)
        if recording is None:
            await send_json(writer, "500 Internal Server Error", {"error": "no such request was recorded"})
            return
        self.served.append(recording.name)
        await send(writer, recording, plan)
        if plan.hold_after is not None:
            # Loggia sends nothing during an answer, so the next read is the end of the connection, or a reset
            # if some of our lines were unread.
            try:
                gone = await reader.read(1) == b""
            except ConnectionError:
                gone = True
            if gone:
                self.left.set()
            raise ConnectionResetError

    async def embed(self, writer, body: bytes) -> None:
        recording = self.embeddings.get(same_json(json.loads(body)))
        if recording is None:
            self.mismatches.append({"not_recorded": body.decode()[:300]})
            await send_json(writer, "500 Internal Server Error", {"error": "no such request was recorded"})
            return
        self.served.append(recording.name)
        await send(writer, recording, Plan("recorded"))

    def find(self, body: bytes, recorded: dict[str, list[Recording]]) -> Recording | None:
        try:
            request = json.loads(body)
        except ValueError:
            self.mismatches.append({"not_json": repr(body[:200])})
            return None
        if self.expected:
            return self.find_expected(request, recorded)
        same = recorded.get(same_json(request))
        if same is None:
            self.mismatches.append(difference(request, recorded))
            return None
        # Some recordings have the same request: their answers alternate.
        self.turn += 1
        return same[self.turn % len(same)]

    def find_expected(self, request: dict, recorded: dict[str, list[Recording]]) -> Recording | None:
        """Returns the expected recording, if this is the request that a test announced next."""
        told = self.expected.pop(0)
        recording = next(each for same in recorded.values() for each in same if each.name == told["recording"])
        recorded_request = recording.request if told.get("passed_on") else recording.expected()
        expected = copy.deepcopy({**recorded_request, **told["changed"]})
        if isinstance(expected.get("format"), dict):
            expected["format"] = without_annotations(expected["format"])
        for tool in expected.get("tools", []):
            tool["function"]["parameters"] = as_ollama_shows(tool["function"]["parameters"])
        if fits(request, expected):
            return recording
        self.mismatches.append({"expected": told["recording"], "differs": differing(request, expected)})
        return None

    async def other(self, writer, method: str, path: str, body: bytes) -> None:
        recording = None
        if method == "GET" and path in ("/api/tags", "/api/ps", "/api/version"):
            recording = self.server[path.removeprefix("/api/")]
        elif (method, path) == ("POST", "/api/show"):
            # `tags` lists one model whose `show` was not recorded. It is answered like a deleted model.
            recording = self.server["show-missing"]
            for shown in self.server.values():
                if shown.path == path and same_json(shown.request) == same_json(json.loads(body)):
                    recording = shown
        else:
            self.mismatches.append({"not_recorded": f"{method} {path}"})
            recording = self.server["unknown-route"]
        await send(writer, recording, Plan())

    async def steer(self, writer, path: str, body: bytes) -> None:
        if path == "/standin/next":
            self.plan = Plan(**json.loads(body))
            self.left.clear()
            answer = {}
        elif path == "/standin/expect":
            self.expected = json.loads(body)
            answer = {}
        elif path == "/standin/left":
            try:
                await asyncio.wait_for(self.left.wait(), PATIENCE)
            except asyncio.TimeoutError:
                pass
            answer = {"left": self.left.is_set()}
        else:
            answer = {"served": self.served, "mismatches": self.mismatches}
        await send_json(writer, "200 OK", answer)


async def read_request(reader: asyncio.StreamReader):
    """Reads method, path and body of the next request; None if the client has closed the connection. Loggia
    sends bodies with their length."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
    except asyncio.IncompleteReadError:
        return None
    request_line, *headers = head.rstrip("\r\n").split("\r\n")
    length = next((int(h.split(":")[1]) for h in headers if h.lower().startswith("content-length:")), 0)
    method, path, _ = request_line.split(" ")
    return method, path, await reader.readexactly(length)


async def send(writer, recording: Recording, plan: Plan) -> None:
    """Sends the recorded answer, chunked if it was recorded so. Each piece is one chunk and one write."""
    if plan.hold_after == 0:
        return
    chunked = recording.chunks is not None
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(recording.body)}"
    writer.write(f"{recording.status}\r\nContent-Type: {recording.content_type}\r\n{framing}\r\n\r\n".encode())
    for piece in plan.pieces(recording):
        writer.write(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
        await writer.drain()
        await asyncio.sleep(0)
    if chunked and plan.hold_after is None:
        writer.write(b"0\r\n\r\n")
    await writer.drain()


async def send_json(writer, status: str, value: dict) -> None:
    body = json.dumps(value).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await writer.drain()


async def main() -> None:
    server = await asyncio.start_server(StandIn().serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    print(f"http://{host}:{port}", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
