"""Vector stores and `file_search` through the official Python client, with the embedded engine: the chat model and
the embedding model are real."""

import concurrent.futures
import contextlib
import time

import openai
import pytest

import official
from targets import EMBEDDING_MODEL, MODEL, killed, loggia

TEXTS = {
    "cats.md": "# Cats\n\nCats purr when they are content, and sleep for most of the day.",
    "rockets.html": "<html><body><h1>Rockets</h1><p>A rocket burns liquid oxygen &amp; kerosene.</p></body></html>",
    "bread.txt": "Bread is baked from flour, water, salt and yeast. Part number XK-4711.",
    "prices.json": '{"tickets": {"adult": 12, "child": 6}}',
}


ARGUMENTS = ["--model", str(MODEL), "--model", str(EMBEDDING_MODEL), "--embedding-model", EMBEDDING_MODEL.stem]


@contextlib.contextmanager
def served(folder):
    with loggia(*ARGUMENTS, "--context", "2048", "--threads", "1", data=folder) as url:
        yield official.client(url)


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with served(tmp_path_factory.mktemp("data")) as client:
        yield client


def upload(client, name):
    return client.files.create(file=(name, TEXTS[name].encode()), purpose="assistants").id


@pytest.fixture(scope="module")
def store(client):
    """A vector store with all texts."""
    store = client.vector_stores.create(name="texts", metadata={"of": "tests"})
    files = [
        {"file_id": upload(client, name), "attributes": {"name": name, "length": len(text)}} for name, text in TEXTS.items()
    ]
    batch = client.vector_stores.file_batches.create_and_poll(store.id, files=files, poll_interval_ms=50)
    assert (batch.status, batch.file_counts.completed) == ("completed", len(TEXTS)), batch
    return store.id


def found(client, store, query, **options):
    return [result.filename for result in client.vector_stores.search(store, query=query, **options)]


def test_the_meaning_and_the_words_of_a_query_find_a_text(client, store):
    assert found(client, store, "What do kittens do all day?")[0] == "cats.md"
    assert found(client, store, "fuel of spacecraft", max_num_results=1) == ["rockets.html"]
    assert found(client, store, "XK-4711")[0] == "bread.txt"
    assert found(client, store, ["how much is admission?"], ranking_options={"ranker": "none"})[0] == "prices.json"
    results = client.vector_stores.search(store, query="rocket fuel").data
    assert results[0].content[0].text.strip() == "Rockets\nA rocket burns liquid oxygen & kerosene."
    assert 0.4 < results[0].score < 1 and results[0].attributes["name"] == "rockets.html"
    assert found(client, store, "rocket fuel", ranking_options={"score_threshold": 0.4}) == ["rockets.html"]


def test_filters_select_files(client, store):
    baked = {"type": "eq", "key": "name", "value": "bread.txt"}
    short = {"type": "lt", "key": "length", "value": 60}
    assert found(client, store, "cats", filters=baked) == ["bread.txt"]
    assert sorted(found(client, store, "cats", filters={"type": "or", "filters": [baked, short]})) == ["bread.txt", "prices.json"]
    assert found(client, store, "cats", filters={"type": "and", "filters": [baked, short]}) == []


def test_the_helpers_of_the_client_wait_until_a_file_is_read(client):
    store = client.vector_stores.create(chunking_strategy={"type": "auto"})
    file = client.vector_stores.files.upload_and_poll(
        vector_store_id=store.id,
        file=("long.txt", " ".join(f"Sentence {number} is about nothing." for number in range(900)).encode()),
        chunking_strategy={"type": "static", "static": {"max_chunk_size_tokens": 200, "chunk_overlap_tokens": 50}},
    )
    assert (file.status, file.last_error) == ("completed", None)
    stored = client.vector_stores.retrieve(store.id)
    assert stored.usage_bytes == file.usage_bytes > 40 * 384 * 4 and stored.file_counts.completed == 1
    picture = client.vector_stores.files.upload_and_poll(vector_store_id=store.id, file=("a.png", b"\x89PNG\r\n\x1a\n\0"))
    assert (picture.status, picture.last_error.code) == ("failed", "unsupported_file")
    assert [one.id for one in client.vector_stores.files.list(store.id, filter="failed")] == [picture.id]
    text = client.vector_stores.files.content(file.id, vector_store_id=store.id).data[0].text
    assert text.startswith("Sentence 0 is")
    assert client.vector_stores.files.delete(file.id, vector_store_id=store.id).deleted
    assert client.vector_stores.delete(store.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.vector_stores.retrieve(store.id)


def test_file_search_is_made_for_the_model(client, store):
    tool = {"type": "file_search", "vector_store_ids": [store], "max_num_results": 2}
    asked = {
        "model": "smollm2:135m",
        "input": "What do cats do when they are content?",
        "tools": [tool],
        "tool_choice": {"type": "file_search"},
        "include": ["file_search_call.results"],
        "max_output_tokens": 1000,
        "temperature": 0,
    }
    response = client.responses.create(**asked)
    search = response.output[0]
    assert (search.type, search.status, len(search.results)) == ("file_search_call", "completed", 2), response
    assert search.queries and all(0 <= result.score <= 1 for result in search.results)
    assert response.output[-1].type == "message"
    with client.responses.stream(**asked) as stream:
        kinds = [event.type for event in stream]
    begun = kinds.index("response.file_search_call.in_progress")
    assert kinds[begun : begun + 3] == [f"response.file_search_call.{what}" for what in ("in_progress", "searching", "completed")]
    with pytest.raises(openai.NotFoundError):
        client.responses.create(**asked | {"tools": [tool | {"vector_store_ids": ["vs_missing"]}]})


def test_changes_at_the_same_time_are_all_kept(client):
    vector_stores = client.vector_stores
    with concurrent.futures.ThreadPoolExecutor(3) as threads:
        for at in range(20):
            store = vector_stores.create(name="before")
            changes = [{"name": f"name {at}"}, {"metadata": {"at": str(at)}}, {"expires_after": {"anchor": "last_active_at", "days": at + 1}}]
            done = [threads.submit(vector_stores.update, store.id, **change) for change in changes]
            [each.result() for each in done]
            changed = vector_stores.retrieve(store.id)
            assert (changed.name, changed.metadata, changed.expires_after.days) == (f"name {at}", {"at": str(at)}, at + 1)
            # One that is deleted stays deleted.
            done = [threads.submit(vector_stores.delete, store.id), threads.submit(vector_stores.update, store.id, name="again")]
            assert done[0].result().deleted
            assert done[1].exception() is None or isinstance(done[1].exception(), openai.NotFoundError)
            with pytest.raises(openai.NotFoundError):
                vector_stores.retrieve(store.id)


def test_files_that_a_killed_server_was_reading_are_read_by_the_next(tmp_path):
    with killed(*ARGUMENTS, "--threads", "1", data=tmp_path) as url:
        client = official.client(url)
        texts = [f"Text {number}. " + "Some words about cats and rockets. " * 200 for number in range(20)]
        ids = [client.files.create(file=(f"{number}.txt", text.encode()), purpose="assistants").id for number, text in enumerate(texts)]
        store = client.vector_stores.create(file_ids=ids).id
        while client.vector_stores.retrieve(store).file_counts.completed < 2:
            time.sleep(0.02)
    with served(tmp_path) as client:
        deadline = time.monotonic() + 150
        while client.vector_stores.retrieve(store).status == "in_progress" and time.monotonic() < deadline:
            time.sleep(0.2)
        counts = client.vector_stores.retrieve(store).file_counts
        assert (counts.completed, counts.total) == (20, 20)
        assert found(client, store, "Text 7", max_num_results=50)
