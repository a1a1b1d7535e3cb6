"""Starts `loggia` in front of each kind of backend, for all suites.

`TARGETS` lists the kinds: the embedded engine, Ollama (the stand-in that answers from recordings), an engine
with OpenAI's API (llama.cpp's own server), and a live Ollama if LOGGIA_TEST_OLLAMA="URL MODEL" is set.
LOGGIA_TEST_TARGETS="ollama openai" selects some of them: these two need no engine in the program.

Run as a program, it starts them all, prints one line of JSON with their addresses, and stops them when its
standard input ends; the Node suite uses that. With the argument `embeddings` it starts those with an
embedding model (`EMBEDDING_TARGETS`), with `weather` those whose model follows that script (`WEATHER_TARGETS`), with
`audio` one whose engine hears and speaks.
"""

import contextlib
import dataclasses
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

import audio_engine
import openai_spec
import scripted_model
from weather import weather

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
PROGRAM = Path(os.environ.get("LOGGIA_PROGRAM", REPOSITORY / "target" / "debug" / "loggia"))
MODEL = Path(os.environ.get("LOGGIA_TEST_MODEL", REPOSITORY / ".loggia" / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"))
EMBEDDING_MODEL = Path(os.environ.get("LOGGIA_TEST_EMBEDDING_MODEL", REPOSITORY / ".loggia" / "models" / "all-MiniLM-L6-v2.F16.gguf"))
LIVE_OLLAMA = os.environ.get("LOGGIA_TEST_OLLAMA", "")

# The small model loads in seconds, also while the machine is busy with a build.
START_LIMIT = 60.0
STOP_LIMIT = 20.0


@dataclasses.dataclass
class Target:
    """A running loggia: its kind of backend, its address, its model, and its upstream."""

    kind: str
    url: str
    model: str
    upstream: str | None = None
    # The fields that this kind of backend does not honour. For these the suites expect the 400 with the
    # field's name (`refusals.py`).
    refuses: tuple[str, ...] = ()
    # The model's capabilities, as `GET /v1/models/{id}` reports them.
    capabilities: tuple[str, ...] = ()
    # The address of loggia itself, for raw bytes. `url` may go through `without_thinking.py`.
    direct: str = ""

    def __post_init__(self):
        self.direct = self.direct or self.url

    @property
    def is_ollamas(self) -> bool:
        """Whether the upstream is an Ollama, real or not."""
        return self.kind in ("ollama", "live_ollama")

    def needs(self, capability: str) -> None:
        """Skips the test if the model does not have this capability."""
        if capability not in self.capabilities:
            pytest.skip(f"{self.model} has no capability '{capability}'")

    def expects(self, *requests: tuple[str, dict]) -> None:
        """In front of the stand-in: announces the next recorded requests, with the fields in which the tested
        SDK differs."""
        if self.kind == "ollama":
            fetch(f"{self.upstream}/standin/expect", [{"recording": name, "changed": changed} for name, changed in requests])


@contextlib.contextmanager
def embedded():
    arguments = ["--model", str(MODEL), "--context", "2048", "--parallel", "2", "--threads", "1"]
    with loggia(*arguments) as direct, watched(direct) as url:
        model = first_model(url)
        yield Target("embedded", url, model, capabilities=capabilities(url, model))


@contextlib.contextmanager
def ollama():
    with printing_its_address(HERE / "ollama_standin.py") as upstream:
        with loggia("--ollama", upstream) as direct, watched(direct) as url:
            yield Target("ollama", url, "smollm2:135m", upstream)
            mismatches = fetch(f"{upstream}/standin/report")["mismatches"]
            assert not mismatches, f"requests that were never recorded: {json.dumps(mismatches, indent=1)}"


@contextlib.contextmanager
def openai():
    with printing_its_address(HERE / "llamacpp_server.py", str(MODEL)) as upstream:
        with loggia("--openai", f"llamacpp={upstream}/v1") as direct, watched(direct) as url:
            yield Target("openai", url, "smollm2", upstream, capabilities=capabilities(url, "smollm2"))


def scripted(kind: str, script: scripted_model.Script):
    """Starts a loggia in front of an engine whose model `m` follows a script."""

    @contextlib.contextmanager
    def start():
        with scripted_model.engine(kind, script) as (arguments, _), loggia(*arguments) as direct, watched(direct) as url:
            yield Target(kind, url, "m", capabilities=capabilities(url, "m"))

    return start


@contextlib.contextmanager
def live_ollama():
    upstream, model = LIVE_OLLAMA.split()
    with loggia("--ollama", upstream) as direct, watched(direct) as held, contextlib.ExitStack() as stack:
        can = capabilities(held, model)
        # The questions limit the answer so that there is no room for reasoning before it.
        url = stack.enter_context(printing_its_address(HERE / "without_thinking.py", held)) if "thinking" in can else held
        yield Target("live_ollama", url, model, upstream, capabilities=can, direct=held)


@contextlib.contextmanager
def embedded_embeddings():
    with loggia("--model", str(EMBEDDING_MODEL), "--threads", "1") as direct, watched(direct) as url:
        yield Target("embedded", url, first_model(url))


@contextlib.contextmanager
def ollama_embeddings():
    with ollama() as target:
        yield dataclasses.replace(target, model="all-minilm:22m")


@contextlib.contextmanager
def openai_embeddings():
    with printing_its_address(HERE / "llamacpp_server.py", str(EMBEDDING_MODEL), "all-minilm") as upstream:
        with loggia("--openai", f"llamacpp={upstream}/v1") as direct, watched(direct) as url:
            yield Target("openai", url, "all-minilm", upstream)


ALL = {"embedded": embedded, "ollama": ollama, "openai": openai} | ({"live_ollama": live_ollama} if LIVE_OLLAMA else {})
TARGETS = {kind: start for kind, start in ALL.items() if kind in os.environ.get("LOGGIA_TEST_TARGETS", " ".join(ALL)).split()}

# The same kinds, each with an embedding model.
ALL_EMBEDDINGS = {"embedded": embedded_embeddings, "ollama": ollama_embeddings, "openai": openai_embeddings}
EMBEDDING_TARGETS = {kind: start for kind, start in ALL_EMBEDDINGS.items() if kind in TARGETS}


@contextlib.contextmanager
def audio():
    """Starts a loggia in front of an engine that hears and speaks."""
    with audio_engine.engine() as (upstream, _), loggia("--openai", f"gpu={upstream}/v1") as direct, watched(direct) as url:
        yield Target("openai", url, "whisper", upstream)


# The kinds whose engine can be one that follows a script.
WEATHER_TARGETS = {kind: scripted(kind, weather) for kind in ("openai", "ollama")}


@contextlib.contextmanager
def watched(url: str):
    """Yields an address that forwards everything to `url` through `relay.py`, which checks the streams of
    responses and, if OPENAI_SPEC is set, compares each answer with OpenAI's specification."""
    process = started(HERE / "relay.py", url)
    report = b""
    try:
        yield process.stdout.readline().decode().strip()
    finally:
        report, _ = process.communicate(timeout=STOP_LIMIT)
    told = json.loads(report)
    openai_spec.checked += told["checked"]
    assert not told["faults"], "answers that are not as they should be:\n" + "\n".join(told["faults"])


@contextlib.contextmanager
def loggia(*arguments: str, log: Path | None = None, environment: dict[str, str] | None = None, until: str = "/readyz", data: Path | None = None):
    """A running `loggia serve` on a free port. Yields its address when `until` answers 200. Asserts that it
    exits with 0 when it is stopped."""
    with tempfile.TemporaryDirectory(prefix="loggia-test-") as folder:
        log = log or Path(folder) / "log"
        process = launched(log, "--data-dir", str(data or folder), *arguments, environment=environment, folder=folder)
        try:
            yield listening(process, log, until)
        except BaseException:
            sys.stderr.write(f"--- the log of {' '.join(process.args)}\n{log.read_text(errors='replace')}---\n")
            raise
        finally:
            stop(process)
        assert process.returncode == 0, f"loggia ended with {process.returncode}:\n{log.read_text(errors='replace')}"


@contextlib.contextmanager
def killed(*arguments: str, data: Path, environment: dict[str, str] | None = None, until: str = "/readyz"):
    """The address of a `loggia serve` that is killed at the end."""
    log = data / "log"
    process = launched(log, "--data-dir", str(data), *arguments, environment=environment, folder=data)
    try:
        yield listening(process, log, until)
    finally:
        process.kill()
        process.wait()


def launched(
    log: Path, *arguments: str, listen: str = "127.0.0.1:0", environment: dict[str, str] | None = None, folder: Path | str | None = None
) -> subprocess.Popen:
    """Starts a `loggia serve`, with its output in a file."""
    command = [str(PROGRAM), "serve", "--listen", listen, *map(str, arguments)]
    with log.open("wb") as output:
        return subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=folder, env=clean_environment(environment))


def clean_environment(more: dict[str, str] | None = None) -> dict[str, str]:
    """The environment without the settings of the user who runs the tests, with these variables."""
    return {name: value for name, value in os.environ.items() if not name.startswith("LOGGIA_")} | (more or {})


def listening(process: subprocess.Popen, log: Path, until: str) -> str:
    """Returns the address that loggia printed, after it has answered there."""
    end = time.monotonic() + START_LIMIT
    while time.monotonic() < end:
        found = re.search(r"listening on (http://[0-9.:]+)", log.read_text(errors="replace"))
        if found and status_of(found[1] + until) == 200:
            return found[1]
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise RuntimeError(f"loggia did not start to answer (exit code {process.poll()})")


def stop(process: subprocess.Popen) -> None:
    process.terminate()
    try:
        process.wait(STOP_LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextlib.contextmanager
def printing_its_address(script: Path, *arguments: str):
    """Runs a Python program of this folder that prints its address first, and ends when its standard input
    ends."""
    process = started(script, *arguments)
    try:
        address = process.stdout.readline().decode().strip()
        if not address:
            raise RuntimeError(f"{script.name} did not start; run it by hand to see why")
        yield address
    finally:
        process.stdin.close()
        process.wait(STOP_LIMIT)


def started(script: Path, *arguments: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, str(script), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def first_model(url: str) -> str:
    return fetch(f"{url}/v1/models")["data"][0]["id"]


def capabilities(url: str, model: str) -> tuple[str, ...]:
    return tuple(fetch(f"{url}/v1/models/{model}").get("capabilities", ()))


def fetch(url: str, body: dict | list | None = None) -> dict:
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, {"content-type": "application/json"}), timeout=30) as answer:
        return json.load(answer)


def status_of(url: str) -> int | None:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


def main() -> None:
    with contextlib.ExitStack() as stack:
        wanted = {"embeddings": EMBEDDING_TARGETS, "weather": WEATHER_TARGETS, "audio": {"openai": audio}}.get(" ".join(sys.argv[1:]), TARGETS)
        targets = [stack.enter_context(start()) for start in wanted.values()]
        print(json.dumps([dataclasses.asdict(target) for target in targets]), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
