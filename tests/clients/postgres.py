"""PostgreSQL servers of the tests' own, for servers that share a database. They listen on a Unix socket only."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest


def programs() -> Path | None:
    """The folder of PostgreSQL's programs. Debian does not put it on the path."""
    found = shutil.which("initdb")
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name))
    return Path(found).parent if found else folders[-1] if folders else None


class Server:
    """A server with an empty database, which a test may kill and start again."""

    def __init__(self, folder: Path, place: str):
        self.folder, self.place, self.process = folder, place, None
        self.url = f"postgres://loggia@localhost/postgres?host={place}"
        # It refuses to run as root.
        self.user = ["setpriv", "--reuid", "postgres", "--clear-groups"] if os.geteuid() == 0 else []
        if self.user:
            shutil.chown(place, "postgres")
        made = [*self.user, folder / "initdb", "-D", f"{place}/data", "-U", "loggia", "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C"]
        subprocess.run(made, check=True, cwd=place, stdout=subprocess.DEVNULL)
        self.start()

    def start(self) -> None:
        options = ["-k", self.place, "-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=100"]
        command = [*self.user, self.folder / "postgres", "-D", f"{self.place}/data", *options]
        with open(f"{self.place}/log", "wb") as log:
            self.process = subprocess.Popen(command, cwd=self.place, stdout=log, stderr=log, start_new_session=True)
        end = time.monotonic() + 60
        while "is ready to accept connections" not in Path(f"{self.place}/log").read_text():
            assert time.monotonic() < end and self.process.poll() is None, "PostgreSQL does not start"
            time.sleep(0.02)

    def kill(self) -> None:
        # With the processes of its connections, which live on without it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.wait(20)


@contextlib.contextmanager
def server():
    """A server with an empty database."""
    folder = programs()
    if folder is None:
        assert "LOGGIA_TEST_POSTGRES" not in os.environ, "no PostgreSQL: run scripts/setup test"
        pytest.skip("PostgreSQL is not installed")
    with tempfile.TemporaryDirectory(prefix="loggia-pg-", ignore_cleanup_errors=True) as place:
        server = Server(folder, place)
        try:
            yield server
        finally:
            server.stop()


@contextlib.contextmanager
def database():
    """The address of an empty database."""
    with server() as running:
        yield running.url
