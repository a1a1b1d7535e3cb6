"""OpenAI's Codex itself (npm `@openai/codex`) over `/v1/responses`: with a model that follows a script it reads a file, edits it, runs a
command and ends, in front of both kinds of engine; and with the embedded engine it ends, whatever a small model says.

Codex has a home of its own and reaches only loopback: everything else would go through a proxy that notes what it is asked for.
"""

import contextlib
import dataclasses
import http.server
import os
import subprocess
from pathlib import Path

import pytest

import json_lines
import odd_upstreams
import official
import scripted_model
from scripted_model import Conversation, Said
from targets import HERE, MODEL, loggia, watched

CODEX = HERE / "node" / "node_modules" / "@openai" / "codex" / "bin" / "codex.js"
LIMIT = 120

# No sandbox: in a container there is often none to be had. What runs here is what the script says.
CONFIG = """
model = "{model}"
model_provider = "loggia"
model_instructions_file = "{home}/instructions.md"
approval_policy = "never"
sandbox_mode = "danger-full-access"
check_for_update_on_startup = false
web_search = "disabled"
project_doc_max_bytes = 0
shell_environment_policy.inherit = "core"
{more}
[features]
apps = false
plugins = false
remote_plugin = false
skill_search = false
goals = false
{features}
[analytics]
enabled = false
[feedback]
enabled = false
[otel]
exporter = "none"
trace_exporter = "none"
metrics_exporter = "none"
[model_providers.loggia]
name = "Loggia"
base_url = "{url}/v1"
wire_api = "responses"
supports_websockets = {websockets}
request_max_retries = 0
stream_max_retries = 0
"""

NO_SHELL = "shell_tool = false\nunified_exec = false"

PATCH = """*** Begin Patch
*** Update File: greeting.txt
@@
-Hello, moon.
+Hello, sun.
*** End Patch
"""


def edit_a_file(conversation: Conversation) -> Said:
    """Reads a file, edits it, runs a command: each step once the last one is seen to have worked."""
    results = conversation.results
    seen = ["Hello, moon.", "Success. Updated the following files", "exit code is 12"]
    for result, expected in zip(results, seen):
        if expected not in result:
            return Said(f"I expected {expected!r}, not {result!r}.")
    if not results:
        return Said("I look first.", reasoning="There is a file.", calls=[("exec_command", {"cmd": "cat greeting.txt"})])
    if len(results) == 1 and conversation.offers("apply_patch"):
        return scripted_model.calls("apply_patch", input=PATCH)
    if len(results) == 1:
        return scripted_model.calls("exec_command", cmd=f"apply_patch <<'EOF'\n{PATCH}EOF\n")
    if len(results) == 2:
        return scripted_model.calls("exec_command", cmd="wc -c < greeting.txt > size.txt; echo exit code is $(cat size.txt)")
    return Said("The moon is a sun now.")


@dataclasses.dataclass
class Run:
    """What Codex did: its exit code, its events, what it wrote to standard error, and what it asked the world for."""

    code: int
    events: list[dict]
    errors: str
    asked_the_world: list[str]

    def of(self, kind: str) -> list[dict]:
        return [event["item"] for event in self.events if event["type"] == "item.completed" and event["item"]["type"] == kind]


def codex(url: str, folder: Path, *arguments: str, model: str = "m", websockets: bool = False, features: str = "", more: str = "", limit: int = LIMIT, oss: str = "") -> Run:
    """Runs `codex exec` in `folder/work` until it ends. `oss` is the local provider that it takes the server for, instead of the configured one."""
    official.needs_node()
    home, work = folder / "home", folder / "work"
    (home / ".codex").mkdir(parents=True, exist_ok=True)
    work.mkdir(exist_ok=True)
    (home / "instructions.md").write_text("You change files by the tools that you have.")
    config = CONFIG.format(url=url, home=home, model=model, websockets=str(websockets).lower(), features=features, more=more)
    (home / ".codex" / "config.toml").write_text(config)
    with the_world() as (proxy, asked):
        through = {name: proxy for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")}
        nearby = {name: "127.0.0.1" for name in ("NO_PROXY", "no_proxy")}
        environment = {"HOME": str(home), "PATH": os.environ["PATH"], "RUST_LOG": "error", **through, **nearby}
        environment |= {"CODEX_OSS_BASE_URL": f"{url}/v1"} if oss else {}
        local = ["--oss", "--local-provider", oss, "--model", model] if oss else []
        command = [official.NODE, str(CODEX), "exec", *local, *arguments, "--json", "--strict-config", "--skip-git-repo-check"]
        ran = subprocess.run(command, cwd=work, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=limit)
    return Run(ran.returncode, json_lines.objects(ran.stdout), ran.stderr, asked)


@contextlib.contextmanager
def the_world():
    """A proxy that lets nothing through, and the list of what it was asked for."""
    asked: list[str] = []

    class Proxy(http.server.BaseHTTPRequestHandler):
        def refuse(self):
            asked.append(self.path)
            self.send_error(403)

        do_GET = do_POST = do_CONNECT = refuse

        def log_message(self, *_):
            pass

    with odd_upstreams.serving(Proxy) as url:
        yield url, asked


@pytest.fixture(scope="module", params=["openai", "ollama"])
def scripted(request):
    """A loggia before an engine that follows the script, and what the engine was asked."""
    with scripted_model.engine(request.param, edit_a_file) as (arguments, asked), loggia(*arguments, "--alias", "gpt-5.5=m") as direct:
        with watched(direct) as url:
            yield url, asked


# Codex knows the second model: it offers `apply_patch` as a custom tool with a grammar, and `tool_search`.
@pytest.mark.parametrize("model", ["m", "gpt-5.5"])
@pytest.mark.parametrize("websockets", [False, True], ids=["http", "websockets"])
def test_codex_reads_a_file_edits_it_runs_a_command_and_ends(scripted, tmp_path, model, websockets):
    url, asked = scripted
    asked.clear()
    work = tmp_path / "work"
    work.mkdir()
    (work / "greeting.txt").write_text("Hello, moon.\n")

    run = codex(url, tmp_path, "Make the moon a sun.", model=model, websockets=websockets)

    assert run.code == 0, run
    assert (work / "greeting.txt").read_text() == "Hello, sun.\n"
    assert (work / "size.txt").read_text().strip() == "12"
    assert [item["text"] for item in run.of("agent_message")] == ["I look first.", "The moon is a sun now."]
    assert [item["exit_code"] for item in run.of("command_execution")] == [0, 0]
    ((change,),) = [item["changes"] for item in run.of("file_change")]
    assert (Path(change["path"]).name, change["kind"]) == ("greeting.txt", "update")
    assert run.events[-1]["type"] == "turn.completed"
    assert run.events[-1]["usage"]["output_tokens"] == 4 * scripted_model.ANSWER_TOKENS
    # Over a WebSocket Codex warms up first.
    turns = [request for request in asked if not warms_up(request)]
    assert len(turns) == 4, "one request for each step, and none twice"
    assert len(asked) - len(turns) == int(websockets)
    assert not run.asked_the_world


def warms_up(request: dict) -> bool:
    """Whether an engine only reads the prompt."""
    return 1 in (request.get("max_completion_tokens"), request.get("max_tokens"), request.get("options", {}).get("num_predict"))


def test_codex_goes_on_where_an_earlier_run_ended(scripted, tmp_path):
    url, asked = scripted
    asked.clear()
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "greeting.txt").write_text("Hello, moon.\n")
    assert codex(url, tmp_path, "Make the moon a sun.").code == 0
    (tmp_path / "work" / "greeting.txt").write_text("Hello, moon.\n")

    run = codex(url, tmp_path, "resume", "--last", "Once more.")

    assert run.code == 0 and (tmp_path / "work" / "greeting.txt").read_text() == "Hello, sun.\n", run
    said = [message.get("content") for message in asked[4]["messages"] if message["role"] == "assistant"]
    assert any("The moon is a sun now." in str(text) for text in said), "the first run is part of the second"


@pytest.mark.parametrize("provider", ["ollama", "lmstudio"])
def test_codex_takes_the_server_for_an_ollama_or_an_lm_studio(scripted, tmp_path, provider):
    url, asked = scripted
    asked.clear()
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "greeting.txt").write_text("Hello, moon.\n")

    run = codex(url, tmp_path, "Make the moon a sun.", oss=provider)

    assert run.code == 0 and (tmp_path / "work" / "greeting.txt").read_text() == "Hello, sun.\n", run
    # LM Studio loads a model when it is asked for one token.
    assert len([request for request in asked if not warms_up(request)]) == 4
    assert not run.asked_the_world


def test_codex_says_that_the_server_does_not_pull_models(scripted, tmp_path):
    url, asked = scripted
    asked.clear()

    run = codex(url, tmp_path, "Say hello.", model="nothing", oss="ollama")

    assert run.code == 1 and not asked
    assert "this server does not download models for its clients" in run.errors


def test_codex_ends_with_the_embedded_engine_whatever_the_model_says(tmp_path):
    arguments = ["--model", str(MODEL), "--context", "3072", "--parallel", "1", "--threads", "2"]
    with loggia(*arguments) as direct, watched(direct) as url:
        # A model of this size says anything: it gets no shell. It may also say as much as the context holds.
        run = codex(url, tmp_path, "Say hello.", model="smollm2:135m", features=NO_SHELL, more="agents.enabled = false", limit=5 * LIMIT)
        ends = [event for event in run.events if event["type"] in ("turn.completed", "turn.failed")]
        assert len(ends) == 1, run
        assert (run.code == 0) == (ends[0]["type"] == "turn.completed"), run
        assert run.code in (0, 1) and "panicked" not in run.errors, run
