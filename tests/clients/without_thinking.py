"""A proxy to a running loggia whose model reasons: it adds `reasoning_effort: "none"` to each chat without a
field about reasoning.

    without_thinking.py http://127.0.0.1:11435

The questions of the suites limit the answer so that there is no room for reasoning. Everything else is
forwarded unchanged, piece by piece; if the client leaves, the proxy leaves too. It listens on a free port,
prints its address, and ends when its standard input ends.
"""

import http.client
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

# The fields of a chat that control reasoning.
SAYS = {"reasoning_effort", "reasoning", "think", "thinking", "enable_thinking", "chat_template_kwargs"}

# One upstream connection for each client connection.
OF_A_CONNECTION = {"connection", "transfer-encoding", "host", "content-length"}

UPSTREAM = urlsplit(sys.argv[1]).netloc if __name__ == "__main__" else ""


def asked_not_to_think(body: bytes) -> bytes:
    try:
        chat = json.loads(body)
    except ValueError:
        return body
    if not isinstance(chat, dict) or SAYS & chat.keys():
        return body
    return json.dumps(chat | {"reasoning_effort": "none"}).encode()


class Hop(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def hop(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.command == "POST" and self.path.endswith("/chat/completions"):
            body = asked_not_to_think(body)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in OF_A_CONNECTION}
        upstream = http.client.HTTPConnection(UPSTREAM)
        try:
            upstream.request(self.command, self.path, body or None, headers)
            self.back(upstream.getresponse())
        except OSError:
            self.close_connection = True
        finally:
            upstream.close()

    do_GET = do_POST = do_DELETE = do_HEAD = do_OPTIONS = do_PUT = do_PATCH = hop

    def back(self, answer: http.client.HTTPResponse) -> None:
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in OF_A_CONNECTION:
                self.send_header(name, value)
        length = answer.getheader("content-length")
        self.send_header(*(("content-length", length) if length else ("transfer-encoding", "chunked")))
        self.end_headers()
        while piece := answer.read1(65536):
            self.wfile.write(piece if length else b"%x\r\n%b\r\n" % (len(piece), piece))
        if not length:
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_) -> None:
        pass


if __name__ == "__main__":
    server = Server(("127.0.0.1", 0), Hop)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    sys.stdin.read()
