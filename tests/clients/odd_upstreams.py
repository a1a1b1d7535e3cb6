"""The upstreams for odd requests, which record what Loggia sends: an Ollama that answers anything, and a
proxy to another engine."""

import contextlib
import http.client
import http.server
import json
import threading
from urllib.parse import urlsplit

TAGS = {"models": [{"name": "m", "model": "m", "modified_at": "2026-11-22T00:00:00Z", "digest": "d"}]}
SHOW = {
    "capabilities": ["completion", "tools", "vision", "thinking", "insert"],
    "model_info": {"general.architecture": "llama", "llama.context_length": 8192},
    "details": {"family": "llama"},
}
ENDED = {"done": True, "done_reason": "stop", "prompt_eval_count": 5, "eval_count": 2}
LOGPROB = {"token": "Hi", "logprob": -0.5, "bytes": [72, 105], "top_logprobs": [{"token": "Hi", "logprob": -0.5, "bytes": [72, 105]}]}


@contextlib.contextmanager
def ollama():
    """Yields its address and the list of requests for an answer."""
    asked: list[dict] = []

    class Ollama(Quiet):
        def do_GET(self):
            self.say({"/api/tags": TAGS, "/api/version": {"version": "0.13.0"}, "/api/ps": {"models": []}}.get(self.path, {}))

        def do_POST(self):
            body = json.loads(self.body())
            if self.path == "/api/show":
                return self.say(SHOW)
            asked.append(body)
            told = {"message": {"role": "assistant", "content": "Hi"}} if self.path == "/api/chat" else {"response": "Hi"}
            if body.get("logprobs"):
                told["logprobs"] = [LOGPROB, LOGPROB]
            answer = {"model": "m", "created_at": "2026-11-22T00:00:00Z"} | told
            if body.get("stream", True):
                return self.say_lines([answer | {"done": False}, answer | {key: "" for key in told if key == "response"} | {"logprobs": []} | ENDED])
            return self.say(answer | ENDED)

        def say_lines(self, lines: list[dict]):
            if "message" in lines[-1]:
                lines[-1]["message"] = {"role": "assistant", "content": ""}
            self.answer("application/x-ndjson", "".join(json.dumps(line) + "\n" for line in lines).encode())

    with serving(Ollama) as url:
        yield url, asked


@contextlib.contextmanager
def through_to(upstream: str):
    """Yields an address that forwards everything to `upstream`, and the list of requests for an answer."""
    asked: list[dict] = []

    class Through(Quiet):
        def do_GET(self):
            self.pass_on(None)

        def do_POST(self):
            body = self.body()
            asked.append(json.loads(body))
            self.pass_on(body)

        def pass_on(self, body: bytes | None):
            connection = http.client.HTTPConnection(urlsplit(upstream).netloc, timeout=60)
            try:
                connection.request(self.command, self.path, body, {"content-type": "application/json"})
                response = connection.getresponse()
                self.answer(response.getheader("content-type", ""), response.read(), response.status)
            finally:
                connection.close()

    with serving(Through) as url:
        yield url, asked


class Quiet(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers["content-length"]))

    def say(self, value: dict):
        self.answer("application/json", json.dumps(value).encode())

    def answer(self, content_type: str, body: bytes, status: int = 200):
        # The client has left.
        with contextlib.suppress(OSError):
            self.send_response(status)
            self.send_header("content-type", content_type)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        """Ignores connections that loggia has closed. Other errors show up in loggia's answer."""


@contextlib.contextmanager
def serving(handler):
    server = Server(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield "http://127.0.0.1:%d" % server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
