"""Files, uploads and batches that are kept in a bucket, through the official Python client: servers that share it with a
PostgreSQL database, kills, a bucket that is away, and one that cannot be used. The bucket is one of SeaweedFS."""

import concurrent.futures
import contextlib
import hashlib
import http.client
import json
import os
import signal
import subprocess
import time

import openai
import pytest

import json_lines
import official
import postgres
import questions
import s3_server
from targets import HERE, PROGRAM, clean_environment, launched, listening, loggia, printing_its_address, stop

MODEL = "smollm2:135m"


@pytest.fixture(scope="module")
def upstream():
    with printing_its_address(HERE / "ollama_standin.py") as upstream:
        yield upstream


@pytest.fixture
def bucket():
    with s3_server.bucket() as bucket:
        yield bucket


@contextlib.contextmanager
def killed_later(upstream, bucket, database, folder):
    """The client of a loggia, and its process, which a test may kill."""
    folder.mkdir()
    log = folder / "log"
    arguments = ["--data-dir", folder, "--ollama", upstream, "--store-url", database, *bucket.arguments]
    process = launched(log, *arguments, environment=bucket.environment)
    try:
        yield official.client(listening(process, log, "/readyz")), process
    finally:
        stop(process)
        assert s3_server.SECRET not in log.read_text()


def line(custom_id: str) -> str:
    body = {"model": MODEL, **questions.CAPITAL}
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}) + "\n"


def test_files_and_uploads_are_in_the_bucket_and_nowhere_else(upstream, bucket, tmp_path):
    with loggia("--ollama", upstream, *bucket.arguments, environment=bucket.environment, data=tmp_path) as url:
        client = official.client(url)
        data = os.urandom(12_000_003)
        file = client.files.create(file=("big.bin", data), purpose="user_data")
        small = client.files.create(file=b"small", purpose="user_data")
        assert bucket.names() == sorted(["loggia/database", f"loggia/files/{file.id}", f"loggia/files/{small.id}"])
        assert client.files.content(file.id).content == data
        part = client.files.with_raw_response.content(file.id, extra_headers={"range": "bytes=6000000-6000009"})
        assert (part.status_code, part.content) == (206, data[6_000_000:6_000_010])
        last = client.files.with_raw_response.content(file.id, extra_headers={"range": "bytes=-3"})
        assert (last.status_code, last.content) == (206, data[-3:])
        assert client.files.delete(file.id).deleted
        upload = client.uploads.create(bytes=len(data), filename="parts.bin", mime_type="application/octet-stream", purpose="user_data")
        pieces = [data[at : at + 1_000_000] for at in range(0, len(data), 1_000_000)]
        with concurrent.futures.ThreadPoolExecutor(4) as threads:
            parts = list(threads.map(lambda piece: client.uploads.parts.create(upload.id, data=piece).id, pieces))
        done = client.uploads.complete(upload.id, part_ids=parts, md5=hashlib.md5(data).hexdigest())
        assert client.files.content(done.file.id).content == data
        cancelled = client.uploads.create(bytes=5, filename="f", mime_type="text/plain", purpose="assistants")
        client.uploads.parts.create(cancelled.id, data=b"hello")
        client.uploads.cancel(cancelled.id)
        assert bucket.names() == sorted(["loggia/database", f"loggia/files/{small.id}", f"loggia/files/{done.file.id}"])
        assert not (tmp_path / "files").exists()
        # A client that leaves in the middle leaves nothing there.
        leaving = http.client.HTTPConnection(url.removeprefix("http://"))
        leaving.putrequest("POST", "/v1/files")
        leaving.putheader("content-type", "multipart/form-data; boundary=end")
        leaving.putheader("content-length", "20000000")
        leaving.endheaders(b'--end\r\ncontent-disposition: form-data; name="file"; filename="f"\r\n\r\n' + bytes(11_000_000))
        while len(bucket.names()) == 3:
            time.sleep(0.05)
        leaving.close()
        end = time.monotonic() + 30
        while len(bucket.names()) > 3 and time.monotonic() < end:
            time.sleep(0.05)
        assert len(bucket.names()) == 3, bucket.names()


def test_replicas_share_files_uploads_and_batches(upstream, bucket, tmp_path):
    with (
        postgres.database() as database,
        killed_later(upstream, bucket, database, tmp_path / "one") as (one, process),
        killed_later(upstream, bucket, database, tmp_path / "other") as (other, _),
    ):
        data = os.urandom(7_000_000)
        file = one.files.create(file=("data.bin", data), purpose="user_data")
        assert other.files.content(file.id).content == data
        upload = one.uploads.create(bytes=len(data), filename="f", mime_type="application/octet-stream", purpose="user_data")
        parts = [
            client.uploads.parts.create(upload.id, data=piece).id
            for client, piece in ((one, data[:6_000_000]), (other, data[6_000_000:]))
        ]
        done = other.uploads.complete(upload.id, part_ids=parts)
        assert one.files.content(done.file.id).content == data
        assert one.files.delete(done.file.id).deleted
        with pytest.raises(openai.NotFoundError):
            other.files.content(done.file.id)
        text = "".join(line(f"line-{number}") for number in range(300))
        sent = one.files.create(file=("in.jsonl", text.encode()), purpose="batch")
        batch = one.batches.create(input_file_id=sent.id, endpoint="/v1/chat/completions", completion_window="24h")
        while other.batches.retrieve(batch.id).request_counts.completed < 20:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        while batch.status not in ("completed", "failed", "expired", "cancelled"):
            time.sleep(0.1)
            batch = other.batches.retrieve(batch.id)
        assert (batch.status, batch.request_counts.completed) == ("completed", 300)
        answers = json_lines.objects(other.files.content(batch.output_file_id).text)
        assert sorted(one["custom_id"] for one in answers) == sorted(f"line-{number}" for number in range(300))
        kept = [file.id, sent.id, batch.output_file_id]
        assert bucket.names() == sorted(["loggia/database", *(f"loggia/files/{name}" for name in kept)])


def test_a_bucket_that_is_away_is_a_503_and_works_when_it_is_back(upstream, bucket, tmp_path):
    log = tmp_path / "log"
    with loggia("--ollama", upstream, *bucket.arguments, environment=bucket.environment, data=tmp_path / "data", log=log) as url:
        client = official.client(url).with_options(max_retries=0)
        file = client.files.create(file=b"some text", purpose="user_data")
        bucket.kill()
        for ask in (lambda: client.files.content(file.id), lambda: client.files.create(file=b"more", purpose="user_data")):
            with pytest.raises(openai.InternalServerError) as refused:
                ask()
            assert (refused.value.status_code, refused.value.code) == (503, "store_unavailable")
        assert client.files.retrieve(file.id) == file, "what the store has is still there"
        bucket.start_again(f"loggia/files/{file.id}")
        assert client.files.content(file.id).text == "some text"
        assert client.files.create(file=b"more", purpose="user_data").bytes == 4
        bucket.kill()
    # It may also be away at the start.
    with loggia("--ollama", upstream, *bucket.arguments, environment=bucket.environment, data=tmp_path / "data", log=log) as url:
        client = official.client(url).with_options(max_retries=0)
        with pytest.raises(openai.InternalServerError):
            client.files.content(file.id)
        bucket.start_again(f"loggia/files/{file.id}")
        assert client.files.content(file.id).text == "some text"
    assert "files_url = s3://files/loggia" in log.read_text()
    assert s3_server.SECRET not in log.read_text()


def test_a_bucket_that_cannot_be_used_is_an_error_of_the_start_and_of_check(upstream, bucket, tmp_path):
    def ended(command: str, *arguments: str, folder="data", **environment: str) -> tuple[int, str]:
        usual = {"--files-url": "s3://files/loggia", "--files-endpoint": bucket.endpoint} | dict(zip(arguments[::2], arguments[1::2], strict=True))
        started = [PROGRAM, command, "--data-dir", tmp_path / folder, "--ollama", upstream, *(word for pair in usual.items() for word in pair)]
        done = subprocess.run([*started, "--listen", "127.0.0.1:0"], capture_output=True, text=True, timeout=60, env=clean_environment(bucket.environment | environment))
        text = done.stdout + done.stderr
        assert s3_server.SECRET not in text and "another-secret" not in text, text
        return done.returncode, text

    code, text = ended("check")
    assert code == 0 and f"# files at s3://files/loggia ({bucket.endpoint}): writable" in text, text
    assert bucket.names() == []
    wrong = [
        (["--files-url", "s3://missing/loggia"], {}, "the bucket `missing` does not exist"),
        ([], {"AWS_SECRET_ACCESS_KEY": "another-secret"}, "the service refuses the keys (SignatureDoesNotMatch)"),
        ([], {"AWS_SECRET_ACCESS_KEY": ""}, "the variable AWS_SECRET_ACCESS_KEY is missing"),
        ([], {"AWS_SECRET_ACCESS_KEY": "", "AWS_ACCESS_KEY_ID": "", "HOME": str(tmp_path)}, "there are no keys"),
        (["--files-endpoint", "http://10.1.2.3:9000"], {}, "set files_plain_http = true"),
    ]
    for arguments, environment, expected in wrong:
        for command in ("check", "serve"):
            code, text = ended(command, *arguments, **environment)
            assert code != 0 and expected in text, text
    # A server with another database would delete these files: they are unknown to it.
    with loggia("--ollama", upstream, *bucket.arguments, environment=bucket.environment, data=tmp_path / "data") as url:
        official.client(url).files.create(file=b"text", purpose="user_data")
    code, text = ended("serve", folder="other")
    assert code != 0 and "its files belong to another database" in text, text
    assert len(bucket.names()) == 2
