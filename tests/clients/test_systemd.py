"""What systemd does with a service, without systemd: the socket that it passes, and notifications."""

import os
import re
import signal
import socket
import subprocess

from targets import PROGRAM, STOP_LIMIT, clean_environment, launched, listening, status_of

# Needs no backend that answers.
ARGUMENTS = ["--openai", "none=http://127.0.0.1:9/v1"]


def test_systemd_is_notified_when_the_server_serves_and_when_it_stops(tmp_path):
    path, log = tmp_path / "notify", tmp_path / "log"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind(str(path))
        notified.settimeout(60)
        process = launched(log, *ARGUMENTS, "--data-dir", str(tmp_path), environment={"NOTIFY_SOCKET": str(path)})
        try:
            assert notified.recv(1000).strip() == b"READY=1"
            address = re.search(r"listening on (http://[0-9.:]+)", log.read_text())[1]
            assert status_of(f"{address}/healthz") == 200
            process.send_signal(signal.SIGTERM)
            assert notified.recv(1000).strip() == b"STOPPING=1"
            assert process.wait(STOP_LIMIT) == 0
        finally:
            process.kill()
            process.wait()


def test_the_socket_that_systemd_passes_is_served(tmp_path):
    log = tmp_path / "log"
    with socket.create_server(("127.0.0.1", 0)) as passed, log.open("wb") as output:
        address = "http://127.0.0.1:%d" % passed.getsockname()[1]
        # A connection from before the start waits in the socket.
        early = socket.create_connection(passed.getsockname())
        early.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        # The address of the configuration is in use, and does not matter.
        command = [str(PROGRAM), "serve", *ARGUMENTS, "--listen", address.removeprefix("http://"), "--data-dir", str(tmp_path)]
        shell = ["sh", "-c", 'export LISTEN_PID=$$ LISTEN_FDS=1; exec "$0" "$@"', *command]
        process = subprocess.Popen(
            shell, stdout=output, stderr=subprocess.STDOUT, env=clean_environment(), pass_fds=(3,), preexec_fn=lambda: os.dup2(passed.fileno(), 3)
        )
        try:
            assert listening(process, log, "/healthz") == address
            with early:
                early.settimeout(60)
                assert early.recv(1000).startswith(b"HTTP/1.1 200")
        finally:
            process.terminate()
            assert process.wait(STOP_LIMIT) == 0
