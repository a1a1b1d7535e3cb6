"""Clients with the configuration that `loggia connect CLIENT --write` wrote into an empty home: with a model that follows a script, each
runs a command and ends. What is in the files, and what happens to files that exist, is tested in `crates/loggia`.

Each client reaches only loopback: everything else would go through a proxy that notes what it is asked for.
"""

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import official
import scripted_model
from scripted_model import Conversation, Said
from targets import HERE, PROGRAM, loggia
from test_claude_code import program as claude
from test_codex import CODEX, the_world

PACKAGES = HERE / "node" / "node_modules"
LIMIT = 120
COMMAND = "cp greeting.txt copy.txt && echo THE COPY IS MADE"
END = "The file is copied."


@dataclasses.dataclass
class Client:
    """How a client is run with a prompt, and the tool by which it runs a command."""

    command: Callable[[], list[str | Path]]
    tool: str
    arguments: dict
    environment: dict[str, str] = dataclasses.field(default_factory=dict)


def package(path: str) -> list[str | Path]:
    """A program of a Node package."""
    official.needs_node()
    return [official.NODE, PACKAGES / path]


CLIENTS = {
    # In a container there is often no sandbox to be had. What runs here is what the script says.
    "claude": Client(
        lambda: [claude(), "--permission-mode", "bypassPermissions", "-p"],
        "Bash",
        {"command": COMMAND, "description": "Copies"},
        {"IS_SANDBOX": "1", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"},
    ),
    "codex": Client(
        lambda: [official.NODE, CODEX, "exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"],
        "exec_command",
        {"cmd": COMMAND},
    ),
    "opencode": Client(lambda: [PACKAGES / ".bin" / "opencode", "run"], "bash", {"command": COMMAND, "description": "Copies"}),
    "continue": Client(lambda: [*package("@continuedev/cli/dist/cn.js"), "--auto", "-p"], "Bash", {"command": COMMAND}),
    "qwen-code": Client(
        lambda: [*package("@qwen-code/qwen-code/cli-entry.js"), "--yolo", "-p"],
        "run_shell_command",
        {"command": COMMAND, "is_background": False},
    ),
}


def copies_a_file(client: Client):
    def script(conversation: Conversation) -> Said:
        if not conversation.offers(client.tool):
            return Said("A title")
        if "THE COPY IS MADE" in "".join(conversation.results):
            return Said(END)
        return scripted_model.calls(client.tool, **client.arguments)

    return script


def connect(url: str, home: Path, *arguments: str) -> subprocess.CompletedProcess:
    environment = {"HOME": str(home), "PATH": os.environ["PATH"]}
    return subprocess.run([PROGRAM, "connect", *arguments, "--url", url], env=environment, capture_output=True, text=True, timeout=LIMIT)


@pytest.mark.parametrize("kind", ["openai", "ollama"])
@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_works_with_the_configuration_that_was_written(name, kind, tmp_path):
    official.needs_node()
    client = CLIENTS[name]
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    (work / "greeting.txt").write_text("Hello, moon.\n")
    with scripted_model.engine(kind, copies_a_file(client)) as (arguments, asked), loggia(*arguments) as url, the_world() as (proxy, _):
        written = connect(url, home, name, "--write")
        assert written.returncode == 0 and "wrote" in written.stderr, written
        through = {name: proxy for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")}
        nearby = {name: "127.0.0.1,localhost" for name in ("NO_PROXY", "no_proxy")}
        path = f"{Path(official.NODE).parent}:{os.environ['PATH']}"
        environment = {"HOME": str(home), "PATH": path, **through, **nearby, **client.environment}
        command = [*client.command(), "Copy the greeting."]
        ran = subprocess.run(command, cwd=work, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT)

        assert ran.returncode == 0, ran
        assert (work / "copy.txt").read_text() == "Hello, moon.\n", ran
        assert END in ran.stdout + ran.stderr, ran
        assert asked and {request["model"] for request in asked} == {"m"}


def test_llm_works_with_the_configuration_that_was_written(tmp_path):
    with scripted_model.engine("openai", lambda _: Said("Hello, moon.")) as (arguments, asked), loggia(*arguments) as url:
        folder = tmp_path / "llm"
        environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "LLM_USER_PATH": str(folder)}
        written = subprocess.run([PROGRAM, "connect", "llm", "--write", "--url", url], env=environment, capture_output=True, text=True, timeout=LIMIT)
        assert written.returncode == 0, written
        ran = subprocess.run([sys.executable, "-m", "llm", "-m", "m", "Hello"], env=environment, capture_output=True, text=True, timeout=LIMIT)

        assert ran.stdout.strip() == "Hello, moon.", ran
        assert len(asked) == 1
