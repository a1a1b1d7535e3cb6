"""A PostgreSQL server of the tests' own, for servers that share a database. It listens on a Unix socket only."""

import contextlib
import os
import shutil
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


@contextlib.contextmanager
def database():
    """The address of an empty database."""
    folder = programs()
    if folder is None:
        assert "LOGGIA_TEST_POSTGRES" not in os.environ, "no PostgreSQL: run scripts/setup test"
        pytest.skip("PostgreSQL is not installed")
    # It refuses to run as root.
    user = ["setpriv", "--reuid", "postgres", "--clear-groups"] if os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory(prefix="loggia-pg-", ignore_cleanup_errors=True) as place:
        if user:
            shutil.chown(place, "postgres")
        made = [*user, folder / "initdb", "-D", f"{place}/data", "-U", "loggia", "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C"]
        subprocess.run(made, check=True, cwd=place, stdout=subprocess.DEVNULL)
        options = ["-k", place, "-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=100"]
        with open(f"{place}/log", "wb") as log:
            process = subprocess.Popen([*user, folder / "postgres", "-D", f"{place}/data", *options], cwd=place, stdout=log, stderr=log)
        try:
            end = time.monotonic() + 60
            while "is ready to accept connections" not in Path(f"{place}/log").read_text():
                assert time.monotonic() < end and process.poll() is None, "PostgreSQL does not start"
                time.sleep(0.05)
            yield f"postgres://loggia@localhost/postgres?host={place}"
        finally:
            process.send_signal(2)
            process.wait(20)
