"""`POST /v1/messages` through Anthropic's Python SDK: complete, streamed, with its helpers and tool runners, for every kind of backend."""

import asyncio
import dataclasses
import json

import anthropic
import pydantic
import pytest

import questions
import scripted_model
from refusals import unless_refused
from targets import WEATHER_TARGETS, loggia
from weather import weather

CAPITAL = {"messages": [{"role": "user", "content": "What is the capital of France?"}], "max_tokens": 24, "extra_body": {"temperature": 0, "seed": 7}}
STOPPED = {"messages": [{"role": "user", "content": "Count from one to ten."}], "max_tokens": 48, "extra_body": {"temperature": 0}}


class Person(pydantic.BaseModel):
    name: str
    age: int


def connected(url: str, **settings) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=url, **{"api_key": "unused", "max_retries": 0, "timeout": 120, "_strict_response_validation": True} | settings)


@pytest.fixture
def messages(target):
    with connected(target.url) as client:
        yield client


@pytest.fixture(scope="module", params=list(WEATHER_TARGETS))
def scripted(request):
    """A loggia before an engine whose model knows no weather."""
    with WEATHER_TARGETS[request.param]() as running, connected(running.url) as client:
        yield client


def asked(question: str, **more) -> dict:
    return {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": question}]} | more


def test_a_whole_message(messages, target, client):
    message = messages.messages.create(model=target.model, **CAPITAL)
    assert message.id.startswith("msg_") and message.model == target.model and message.role == "assistant"
    (block,) = message.content
    chat = client.chat.completions.create(model=target.model, **questions.CAPITAL)
    assert block.text == chat.choices[0].message.content != ""
    is_cut = chat.choices[0].finish_reason == "length"
    assert message.stop_reason == ("max_tokens" if is_cut else "end_turn") and message.stop_sequence is None
    usage = message.usage
    assert usage.input_tokens + usage.cache_read_input_tokens == chat.usage.prompt_tokens
    assert usage.output_tokens == chat.usage.completion_tokens
    assert message._request_id


def test_a_streamed_message(messages, target):
    events = list(messages.messages.create(model=target.model, stream=True, **CAPITAL))
    assert [event.type for event in events[:2]] == ["message_start", "content_block_start"]
    assert [event.type for event in events[-3:]] == ["content_block_stop", "message_delta", "message_stop"]
    text = "".join(event.delta.text for event in events if event.type == "content_block_delta")
    whole = messages.messages.create(model=target.model, **CAPITAL)
    assert text == whole.content[0].text
    assert events[-2].delta.stop_reason == whole.stop_reason


def test_the_helper_puts_the_events_together(messages, target):
    with messages.messages.stream(model=target.model, **CAPITAL) as stream:
        texts = list(stream.text_stream)
        final = stream.get_final_message()
    assert "".join(texts) == final.content[0].text != ""
    assert final.usage.output_tokens > 0 and final.usage.input_tokens + (final.usage.cache_read_input_tokens or 0) > 0
    assert stream.request_id


def test_the_asynchronous_stream_gives_the_same(target):
    async def texts() -> tuple[str, str]:
        async with anthropic.AsyncAnthropic(base_url=target.url, api_key="unused", max_retries=0, timeout=120) as client:
            async with client.messages.stream(model=target.model, **CAPITAL) as stream:
                streamed = "".join([text async for text in stream.text_stream])
            whole = await client.messages.create(model=target.model, **CAPITAL)
        return streamed, whole.content[0].text

    streamed, whole = asyncio.run(texts())
    assert streamed == whole != ""


def test_a_stop_sequence_is_named_where_the_engine_reports_it(messages, target):
    if target.is_ollamas:
        pytest.skip("only what was recorded")
    whole = messages.messages.create(model=target.model, **STOPPED).content[0].text
    word = whole.split()[2]
    message = messages.messages.create(model=target.model, stop_sequences=["never", word], **STOPPED)
    assert word not in message.content[0].text
    named = (message.stop_reason, message.stop_sequence)
    assert named == (("stop_sequence", word) if target.kind == "embedded" else ("end_turn", None))


def test_a_missing_model_is_a_404(messages, target):
    with pytest.raises(anthropic.NotFoundError) as refused:
        messages.messages.create(model="no-such-model", **CAPITAL)
    assert refused.value.body["error"]["type"] == "not_found_error"
    assert refused.value.request_id == refused.value.body["request_id"]


def test_a_field_that_is_wrong_is_a_400(messages, target):
    with pytest.raises(anthropic.BadRequestError) as refused:
        messages.messages.create(model=target.model, **CAPITAL | {"max_tokens": -1})
    assert refused.value.body["error"]["type"] == "invalid_request_error"
    assert "max_tokens" in refused.value.body["error"]["message"]


def test_the_tokens_of_a_prompt_are_counted(messages, target):
    if target.is_ollamas:
        pytest.skip("only what was recorded")
    question = {"model": target.model, "messages": CAPITAL["messages"]}
    counted = messages.messages.count_tokens(**question).input_tokens
    usage = messages.messages.create(**question, max_tokens=1).usage
    assert counted == usage.input_tokens + usage.cache_read_input_tokens > 0


def test_models_are_listed(messages, target):
    models = {model.id: model for model in messages.models.list()}
    assert models[target.model].type == "model"
    assert messages.models.retrieve(target.model).display_name == target.model
    with pytest.raises(anthropic.NotFoundError):
        messages.models.retrieve("no-such-model")


def test_a_tool_is_called_and_its_result_is_read(scripted):
    tools = [{"name": "get_weather", "description": "The weather.", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}]
    question = asked("Weather in Paris and Rome?", tools=tools, thinking={"type": "adaptive"})
    first = scripted.messages.create(**question)
    assert [block.type for block in first.content] == ["thinking", "tool_use", "tool_use"]
    assert first.content[0].thinking == "I do not know." and first.stop_reason == "tool_use"
    results = [{"type": "tool_result", "tool_use_id": call.id, "content": f"Sun in {call.input['city']}."} for call in first.content[1:]]
    history = question["messages"] + [{"role": "assistant", "content": first.content}, {"role": "user", "content": results}]
    second = scripted.messages.create(**question | {"messages": history})
    assert second.content[-1].text == "Sun in Paris. Sun in Rome." and second.stop_reason == "end_turn"


def test_the_stream_of_a_call_has_its_input(scripted):
    tools = [{"name": "get_weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}]
    with scripted.messages.stream(**asked("Weather in Paris?", tools=tools, thinking={"type": "adaptive"})) as stream:
        inputs = [event.partial_json for event in stream if event.type == "input_json"]
        final = stream.get_final_message()
    assert json.loads("".join(inputs)) == final.content[-1].input == {"city": "Paris"}


def test_parse_gives_an_instance_of_the_class(scripted):
    class Report(pydantic.BaseModel):
        city: str
        degrees: int

    message = scripted.messages.parse(**asked("Weather in Paris?"), output_format=Report)
    assert message.parsed_output == Report(city="Paris", degrees=18)


def test_a_schema_holds_the_answer(messages, target):
    question = {"messages": [{"role": "user", "content": "Invent a person."}], "max_tokens": 64, "extra_body": {"temperature": 0}}
    if target.is_ollamas:
        pytest.skip("only what was recorded")
    with unless_refused(target, "output_config.format"):
        message = messages.messages.parse(model=target.model, output_format=Person, **question)
        assert isinstance(message.parsed_output, Person) or message.stop_reason == "max_tokens"


# By default the runner keeps the conversation on the server.
@pytest.mark.parametrize("thread", [{}, {"thread": False}], ids=["thread", "no thread"])
@pytest.mark.parametrize("streams", [False, True])
def test_the_tool_runner_answers(scripted, streams, thread):
    called = []

    @anthropic.beta_tool
    def get_weather(city: str) -> str:
        """The weather.

        Args:
            city: The city.
        """
        called.append(city)
        return f"Sun in {city}."

    runner = scripted.beta.messages.tool_runner(**asked("Weather in Paris and Rome?"), tools=[get_weather], stream=streams, **thread)
    last = None
    for turn in runner:
        last = turn.get_final_message() if streams else turn
    assert sorted(called) == ["Paris", "Rome"]
    assert last.content[-1].text == "Sun in Paris. Sun in Rome."


@pytest.mark.parametrize("thread", [{}, {"thread": False}], ids=["thread", "no thread"])
@pytest.mark.parametrize("streams", [False, True])
def test_the_tool_runner_replaces_its_conversation_by_a_summary(scripted, streams, thread):
    @anthropic.beta_tool
    def get_weather(city: str) -> str:
        """The weather.

        Args:
            city: The city.
        """
        return f"Sun in {city}."

    runner = scripted.beta.messages.tool_runner(**asked("Weather in Paris?"), tools=[get_weather], stream=streams, **thread)
    turns = []
    for turn in runner:
        turns.append(turn.get_final_message() if streams else turn)
        if len(turns) == 1:
            runner.compact_before_next_turn()
    # The model reads of Paris in the summary, and asks again.
    assert [turn.stop_reason for turn in turns] == ["tool_use", "compaction", "tool_use", "end_turn"]
    (summary,) = turns[1].content
    assert summary.type == "compaction" and summary.content == "You asked about Paris."
    assert turns[-1].content[-1].text == "Sun in Paris."


COMPACT = {"type": "compact_20260112", "trigger": {"type": "input_tokens", "value": 1000}}


def told_at_length(question: str) -> list[dict]:
    """A conversation of more than 1,000 tokens that ends with this question."""
    return [
        {"role": "user", "content": "Paris is a city. " + "It has many streets. " * 400},
        {"role": "assistant", "content": "Indeed."},
        {"role": "user", "content": question},
    ]


def weather_at_length(conversation):
    """The script `weather`, with a token for each word of the prompt."""
    words = conversation.said_by("system", "user", "assistant", "tool").split()
    return dataclasses.replace(weather(conversation), prompt_tokens=len(words))


@pytest.fixture(scope="module", params=["openai", "ollama"])
def counting(request):
    """A loggia before an engine that counts the words of a prompt."""
    with scripted_model.engine(request.param, weather_at_length) as (arguments, _), loggia(*arguments) as url, connected(url) as client:
        yield client


@pytest.mark.parametrize("streams", [False, True])
def test_a_long_conversation_is_summarized_before_the_answer(counting, streams):
    def answer(messages):
        body = {"model": "m", "max_tokens": 100, "messages": messages, "betas": ["compact-2026-01-12"], "context_management": {"edits": [COMPACT]}}
        if not streams:
            return counting.beta.messages.create(**body), []
        with counting.beta.messages.stream(**body) as stream:
            kinds = [event.type for event in stream]
            return stream.get_final_message(), kinds

    messages = told_at_length("Which one did I mean?")
    message, kinds = answer(messages)
    summary, text = message.content
    assert summary.type == "compaction" and summary.content == "You asked about Paris." and summary.encrypted_content
    assert text.text == "You asked about Paris." and message.stop_reason == "end_turn"
    assert [one.type for one in message.usage.iterations] == ["compaction", "message"]
    assert kinds.count("compaction") == (1 if streams else 0)
    # The next turn sends the block back, and is short.
    messages += [{"role": "assistant", "content": message.content}, {"role": "user", "content": "Say it again."}]
    message, _ = answer(messages)
    assert [block.type for block in message.content] == ["text"] and message.content[0].text == "You asked about Paris."


@pytest.mark.parametrize("thread", [{}, {"thread": False}], ids=["thread", "no thread"])
@pytest.mark.parametrize("streams", [False, True])
def test_the_tool_runner_goes_on_after_a_pause(counting, streams, thread):
    @anthropic.beta_tool
    def get_weather(city: str) -> str:
        """The weather.

        Args:
            city: The city.
        """
        return f"Sun in {city}."

    edit = COMPACT | {"pause_after_compaction": True}
    asking = asked("") | {"messages": told_at_length("Weather in Rome?"), "context_management": {"edits": [edit]}, "betas": ["compact-2026-01-12"]}
    runner = counting.beta.messages.tool_runner(**asking, tools=[get_weather], stream=streams, **thread)
    turns = [turn.get_final_message() if streams else turn for turn in runner]
    assert [turn.stop_reason for turn in turns] == ["compaction", "tool_use", "end_turn"]
    assert turns[-1].content[-1].text == "Sun in Rome."


def test_an_answer_continues_the_text_that_the_client_begins(messages, target):
    if target.is_ollamas:
        pytest.skip("only what was recorded")
    question = CAPITAL["messages"]
    whole = messages.messages.create(model=target.model, **CAPITAL).content[0].text
    beginning = whole[: whole.rindex(" ", 0, len(whole) // 2)]
    begun = CAPITAL | {"messages": [*question, {"role": "assistant", "content": beginning}]}
    rest = messages.messages.create(model=target.model, **begun).content[0].text
    with messages.messages.stream(model=target.model, **begun) as stream:
        assert "".join(stream.text_stream) == rest
    # Both are limited to the same number of tokens, so the continued answer ends later.
    assert (beginning + rest).startswith(whole)
    with pytest.raises(anthropic.BadRequestError) as refused:
        ends_with_space = [*question, {"role": "assistant", "content": "Paris "}]
        messages.messages.create(model=target.model, **begun | {"messages": ends_with_space})
    assert "cannot end with trailing whitespace" in refused.value.body["error"]["message"]


def test_the_first_event_has_the_tokens_of_the_prompt(messages, target):
    events = list(messages.messages.create(model=target.model, stream=True, **CAPITAL))
    first, last = events[0].message.usage, events[-2].usage
    if target.kind == "embedded":
        for field in ("input_tokens", "cache_read_input_tokens"):
            assert getattr(first, field) == getattr(last, field)
        assert first.input_tokens > 0
    else:
        assert first.input_tokens == 0 < last.input_tokens + (last.cache_read_input_tokens or 0)


def test_the_prompt_can_be_read_without_an_answer(messages, target):
    if target.is_ollamas:
        pytest.skip("only what was recorded")
    message = messages.messages.create(model=target.model, **CAPITAL | {"max_tokens": 0})
    assert (message.content, message.stop_reason, message.usage.output_tokens) == ([], "max_tokens", 0)
    assert messages.messages.create(model=target.model, **CAPITAL).usage.cache_read_input_tokens > 0


def test_a_key_is_accepted_in_either_header(tmp_path):
    with scripted_model.engine("openai", weather) as (arguments, _), loggia(*arguments, environment={"LOGGIA_KEYS": "bob", "LOGGIA_KEY_BOB": "a-secret-of-the-test"}) as url:
        question = asked("Weather?")
        assert connected(url, api_key="a-secret-of-the-test").messages.create(**question).content
        assert connected(url, api_key="unused", default_headers={"x-api-key": "a-secret-of-the-test"}).messages.create(**question).content
        with pytest.raises(anthropic.AuthenticationError) as refused:
            connected(url, api_key="wrong").messages.create(**question)
        assert refused.value.body["error"]["type"] == "authentication_error"


def test_the_tool_runner_goes_on_without_a_thread_where_nothing_is_kept():
    @anthropic.beta_tool
    def get_weather(city: str) -> str:
        """The weather.

        Args:
            city: The city.
        """
        return f"Sun in {city}."

    with scripted_model.engine("openai", weather) as (arguments, _), loggia(*arguments, environment={"LOGGIA_STORE": "false"}) as url:
        runner = connected(url).beta.messages.tool_runner(**asked("Weather in Paris?"), tools=[get_weather])
        assert runner.until_done().content[-1].text == "Sun in Paris."


def test_a_thread_outlives_the_server(tmp_path):
    with scripted_model.engine("openai", weather) as (arguments, engine):
        with loggia(*arguments, data=tmp_path) as url:
            first = connected(url).beta.messages.create(**asked("Hello."), thread={"type": "create"})
        with loggia(*arguments, data=tmp_path) as url:
            more = asked("Which cities?", thread={"type": "continue", "previous_message_id": first.id})
            connected(url).beta.messages.create(**more)
        assert [message["role"] for message in engine[-1]["messages"]] == ["user", "assistant", "user"]
