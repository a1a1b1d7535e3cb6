"""Two replicas that share PostgreSQL and Valkey, under load, while one of these is killed and comes back.

Needs PostgreSQL and Valkey (or Redis) on the machine; otherwise the tests are skipped.
"""

import contextlib
import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request

import pytest

import postgres
import scripted_upstream as script
from targets import STOP_LIMIT, launched, listening

KEY = "0123456789-load-key"
# The time from the end of a fault until everything is answered again.
RECOVERED_WITHIN = 2.0
VALKEY = shutil.which("valkey-server") or shutil.which("redis-server")

pytestmark = pytest.mark.skipif(not postgres.programs() or not VALKEY, reason="no PostgreSQL or no Valkey")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


class Service:
    """A program that is killed and started again."""

    def __init__(self, command: list[str], port: int):
        self.command, self.port, self.process = command, port, None
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            time.sleep(0.02)
        raise AssertionError(f"it does not listen: {self.command}")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def valkey(folder):
    folder.mkdir()
    port = free_port()
    service = Service([VALKEY, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)], port)
    service.url = f"redis://127.0.0.1:{port}"
    try:
        yield service
    finally:
        service.kill()


class Replica:
    def __init__(self, folder, arguments: list[str]):
        self.folder, self.arguments, self.process, self.number = folder, arguments, None, 0
        folder.mkdir()
        self.start()

    def start(self) -> None:
        self.number += 1
        log = self.folder / f"log-{self.number}"
        # The same address each time, so that clients need not know.
        listen = self.url.removeprefix("http://") if self.number > 1 else "127.0.0.1:0"
        environment = {"LOGGIA_KEYS": "load", "LOGGIA_KEY_LOAD": KEY, "LOGGIA_LOG": "warn"}
        data = ["--data-dir", str(self.folder / "data")]
        self.process = launched(log, *data, *self.arguments, listen=listen, environment=environment)
        self.url = listening(self.process, log, "/healthz")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(STOP_LIMIT)


@contextlib.contextmanager
def installation(folder):
    """Two replicas, their stores, and two nodes that take a third of a second for a stream."""

    def slowly(_):
        time.sleep(0.1)
        return script.stream(script.line("Hel", done=False), script.line("lo"))

    with script.upstream(script.ollama(slowly)) as one, script.upstream(script.ollama(slowly)) as other:
        with postgres.server() as database, valkey(folder / "valkey") as limits:
            seal = folder / "seal-keys"
            arguments = ["--ollama", f"gpu={one}", "--ollama", f"gpu={other}", "--store-url", database.url, "--seal-keys", str(seal)]
            arguments += ["--limits-url", limits.url, "--limits-servers", "2", "--limits", "requests_per_minute=1000000"]
            replicas = [Replica(folder / f"replica-{number}", arguments) for number in range(2)]
            try:
                yield database, limits, replicas
            finally:
                for replica in replicas:
                    replica.stop()


def ask(url: str, path: str, body: dict) -> tuple[int, str]:
    """Returns the status and the answer. A connection that fails or breaks has the status 0."""
    head = {"content-type": "application/json", "authorization": f"Bearer {KEY}"}
    request = urllib.request.Request(f"{url}{path}", json.dumps(body).encode(), head)
    text = b""
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            for piece in iter(lambda: answer.read1(65536), b""):
                text += piece
            return answer.status, text.decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except (OSError, urllib.error.URLError, Exception) as error:
        return 0, f"{type(error).__name__} {text.decode(errors='replace')}"


CHAT = ("/v1/chat/completions", {"model": "m", "stream": True, "messages": [{"role": "user", "content": "x"}]})
RESPONSE = ("/v1/responses", {"model": "m", "stream": True, "input": "x"})


def is_whole(answer: str) -> bool:
    return "[DONE]" in answer or '"type":"response.completed"' in answer


def has_failed(answer: str) -> bool:
    return '"error":{' in answer or '"type":"response.failed"' in answer or '"type":"error"' in answer


class Load:
    """Eight clients, half of them at each replica, half of their requests with a stored answer."""

    def __init__(self, replicas):
        self.stopped, self.answers = threading.Event(), []
        self.threads = [threading.Thread(target=self.run, args=(replicas[number % 2], number // 2 % 2)) for number in range(8)]

    def run(self, replica, kind):
        path, body = (CHAT, RESPONSE)[kind]
        while not self.stopped.is_set():
            since = time.monotonic()
            status, answer = ask(replica.url, path, body)
            self.answers.append((since, time.monotonic(), replica.number, path, status, answer, replica))
            if status == 0:
                time.sleep(0.05)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        for thread in self.threads:
            thread.join(60)

    def begun_since(self, moment: float) -> list:
        return [answer for answer in self.answers if answer[0] >= moment]

    def wait_for(self, number: int) -> None:
        """Waits until so many further requests have ended."""
        before, end = len(self.answers), time.monotonic() + 60
        while len(self.answers) < before + number and time.monotonic() < end:
            time.sleep(0.01)
        assert len(self.answers) >= before + number


def check_streams(answers) -> None:
    """A stream that has begun is whole or ends with an error, unless its replica was killed."""
    for _, _, _, path, status, answer, _ in answers:
        if status == 200:
            assert is_whole(answer) != has_failed(answer), (path, answer)


def check_all_well(answers) -> None:
    assert answers
    for _, _, _, path, status, answer, _ in answers:
        assert status == 200 and is_whole(answer), (path, status, answer)


def test_the_database_is_killed_and_comes_back(tmp_path):
    with installation(tmp_path) as (database, _, replicas), Load(replicas) as load:
        load.wait_for(20)
        check_all_well(load.answers)
        killed = time.monotonic()
        database.kill()
        load.wait_for(30)
        # A chat that stores nothing needs no database.
        check_all_well([answer for answer in load.begun_since(killed) if answer[3] == CHAT[0]])
        assert all(answer[4] in (200, 503) for answer in load.begun_since(killed))
        database.start()
        back = time.monotonic()
        time.sleep(RECOVERED_WITHIN)
        load.wait_for(20)
    check_streams(load.answers)
    check_all_well(load.begun_since(back + RECOVERED_WITHIN))


def test_valkey_is_killed_and_comes_back(tmp_path):
    with installation(tmp_path) as (_, limits, replicas), Load(replicas) as load:
        load.wait_for(20)
        limits.kill()
        load.wait_for(30)
        limits.start()
        load.wait_for(30)
    # Nobody notices: each replica allows its share meanwhile.
    check_all_well(load.answers)


def test_a_replica_is_killed_and_comes_back(tmp_path):
    with installation(tmp_path) as (_, _, replicas), Load(replicas) as load:
        load.wait_for(20)
        stored = next(answer for answer in load.answers if answer[3] == RESPONSE[0] and answer[6] is replicas[0])
        first = json.loads(stored[5].split("data: ", 1)[1].splitlines()[0])["response"]["id"]
        replicas[0].kill()
        load.wait_for(30)
        # The other one continues what the dead one has stored.
        path, body = RESPONSE
        status, answer = ask(replicas[1].url, path, body | {"previous_response_id": first})
        assert status == 200 and is_whole(answer), answer
        replicas[0].start()
        back = time.monotonic()
        load.wait_for(30)
    check_all_well([answer for answer in load.answers if answer[6] is replicas[1]])
    check_all_well(load.begun_since(back + RECOVERED_WITHIN) or load.begun_since(back))
    # Those of the dead one were cut, and no more.
    cut = [answer for answer in load.answers if answer[4] == 0]
    assert cut and all(answer[6] is replicas[0] for answer in cut)
