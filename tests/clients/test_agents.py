"""OpenAI's Agents SDK for Python over `/v1/responses`, before engines whose model follows a script: tools of several kinds, handoffs, output of
a class, and turns that go on from earlier ones: with the history sent again, and with what the server remembers."""

import asyncio
import contextlib
import json

import openai
import pydantic
import pytest
from agents import (
    Agent,
    ApplyPatchTool,
    CustomTool,
    ModelSettings,
    OpenAIConversationsSession,
    OpenAIResponsesCompactionSession,
    OpenAIResponsesModel,
    OpenAIResponsesWSModel,
    Runner,
    ShellTool,
    SQLiteSession,
    function_tool,
    set_tracing_disabled,
)
from agents.editor import ApplyPatchResult

import scripted_model
from scripted_model import Conversation, Said, calls
from targets import loggia, watched
from weather import weather

set_tracing_disabled(True)


class Report(pydantic.BaseModel):
    city: str
    degrees: int


@function_tool
def get_weather(city: str) -> str:
    """The weather in a city"""
    return f"18 degrees, sunny in {city}."


@contextlib.contextmanager
def before(kind: str, script: scripted_model.Script):
    """The address of a loggia before such an engine, and what the engine was asked."""
    with scripted_model.engine(kind, script) as (arguments, asked), loggia(*arguments, "--alias", "gpt-*=m") as direct, watched(direct) as url:
        yield url, asked


@pytest.fixture(scope="module", params=["openai", "ollama"])
def scripted(request):
    with before(request.param, weather) as (url, asked):
        yield url, asked


def ran(url: str, agent: dict, *turns, streamed: bool = False, over_websocket: bool = False, **more):
    """The result of the last of these turns; each is an input, or makes one out of the result before it."""

    async def run():
        async with contextlib.AsyncExitStack() as stack:
            client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0, timeout=60, _strict_response_validation=True)
            await stack.enter_async_context(client)
            model = (OpenAIResponsesWSModel if over_websocket else OpenAIResponsesModel)(model="m", openai_client=client)
            stack.push_async_callback(model.close)
            result = None
            for turn in turns:
                asked = turn(result) if callable(turn) else turn
                given = {key: value(result, client) if callable(value) else value for key, value in more.items()}
                if streamed:
                    result = Runner.run_streamed(Agent(name="a", model=model, **agent), asked, **given)
                    async for _ in result.stream_events():
                        pass
                else:
                    result = await Runner.run(Agent(name="a", model=model, **agent), asked, **given)
            return result

    return asyncio.run(run())


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("store", [None, False], ids=["stored", "not-stored"])
def test_tools_are_called_and_their_results_used(scripted, streamed, store):
    agent = {"tools": [get_weather], "instructions": "Help.", "model_settings": ModelSettings(store=store, parallel_tool_calls=True)}
    result = ran(scripted[0], agent, "Weather in Paris and Rome?", streamed=streamed)
    assert result.final_output == "18 degrees, sunny in Paris. 18 degrees, sunny in Rome."
    kinds = [item.type for item in result.new_items]
    assert kinds == ["reasoning_item", "tool_call_item", "tool_call_item", "tool_call_output_item", "tool_call_output_item", "message_output_item"]
    assert result.context_wrapper.usage.requests == 2 and result.context_wrapper.usage.total_tokens == 100
    assert len({response.response_id for response in result.raw_responses}) == 2


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_a_turn_goes_on_from_the_history(scripted, streamed):
    go_on = lambda result: [*result.to_input_list(), {"role": "user", "content": "What did I ask?"}]
    result = ran(scripted[0], {"tools": [get_weather]}, "Weather in Paris?", go_on, streamed=streamed)
    assert result.final_output == "You asked about Paris."


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_a_turn_goes_on_from_the_last_response(scripted, streamed):
    """The server remembers: each request has only what is new."""
    url, asked = scripted
    asked.clear()
    more = {"previous_response_id": lambda result, _: result and result.last_response_id, "auto_previous_response_id": True}
    result = ran(url, {"tools": [get_weather]}, "Weather in Paris?", "And in Rome?", "What did I ask?", streamed=streamed, **more)
    assert result.final_output == "You asked about Paris and Rome."
    roles = [message["role"] for message in asked[-1]["messages"]]
    assert roles == ["user", "assistant", "tool", "assistant", "user", "assistant", "tool", "assistant", "user"]


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("store", [None, False], ids=["stored", "not-stored"])
def test_turns_over_one_websocket(scripted, streamed, store):
    """One connection has all turns, and each request has only what is new, stored or not."""
    url, asked = scripted
    asked.clear()
    agent = {"tools": [get_weather], "model_settings": ModelSettings(store=store)}
    more = {"previous_response_id": lambda result, _: result and result.last_response_id, "auto_previous_response_id": True}
    result = ran(url, agent, "Weather in Paris?", "And in Rome?", "What did I ask?", streamed=streamed, over_websocket=True, **more)
    assert result.final_output == "You asked about Paris and Rome."
    roles = [message["role"] for message in asked[-1]["messages"]]
    assert roles == ["user", "assistant", "tool", "assistant", "user", "assistant", "tool", "assistant", "user"]


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_a_session_is_a_conversation_of_the_server(scripted, streamed):
    url, _ = scripted
    sessions = {}
    session = lambda _, client: sessions.setdefault(client, OpenAIConversationsSession(openai_client=client))
    result = ran(url, {"tools": [get_weather]}, "Weather in Paris?", "And in Rome?", "What did I ask?", streamed=streamed, session=session)
    assert result.final_output == "You asked about Paris and Rome."


def test_a_conversation_is_named_by_its_id(scripted):
    url, _ = scripted
    with openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0) as client:
        conversation = client.conversations.create()
        result = ran(url, {"tools": [get_weather]}, "Weather in Paris?", "What did I ask?", conversation_id=conversation.id)
        assert result.final_output == "You asked about Paris."
        kinds = [item.type for item in client.conversations.items.list(conversation.id, order="asc")]
    assert kinds == ["message", "reasoning", "function_call", "function_call_output", "message", "message", "message"]


def test_a_session_is_compacted(scripted):
    """The server's own summary takes the place of the history, and the next turn goes on from it."""
    url, asked = scripted

    async def run():
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0, timeout=60, _strict_response_validation=True) as client:
            history = SQLiteSession("s")
            session = OpenAIResponsesCompactionSession("s", history, client=client, model="gpt-4.1", compaction_mode="input")
            agent = Agent(name="a", model=OpenAIResponsesModel(model="m", openai_client=client), tools=[get_weather])
            await Runner.run(agent, "Weather in Paris?", session=session)
            before = [item.get("type", "message") for item in await history.get_items()]
            await session.run_compaction({"force": True})
            after = [item["type"] for item in await history.get_items()]
            return before, after, (await Runner.run(agent, "What did I ask?", session=session)).final_output

    before, after, told = asyncio.run(run())
    assert before == ["message", "reasoning", "function_call", "function_call_output", "message"]
    assert after == ["compaction"]
    assert told == "You asked about Paris."
    assert [message["role"] for message in asked[-1]["messages"]] == ["user", "user", "user"], "the user's messages, the summary, the question"


def test_the_output_is_an_instance_of_the_class(scripted):
    result = ran(scripted[0], {"output_type": Report}, "Weather in Paris?")
    assert result.final_output == Report(city="Paris", degrees=18)


def test_an_agent_hands_over_to_another():
    def script(conversation: Conversation) -> Said:
        if conversation.offers("transfer_to_poet"):
            return calls("transfer_to_poet")
        return Said("Roses are red." if "You are a poet." in conversation.said_by("system", "developer") else "no poet")

    with before("openai", script) as (url, _):
        poet = Agent(name="poet", instructions="You are a poet.", model="unused")

        async def run():
            async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0) as client:
                model = OpenAIResponsesModel(model="m", openai_client=client)
                return await Runner.run(Agent(name="a", model=model, handoffs=[poet.clone(model=model)]), "A poem.")

        result = asyncio.run(run())
    assert (result.final_output, result.last_agent.name) == ("Roses are red.", "poet")


@pytest.mark.parametrize("kind", ["openai", "ollama"])
def test_tools_that_the_client_runs_itself_come_back_as_they_were_offered(kind):
    """A custom tool, a shell and patches: each is an item of its own type, and its output reaches the model."""

    def script(conversation: Conversation) -> Said:
        made = [("shout", {"input": "hello"}), ("shell", {"commands": ["echo hi"]}), ("apply_patch", PATCH)]
        done = len(conversation.results)
        return Said(calls=[made[done]]) if done < len(made) else Said(" / ".join(conversation.results))

    async def shout(context, text: str) -> str:
        return text.upper()

    commands, patches = [], []

    class Editor:
        def create_file(self, operation):
            patches.append((operation.type, operation.path, operation.diff))
            return ApplyPatchResult(output="created a.txt")

        update_file = delete_file = create_file

    def shell(request):
        commands.append(request.data.action.commands)
        return "hi from the shell"

    tools = [CustomTool(name="shout", description="Shouts.", on_invoke_tool=shout), ShellTool(executor=shell), ApplyPatchTool(editor=Editor())]
    with before(kind, script) as (url, _):
        result = ran(url, {"tools": tools}, "Go.")
    shouted, shown, created = result.final_output.split(" / ")
    assert (shouted, created) == ("HELLO", "completed: created a.txt")
    assert json.loads(shown) == [{"stdout": "hi from the shell", "stderr": "", "outcome": {"type": "exit", "exit_code": 0}}]
    assert commands == [["echo hi"]] and patches == [("create_file", "a.txt", "+hello")]


PATCH = {"type": "create_file", "path": "a.txt", "diff": "+hello"}
