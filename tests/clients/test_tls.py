"""HTTPS, and what is reloaded while the server runs. The certificates are made for the test."""

import contextlib
import datetime
import ipaddress
import os
import re
import signal
import socket
import ssl
import subprocess
import threading
import time

import httpx
import openai
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import scripted_upstream as script
from targets import PROGRAM, START_LIMIT, launched, stop

GOOD = script.stream(script.line("Hel", done=False), script.line("lo"))


def certificate(folder, name: str):
    """Writes a self-signed certificate for 127.0.0.1 and its key, whole or not at all."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    for file, text in (("tls.key", secret), ("tls.crt", made.public_bytes(pem))):
        (folder / "new").write_bytes(text)
        os.replace(folder / "new", folder / file)


class Server:
    """A running loggia with a certificate, in front of an Ollama that follows a script."""

    def __init__(self, folder, process, log):
        self.folder, self.process, self.log = folder, process, log
        self.url = self.logged(r"listening on (https://[0-9.:]+)")[1]

    def logged(self, pattern: str, count: int = 1) -> re.Match:
        """Waits until the log has a text so many times."""
        end = time.monotonic() + START_LIMIT
        while time.monotonic() < end and self.process.poll() is None:
            text = re.sub(r"\x1b\[[0-9;]*m", "", self.log.read_text(errors="replace"))
            found = list(re.finditer(pattern, text))
            if len(found) >= count:
                return found[-1]
            time.sleep(0.02)
        raise AssertionError(f"the log has no {pattern}:\n{self.log.read_text(errors='replace')}")

    def hang_up(self) -> None:
        self.process.send_signal(signal.SIGHUP)

    def client(self) -> openai.OpenAI:
        trusted = ssl.create_default_context(cafile=str(self.folder / "tls.crt"))
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="unused", max_retries=0, timeout=60, http_client=httpx.Client(verify=trusted))

    def shown_name(self) -> str:
        """The name in the certificate that a new connection gets."""
        host, port = self.url.removeprefix("https://").split(":")
        any_certificate = ssl.create_default_context()
        any_certificate.check_hostname, any_certificate.verify_mode = False, ssl.CERT_NONE
        with socket.create_connection((host, int(port)), timeout=30) as plain, any_certificate.wrap_socket(plain) as secure:
            shown = x509.load_der_x509_certificate(secure.getpeercert(binary_form=True))
            assert secure.version() == "TLSv1.3"
        return shown.subject.rfc4514_string()


@contextlib.contextmanager
def serving(folder, paths: dict):
    certificate(folder, "first")
    config, log = folder / "loggia.toml", folder / "log"
    with script.upstream(paths) as upstream:
        config.write_text(f'data_dir = "data"\ntls_cert = "tls.crt"\ntls_key = "tls.key"\nollama = ["{upstream}"]\n')
        process = launched(log, "--config", str(config))
        try:
            yield Server(folder, process, log)
        finally:
            stop(process)
    assert process.returncode == 0, log.read_text(errors="replace")


def ask(client: openai.OpenAI):
    return client.chat.completions.create(model="m", stream=True, messages=[{"role": "user", "content": "x"}])


def text(stream) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)


def test_the_sdk_streams_over_https(tmp_path):
    with serving(tmp_path, script.ollama(GOOD)) as server, server.client() as client:
        assert text(ask(client)) == "Hello"
        # Plain HTTP at this port is refused, and others are still served.
        host, port = server.url.removeprefix("https://").split(":")
        with socket.create_connection((host, int(port)), timeout=30) as plain:
            plain.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
            assert b"HTTP/1.1 200" not in plain.recv(1000)
        assert text(ask(client)) == "Hello"


def test_a_new_certificate_is_for_new_connections_and_a_stream_goes_on(tmp_path):
    let = threading.Event()

    def slowly(_):
        let.wait(60)
        return GOOD

    with serving(tmp_path, script.ollama(slowly)) as server, server.client() as client:
        answers = []
        running = threading.Thread(target=lambda: answers.append(text(ask(client))))
        running.start()
        assert server.shown_name() == "CN=first"
        certificate(tmp_path, "second")
        server.hang_up()
        server.logged("new connections use the new certificate")
        assert server.shown_name() == "CN=second"
        let.set()
        running.join(60)
        assert answers == ["Hello"]


def test_a_file_that_changes_is_noticed_without_a_signal(tmp_path):
    with serving(tmp_path, script.ollama(GOOD)) as server:
        certificate(tmp_path, "second")
        server.logged("new connections use the new certificate")
        assert server.shown_name() == "CN=second"


def test_mistakes_change_nothing_and_are_named(tmp_path):
    with serving(tmp_path, script.ollama(GOOD)) as server:
        (tmp_path / "tls.crt").write_text("no certificate")
        server.hang_up()
        server.logged("the certificate was not reloaded")
        assert server.shown_name() == "CN=first"
        config = tmp_path / "loggia.toml"
        good = config.read_text()
        config.write_text(good + "wrong = 1\n")
        server.hang_up()
        server.logged("the configuration has a mistake, and nothing was changed: .*wrong")
        config.write_text(good + 'body_limit = "1MiB"\nworkers = 7\n')
        server.hang_up()
        server.logged("`workers` has changed, and takes effect after a restart")
        server.logged("the configuration was reloaded, and settings have changed.*body_limit")
        assert server.shown_name() == "CN=first"


@pytest.mark.parametrize("missing", ["tls_cert", "tls_key"])
def test_a_certificate_without_its_key_is_an_error_of_the_start(tmp_path, missing):
    certificate(tmp_path, "first")
    arguments = {"tls_cert": ("--tls-cert", "tls.crt"), "tls_key": ("--tls-key", "tls.key")}
    del arguments[missing]
    [(flag, file)] = arguments.values()
    command = [str(PROGRAM), "serve", "--listen", "127.0.0.1:0", "--data-dir", str(tmp_path), "--openai", "a=http://127.0.0.1:9", flag, str(tmp_path / file)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1 and "tls_cert and tls_key are set together" in ended.stderr
