"""The Files API of Anthropic's Python SDK: files are uploaded, listed, read by a model, downloaded and deleted."""

import datetime

import anthropic
import pytest

import scripted_model
from scripted_model import Said
from targets import loggia
from test_documents import TEXT, WHALE

HOUR = 3600


@pytest.fixture(scope="module")
def serving(tmp_path_factory):
    """The client of a loggia with files, and what its model got."""
    with scripted_model.engine("ollama", lambda _: Said("Thirty metres.")) as (arguments, asked):
        with loggia(*arguments, data=tmp_path_factory.mktemp("files")) as url:
            with anthropic.Anthropic(base_url=url, api_key="unused", max_retries=0, _strict_response_validation=True) as client:
                yield client, asked


@pytest.fixture(params=["files", "beta.files"])
def files(serving, request):
    client, _ = serving
    found = client.files if request.param == "files" else client.beta.files
    yield found
    for file in found.list():
        found.delete(file.id)


def test_a_file_is_uploaded_listed_downloaded_and_deleted(files):
    file = files.upload(file=("notes.txt", b"Whales sing.", "text/plain"), expires_in_seconds=2 * HOUR)
    assert (file.type, file.filename, file.mime_type, file.size_bytes) == ("file", "notes.txt", "text/plain", 12)
    assert file.expires_at - file.created_at == datetime.timedelta(hours=2)
    assert files.retrieve_metadata(file.id) == file
    assert [one.id for one in files.list()] == [file.id]
    assert [one.id for one in files.list(ids=[file.id, "file-0"])] == [file.id]
    assert files.download(file.id).read() == b"Whales sing."
    deleted = files.delete(file.id)
    assert (deleted.id, deleted.type) == (file.id, "file_deleted")
    with pytest.raises(anthropic.NotFoundError) as missing:
        files.retrieve_metadata(file.id)
    assert missing.value.body["error"]["type"] == "not_found_error"


def test_a_list_goes_on_with_its_cursor(files):
    ids = [files.upload(file=(f"{number}.txt", b"x")).id for number in range(5)]
    assert [one.id for one in files.list(limit=2)] == ids[::-1]
    first = files.list(limit=2)
    assert len(first.data) == 2 and first.next_page
    assert [one.id for one in first.get_next_page().data] == ids[1:3][::-1]


def test_what_is_wrong_with_an_upload_is_a_400(files):
    with pytest.raises(anthropic.BadRequestError) as refused:
        files.upload(file=("a.txt", b"x"), expires_in_seconds=10)
    assert "expires_in_seconds" in refused.value.message
    with pytest.raises(anthropic.BadRequestError):
        files.list(limit=0)


def test_a_model_reads_a_file_that_is_named_by_its_id(serving, files):
    client, asked = serving
    for content, media_type, text in [(WHALE, "application/pdf", TEXT), (b"Whales sing.", "text/plain", "Whales sing.")]:
        file = files.upload(file=("whale", content, media_type))
        source = {"type": "file", "file_id": file.id}
        block = {"type": "document", "source": source, "title": "Whales"}
        asking = {"model": "m", "max_tokens": 10, "messages": [{"role": "user", "content": [block, {"type": "text", "text": "How long?"}]}]}
        message = client.beta.messages.create(**asking, betas=["files-api-2025-04-14"])
        assert message.content[0].text == "Thirty metres."
        read = asked[-1]["messages"][-1]["content"]
        assert "Whales" in read and text in read and "How long?" in read
        files.delete(file.id)
        with pytest.raises(anthropic.NotFoundError):
            client.messages.create(**asking)
