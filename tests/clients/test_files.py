"""Files, uploads and batches through the official Python client, in front of the Ollama stand-in, and
`loggia batch run`: what survives a restart and a kill, and what the folder contains."""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import time

import openai
import pytest

import json_lines
import official
import openai_spec
import questions
from targets import HERE, PROGRAM, loggia, printing_its_address

MODEL = "smollm2:135m"


@pytest.fixture(scope="module")
def upstream():
    with printing_its_address(HERE / "ollama_standin.py") as upstream:
        yield upstream


@contextlib.contextmanager
def served(upstream, folder, *arguments):
    """The client of a loggia that keeps its files in a folder."""
    with loggia("--ollama", upstream, *arguments, data=folder) as url:
        yield official.client(url)


@pytest.fixture
def kept(upstream, tmp_path):
    with served(upstream, tmp_path) as client:
        yield client


def line(custom_id: str) -> str:
    body = {"model": MODEL, **questions.CAPITAL}
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}) + "\n"


def contents(folder) -> list[str]:
    """The contents in the folder of a loggia."""
    return sorted(path.name for path in (folder / "files").rglob("*") if path.is_file() and path.name != "lock")


def ended(client, batch):
    while batch.status not in ("completed", "failed", "expired", "cancelled"):
        time.sleep(0.1)
        batch = client.batches.retrieve(batch.id)
    return batch


def answers(client, file_id) -> list[dict]:
    return json_lines.objects(client.files.content(file_id).text)


def test_a_file_is_uploaded_listed_read_and_deleted(kept, tmp_path):
    path = tmp_path / "Ünnamed notes.txt"
    path.write_bytes(bytes(range(256)) * 1000)
    file = kept.files.create(file=path, purpose="user_data", expires_after={"anchor": "created_at", "seconds": 3600})
    assert (file.bytes, file.filename, file.purpose) == (256_000, "Ünnamed notes.txt", "user_data")
    assert file.expires_at == file.created_at + 3600
    other = kept.files.create(file=b"other", purpose="batch")
    assert [one.id for one in kept.files.list()] == [other.id, file.id]
    assert [one.id for one in kept.files.list(purpose="batch", limit=1)] == [other.id]
    assert [one.id for one in kept.files.list(limit=1)] == [other.id, file.id], "the client reads the next page"
    assert kept.files.retrieve(file.id) == file
    assert kept.files.content(file.id).content == path.read_bytes()
    part = kept.files.with_raw_response.content(file.id, extra_headers={"range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, bytes(range(10, 20)))
    assert kept.files.wait_for_processing(file.id).status == "processed"
    assert kept.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError):
        kept.files.content(file.id)
    assert contents(tmp_path) == [other.id]


def test_an_upload_in_parts_is_the_file(kept, tmp_path):
    data = os.urandom(1_000_003)
    upload = kept.uploads.upload_file_chunked(
        file=data, filename="big.bin", bytes=len(data), mime_type="application/octet-stream", purpose="user_data",
        part_size=100_000, md5=hashlib.md5(data).hexdigest(),
    )
    assert (upload.status, upload.file.bytes) == ("completed", len(data))
    assert kept.files.content(upload.file.id).content == data
    cancelled = kept.uploads.create(bytes=5, filename="f", mime_type="text/plain", purpose="assistants")
    kept.uploads.parts.create(cancelled.id, data=b"hello")
    assert kept.uploads.cancel(cancelled.id).status == "cancelled"
    assert contents(tmp_path) == [upload.file.id]


def test_files_survive_a_restart_and_can_be_encrypted(upstream, tmp_path):
    with served(upstream, tmp_path) as client:
        plain = client.files.create(file=b"plain secret", purpose="user_data")
    with served(upstream, tmp_path, "--store-encrypted") as client:
        sealed = client.files.create(file=b"sealed secret", purpose="user_data")
        (tmp_path / "files" / "files" / "file-left-behind").write_text("half")
    with served(upstream, tmp_path) as client:
        assert client.files.content(plain.id).text == "plain secret"
        assert client.files.content(sealed.id).text == "sealed secret"
        deadline = time.monotonic() + 10
        while len(contents(tmp_path)) > 2 and time.monotonic() < deadline:
            time.sleep(0.05)
    assert contents(tmp_path) == sorted([plain.id, f"{sealed.id}.sealed"])
    on_disk = b"".join(path.read_bytes() for path in (tmp_path / "files").rglob("file-*"))
    assert b"plain secret" in on_disk and b"sealed secret" not in on_disk


def test_a_file_above_a_limit_is_refused(upstream, tmp_path):
    with served(upstream, tmp_path, "--file-size", "100KiB", "--files-size", "150KiB") as client:
        with pytest.raises(openai.APIStatusError) as refused:
            client.files.create(file=b"x" * 102_401, purpose="user_data")
        assert refused.value.status_code == 413
        client.files.create(file=b"x" * 102_400, purpose="user_data")
        with pytest.raises(openai.APIStatusError) as refused:
            client.files.create(file=b"x" * 102_400, purpose="user_data")
        assert (refused.value.status_code, refused.value.code) == (413, "file_too_large")
    assert len(contents(tmp_path)) == 1


def test_a_batch_is_answered_and_survives_a_kill(upstream, tmp_path):
    text = "".join(line(f"line-{number}") for number in range(150)) + "{broken\n"
    with served(upstream, tmp_path) as client:
        file = client.files.create(file=("in.jsonl", text.encode()), purpose="batch")
        batch = client.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"night": "1"}
        )
        assert (batch.status, batch.metadata) == ("validating", {"night": "1"})
        while client.batches.retrieve(batch.id).request_counts.completed < 10:
            time.sleep(0.01)
    with served(upstream, tmp_path) as client:
        batch = ended(client, batch)
        counts = batch.request_counts
        assert (batch.status, counts.total, counts.completed, counts.failed) == ("completed", 151, 150, 1)
        lines = answers(client, batch.output_file_id)
        assert sorted(one["custom_id"] for one in lines) == sorted(f"line-{number}" for number in range(150))
        assert {one["response"]["status_code"] for one in lines} == {200}
        assert batch.usage.total_tokens == sum(one["response"]["body"]["usage"]["total_tokens"] for one in lines)
        [error] = answers(client, batch.error_file_id)
        assert error["error"]["code"] == "invalid_json_line"
        assert [one.id for one in client.batches.list()] == [batch.id]
        if openai_spec.SPEC:
            openai_spec.check_json("Batch", client.batches.with_raw_response.retrieve(batch.id).text)


def test_the_command_line_makes_a_batch_and_goes_on_after_ctrl_c(upstream, tmp_path):
    path = tmp_path / "night.jsonl"
    path.write_text("".join(line(f"line-{number}") for number in range(3000)))
    output = tmp_path / "night.output.jsonl"
    command = [PROGRAM, "batch", "run", path, "--ollama", upstream, "--data-dir", tmp_path]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not output.exists():
        time.sleep(0.01)
    running.send_signal(signal.SIGINT)
    assert "run the same command again" in running.communicate()[1]
    assert running.returncode == 130
    before = json_lines.objects(output.read_text())
    assert 0 < len(before) < 3000
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, "3000 requests, 0 failed" in done.stderr) == (0, True), done.stderr
    lines = json_lines.objects(output.read_text())
    assert lines[: len(before)] == before
    assert sorted(one["custom_id"] for one in lines) == sorted(f"line-{number}" for number in range(3000))
    assert not (tmp_path / "night.errors.jsonl").exists()
