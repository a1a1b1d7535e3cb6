"""Images by URL through the official client, for Ollama, which fetches none. An allowed image is fetched, and
the engine gets its bytes; any other is refused with the path of its URL, and its server gets no request.
`test_media.py` tests vision itself."""

import base64
import contextlib
import http.server
import json
import threading

import openai
import pytest

import official
import scripted_upstream as script
from targets import loggia
from test_media import image, png

RED = png((255, 0, 0))
LIMITS = 'bytes = "4KiB"\ntime = "700ms"\nfetches = 3\n'


@pytest.fixture(scope="module")
def pictures():
    """A server of pictures on each of two loopback addresses; one redirects to the other. Yields the port and
    the received requests."""
    came, over = [], threading.Event()

    class Pictures(http.server.BaseHTTPRequestHandler):
        def do_GET(self):  # noqa: N802
            came.append((self.path, dict(self.headers)))
            port = self.server.server_port
            redirects = {
                "/moved": f"http://127.0.0.1:{port}/red",
                "/inwards": f"http://127.0.0.2:{port}/red",
                "/circle": f"http://127.0.0.1:{port}/circle",
                "/file": "file:///etc/passwd",
            }
            if self.path in redirects:
                self.send_response(302)
                self.send_header("location", redirects[self.path])
                self.end_headers()
                return
            if self.path == "/slow":
                over.wait(60)
            self.send_response(404 if self.path == "/none" else 200)
            # The name does not matter: the first bytes identify the format.
            self.send_header("content-type", "text/html")
            if self.path == "/told-large":
                self.send_header("content-length", "1000000000")
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write({"/page": b"<html>hello</html>", "/svg": b"<svg/>"}.get(self.path, RED))
                while self.path == "/endless" and not over.is_set():
                    self.wfile.write(b"\0" * 1024)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pictures) as here:
        with http.server.ThreadingHTTPServer(("127.0.0.2", here.server_port), Pictures) as there:
            for server in (here, there):
                threading.Thread(target=server.serve_forever, daemon=True).start()
            yield here.server_port, came
            over.set()
            for server in (here, there):
                server.shutdown()


@contextlib.contextmanager
def seeing(folder, settings: str):
    """Yields the client of a loggia with these `[images]`, and the requests that reach the engine."""
    heard, config = [], folder / "loggia.toml"
    config.write_text(f"[images]\n{settings}")

    def chat(body: bytes) -> bytes:
        heard.append(json.loads(body))
        return script.json_body(script.line())

    with script.upstream(script.ollama(chat, "vision")) as upstream, loggia("--config", str(config), "--ollama", upstream) as url:
        with official.client(url, api_key="sk-of-the-client") as client:
            yield client, heard


@pytest.fixture(scope="module")
def closed(tmp_path_factory, pictures):
    """The pictures' port is allowed, but only public networks: each refusal is because of the address."""
    with seeing(tmp_path_factory.mktemp("closed"), f"ports = [80, {pictures[0]}]\n") as running:
        yield running


@pytest.fixture(scope="module")
def opened(tmp_path_factory, pictures):
    """The pictures' address is allowed, with small limits."""
    settings = f'ports = [{pictures[0]}]\nnetworks = ["127.0.0.1/32"]\n{LIMITS}'
    with seeing(tmp_path_factory.mktemp("opened"), settings) as running:
        yield running


def about(client, *urls: str):
    content = [{"type": "text", "text": "What is this?"}, *map(image, urls)]
    return client.chat.completions.create(model="m", messages=[{"role": "user", "content": content}])


def refused(client, *urls: str, at: int = 1) -> str:
    with pytest.raises(openai.BadRequestError) as failure:
        about(client, *urls)
    error = failure.value
    assert (error.code, error.param, error.type) == ("invalid_image_url", f"messages[0].content[{at}].image_url.url", "invalid_request_error")
    assert "secret" not in error.message
    return error.message


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "127.0.0.1."],
)
def test_what_leads_to_this_machine_is_refused_and_nobody_is_asked(closed, pictures, host):
    (port, came), (client, heard) = pictures, closed
    came.clear()
    heard.clear()
    refused(client, f"http://{host}:{port}/secret/path?secret")
    assert came == [] and heard == []


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.1/secret",
        "http://169.254.169.254/secret",
        "http://[fd00::1]/secret",
        "http://user:secret@127.0.0.1/a",
        "ftp://127.0.0.1/secret",
        "http://",
        "file:///secret",
    ],
)
def test_what_leads_to_a_private_network_or_is_no_such_address_is_refused(closed, url):
    client, heard = closed
    heard.clear()
    refused(client, url)
    assert heard == []


def test_another_port_is_refused(pictures, tmp_path):
    port, came = pictures
    came.clear()
    with seeing(tmp_path, 'networks = ["127.0.0.1/32"]\n') as (client, _):
        assert "port" in refused(client, f"http://127.0.0.1:{port}/red")
    assert came == []


def test_where_the_network_is_allowed_the_engine_gets_the_image_fetched_once_and_with_nothing_of_the_clients(opened, pictures):
    (port, came), (client, heard) = pictures, opened
    came.clear()
    heard.clear()
    assert about(client, f"http://127.0.0.1:{port}/red", f"http://127.0.0.1:{port}/moved", f"http://127.0.0.1:{port}/red").choices
    (request,) = heard
    assert request["messages"][0]["images"] == [base64.b64encode(RED).decode()] * 3
    assert sorted(path for path, _ in came) == ["/moved", "/red", "/red"]
    assert all("sk-of-the-client" not in str(headers) and "cookie" not in str(headers).lower() for _, headers in came)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("inwards", "public"),
        ("circle", "redirect"),
        ("file", "redirect"),
        ("told-large", "4"),
        ("endless", "4"),
        ("slow", "0.7"),
        ("page", "PNG"),
        ("svg", "PNG"),
        ("none", "404"),
    ],
)
def test_what_is_not_fetched_is_told_with_its_reason(opened, pictures, path, reason):
    (port, came), (client, heard) = pictures, opened
    came.clear()
    heard.clear()
    message = refused(client, f"http://127.0.0.1:{port}/{path}")
    assert reason in message, message
    assert len(came) == (4 if path == "circle" else 1) and heard == []


def test_more_than_may_be_fetched_and_one_of_several_is_told_by_its_place(opened, pictures):
    (port, came), (client, _) = pictures, opened
    refused(client, f"http://127.0.0.1:{port}/red", f"http://127.0.0.1:{port}/none", at=2)
    came.clear()
    refused(client, *(f"http://127.0.0.1:{port}/red?{count}" for count in range(4)), at=4)
    assert came == []


def test_an_engine_that_speaks_openai_gets_the_url_as_it_is(pictures):
    came, heard = pictures[1], []
    came.clear()

    def chat(body: bytes) -> bytes:
        heard.append(json.loads(body)["messages"][0]["content"][1]["image_url"])
        return script.openai_whole({"content": "Red."})

    with script.upstream(script.openai(chat)) as upstream, loggia("--openai", f"engine={upstream}/v1") as url:
        with official.client(url) as client:
            assert about(client, f"http://127.0.0.1:{pictures[0]}/red").choices[0].message.content == "Red."
    assert heard == [{"url": f"http://127.0.0.1:{pictures[0]}/red"}] and came == []
