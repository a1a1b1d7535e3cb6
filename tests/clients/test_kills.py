"""`kill -9` again and again while batches, uploads and ingestion run, with files in a folder and in a bucket: every line of a batch
has one result, every file that was accepted is whole, every file of a vector store is read. LOGGIA_KILL_ROUNDS=200 makes it longer."""

import concurrent.futures
import contextlib
import hashlib
import json
import os
import random
import threading
import time

import openai
import pytest

import json_lines
import official
import s3_server
from odd_upstreams import Quiet, serving
from targets import launched, listening, stop

ROUNDS = int(os.environ.get("LOGGIA_KILL_ROUNDS", "4"))
# How long a server lives, in seconds after it answers.
LIFE = (0.05, 1.2)
BATCH_LINES = 40
ENDED = ("completed", "failed", "expired", "cancelled")


@contextlib.contextmanager
def engine():
    """An engine with OpenAI's API that repeats the question, and embeds a text by its hash."""

    class Engine(Quiet):
        def do_GET(self):
            self.say({"object": "list", "data": [{"id": "m", "object": "model", "created": 1, "owned_by": "me"}]})

        def do_POST(self):
            body = json.loads(self.body())
            usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
            if self.path.endswith("/embeddings"):
                texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
                data = [{"object": "embedding", "index": index, "embedding": vector(text)} for index, text in enumerate(texts)]
                return self.say({"object": "list", "model": "m", "data": data, "usage": usage})
            message = {"role": "assistant", "content": body["messages"][-1]["content"]}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            if not body.get("stream"):
                return self.say({"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage})
            chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
            events = [
                chunk | {"choices": [{"index": 0, "delta": message, "finish_reason": None}]},
                chunk | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
                chunk | {"choices": [], "usage": usage},
            ]
            text = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
            self.answer("text/event-stream", text.encode())

    with serving(Engine) as url:
        yield url


def vector(text) -> list[float]:
    digest = hashlib.sha256(json.dumps(text).encode()).digest()
    return [byte / 255 for byte in digest[:8]]


class Work:
    """What clients want, and what they were told. It goes on over all lives of the server."""

    def __init__(self):
        self.lock = threading.Lock()
        self.files: dict[str, str] = {}
        self.uploads: dict[str, str] = {}
        self.batches: dict[str, list[str]] = {}
        self.store: str | None = None
        self.ingested: list[str] = []

    def run(self, url: str, until: threading.Event) -> None:
        client = official.client(url).with_options(max_retries=0, timeout=20)
        with concurrent.futures.ThreadPoolExecutor(4) as threads:
            for task in (self.upload_files, self.upload_parts, self.make_batches, self.ingest):
                threads.submit(self.again_and_again, task, client, until)

    @staticmethod
    def again_and_again(task, client, until: threading.Event) -> None:
        while not until.is_set():
            try:
                task(client)
            except openai.APIError:
                # The server was killed. What it did not answer may exist or not.
                time.sleep(0.02)

    def upload_files(self, client) -> None:
        data = os.urandom(random.choice([10, 70_000, 6_000_000]))
        file = client.files.create(file=("data.bin", data), purpose="user_data")
        with self.lock:
            self.files[file.id] = hashlib.md5(data).hexdigest()

    def upload_parts(self, client) -> None:
        data = os.urandom(300_000)
        upload = client.uploads.create(bytes=len(data), filename="f", mime_type="text/plain", purpose="user_data")
        parts = [client.uploads.parts.create(upload.id, data=data[at : at + 100_000]).id for at in range(0, len(data), 100_000)]
        done = client.uploads.complete(upload.id, part_ids=parts, md5=hashlib.md5(data).hexdigest())
        with self.lock:
            self.files[done.file.id] = hashlib.md5(data).hexdigest()

    def make_batches(self, client) -> None:
        names = [f"line-{number}" for number in range(BATCH_LINES)]
        lines = [
            {"custom_id": name, "method": "POST", "url": "/v1/chat/completions",
             "body": {"model": "m", "messages": [{"role": "user", "content": name}]}}
            for name in names
        ]
        text = "".join(json.dumps(line) + "\n" for line in lines).encode()
        file = client.files.create(file=("in.jsonl", text), purpose="batch")
        batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
        with self.lock:
            self.batches[batch.id] = names
        while client.batches.retrieve(batch.id).status not in ENDED:
            time.sleep(0.05)

    def ingest(self, client) -> None:
        if self.store is None:
            self.store = client.vector_stores.create(name="store").id
        text = " ".join(f"word{random.randrange(1000)}" for _ in range(3000)).encode()
        file = client.files.create(file=("text.txt", text), purpose="assistants")
        with self.lock:
            self.files[file.id] = hashlib.md5(text).hexdigest()
        client.vector_stores.files.create(self.store, file_id=file.id)
        with self.lock:
            self.ingested.append(file.id)
        while client.vector_stores.files.retrieve(file.id, vector_store_id=self.store).status == "in_progress":
            time.sleep(0.05)

    def check(self, client) -> None:
        """Everything that was answered is there, whole and once."""
        for file_id, digest in self.files.items():
            assert hashlib.md5(client.files.content(file_id).content).hexdigest() == digest, file_id
        # Also what was stored and never answered.
        for file in client.files.list():
            assert len(client.files.content(file.id).content) == file.bytes, file
        for batch_id, names in self.batches.items():
            batch = within_a_minute(lambda: client.batches.retrieve(batch_id), lambda batch: batch.status in ENDED)
            assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == ("completed", len(names), 0), batch
            answers = json_lines.objects(client.files.content(batch.output_file_id).text)
            assert sorted(one["custom_id"] for one in answers) == sorted(names), batch_id
            said = {one["custom_id"]: one["response"]["body"]["choices"][0]["message"]["content"] for one in answers}
            assert said == {name: name for name in names}
        for file_id in self.ingested:
            retrieve = lambda: client.vector_stores.files.retrieve(file_id, vector_store_id=self.store)
            file = within_a_minute(retrieve, lambda file: file.status != "in_progress")
            assert file.status == "completed", file
            assert "".join(part.text for part in client.vector_stores.files.content(file_id, vector_store_id=self.store)).count("word") >= 3000


def within_a_minute(read, is_done):
    end = time.monotonic() + 60
    while not is_done(found := read()) and time.monotonic() < end:
        time.sleep(0.05)
    return found


@pytest.mark.parametrize("kind", ["folder", "bucket"])
def test_nothing_is_lost_or_twice_or_half_after_kills(kind, tmp_path):
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(engine())
        bucket = stack.enter_context(s3_server.bucket()) if kind == "bucket" else None
        arguments, environment = (bucket.arguments, bucket.environment) if bucket else ([], {})
        arguments = ["--data-dir", tmp_path / "data", "--openai", f"m={upstream}/v1", "--embedding-model", "m", "--batch-clients", "100", *arguments]
        work, log = Work(), tmp_path / "log"
        chance = random.Random(55)
        for _ in range(ROUNDS):
            process = launched(log, *arguments, environment=environment)
            until = threading.Event()
            try:
                url = listening(process, log, "/healthz")
                clients = threading.Thread(target=work.run, args=(url, until))
                clients.start()
                time.sleep(chance.uniform(*LIFE))
            finally:
                process.kill()
                process.wait()
                until.set()
            clients.join()
        process = launched(log, *arguments, environment=environment)
        try:
            client = official.client(listening(process, log, "/healthz"))
            work.check(client)
            known = {file.id for file in client.files.list()}
        finally:
            stop(process)
        print(f"{kind}: {ROUNDS} kills, {len(work.files)} files, {len(work.batches)} batches, {len(work.ingested)} ingested")
        assert work.files and work.batches and work.ingested
        # Every file that is listed has its content. What else is there belongs to no file, and is swept when it is old.
        names = bucket.names() if bucket else [str(path.relative_to(tmp_path / "data/files")) for path in (tmp_path / "data/files").rglob("*")]
        contents = {name.rsplit("/", 1)[1].split(".")[0] for name in names if "files/" in name}
        assert known <= contents, known - contents
        if kind == "folder":
            # At the start a server is alone in its folder, and deletes what belongs to no file.
            assert contents == known, contents - known
