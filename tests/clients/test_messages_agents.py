"""opencode (npm `opencode-ai`, with `@ai-sdk/anthropic`) and Qwen Code (npm `@qwen-code/qwen-code`, with `--auth-type anthropic`) over
`/v1/messages`: with a model that follows a script they read a file, edit it, run a command and end, in front of both kinds of engine.

Each has a home of its own and reaches only loopback: everything else would go through a proxy that lets nothing through.
"""

import dataclasses
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import official
import scripted_model
from scripted_model import Conversation, Said
from targets import HERE, loggia, watched
from test_codex import the_world

PACKAGES = HERE / "node" / "node_modules"
LIMIT = 120
COMMAND = "wc -c < greeting.txt > size.txt; echo exit code is $(cat size.txt)"


@dataclasses.dataclass
class Agent:
    """An agent: its npm package, how it is started (with a home, a folder to work in, and the address of loggia), and its tools."""

    package: str
    command: Callable[[Path, Path, str], tuple[list, dict[str, str]]]
    read: Callable[[str], tuple[str, dict]]
    edit: Callable[[str], tuple[str, dict]]
    run: tuple[str, dict]


def opencode(home: Path, work: Path, url: str) -> tuple[list, dict[str, str]]:
    provider = {"npm": "@ai-sdk/anthropic", "options": {"baseURL": f"{url}/v1", "apiKey": "x"}, "models": {"m": {"reasoning": True}}}
    config = {"model": "loggia/m", "autoupdate": False, "permission": {"edit": "allow", "bash": "allow"}, "provider": {"loggia": provider}}
    (work / "opencode.json").write_text(json.dumps(config))
    quiet = {f"OPENCODE_DISABLE_{what}": "1" for what in ("AUTOUPDATE", "MODELS_FETCH", "LSP_DOWNLOAD", "DEFAULT_PLUGINS")}
    return [PACKAGES / "opencode-ai" / "bin" / "opencode.exe", "run", "--format", "json"], quiet


def qwen(home: Path, work: Path, url: str) -> tuple[list, dict[str, str]]:
    official.needs_node()
    (home / ".qwen").mkdir()
    (home / ".qwen" / "settings.json").write_text(json.dumps({"privacy": {"usageStatisticsEnabled": False}}))
    own = {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": "x", "ANTHROPIC_MODEL": "m", "QWEN_CODE_NO_RELAUNCH": "true"}
    program = PACKAGES / "@qwen-code" / "qwen-code" / "cli-entry.js"
    return [official.NODE, program, "--auth-type", "anthropic", "--yolo", "--output-format", "json", "-p"], own


AGENTS = {
    "opencode": Agent(
        "opencode-ai",
        opencode,
        read=lambda path: ("read", {"filePath": path}),
        edit=lambda path: ("edit", {"filePath": path, "oldString": "Hello, moon.", "newString": "Hello, sun."}),
        run=("bash", {"command": COMMAND, "description": "Counts"}),
    ),
    "qwen": Agent(
        "@qwen-code/qwen-code",
        qwen,
        read=lambda path: ("read_file", {"file_path": path}),
        edit=lambda path: ("edit", {"file_path": path, "old_string": "Hello, moon.", "new_string": "Hello, sun."}),
        run=("run_shell_command", {"command": COMMAND, "description": "Counts", "is_background": False}),
    ),
}


@pytest.fixture(params=list(AGENTS))
def agent(request):
    if not (PACKAGES / AGENTS[request.param].package).exists():
        pytest.skip(f"{request.param} is not installed: scripts/test-clients node installs it")
    return AGENTS[request.param]


def edit_a_file(agent: Agent, path: str) -> scripted_model.Script:
    """Reads a file, edits it, runs a command: each step once the last one is seen to have worked."""

    def script(conversation: Conversation) -> Said:
        if not conversation.tools:
            return Said("A sun")
        results = conversation.results
        # What an edit answers depends on the agent; the file shows whether it worked.
        for result, expected in zip(results, ["Hello, moon.", "", "exit code is 12"]):
            if expected not in result:
                return Said(f"I expected {expected!r}, not {result!r}.")
        steps = [agent.read(path), agent.edit(path), agent.run]
        if not results:
            return Said("I look first.", reasoning="There is a file.", calls=steps[:1])
        return Said(calls=[steps[len(results)]]) if len(results) < len(steps) else Said("The moon is a sun now.")

    return script


@pytest.mark.parametrize("kind", ["openai", "ollama"])
def test_an_agent_reads_a_file_edits_it_runs_a_command_and_ends(agent, kind, tmp_path):
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    greeting = work / "greeting.txt"
    greeting.write_text("Hello, moon.\n")
    script = edit_a_file(agent, str(greeting))
    with scripted_model.engine(kind, script) as (arguments, asked), loggia(*arguments) as direct, watched(direct) as url, the_world() as (proxy, _):
        command, own = agent.command(home, work, url)
        through = {name: proxy for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")}
        nearby = {name: "127.0.0.1,localhost" for name in ("NO_PROXY", "no_proxy")}
        environment = {"HOME": str(home), "PATH": os.environ["PATH"]} | own | through | nearby
        prompt = "Make the moon a sun."
        ran = subprocess.run([*command, prompt], cwd=work, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT)

    assert ran.returncode == 0, ran
    assert greeting.read_text() == "Hello, sun.\n", ran
    assert (work / "size.txt").read_text().strip() == "12"
    assert "The moon is a sun now." in ran.stdout
    steps = [request for request in asked if request.get("tools")]
    assert len(steps) == 4, "one request for each step, and none twice"
    # The prompt begins the same in every turn, so that an engine finds it in its cache.
    for earlier, later in zip(steps, steps[1:]):
        assert later["messages"][: len(earlier["messages"])] == earlier["messages"]
        assert later["tools"] == earlier["tools"]
