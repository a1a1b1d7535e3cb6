#!/usr/bin/env bash
# Cline's command line ignores a configured provider whose entry has no `updatedAt`, says nothing of
# it, and asks its own service instead of the configured server.
#
# Packages: cline 3.0.65 (npm)
# Input: ~/.cline/data/settings/providers.json with one provider, of the type openai-compatible and
#   with a base URL on this machine, once with `updatedAt` and once without; each time one prompt.
# Seen: with it, the server on this machine is asked and its answer is printed. Without it, that
#   server gets no request, Cline fails to reach another host, and exits with 1.
# A good guess: the date is for display; or a file that lacks a field is an error with its name.
# Why it matters: a file that a person or a tool writes by the visible fields sends prompts that were
#   meant for a model on this machine to a service elsewhere. Whoever writes this file for a server
#   must write the date too, and should prove that the server was asked.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --prefix . --no-fund --no-audit --engine-strict=false --loglevel=error cline@3.0.65 >&2
cat >run.py <<'PY'
import json, os, pathlib, subprocess, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

asked = []


class Server(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_POST(self):
        asked.append(self.path)
        self.rfile.read(int(self.headers["content-length"]))
        about = {"id": "a", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        deltas = [{"role": "assistant", "content": "The sun."}, {}]
        chunks = [about | {"choices": [{"index": 0, "delta": delta, "finish_reason": "stop" if not delta else None}]} for delta in deltas]
        body = "".join(f"data: {chunk}\n\n" for chunk in [*map(json.dumps, chunks), "[DONE]"]).encode()
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()


def run(home, more):
    settings = {"provider": "openai-compatible", "apiKey": "x", "model": "m", "baseUrl": f"http://127.0.0.1:{server.server_address[1]}/v1"}
    provider = {"settings": settings, "tokenSource": "manual"} | more
    file = pathlib.Path(home, ".cline/data/settings/providers.json")
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"version": 1, "modes": {}, "lastUsedProvider": "openai-compatible", "providers": {"openai-compatible": provider}}))
    # Nothing leaves this machine: no proxy listens on that port.
    through = {name: "http://127.0.0.1:9" for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")}
    environment = {"HOME": os.path.abspath(home), "PATH": os.environ["PATH"], "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"} | through
    asked.clear()
    told = subprocess.run(["node_modules/.bin/cline", "Say something."], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=110)
    # Cline leaves a process behind.
    subprocess.run(["node_modules/.bin/cline", "hub", "stop"], env=environment, capture_output=True, timeout=60)
    return told.returncode, len(asked), "The sun." in told.stdout


date = {"updatedAt": "2026-11-29T23:40:14.133Z"}
assert run("with", date) == (0, 1, True)
assert run("without", {}) == (1, 0, False)
print("as described: without a date, the server on this machine is not asked")
PY
python3 run.py
