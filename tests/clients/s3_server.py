"""SeaweedFS, an S3-compatible server, for the tests of files that are kept in a bucket. `scripts/setup test` installs it."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

SECRET = "a-secret-of-the-tests"
START_LIMIT = 60.0


class Bucket:
    """A server with one bucket, `files`."""

    def __init__(self, weed: str, folder: Path):
        self.weed, self.folder = weed, folder
        (folder / "data").mkdir()
        keys = {"accessKey": "loggia", "secretKey": SECRET}
        identity = {"name": "loggia", "credentials": [keys], "actions": ["Admin", "Read", "Write", "List"]}
        (folder / "identities.json").write_text(json.dumps({"identities": [identity]}))
        self.ports = free_ports(8)
        self.endpoint = f"http://127.0.0.1:{self.ports[0]}"
        # For the programs that use the bucket.
        self.environment = {"AWS_ACCESS_KEY_ID": "loggia", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "us-east-1"}
        self.arguments = ["--files-url", "s3://files/loggia", "--files-endpoint", self.endpoint]

    def start(self) -> None:
        s3, filer, master, master_grpc, volume, volume_grpc, filer_grpc, s3_grpc = self.ports
        ports = {
            "s3.port": s3, "s3.port.grpc": s3_grpc, "s3.port.iceberg": 0, "s3.port.lance": 0, "filer.port": filer,
            "filer.port.grpc": filer_grpc, "master.port": master, "master.port.grpc": master_grpc, "volume.port": volume,
            "volume.port.grpc": volume_grpc,
        }
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    self.weed, "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3", "-s3.autoCreateBucket=false",
                    "-master.telemetry=false", "-master.electionTimeout=1s", "-master.volumeSizeLimitMB=64", "-volume.max=0", f"-dir={self.folder}/data",
                    f"-s3.config={self.folder}/identities.json", f"-s3.localSocket={self.folder}/s3.sock",
                    f"-filer.localSocket={self.folder}/filer.sock", *(f"-{name}={port}" for name, port in ports.items()),
                ],
                stdout=log, stderr=subprocess.STDOUT,
            )
        end = time.monotonic() + START_LIMIT
        while fetched("GET", f"{self.endpoint}/healthz")[0] != 200:
            assert time.monotonic() < end and self.process.poll() is None, (self.folder / "log").read_text()
            time.sleep(0.05)

    def start_again(self, name: str) -> None:
        """After `kill`. It answers before it finds its contents again, for example this one."""
        self.start()
        end = time.monotonic() + START_LIMIT
        while self.filer("GET", f"/buckets/files/{name}")[0] != 200:
            assert time.monotonic() < end, (self.folder / "log").read_text()
            time.sleep(0.05)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def filer(self, method: str, path: str) -> tuple[int, bytes]:
        """The server's own view of the bucket, beside S3."""
        return fetched(method, f"http://127.0.0.1:{self.ports[1]}{path}")

    def names(self, folder: str = "/buckets/files") -> list[str]:
        """The paths of all objects, and one for each that was not finished."""
        status, text = self.filer("GET", f"{folder}/?limit=100000")
        names = []
        for entry in (json.loads(text)["Entries"] or []) if status == 200 else []:
            path = entry["FullPath"]
            if entry["Mode"] >> 31 and not folder.endswith("/.uploads"):
                names += self.names(path)
            else:
                names.append(path.removeprefix("/buckets/files/"))
        return sorted(names)


def fetched(method: str, url: str) -> tuple[int, bytes]:
    request = urllib.request.Request(url, headers={"accept": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except OSError:
        return 0, b""


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextlib.contextmanager
def bucket():
    """A server of its own, with an empty bucket. Skips the test where SeaweedFS is not installed."""
    weed = shutil.which("weed")
    if weed is None:
        assert "LOGGIA_TEST_S3" not in os.environ, "no SeaweedFS: run scripts/setup test"
        pytest.skip("SeaweedFS is not installed")
    with tempfile.TemporaryDirectory(prefix="loggia-s3-") as folder:
        server = Bucket(weed, Path(folder))
        try:
            server.start()
            assert server.filer("POST", "/buckets/files/")[0] == 201
            yield server
        finally:
            server.kill()
