"""The cases of Open Responses' compliance run (openresponses.org), written anew: what each asks for, and what it
checks in the answer. Its schemas are in `open_responses.py`.

A scripted model answers where the case needs a call or an image; the cases that need only a text are tried with the
embedded engine too.
"""

import json

import pytest
from websockets.sync.client import connect

import open_responses
import raw
import scripted_model
from scripted_model import Conversation, Said, calls
from targets import MODEL, first_model, loggia, watched

RED_DOT = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
TOOL = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather at a place now",
    "parameters": {"type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]},
}
# The small model has a short answer to this.
QUESTION = "Answer yes or no: is water wet?"
TERMINAL = ("response.completed", "response.incomplete", "response.failed")


def message(role: str, content: str | list, **more) -> dict:
    return {"type": "message", "role": role, "content": content, **more}


def answers(conversation: Conversation) -> Said:
    """A call where a tool is offered; else what was seen of the last message and of what came before it."""
    if conversation.offers("get_weather"):
        return calls("get_weather", location="San Francisco, CA")
    if "code word" in conversation.question and "?" in conversation.question:
        words = [word for word in ("cobalt", "slate") if word in conversation.said_by("user", "assistant", "system", "developer")]
        return Said(" ".join(words) or "unknown")
    return Said("Hello, my friend.")


TEXTS = pytest.mark.parametrize("server", ["embedded", "openai", "ollama"], indirect=True, scope="module")
# A model as small as the embedded one neither calls nor sees.
SCRIPTED = pytest.mark.parametrize("server", ["openai", "ollama"], indirect=True, scope="module")


@pytest.fixture(scope="module")
def server(request):
    """The address of a loggia, and its model."""
    if request.param == "embedded":
        arguments = ["--model", str(MODEL), "--context", "2048", "--parallel", "1", "--threads", "2"]
        with loggia(*arguments) as direct, watched(direct) as url:
            yield url, first_model(url)
    else:
        with scripted_model.engine(request.param, answers) as (arguments, _), loggia(*arguments) as direct, watched(direct) as url:
            yield url, "m"


def post(server, path: str, **body) -> raw.Answer:
    url, model = server
    body = ({} if model == "m" else {"temperature": 0, "seed": 7}) | body
    return raw.ask(url, "POST", path, json.dumps({"model": model} | body).encode(), {"content-type": "application/json"})


def response(server, **body) -> dict:
    """A whole response, which has completed."""
    answer = post(server, "/v1/responses", **body)
    assert answer.status == 200, answer.body
    return completed(answer.json())


def streamed(server, **body) -> list[dict]:
    """The events of a streamed response, which has completed."""
    answer = post(server, "/v1/responses", stream=True, **body)
    assert answer.status == 200, answer.body
    events = answer.chunks()
    for event in events:
        open_responses.check_event(event)
    completed(events[-1]["response"])
    return events


def completed(value: dict) -> dict:
    open_responses.check(open_responses.RESPONSE, value)
    assert value["status"] == "completed" and value["output"], value
    return value


@TEXTS
def test_basic_response(server):
    response(server, input=[message("user", QUESTION)])


@TEXTS
def test_assistant_phase(server):
    earlier = [message("assistant", "The number was saved.", phase="commentary"), message("assistant", "It is four.", phase="final_answer")]
    response(server, input=[*earlier, message("user", "Repeat the number.")])


@TEXTS
def test_streaming_response(server):
    events = streamed(server, input=[message("user", QUESTION)])
    assert events[-1]["type"] == "response.completed"


@TEXTS
def test_system_prompt(server):
    response(server, input=[message("system", "You are a pirate."), message("user", QUESTION)])


@TEXTS
def test_multi_turn(server):
    turns = [message("user", "My name is Alice."), message("assistant", "Hello Alice!"), message("user", "What is my name?")]
    response(server, input=turns)


@SCRIPTED
def test_tool_calling(server):
    value = response(server, input=[message("user", "What is the weather in San Francisco?")], tools=[TOOL])
    assert "function_call" in [item["type"] for item in value["output"]]


@SCRIPTED
def test_tool_calling_streaming(server):
    events = streamed(server, input=[message("user", "What is the weather in San Francisco?")], tools=[TOOL])
    seen = [(event["type"], (event.get("item") or {}).get("type")) for event in events]
    arguments = "response.function_call_arguments."
    for expected in [
        ("response.output_item.added", "function_call"),
        (f"{arguments}delta", None),
        (f"{arguments}done", None),
        ("response.output_item.done", "function_call"),
    ]:
        assert expected in seen, expected


@SCRIPTED
def test_image_input(server):
    parts = [{"type": "input_text", "text": "What is in this image?"}, {"type": "input_image", "image_url": RED_DOT}]
    response(server, input=[message("user", parts)])


@SCRIPTED
def test_a_response_has_every_field_whatever_was_asked(server):
    """Not a case of theirs: tools without what is optional, and each choice of one."""
    bare = {"type": "function", "name": "get_weather"}
    for choice in ("auto", "none", {"type": "function", "name": "get_weather"}, {"type": "allowed_tools", "mode": "auto", "tools": [bare]}):
        response(server, input="Hi.", tools=[bare], tool_choice=choice)
    response(server, input="Hi.", reasoning={"effort": "low"}, text={"verbosity": "low"}, metadata={"a": "b"})
    response(server, input="Hi.", instructions="Be brief.", max_output_tokens=16, max_tool_calls=1, store=False)


SAID = [message("user", "We launch on Tuesday. The code word is slate."), message("assistant", "Understood.")]


@SCRIPTED
def test_compact_response(server):
    answer = post(server, "/v1/responses/compact", input=SAID, prompt_cache_key="k")
    assert answer.status == 200, answer.body
    open_responses.check(open_responses.COMPACTION, answer.json())
    assert "compaction" in [item["type"] for item in answer.json()["output"]]


@SCRIPTED
def test_compact_missing_model(server):
    answer = raw.ask(server[0], "POST", "/v1/responses/compact", json.dumps({"input": SAID}).encode(), {"content-type": "application/json"})
    assert answer.status in (400, 422)


class Socket:
    """A connection over which responses are created one after the other."""

    def __init__(self, server):
        self.url, self.model = server
        self.connection = connect(self.url.replace("http", "ws", 1) + "/v1/responses", additional_headers={"authorization": "Bearer x"})

    def __enter__(self):
        self.connection.__enter__()
        return self

    def __exit__(self, *why):
        self.connection.__exit__(*why)

    def create(self, **body) -> dict:
        """The terminal response of this turn, or its error."""
        self.connection.send(json.dumps({"type": "response.create", "model": self.model, "store": False, **body}))
        while True:
            event = json.loads(self.connection.recv(timeout=60))
            if event["type"] == "error":
                return event["error"]
            open_responses.check_event(event)
            if event["type"] in TERMINAL:
                return event["response"]


def code_of(turn: dict) -> str | None:
    """The code of a turn's error, be it a failed response or an error of its own."""
    return turn["code"] if "code" in turn else (turn["error"] or {}).get("code")


@pytest.fixture
def sockets(server):
    """Opens connections to a server that offers WebSocket."""
    try:
        with Socket(server):
            pass
    except InvalidStatus as refused:
        assert refused.response.status_code == 426
        pytest.skip("this server does not offer WebSocket")
    return lambda: Socket(server)


@SCRIPTED
def test_websocket_response(sockets):
    with sockets() as socket:
        completed(socket.create(input=[message("user", "Count from 1 to 3.")], store=True))


@SCRIPTED
def test_websocket_sequential_responses(sockets):
    with sockets() as socket:
        first, second = completed(socket.create(input="Say one.")), completed(socket.create(input="Say two."))
    assert first["id"] != second["id"]


@SCRIPTED
def test_websocket_continuation(sockets):
    with sockets() as socket:
        first = completed(socket.create(input="Remember the code word: cobalt."))
        second = completed(socket.create(previous_response_id=first["id"], input="What is the code word?"))
    assert second["output"][0]["content"][0]["text"] == "cobalt"


@SCRIPTED
def test_websocket_reconnect_store_false_recovery(sockets):
    with sockets() as socket:
        first = completed(socket.create(input="Remember the code word: cobalt."))
    with sockets() as socket:
        assert code_of(socket.create(previous_response_id=first["id"], input="Go on.")) == "previous_response_not_found"
        completed(socket.create(input=[message("user", "Begin anew.")]))


@SCRIPTED
def test_websocket_previous_response_not_found(sockets):
    with sockets() as socket:
        assert code_of(socket.create(previous_response_id="resp_missing", input="Go on.")) == "previous_response_not_found"


@SCRIPTED
def test_websocket_failed_continuation_evicts_cache(sockets):
    with sockets() as socket:
        first = completed(socket.create(input="Remember the code word: cobalt."))
        output = {"type": "function_call_output", "call_id": "call_missing", "output": "x"}
        assert code_of(socket.create(previous_response_id=first["id"], input=[output]))
        assert code_of(socket.create(previous_response_id=first["id"], input="Go on.")) == "previous_response_not_found"


@SCRIPTED
def test_websocket_compact_new_chain(sockets, server):
    window = post(server, "/v1/responses/compact", input=[*SAID, message("user", "Compress this.")]).json()["output"]
    with sockets() as socket:
        completed(socket.create(input=[*window, message("user", "Go on.")], tools=[]))
