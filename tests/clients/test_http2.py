"""HTTP/2: the Python SDK with many streams of one connection, curl and Node; in the clear and over TLS."""

import asyncio
import concurrent.futures
import shutil
import ssl
import subprocess
import threading

import openai
import pytest

import official
import scripted_upstream as script
import slow_model
import test_tls
from odd_upstreams import serving
from targets import loggia

LONG = " ".join(f"word{number}" for number in range(slow_model.LONG))
CURL = shutil.which("curl")
HAS_HTTP2 = CURL is not None and "HTTP2" in subprocess.run([CURL, "--version"], capture_output=True, text=True, check=True).stdout


class Engine(slow_model.SlowModel):
    """Notes that an answer was not read to its end."""

    left = threading.Event()

    def write(self, data: bytes) -> bool:
        is_read = super().write(data)
        if not is_read:
            self.left.set()
        return is_read


@pytest.fixture(scope="module")
def engine():
    with serving(Engine) as url:
        yield url


@pytest.fixture(scope="module")
def url(engine):
    with loggia("--openai", f"gpu={engine}/v1") as url:
        yield url


def settings(url: str) -> dict:
    return {"base_url": f"{url}/v1", "api_key": "unused", "max_retries": 0, "timeout": 60}


def many(url: str) -> openai.AsyncOpenAI:
    """A client that speaks HTTP/2 without asking (prior knowledge), over one connection."""
    return openai.AsyncOpenAI(**settings(url), http_client=openai.DefaultAsyncHttpxClient(http1=False, http2=True))


def single(url: str) -> openai.OpenAI:
    return openai.OpenAI(**settings(url), http_client=openai.DefaultHttpxClient(http1=False, http2=True))


def chat(question: str) -> dict:
    return {"model": "small", "stream": True, "messages": [{"role": "user", "content": question}]}


def metric(url: str, name: str) -> float:
    with official.client(url) as client:
        lines = client.with_options(base_url=url).get("/metrics", cast_to=str).splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))


async def text(stream) -> str:
    return "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])


def test_fifty_streams_run_at_once_on_one_connection(url):
    async def run() -> list[str]:
        async with many(url) as client:
            streams = await asyncio.gather(*(client.chat.completions.create(**chat(f"{number}")) for number in range(50)))
            assert {stream.response.http_version for stream in streams} == {"HTTP/2"}
            assert await asyncio.to_thread(metric, url, "loggia_http2_connections") == 1
            return await asyncio.gather(*map(text, streams))

    assert asyncio.run(run()) == [slow_model.ANSWER] * 50
    assert metric(url, "loggia_streams_in_flight") == 0


def test_a_stream_finishes_when_the_server_stops(engine):
    with concurrent.futures.ThreadPoolExecutor() as pool:
        # At the end of the block the server is stopped, and must end with 0.
        with loggia("--openai", f"gpu={engine}/v1") as url:
            client = single(url)
            stream = client.chat.completions.create(**chat("long"))
            first = next(stream).choices[0].delta.content or ""
            rest = pool.submit(lambda: "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices))
        assert first + rest.result(60) == LONG
        client.close()


def test_errors_and_whole_answers_are_the_same(url):
    with single(url) as client:
        whole = client.chat.completions.with_raw_response.create(**chat("x") | {"stream": False})
        assert whole.http_response.http_version == "HTTP/2"
        assert whole.parse().choices[0].message.content == slow_model.ANSWER
        with pytest.raises(openai.NotFoundError) as missing:
            client.models.retrieve("none")
        assert missing.value.code == "model_not_found" and missing.value.request_id.startswith("req_")
        # Refused before its body was read.
        with pytest.raises(openai.APIStatusError) as too_large:
            client.chat.completions.create(**chat("x" * (40 << 20)))
        assert too_large.value.status_code == 413


def test_over_tls_the_client_chooses_the_version(tmp_path):
    paths = script.ollama(test_tls.GOOD)
    with test_tls.serving(tmp_path, paths) as server:
        for is_new in (True, False):
            trusted = ssl.create_default_context(cafile=str(tmp_path / "tls.crt"))
            http_client = openai.DefaultHttpxClient(http2=is_new, verify=trusted)
            with openai.OpenAI(**settings(server.url), http_client=http_client) as client:
                stream = test_tls.ask(client)
                assert stream.response.http_version == ("HTTP/2" if is_new else "HTTP/1.1")
                assert test_tls.text(stream) == "Hello"
        if HAS_HTTP2:
            assert curl(f"{server.url}/healthz", "--insecure") == ("2", '{"status":"ok"}')
            assert curl(f"{server.url}/healthz", "--insecure", "--http1.1") == ("1.1", '{"status":"ok"}')


def curl(url: str, *flags: str) -> tuple[str, str]:
    """Returns the version of HTTP that curl used, and the answer."""
    command = [CURL, "--silent", "--show-error", "--fail", "--max-time", "30", "--write-out", "\n%{http_version}", *flags, url]
    body, version = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.rsplit("\n", 1)
    return version, body


@pytest.mark.skipif(not HAS_HTTP2, reason="there is no curl with HTTP/2")
def test_curl_in_the_clear(url):
    assert curl(f"{url}/healthz", "--http2-prior-knowledge") == ("2", '{"status":"ok"}')
    # Asks for HTTP/2 in a header of HTTP/1.1 (`upgrade: h2c`), which RFC 9113 has removed.
    assert curl(f"{url}/healthz", "--http2") == ("1.1", '{"status":"ok"}')
    # A refusal arrives although the body was not read.
    large = ["--http2-prior-knowledge", "--header", "content-type: application/json", "--data-binary", "@-"]
    command = [CURL, "--silent", "--show-error", "--max-time", "30", *large, f"{url}/v1/chat/completions"]
    refused = subprocess.run(command, input=b" " * (40 << 20), capture_output=True, timeout=60, check=True)
    assert b"too large" in refused.stdout, refused


def test_a_stream_that_node_cancels_ends_the_work_of_the_engine(url):
    """httpx sends no reset for a stream that its program closes (findings/httpx_streams_of_http2.sh)."""
    Engine.left.clear()
    told = official.in_node("http2.js", url)
    assert told == {"status": 200, "text": slow_model.ANSWER, "error": 404, "canceled": 8, "afterwards": 200}
    assert Engine.left.wait(30), "the engine still writes an answer that was canceled"
