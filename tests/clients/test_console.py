"""The console at /console in Chromium: signing in, what runs now, keys, stored objects, the playground and its code.

Every test also fails for any error in the browser's console, which includes each breach of the page's
Content-Security-Policy. Screenshots are in `target/console`.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import threading
import urllib.request
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

import slow_model
from odd_upstreams import serving
from targets import HERE, PROGRAM, REPOSITORY, loggia

SHOTS = REPOSITORY / "target" / "console"
AXE = HERE / "node" / "node_modules" / "axe-core" / "axe.min.js"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")
CHROMIUM = os.environ.get("LOGGIA_CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)

PAGES = ("live", "models", "keys", "stored", "playground")
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}

# A picture of one pixel.
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63606060000000040001f61738550000000049454e44ae426082"
)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium: scripts/setup test installs it, or LOGGIA_CHROMIUM names it")


class Console:
    """A running loggia before a slow engine, with a key for its operator and one for a user."""

    def __init__(self, url: str, admin: str, user: str):
        self.url, self.admin, self.user = url, admin, user

    def asks(self, text: str, key: str | None = None, path: str = "chat/completions", **more) -> bytes:
        said = {"messages": [{"role": "user", "content": text}]} if path == "chat/completions" else {"input": text}
        headers = {"content-type": "application/json", "authorization": f"Bearer {key or self.user}"}
        body = json.dumps({"model": "small"} | said | more).encode()
        with urllib.request.urlopen(urllib.request.Request(f"{self.url}/v1/{path}", body, headers), timeout=60) as answer:
            return answer.read()


def served_by(console: Console) -> str:
    """Returns the name of the node that answers a request."""
    headers = {"content-type": "application/json", "authorization": f"Bearer {console.user}"}
    body = json.dumps({"model": "small", "messages": [{"role": "user", "content": "x"}]}).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{console.url}/v1/chat/completions", body, headers), timeout=60) as answer:
        return answer.headers["x-loggia-served-by"].split(";")[0]


def node_of(url: str, admin: str, place: str) -> str:
    """Returns the name, in `x-loggia-served-by`, of the node at this address."""
    with urllib.request.urlopen(urllib.request.Request(f"{url}/admin/nodes", headers={"authorization": f"Bearer {admin}"}), timeout=60) as answer:
        nodes = json.load(answer)["data"]
    return next(f"{node['backend']}@{node['name']}" for node in nodes if node["place"] == place)


def create_key(folder: Path, name: str, *scopes: str) -> str:
    clean = {variable: value for variable, value in os.environ.items() if not variable.startswith("LOGGIA_")}
    command = [str(PROGRAM), "keys", "create", name, "--data-dir", str(folder), *(word for scope in scopes for word in ("--scope", scope))]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=clean, cwd=folder, check=True).stdout.strip()


@pytest.fixture(scope="module")
def engine():
    with serving(slow_model.SlowModel) as url:
        yield url


@pytest.fixture(scope="module")
def second_engine():
    with serving(slow_model.SlowModel) as url:
        yield url


@pytest.fixture(scope="module")
def console(engine, second_engine, tmp_path_factory):
    folder = tmp_path_factory.mktemp("console")
    admin = create_key(folder, "ops", "admin", "chat", "files")
    user = create_key(folder, "alice")
    with loggia("--openai", f"gpu={engine}/v1", "--openai", f"gpu={second_engine}/v1", "--at-once", "8", data=folder) as url:
        yield Console(url, admin, user)


@pytest.fixture(scope="module")
def browser():
    SHOTS.mkdir(parents=True, exist_ok=True)
    expect.set_options(timeout=15_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        yield browser
        browser.close()


@contextlib.contextmanager
def opened(browser, url: str, expected: str = "", **settings):
    """A page of its own browser context. Fails for errors in the browser's console that do not match `expected`."""
    with browser.new_context(**{"viewport": {"width": 1280, "height": 900}, "base_url": url} | settings) as context:
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        page = context.new_page()
        page.set_default_timeout(15_000)
        errors: list[str] = []
        page.on("console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{url}/console")
        yield page
        errors = [error for error in errors if not (expected and re.search(expected, error))]
        assert not errors, errors


@contextlib.contextmanager
def signed_in(browser, console: Console, path: str = "live", **settings):
    with opened(browser, console.url, **settings) as page:
        sign_in(page, console.admin)
        go(page, path)
        yield page


def sign_in(page: Page, key: str) -> None:
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("navigation")).to_be_visible()


def go(page: Page, path: str) -> None:
    page.locator(f"nav a[href='#/{path}']").click()
    expect(page.locator(f"nav a[href='#/{path}']")).to_have_attribute("aria-current", "page")


def shot(page: Page, name: str) -> None:
    page.evaluate("scrollTo(0, 0)")
    page.screenshot(path=SHOTS / f"{name}.png", full_page=True)


def send(page: Page, text: str) -> None:
    page.get_by_label("Message", exact=True).fill(text)
    page.get_by_role("button", name="Send", exact=True).click()


def settled(page: Page):
    """The last answer, when it has ended."""
    expect(page.locator("dl.figures").last).to_be_visible()
    expect(page.locator(".writing")).to_have_count(0)
    return page.locator(".turn.assistant").last


def test_only_a_key_of_an_operator_opens_it(browser, console):
    with opened(browser, console.url, expected="40[13]") as page:
        shot(page, "sign-in")
        for key, message in (("sk-loggia-wrong", "Incorrect API key"), (console.user, "lacks the scope 'admin'")):
            page.get_by_label("API key").fill(key)
            page.get_by_role("button", name="Sign in").click()
            expect(page.get_by_role("alert")).to_contain_text(message)
            assert page.evaluate("sessionStorage.length") == 0
        sign_in(page, console.admin)
        expect(page.get_by_role("heading", name="Live")).to_be_visible()
        kept = page.evaluate("[Object.values(sessionStorage).join(), Object.values(localStorage).join(), document.cookie]")
        assert kept == [console.admin, "", ""]
        page.reload()
        expect(page.get_by_role("heading", name="Live")).to_be_visible()
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_label("API key")).to_be_focused()
        assert page.evaluate("sessionStorage.length") == 0


def test_a_stream_shows_up_while_it_runs_and_when_it_has_ended(browser, console):
    with signed_in(browser, console) as page:
        running = page.get_by_role("region", name="Running requests").filter(has=page.locator("table")).last
        expect(running).to_contain_text("No request runs")
        asking = threading.Thread(target=console.asks, args=("a long answer",), kwargs={"stream": True})
        asking.start()
        row = running.locator("tbody tr", has_text="alice")
        expect(row).to_contain_text("writing")
        for part in ("small", "/v1/chat/completions", "stream", "gpu · "):
            expect(row).to_contain_text(part)
        before = int(row.locator("td").nth(7).inner_text())
        page.wait_for_function("before => Number(document.querySelectorAll('section[aria-label=\"Running requests\"] tbody td')[7]?.textContent) > before", arg=before)
        page.wait_for_function("Number(document.querySelectorAll('.tile dd')[2].textContent) > 5")
        shot(page, "live")
        asking.join()
        expect(running).to_contain_text("No request runs")
        ended = page.get_by_role("region", name="Requests that ended").last
        expect(ended.locator("tbody tr").first).to_contain_text(str(slow_model.LONG))
        expect(page.get_by_role("img", name=re.compile("^Tokens, last 5 minutes: up to"))).to_be_visible()
        # The figures as a table, for whoever cannot see the plot.
        page.locator(".plot summary").first.click()
        expect(page.get_by_role("region", name="Tokens, as a table").locator("tbody tr").first).to_be_visible()


def test_a_response_in_the_background_is_shown_after_its_client_has_gone(browser, console):
    console.asks("a long answer", path="responses", background=True, store=True)
    with signed_in(browser, console) as page:
        row = page.locator("section[aria-label='Running requests'] tbody tr", has_text="background")
        expect(row).to_contain_text("alice")
        expect(row).to_have_count(0, timeout=20_000)


def test_polling_stops_while_nobody_looks(browser, console):
    with signed_in(browser, console) as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        with page.expect_request("**/admin/live**"):
            pass
        page.get_by_role("button", name="Pause").click()
        page.wait_for_timeout(300)
        asked.clear()
        page.wait_for_timeout(2500)
        assert not asked
        with page.expect_request("**/admin/live**"):
            page.get_by_role("button", name="Resume").click()
        hide = "Object.defineProperty(document, 'hidden', {get: () => %s, configurable: true}); document.dispatchEvent(new Event('visibilitychange'))"
        page.evaluate(hide % "true")
        page.wait_for_timeout(300)
        asked.clear()
        page.wait_for_timeout(2500)
        assert not asked
        with page.expect_request("**/admin/live**"):
            page.evaluate(hide % "false")


def test_models_are_shown_with_their_backends(browser, console):
    with signed_in(browser, console, "models") as page:
        models = page.get_by_role("region", name="Models").last
        expect(models).to_contain_text("large")
        expect(models).to_contain_text("32,768")
        expect(page.locator(".head")).to_contain_text("ready")
        backends = page.get_by_role("region", name="Backends").last
        expect(backends.locator("tbody tr")).to_have_count(2)
        expect(backends.locator("tbody tr").first).to_contain_text("gpu")
        expect(backends.locator(".tag.good")).to_have_count(2)
        shot(page, "models")
        models.locator("tr", has_text="large").get_by_role("link", name="Try it").click()
        expect(page.get_by_label("Model", exact=True)).to_have_value("large")


def test_nodes_are_drained_used_again_and_removed(browser, engine, second_engine, tmp_path):
    admin = create_key(tmp_path, "ops", "admin", "chat")
    with loggia("--openai", f"gpu={engine}/v1", "--openai", f"gpu={second_engine}/v1", data=tmp_path) as url:
        console = Console(url, admin, admin)
        answers: list[bytes] = []
        asking = threading.Thread(target=lambda: answers.append(console.asks("a long answer", stream=True)))
        with signed_in(browser, console, "models") as page:
            rows = page.get_by_role("region", name="Backends").last.locator("tbody tr")
            expect(rows).to_have_count(2)
            expect(rows.locator(".tag.good")).to_have_count(2)
            asking.start()
            # The page asks every 5 s.
            place = rows.filter(has=page.locator("td:nth-child(4)", has_text="1")).locator("td.mono").inner_text()
            busy, other = rows.filter(has_text=place), rows.filter(has_not_text=place)
            busy.get_by_role("button", name=f"Drain {place}").click()
            expect(page.locator("#toasts")).to_contain_text(f"{place} gets no more requests.")
            expect(busy).to_contain_text("draining")
            expect(busy.get_by_role("button")).to_have_text(["Remove"])
            shot(page, "nodes")
            asking.join()
            assert answers[0].endswith(b"data: [DONE]\n\n"), "the stream of a node that is drained was cut"
            expect(busy).to_contain_text("drained")
            expect(busy.get_by_role("button")).to_have_text(["Use again"])
            # All requests go to the other node.
            other_place = other.locator("td.mono").inner_text()
            assert {served_by(console) for _ in range(4)} == {node_of(url, admin, other_place)}

            busy.get_by_role("button", name=f"Use again {place}").click()
            expect(page.locator("#toasts")).to_contain_text(f"{place} gets requests.")
            expect(rows.locator(".tag.good")).to_have_count(2)

            other.get_by_role("button", name=f"Remove {other_place}").click()
            dialog = page.get_by_role("dialog", name=f"Remove {other_place}?")
            expect(dialog).to_contain_text("end with an error")
            dialog.get_by_role("button", name="Cancel").click()
            expect(dialog).to_have_count(0)
            expect(rows.locator(".tag.good")).to_have_count(2)
            other.get_by_role("button", name=f"Remove {other_place}").click()
            shot(page, "nodes-remove")
            dialog.get_by_role("button", name="Remove").click()
            expect(page.locator("#toasts")).to_contain_text(f"{other_place} is removed.")
            expect(other.get_by_role("button")).to_have_text(["Use again"])
            assert {served_by(console) for _ in range(4)} == {node_of(url, admin, place)}


def test_keys_are_created_rotated_and_revoked(browser, console):
    console.asks("short")
    with signed_in(browser, console, "keys", expected="409") as page:
        page.get_by_role("button", name="New key").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("Name").fill("alice")
        dialog.get_by_role("button", name="Create key").click()
        expect(dialog.get_by_role("alert")).to_contain_text("Another API key has this name")
        dialog.get_by_label("Name").fill("bob")
        dialog.get_by_role("textbox", name="Models").fill("small, gpt-*")
        dialog.locator("summary").click()
        dialog.get_by_label("Requests a minute").fill("60")
        shot(page, "new-key")
        dialog.get_by_role("button", name="Create key").click()
        secret = dialog.locator("[data-secret]").inner_text()
        assert secret.startswith("sk-loggia-")
        dialog.get_by_role("button", name="Copy").click()
        assert page.evaluate("navigator.clipboard.readText()") == secret
        assert b"Paris" in console.asks("short", secret)
        dialog.get_by_role("button", name="I have kept it").click()
        row = page.locator("tr", has_text="bob").first
        expect(row).to_contain_text("small, gpt-*")
        expect(row).to_contain_text("60 requests a minute")
        assert secret not in page.content()
        shot(page, "keys")

        row.get_by_role("button", name="Rotate").click()
        page.get_by_role("dialog").get_by_role("button", name="Rotate").click()
        second = page.get_by_role("dialog").locator("[data-secret]").inner_text()
        page.keyboard.press("Escape")
        assert b"Paris" in console.asks("short", second)
        with pytest.raises(urllib.error.HTTPError, match="401"):
            console.asks("short", secret)

        page.locator("tr", has_text="bob").first.get_by_role("button", name="Revoke").click()
        page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
        assert b"Paris" in console.asks("short", second)
        page.locator("tr", has_text="bob").first.get_by_role("button", name="Revoke").click()
        page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
        expect(page.locator("tr", has_text="bob").first).to_contain_text("revoked")
        with pytest.raises(urllib.error.HTTPError, match="401"):
            console.asks("short", second)
        # The ledger is written once a second.
        page.wait_for_timeout(1200)
        page.reload()
        expect(page.get_by_role("region", name="Use by key and model").last).to_contain_text("alice")


def test_stored_objects_are_those_of_the_key_that_is_entered(browser, console):
    console.asks("What did the operator ask?", console.admin, "responses")
    console.asks("What did alice ask?", console.user, "responses")
    console.asks("short", console.user, store=True)
    with signed_in(browser, console, "stored") as page:
        page.locator(".list button").first.click()
        expect(page.locator(".detail")).to_contain_text("What did the operator ask?")
        expect(page.locator(".detail")).to_contain_text(slow_model.ANSWER)
        expect(page.locator(".list button")).to_have_count(1)
        shot(page, "stored")
        page.get_by_role("button", name="Use another key").click()
        page.get_by_role("dialog").get_by_label("API key").fill(console.user)
        page.get_by_role("dialog").get_by_role("button", name="Use it").click()
        page.locator(".list button").first.click()
        expect(page.locator(".detail")).to_contain_text("What did alice ask?")
        page.get_by_role("tab", name="Chats").click()
        page.locator(".list button").first.click()
        expect(page.locator(".detail")).to_contain_text(slow_model.ANSWER)
        for empty in ("Batches", "Files"):
            page.get_by_role("tab", name=empty).click()
            expect(page.locator(".empty-state")).to_be_visible()
        page.get_by_role("tab", name="Responses").click()
        page.locator(".list button").first.click()
        before = page.locator(".list button").count()
        page.locator(".detail").get_by_role("button", name="Delete").click()
        page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        expect(page.locator(".list button")).to_have_count(before - 1)


def test_a_chat_streams_can_be_stopped_and_tells_its_figures(browser, console):
    with signed_in(browser, console, "playground", expected="500") as page:
        send(page, "What is the capital of France?")
        answer = settled(page)
        expect(answer.locator(".said").last).to_have_text(slow_model.ANSWER)
        for figure in ("First token", "tokens/s", "Prompt50 tokens", "Answer10 tokens", "gpu@"):
            expect(answer.locator(".figures")).to_contain_text(figure)
        shot(page, "playground")
        send(page, "a long answer")
        expect(page.locator(".writing .said").last).to_contain_text("word9 ")
        page.get_by_role("button", name="Stop").click()
        expect(settled(page)).to_contain_text("stopped")
        send(page, "please fail")
        expect(settled(page).get_by_role("alert")).to_contain_text("out of memory")
        page.get_by_role("button", name="New conversation").click()
        page.locator(".segments button", has_text="Responses").click()
        send(page, "What is the capital of France?")
        expect(settled(page).locator(".said").last).to_have_text(slow_model.ANSWER)


def test_a_chat_calls_tools_keeps_to_a_schema_and_has_images(browser, console, tmp_path):
    with signed_in(browser, console, "playground") as page:
        page.locator("summary", has_text="Tools").click()
        functions = page.get_by_label("Functions")
        functions.fill("[{]")
        expect(page.locator(".hint.bad")).to_contain_text("This is not JSON")
        send(page, "What is the weather?")
        expect(page.get_by_role("alert")).to_contain_text("The tools cannot be sent")
        page.get_by_role("button", name="Insert an example").click()
        page.get_by_role("button", name="Send", exact=True).click()
        call = page.locator(".call").last
        expect(call).to_contain_text("get_weather")
        expect(call).to_contain_text("Paris")
        shot(page, "playground-tools")
        call.get_by_label("Result of get_weather").fill('{"temperature": 21}')
        call.get_by_role("button", name="Give this result").click()
        expect(page.locator(".turn.assistant").last.locator(".said").last).to_have_text(slow_model.WEATHER)
        settled(page)
        page.get_by_role("button", name="New conversation").click()
        functions.fill("")
        page.locator("summary", has_text="Structured output").click()
        page.get_by_label("Format").select_option("json_schema")
        send(page, "What is the capital of France?")
        expect(settled(page).locator(".said").last).to_have_text(slow_model.OBJECT)
        page.get_by_label("Format").select_option("text")
        (tmp_path / "pixel.png").write_bytes(PIXEL)
        page.locator("input[type=file]").set_input_files(tmp_path / "pixel.png")
        expect(page.locator(".composer img")).to_be_visible()
        expect(page.locator(".snippet pre")).to_contain_text("data:image/png;base64,")
        send(page, "What is this?")
        expect(settled(page)).to_contain_text(slow_model.ANSWER)
        expect(page.locator(".turn img")).to_be_visible()


def test_the_code_that_is_shown_makes_the_same_request(browser, console):
    """Runs the curl that the page copies, and the Python; TypeScript is at least valid JavaScript."""
    environment = os.environ | {"LOGGIA_API_KEY": console.admin}
    with signed_in(browser, console, "playground") as page:
        page.get_by_label("System message").fill('It\'s "quoted" \\ here, $HOME and `ls`')
        page.get_by_label("Temperature").fill("0.5")
        page.get_by_label("Message", exact=True).fill("What is the capital of France?")
        for api in ("Chat completions", "Responses"):
            page.locator(".segments button", has_text=api).click()
            for stream in (True, False):
                page.get_by_label("Stream the answer").set_checked(stream)
                for language in ("curl", "Python", "TypeScript"):
                    page.get_by_role("tab", name=language).click()
                    page.locator(".snippet-foot button").click()
                    code = page.evaluate("navigator.clipboard.readText()")
                    assert console.admin not in code
                    if language == "curl":
                        # sh, as the simplest of the shells that people have.
                        ran = subprocess.run(["sh", "-c", code], capture_output=True, text=True, timeout=60, env=environment)
                    elif language == "Python":
                        ran = subprocess.run([os.sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environment)
                    else:
                        node = os.environ.get("LOGGIA_NODE") or shutil.which("node")
                        ran = subprocess.run([node, "--input-type=module", "-"], input=code, capture_output=True, text=True, timeout=60, env=environment, cwd=HERE / "node") if AXE.exists() else None
                    if ran:
                        assert ran.returncode == 0 and "Seine" in ran.stdout, (api, stream, language, code, ran.stdout, ran.stderr)


def test_every_page_is_operable_by_keyboard(browser, console):
    with opened(browser, console.url) as page:
        expect(page.get_by_label("API key")).to_be_focused()
        page.keyboard.type(console.admin)
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="Live")).to_be_visible()
        # The first Tab of a page.
        page.reload()
        expect(page.get_by_role("heading", name="Live")).to_be_visible()
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        for path in ("models", "keys", "stored", "playground"):
            tab_to(page, f"nav a[href='#/{path}']")
            page.keyboard.press("Enter")
            expect(page.locator(f"nav a[href='#/{path}']")).to_have_attribute("aria-current", "page")
        tab_to(page, "textarea[aria-label=Message]")
        page.keyboard.type("What is the capital of France?")
        page.keyboard.press("Control+Enter")
        expect(settled(page)).to_contain_text(slow_model.ANSWER)
        tab_to(page, "[role=tab][aria-selected=true]")
        page.keyboard.press("ArrowRight")
        expect(page.get_by_role("tab", name="Python")).to_be_focused()
        expect(page.locator(".snippet pre")).to_contain_text("from openai import OpenAI")
        tab_to(page, "nav a[href='#/keys']")
        page.keyboard.press("Enter")
        tab_to(page, ".head button")
        page.keyboard.press("Enter")
        expect(page.get_by_role("dialog").get_by_label("Name")).to_be_focused()
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)
        tab_to(page, "nav a[href='#/live']")
        page.keyboard.press("Enter")
        tab_to(page, ".canvas")
        page.wait_for_function("document.querySelector('.plot .line')")
        page.keyboard.press("ArrowLeft")
        expect(page.locator(".reading").first).to_contain_text("answers")


def tab_to(page: Page, selector: str) -> None:
    """Presses Tab until an element that matches has the focus, which must be visible there."""
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline != "none", selector
            return
    pytest.fail(f"Tab never reaches {selector}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_fit_a_phone_and_have_no_serious_fault(browser, console, scheme):
    console.asks("What is the capital of France?", console.admin, "responses")
    background = {"light": "rgb(245, 245, 241)", "dark": "rgb(17, 20, 19)"}[scheme]
    for name, settings in (("wide", {}), ("phone", PHONE)):
        with signed_in(browser, console, color_scheme=scheme, **settings) as page:
            assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == background
            for path in PAGES:
                go(page, path)
                page.wait_for_load_state("networkidle") if path not in ("live", "models") else page.wait_for_timeout(1200)
                assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{path} is wider than the screen"
                shot(page, f"{name}-{scheme}-{path}")
                faults = axe(page)
                assert not faults, f"{path}: {json.dumps(faults, indent=1)}"


def test_the_switch_chooses_the_scheme_and_stays(browser, console):
    colour = "getComputedStyle(document.documentElement).backgroundColor"
    with signed_in(browser, console, color_scheme="light") as page:
        for scheme, background in (("light", "rgb(245, 245, 241)"), ("dark", "rgb(17, 20, 19)")):
            page.locator("#theme").click()
            assert page.evaluate(colour) == background
            expect(page.locator("#theme")).to_have_attribute("aria-label", re.compile(scheme))
        page.reload()
        assert page.evaluate(colour) == "rgb(17, 20, 19)"


def axe(page: Page) -> list:
    """The serious faults of a page's accessibility, by axe-core."""
    if not AXE.exists():
        return []
    if not page.evaluate("Boolean(window.axe)"):
        page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    assert found["passes"], "axe-core has checked nothing"
    serious = [fault for fault in found["violations"] if fault["impact"] in ("serious", "critical")]
    return [{"id": fault["id"], "nodes": [node["html"][:160] + " " + node["failureSummary"] for node in fault["nodes"]][:4]} for fault in serious]


def test_without_keys_it_opens_at_once_on_this_machine(browser, engine):
    with loggia("--openai", f"gpu={engine}/v1") as url, opened(browser, url) as page:
        expect(page.get_by_role("heading", name="Live")).to_be_visible()
        go(page, "keys")
        expect(page.locator("main")).to_contain_text("loggia keys create ops --scope admin")
        go(page, "playground")
        expect(page.locator(".snippet pre")).not_to_contain_text("authorization")
        send(page, "What is the capital of France?")
        expect(settled(page)).to_contain_text(slow_model.ANSWER)


def test_a_server_that_stops_is_noticed_and_what_models_write_is_only_text(browser, engine, tmp_path):
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(loggia("--openai", f"gpu={engine}/v1", data=tmp_path))
        page = stack.enter_context(opened(browser, url, expected="ERR_CONNECTION_REFUSED|Failed to load"))
        go(page, "playground")
        send(page, "<img src=x onerror=alert(1)><script>alert(2)</script>")
        settled(page)
        assert page.locator(".turns img, .turns script").count() == 0
        expect(page.locator(".turn .said").first).to_have_text("<img src=x onerror=alert(1)><script>alert(2)</script>")
        go(page, "live")
        expect(page.locator("#connection")).to_have_text("Live")
        stack.enter_context(contextlib.suppress(AssertionError))
        page.context.set_offline(True)
        expect(page.locator("#connection")).to_have_text("No answer")
        expect(page.get_by_role("alert")).to_contain_text("These figures are old")
        page.context.set_offline(False)
        expect(page.locator("#connection")).to_have_text("Live")
