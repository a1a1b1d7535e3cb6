"""Stored chat completions and conversations through the official Python client, in front of the Ollama
stand-in: what is stored, what survives a restart, and what the files contain."""

import contextlib
import sqlite3
import subprocess

import openai
import pytest

import official
import openai_spec
import questions
import raw
from targets import HERE, PROGRAM, loggia, printing_its_address

MODEL = "smollm2:135m"
USER = {"role": "user", "content": "Say hello."}


@pytest.fixture(scope="module")
def upstream():
    with printing_its_address(HERE / "ollama_standin.py") as upstream:
        yield upstream


@contextlib.contextmanager
def stored(upstream, folder, *arguments, environment=None):
    """The client of a loggia that stores its objects in a folder."""
    with loggia("--ollama", upstream, *arguments, data=folder, environment=environment) as url:
        yield official.client(url)


@pytest.fixture
def kept(upstream, tmp_path):
    with stored(upstream, tmp_path) as client:
        yield client


def asked(client, **more):
    return client.chat.completions.create(model=MODEL, **(questions.CAPITAL | more))



def holds(schema: str, answer) -> None:
    """Compares the raw answer with OpenAI's specification, if OPENAI_SPEC is set."""
    if openai_spec.SPEC:
        openai_spec.check_json(schema, answer.text)


def test_a_stored_chat_is_retrieved_listed_changed_and_deleted(kept):
    chats = kept.chat.completions
    answer = asked(kept, store=True, metadata={"topic": "capitals", "n": "1"})
    other = asked(kept, store=True)
    asked(kept, store=False)
    asked(kept)

    found = chats.retrieve(answer.id)
    assert found.metadata == {"topic": "capitals", "n": "1"}
    assert found.model_dump(exclude={"metadata"}) == answer.model_dump(exclude={"metadata"})
    assert [chat.id for chat in chats.list()] == [answer.id, other.id]
    assert [chat.id for chat in chats.list(order="desc", limit=1)] == [other.id, answer.id], "every page is asked for"
    assert [chat.id for chat in chats.list(metadata={"topic": "capitals"}, model=MODEL)] == [answer.id]
    assert chats.list(limit=0, after="", order="asc").data == []
    assert chats.update(answer.id, metadata={"topic": "towns"}).metadata == {"topic": "towns"}
    assert chats.retrieve(answer.id).metadata == {"topic": "towns"}
    assert chats.retrieve(answer.id).choices[0].message.content == answer.choices[0].message.content

    messages = chats.messages.list(answer.id).data
    assert [(message.id, message.role, message.content) for message in messages] == [
        (f"{answer.id}-{index}", message["role"], message["content"]) for index, message in enumerate(questions.CAPITAL["messages"])
    ]
    deleted = chats.delete(answer.id)
    assert (deleted.id, deleted.deleted, deleted.object) == (answer.id, True, "chat.completion.deleted")
    for gone in (chats.retrieve, chats.delete, lambda id: chats.update(id, metadata={}), chats.messages.list):
        with pytest.raises(openai.NotFoundError, match=f"Chat completion with id '{answer.id}' not found."):
            gone(answer.id)


def test_the_answers_are_what_the_strict_client_and_the_spec_want(kept):
    answer = asked(kept, store=True, metadata={"a": "b"})
    chats, conversations = kept.chat.completions.with_raw_response, kept.conversations.with_raw_response
    holds("CreateChatCompletionResponse", chats.retrieve(answer.id))
    holds("ChatCompletionList", chats.list())
    items = [
        {"role": "user", "content": "Hi"},
        {"role": "user", "content": [{"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo="}]},
        {"role": "assistant", "content": "Ho"},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "4"},
        {"type": "reasoning", "id": "rs_1", "summary": []},
    ]
    created = conversations.create(items=items, metadata={"a": "b"})
    holds("ConversationResource", created)
    conversation = created.parse()
    holds("ConversationItemList", kept.conversations.items.with_raw_response.list(conversation.id))
    with openai.OpenAI(base_url=kept.base_url, api_key="x", max_retries=0, _strict_response_validation=True) as strict:
        assert [chat.id for chat in strict.chat.completions.list()] == [answer.id]
        assert strict.chat.completions.retrieve(answer.id).id == answer.id
        assert strict.conversations.retrieve(conversation.id).metadata == {"a": "b"}
        listed = strict.conversations.items.list(conversation.id, order="asc").data
        assert [item.type for item in listed] == ["message", "message", "message", "function_call", "function_call_output", "reasoning"]
        assert all(item.id for item in listed)
        for item in listed:
            assert strict.conversations.items.retrieve(item.id, conversation_id=conversation.id).id == item.id
        assert strict.conversations.items.list(conversation.id, limit=0).data == []


def test_a_stream_is_stored_before_its_last_event(kept):
    with kept.chat.completions.create(model=MODEL, stream=True, store=True, **questions.CAPITAL) as stream:
        chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    found = kept.chat.completions.retrieve(chunks[0].id)
    assert found.choices[0].message.content == text and found.choices[0].finish_reason == "stop"


def test_a_conversation_and_its_items(kept):
    conversations = kept.conversations
    conversation = conversations.create(items=[USER], metadata={"a": "b"})
    assert conversation.id.startswith("conv_") and conversations.retrieve(conversation.id) == conversation
    added = conversations.items.create(conversation.id, items=[{"role": "assistant", "content": "Hello."}], include=[])
    assert [item.content[0].text for item in added.data] == ["Hello."]
    ids = [item.id for item in conversations.items.list(conversation.id, order="asc", limit=1)]
    assert len(ids) == 2 and ids[1] == added.first_id == added.last_id
    assert [item.id for item in conversations.items.list(conversation.id, include=["message.output_text.logprobs"])] == ids[::-1]
    assert conversations.items.delete(ids[0], conversation_id=conversation.id).id == conversation.id
    with pytest.raises(openai.NotFoundError, match=f"Item with id '{ids[0]}' not found."):
        conversations.items.retrieve(ids[0], conversation_id=conversation.id)
    assert conversations.update(conversation.id, metadata={"c": "d"}).metadata == {"c": "d"}
    assert conversations.delete(conversation.id).deleted
    with pytest.raises(openai.NotFoundError, match=f"Conversation with id '{conversation.id}' not found."):
        conversations.items.list(conversation.id)


def test_what_was_stored_survives_a_restart(upstream, tmp_path):
    with stored(upstream, tmp_path) as client:
        chat = asked(client, store=True).id
        conversation = client.conversations.create(items=[USER]).id
    with stored(upstream, tmp_path) as client:
        assert client.chat.completions.retrieve(chat).id == chat
        assert [item.content[0].text for item in client.conversations.items.list(conversation)] == ["Say hello."]


def test_what_is_not_to_be_stored_leaves_nothing_on_the_disk(upstream, tmp_path):
    with stored(upstream, tmp_path) as client:
        for more in ({}, {"store": False}, {"store": False, "stream": True}):
            answer = client.chat.completions.create(model=MODEL, user="secret words", **(questions.CAPITAL | more))
            if more.get("stream"):
                list(answer)
        assert not list(tmp_path.glob("state.db*")), "no file before something is stored"
        asked(client, store=True)
        asked(client, store=False, messages=questions.CAPITAL["messages"], user="secret words")
        assert all(b"secret words" not in file.read_bytes() for file in tmp_path.glob("state.db*"))
        assert (tmp_path / "state.db").exists()


def test_each_key_sees_its_own(upstream, tmp_path):
    keys = {name: f"sk-{name}-0123456789abcdef" for name in ("alice", "bob")}
    environment = {"LOGGIA_KEYS": ",".join(keys)} | {f"LOGGIA_KEY_{name.upper()}": key for name, key in keys.items()}
    with stored(upstream, tmp_path, environment=environment) as client:
        alice, bob = (client.with_options(api_key=key) for key in keys.values())
        chat = asked(alice, store=True).id
        assert alice.chat.completions.retrieve(chat).id == chat
        assert list(bob.chat.completions.list()) == []
        with pytest.raises(openai.NotFoundError):
            bob.chat.completions.retrieve(chat)
        with pytest.raises(openai.AuthenticationError):
            client.chat.completions.list()


def test_without_a_store_nothing_is_stored_and_the_field_is_named(upstream, tmp_path):
    with stored(upstream, tmp_path, "--store=false") as client:
        answer = client.chat.completions.with_raw_response.create(model=MODEL, store=True, **questions.CAPITAL)
        assert answer.headers["x-loggia-ignored"] == "store"
        with pytest.raises(openai.NotFoundError):
            client.conversations.create()
        assert not list(tmp_path.glob("state.db*"))


def test_a_store_that_does_not_work_is_a_503_and_works_when_it_comes_back(upstream, tmp_path):
    folder = tmp_path / "data"
    with stored(upstream, folder) as client:
        folder.write_text("a file in the folder's place")
        for call in (lambda: asked(client, store=True), lambda: asked(client, store=True, stream=True), client.conversations.create):
            with pytest.raises(openai.InternalServerError) as failure:
                call()
            assert (failure.value.status_code, failure.value.code) == (503, "store_unavailable")
            assert "retry-after" in failure.value.response.headers
        assert asked(client).choices[0].message.content, "whoever stores nothing is served"
        folder.unlink()
        assert client.chat.completions.retrieve(asked(client, store=True).id)


def test_check_says_where_the_state_is_and_how_much(upstream, tmp_path):
    def check(*arguments):
        command = [str(PROGRAM), "check", "--ollama", upstream, "--data-dir", str(tmp_path), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, env={})

    assert f"# store at {tmp_path / 'state.db'}: nothing is stored yet" in check().stdout
    with stored(upstream, tmp_path) as client:
        asked(client, store=True)
        client.conversations.create()
    assert f"# store at {tmp_path / 'state.db'}: 1 chat completion, 1 conversation, " in check().stdout
    assert "# store: off" in check("--store=false").stdout
    with contextlib.closing(sqlite3.connect(tmp_path / "state.db")) as file, file:
        file.execute("UPDATE loggia_schema SET version = 99")
    served = subprocess.run(
        [str(PROGRAM), "serve", "--listen", "127.0.0.1:0", "--ollama", upstream, "--data-dir", str(tmp_path)],
        capture_output=True, text=True, timeout=60, env={},
    )
    assert served.returncode != 0 and "schema 99" in served.stderr and "--store=false" in served.stderr, served.stderr


def test_the_routes_have_the_right_methods(kept):
    url = str(kept.base_url).removesuffix("/v1/")
    answer = raw.ask(url, "PUT", "/v1/conversations/x/items/y")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, DELETE")
