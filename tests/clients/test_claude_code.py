"""Claude Code itself (npm `@anthropic-ai/claude-code`) over `/v1/messages`: with a model that follows a script it reads a file, edits it,
runs a command and ends, in front of both kinds of engine; and with the embedded engine it ends, whatever a small model says.

Claude Code has a home of its own and reaches only loopback: everything else would go through a proxy that notes what it is asked for.
"""

import base64
import dataclasses
import json
import os
import subprocess
from pathlib import Path

import pytest

import json_lines
import scripted_model
from scripted_model import Conversation, Said
from targets import HERE, MODEL, loggia
from test_codex import the_world

PACKAGES = HERE / "node" / "node_modules" / "@anthropic-ai"
LIMIT = 120
PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg==")


def program() -> Path:
    """The program for this machine."""
    found = sorted(PACKAGES.glob("claude-code-*/claude"))
    if not found:
        pytest.skip("Claude Code is not installed: scripts/test-clients node installs it")
    return found[0]


def last_file(conversation: Conversation, name: str) -> str:
    """The path of a file in the folder that Claude Code says it works in."""
    _, _, rest = conversation.said_by("system", "user").partition("Primary working directory: ")
    return f"{rest.splitlines()[0].strip()}/{name}"


def edit_a_file(conversation: Conversation) -> Said:
    """Reads a file, edits it, runs a command: each step once the last one is seen to have worked."""
    results = conversation.results
    if conversation.format:
        return Said('{"title": "A sun"}')
    for result, expected in zip(results, ["Hello, moon.", "updated successfully", "exit code is 12"]):
        if expected not in result:
            return Said(f"I expected {expected!r}, not {result!r}.")
    path = last_file(conversation, "greeting.txt")
    if not results:
        return Said("I look first.", reasoning="There is a file.", calls=[("Read", {"file_path": path})])
    if len(results) == 1:
        return scripted_model.calls("Edit", file_path=path, old_string="Hello, moon.", new_string="Hello, sun.")
    if len(results) == 2:
        return scripted_model.calls("Bash", command="wc -c < greeting.txt > size.txt; echo exit code is $(cat size.txt)", description="Counts")
    return Said("The moon is a sun now.")


def look_and_search(conversation: Conversation) -> Said:
    """Looks at an image, fails at a command, finds a tool that was deferred, and says what it was shown."""
    results = conversation.results
    if not results and "image_url" not in json.dumps(conversation.messages) and "images" not in json.dumps(conversation.messages):
        return scripted_model.calls("Read", file_path=last_file(conversation, "pixel.png"))
    said = conversation.said_by("tool")
    if "exit code 3" not in said.lower():
        return scripted_model.calls("Bash", command="exit 3", description="Fails")
    if "can be called now" not in said:
        return scripted_model.calls("ToolSearch", query="select:WebFetch", max_results=1)
    return Said("The tool is there." if conversation.offers("WebFetch") else "The tool is not there.")


@dataclasses.dataclass
class Run:
    """What Claude Code did: its exit code, its events, what it wrote to standard error, and what it asked the world for."""

    code: int
    events: list[dict]
    errors: str
    asked_the_world: list[str]

    @property
    def end(self) -> dict:
        return self.events[-1]

    def blocks(self, kind: str) -> list[dict]:
        said = [event["message"]["content"] for event in self.events if event["type"] in ("assistant", "user")]
        return [block for content in said if isinstance(content, list) for block in content if block["type"] == kind]


def claude(url: str, folder: Path, prompt: str, *arguments: str, model: str = "m", mode: str = "bypassPermissions", **more: str) -> Run:
    """Runs `claude -p` in `folder/work` until it ends."""
    home, work = folder / "home", folder / "work"
    home.mkdir(parents=True, exist_ok=True)
    work.mkdir(exist_ok=True)
    with the_world() as (proxy, asked):
        through = {name: proxy for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")}
        nearby = {name: "127.0.0.1" for name in ("NO_PROXY", "no_proxy")}
        quiet = {name: "1" for name in ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "DISABLE_TELEMETRY", "DISABLE_AUTOUPDATER", "DISABLE_ERROR_REPORTING")}
        # In a container there is often no sandbox to be had. What runs here is what the script says.
        own = {"HOME": str(home), "PATH": os.environ["PATH"], "ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": "x", "ANTHROPIC_MODEL": model, "IS_SANDBOX": "1"}
        command = [program(), "-p", prompt, "--output-format", "stream-json", "--verbose", "--permission-mode", mode, *arguments]
        environment = own | through | nearby | quiet | more
        ran = subprocess.run(command, cwd=work, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT)
    return Run(ran.returncode, json_lines.objects("\n".join(line for line in ran.stdout.split("\n") if line.startswith("{"))), ran.stderr, asked)


@pytest.fixture(params=["openai", "ollama"])
def kind(request):
    return request.param


def test_claude_code_reads_a_file_edits_it_runs_a_command_and_ends(kind, tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    (work / "greeting.txt").write_text("Hello, moon.\n")
    with scripted_model.engine(kind, edit_a_file) as (arguments, asked), loggia(*arguments) as url:
        run = claude(url, tmp_path, "Make the moon a sun.")

        assert run.code == 0 and run.end["subtype"] == "success", run
        assert (work / "greeting.txt").read_text() == "Hello, sun.\n"
        assert (work / "size.txt").read_text().strip() == "12"
        assert [block["text"] for block in run.blocks("text")] == ["I look first.", "The moon is a sun now."]
        assert [block["name"] for block in run.blocks("tool_use")] == ["Read", "Edit", "Bash"]
        assert run.end["usage"]["output_tokens"] == 4 * scripted_model.ANSWER_TOKENS
        assert len(asked) == 4, "one request for each step, and none twice"
        # The prompt begins the same in every turn, so that an engine finds it in its cache.
        for earlier, later in zip(asked, asked[1:]):
            assert later["messages"][: len(earlier["messages"])] == earlier["messages"]
            assert later["tools"] == earlier["tools"]
        assert "billing" not in json.dumps(asked[0]["messages"][0])
        assert not run.asked_the_world

        (work / "greeting.txt").write_text("Hello, moon.\n")
        run = claude(url, tmp_path, "Once more.", "-c")

        assert run.code == 0 and (work / "greeting.txt").read_text() == "Hello, sun.\n", run
        assert "The moon is a sun now." in json.dumps(asked[4]["messages"]), "the first run is part of the second"


def test_in_auto_mode_claude_code_says_that_no_server_checks_its_actions_and_goes_on(kind, tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    (work / "greeting.txt").write_text("Hello, moon.\n")
    with scripted_model.engine(kind, edit_a_file) as (arguments, asked), loggia(*arguments) as url:
        run = claude(url, tmp_path, "Make the moon a sun.", mode="auto")

    # An edit in its own folder needs no check; a command does, and nothing here can do it.
    assert run.code == 0 and run.end["subtype"] == "success", run
    assert (work / "greeting.txt").read_text() == "Hello, sun.\n"
    assert not (work / "size.txt").exists()
    reports = [event["content"] for event in run.events if event.get("subtype") == "informational"]
    assert any("safety check runs on the server" in report for report in reports), run
    assert "Auto mode is unavailable" in run.end["result"]
    assert len(asked) == 4, "one request for each step, and none waited or came twice"


def test_claude_code_sees_images_errors_and_tools_that_it_finds(kind, tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "pixel.png").write_bytes(PIXEL)
    with scripted_model.engine(kind, look_and_search) as (arguments, asked), loggia(*arguments) as url:
        run = claude(url, tmp_path, "Look and search.", ENABLE_TOOL_SEARCH="true")

        assert run.code == 0, run
        assert run.end["result"] == "The tool is there.", run
        names = [[tool["function"]["name"] for tool in request["tools"]] for request in asked]
        assert all("WebFetch" not in early for early in names[:-1]) and names[-1][-1] == "WebFetch"
        assert not any("DeferredToolPlaceholder" in one for one in names)


def test_claude_code_is_told_once_what_it_cannot_have(tmp_path):
    with scripted_model.engine("openai", edit_a_file) as (arguments, _), loggia(*arguments) as url:
        run = claude(url, tmp_path, "Hello.", model="no-such-model")
        assert run.end["is_error"] and "no-such-model" in run.end["result"], run


def test_claude_code_ends_with_the_embedded_engine_whatever_the_model_says(tmp_path):
    arguments = ["--model", str(MODEL), "--context", "8192", "--parallel", "1", "--threads", "2"]
    with loggia(*arguments) as url:
        # A model of this size says anything: it gets no tools.
        run = claude(url, tmp_path, "Say hello.", "--tools", "", model="smollm2:135m", CLAUDE_CODE_MAX_OUTPUT_TOKENS="64")
        assert run.end["type"] == "result" and run.code in (0, 1), run
