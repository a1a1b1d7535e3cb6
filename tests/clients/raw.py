"""HTTP as bytes, as no client library shows it.

Each request has its own connection, and every wait a limit. The answer has its headers and its body as
received; chunked framing is removed and checked, and a body that ends early is an error.
"""

import dataclasses
import http.client
import json
import re
from urllib.parse import urlsplit

import openai_spec

LIMIT = 60.0


@dataclasses.dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> dict:
        return json.loads(self.body)

    def error(self) -> dict:
        return self.json()["error"]

    def events(self) -> list[str]:
        """Returns the data of each server-sent event, in order. Skips comments. Events of responses have names."""
        text = self.body.decode()
        assert text.endswith("\n\n"), f"a stream ends with a whole event, not with {text[-40:]!r}"
        blocks = [block for block in text.split("\n\n") if block and not block.startswith(":")]
        blocks = [re.sub(r"\Aevent: response\..*\n", "", block) for block in blocks]
        assert all(block.startswith("data: ") and "\n" not in block for block in blocks), text
        return [block.removeprefix("data: ") for block in blocks]

    def chunks(self) -> list[dict]:
        """Returns the JSON of the stream's events, without `[DONE]`."""
        return [json.loads(event) for event in self.events() if event != "[DONE]"]


def ask(url: str, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Answer:
    """Sends one request and reads the complete answer. Compares it with OpenAI's specification, if it should
    match."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=LIMIT)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        answer = Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
    finally:
        connection.close()
    openai_spec.check(method, path, answer)
    return answer


def chat(url: str, request: dict | bytes, **headers: str) -> Answer:
    """Sends POST /v1/chat/completions with this JSON, or with exactly these bytes."""
    body = request if isinstance(request, bytes) else json.dumps(request).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return ask(url, "POST", "/v1/chat/completions", body, {"content-type": "application/json"} | named)
