"""Responses over a WebSocket by the Python SDK (`client.responses.connect()`), before every kind of backend."""

import threading

import openai
import pytest

import scripted_model
from odd_upstreams import serving
from targets import MODEL, first_model, loggia, watched
from weather import weather

ENDS = ("response.completed", "response.incomplete", "response.failed", "error")
LOOK = {
    "type": "function",
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


@pytest.fixture(scope="module", params=["embedded", "openai", "ollama"])
def server(request):
    """A client, and the model."""
    if request.param == "embedded":
        arguments = ["--model", str(MODEL), "--context", "2048", "--parallel", "2", "--threads", "2"]
        with loggia(*arguments) as direct, watched(direct) as url:
            yield client_of(url), first_model(url)
    else:
        with scripted_model.engine(request.param, weather) as (arguments, _), loggia(*arguments) as direct, watched(direct) as url:
            yield client_of(url), "m"


def client_of(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0)


def end_of(connection, lane: str | None = None):
    """The last event of the next response of this lane."""
    for event in connection:
        if event.type in ENDS and getattr(event, "stream_id", None) == lane:
            return event
    raise AssertionError("the connection ended")


def create(model: str, text, **more) -> dict:
    short = {} if model == "m" else {"temperature": 0, "max_output_tokens": 16}
    return {"type": "response.create", "model": model, "input": text, "store": False} | short | more


def test_turns_of_one_connection_that_are_not_stored(server):
    client, model = server
    with client.responses.connect() as connection:
        connection.send(create(model, "Say hello."))
        first = end_of(connection).response
        assert first.status in ("completed", "incomplete") and first.output
        connection.send(create(model, "Once more.", previous_response_id=first.id))
        second = end_of(connection).response
        assert second.previous_response_id == first.id and second.id != first.id
        assert second.usage.input_tokens >= first.usage.input_tokens
    with client.responses.connect() as connection:
        connection.send(create(model, "Once more.", previous_response_id=first.id))
        refused = end_of(connection)
        assert (refused.type, refused.error.code, refused.status) == ("error", "previous_response_not_found", 404)
        connection.send(create(model, "Begin anew."))
        assert end_of(connection).response.output


def test_a_warm_up_has_no_output_and_is_continued(server):
    client, model = server
    with client.responses.connect() as connection:
        connection.send(create(model, [{"role": "developer", "content": "Be brief."}], generate=False))
        warm = end_of(connection).response
        assert (warm.status, warm.output, warm.usage.output_tokens) == ("completed", [], 0)
        connection.send(create(model, "Say hello.", previous_response_id=warm.id))
        answer = end_of(connection).response
        assert answer.output and answer.usage.input_tokens >= warm.usage.input_tokens
        if model != "m":
            assert answer.usage.input_tokens_details.cached_tokens > 0, "the engine has the prompt of the warm-up"


def test_lanes(server):
    client, model = server
    with client.responses.connect() as connection:
        for lane in ("one", "two"):
            connection.send(create(model, f"Say {lane}.", stream_id=lane))
        ends = {}
        for event in connection:
            if event.type in ENDS:
                ends[event.stream_id] = event.response.status
            if len(ends) == 2:
                break
        assert set(ends) == {"one", "two"} and set(ends.values()) <= {"completed", "incomplete"}


def test_steering(server):
    client, model = server
    with client.responses.connect() as connection:
        more = {} if model == "m" else {"max_output_tokens": 400}
        connection.send(create(model, "Tell a long story.", **more))
        first, seen = None, []
        for event in connection:
            seen.append(event.type)
            if event.type == "response.created" and first is None:
                first = event.response.id
                connection.response.steer(previous_response_id=first, input="Make it short.")
            elif event.type == "response.created":
                assert event.response.previous_response_id == first
                break
            elif event.type == "response.steer.failed":
                # An engine that answers at once may have ended.
                assert event.error.code == "response_already_completed" and model == "m"
                return
            elif event.type == "response.incomplete":
                assert event.response.incomplete_details.reason == "steered"
        assert "response.steer.accepted" in seen
        if model != "m":
            assert "response.incomplete" in seen
        assert end_of(connection).response.status in ("completed", "incomplete")


def test_steering_inside_a_call():
    """The call is finished first, and the input waits for its output."""
    asked, go_on = [], threading.Event()

    class Slow(scripted_model.openai_of(weather, asked)):
        def say_stream(self, content_type, pieces):
            self.send_response(200)
            self.send_header("content-type", content_type)
            self.send_header("connection", "close")
            self.end_headers()
            for piece in pieces:
                if '"tool_calls": [' in piece and '"name"' not in piece:
                    go_on.wait(30)
                self.wfile.write(piece.encode())

    with serving(Slow) as engine, loggia("--openai", f"engine={engine}/v1") as direct, watched(direct) as url:
        with client_of(url).responses.connect() as connection:
            connection.send(create("m", "What is the weather in Paris?", tools=[LOOK]))
            seen = []
            for event in connection:
                if event.type == "response.function_call_arguments.delta" and event.type not in seen:
                    connection.response.steer(previous_response_id=first, input="Answer in one word.")
                seen.append(event.type)
                if event.type == "response.created":
                    first = event.response.id
                elif event.type == "response.steer.accepted":
                    go_on.set()
                elif event.type == "response.steer.pending":
                    break
            assert seen.index("response.steer.accepted") < seen.index("response.function_call_arguments.done") < seen.index("response.completed")
            assert [(item.type, item.name) for item in event.required_input] == [("function_call_output", "get_weather")]
            output = {"type": "function_call_output", "call_id": event.required_input[0].call_id, "output": "18 degrees"}
            connection.send(create("m", [output], tools=[LOOK], previous_response_id=first))
            assert end_of(connection).response.status == "completed"
    last = [(message["role"], message["content"]) for message in asked[-1]["messages"][-2:]]
    assert last == [("tool", "18 degrees"), ("user", "Answer in one word.")]


def test_a_call_and_its_output(server):
    client, model = server
    if model != "m":
        pytest.skip("a model of this size calls nothing")
    with client.responses.connect() as connection:
        connection.send(create(model, "What is the weather in Paris?", tools=[LOOK]))
        first = end_of(connection).response
        calls = [item for item in first.output if item.type == "function_call"]
        assert calls and calls[0].name == "get_weather"
        outputs = [{"type": "function_call_output", "call_id": call.call_id, "output": "18 degrees"} for call in calls]
        connection.send(create(model, outputs, tools=[LOOK], previous_response_id=first.id))
        assert end_of(connection).response.status == "completed"


def test_a_frame_that_is_wrong_is_an_error_and_the_connection_goes_on(server):
    client, model = server
    with client.responses.connect() as connection:
        connection.send_raw("no JSON")
        assert end_of(connection).status == 400
        connection.send(create(model, "x", top_logprobs=99))
        assert end_of(connection).error.param == "top_logprobs"
        connection.send(create(model, "Say hello."))
        assert end_of(connection).response.output
