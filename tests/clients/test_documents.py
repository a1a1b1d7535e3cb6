"""PDFs and documents by URL through the official clients: the model gets their text, in chats, Responses and
Messages. A PDF that cannot be read is an error, and the server goes on."""

import base64
import contextlib
import http.server
import threading

import anthropic
import openai
import pytest

import official
import scripted_model
from scripted_model import Said
from targets import MODEL, loggia


def pdf(content: str) -> bytes:
    """A PDF with one page."""
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [4 0 R] /Count 1 >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Resources << /Font << /F 3 0 R >> >> /Contents 5 0 R >>",
        f"<< /Length {len(content)} >>\nstream\n{content}\nendstream",
    ]
    file, table = "%PDF-1.4\n", "0000000000 65535 f \n"
    for number, each in enumerate(objects, 1):
        table += f"{len(file):010} 00000 n \n"
        file += f"{number} 0 obj\n{each}\nendobj\n"
    return f"{file}xref\n0 6\n{table}trailer << /Size 6 /Root 1 0 R >>\nstartxref\n{len(file)}\n%%EOF".encode("latin-1")


WHALE = pdf("BT /F 12 Tf 72 720 Td (The blue whale) Tj 0 -14 Td (is 30 m long.) Tj ET")
SCAN = pdf("0 0 100 100 re f")
TEXT = "The blue whale\nis 30 m long."


@contextlib.contextmanager
def serving(files: dict[str, bytes]):
    """A web server on loopback."""

    class Files(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            found = files.get(self.path)
            self.send_response(200 if found else 404)
            self.send_header("content-length", str(len(found or b"")))
            self.end_headers()
            self.wfile.write(found or b"")

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Files)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()


@pytest.fixture(scope="module")
def reading(tmp_path_factory):
    """A loggia that may fetch from the web server, its address, that of the web server, and what the model got."""
    folder = tmp_path_factory.mktemp("documents")
    with serving({"/whale.pdf": WHALE, "/notes.txt": b"Whales sing."}) as port:
        config = folder / "loggia.toml"
        config.write_text(f'[images]\nports = [{port}]\nnetworks = ["127.0.0.1/32"]\n')
        with scripted_model.engine("ollama", lambda _: Said("Thirty metres.")) as (arguments, asked):
            with loggia(*arguments, "--config", str(config), data=folder) as url:
                yield url, f"http://127.0.0.1:{port}", asked


def read(asked) -> str:
    """The text of the last message that the model got."""
    content = asked[-1]["messages"][-1]["content"]
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def data_url(file: bytes) -> str:
    return f"data:application/pdf;base64,{base64.b64encode(file).decode()}"


def test_a_chat_reads_a_pdf(reading):
    url, _, asked = reading
    file = {"type": "file", "file": {"filename": "whale.pdf", "file_data": data_url(WHALE)}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "How long is it?"}, file]}]
    official.client(url).chat.completions.create(model="m", messages=messages)
    assert read(asked) == f"How long is it?\n\nwhale.pdf:\n\n{TEXT}\n"


def test_a_response_reads_a_pdf_by_its_data_its_url_and_its_id(reading):
    url, web, asked = reading
    client = official.client(url)
    file = client.files.create(file=("whale.pdf", WHALE), purpose="user_data")
    for part in (
        {"filename": "whale.pdf", "file_data": data_url(WHALE)},
        {"file_url": f"{web}/whale.pdf"},
        {"file_id": file.id},
    ):
        response = client.responses.create(model="m", input=[{"role": "user", "content": [{"type": "input_file", **part}]}])
        assert response.output_text == "Thirty metres."
        assert read(asked).strip() == f"whale.pdf:\n\n{TEXT}"


def test_a_message_reads_documents(reading):
    url, web, asked = reading
    with anthropic.Anthropic(base_url=url, api_key="unused", max_retries=0) as client:
        for source, text in (
            ({"type": "base64", "media_type": "application/pdf", "data": base64.b64encode(WHALE).decode()}, TEXT),
            ({"type": "url", "url": f"{web}/whale.pdf"}, f"whale.pdf:\n\n{TEXT}"),
            ({"type": "url", "url": f"{web}/notes.txt"}, "notes.txt:\n\nWhales sing."),
        ):
            content = [{"type": "document", "source": source}]
            client.messages.create(model="m", max_tokens=9, messages=[{"role": "user", "content": content}])
            assert read(asked).strip() == text
        assert client.models.retrieve("m").id == "m"


def test_a_scan_is_shown_to_a_model_that_sees(reading):
    url, _, asked = reading
    client = official.client(url)
    file = {"filename": "scan.pdf", "file_data": data_url(SCAN)}
    client.chat.completions.create(model="m", messages=[{"role": "user", "content": [{"type": "file", "file": file}]}])
    client.responses.create(model="m", input=[{"role": "user", "content": [{"type": "input_file", **file}]}])
    with anthropic.Anthropic(base_url=url, api_key="unused", max_retries=0) as messages:
        source = {"type": "base64", "media_type": "application/pdf", "data": base64.b64encode(SCAN).decode()}
        content = [{"type": "document", "source": source, "title": "scan.pdf"}]
        messages.messages.create(model="m", max_tokens=9, messages=[{"role": "user", "content": content}])
    for request in asked[-3:]:
        message = request["messages"][-1]
        assert message["content"].strip() == "[Page 1 of scan.pdf]"
        assert [base64.b64decode(image)[:3] for image in message["images"]] == [b"\xff\xd8\xff"]


def test_a_scan_is_refused_where_the_model_does_not_see(tmp_path):
    """The embedded engine's model of these tests has no eyes."""
    part = {"type": "file", "file": {"filename": "a.pdf", "file_data": data_url(SCAN)}}
    with loggia("--model", str(MODEL), data=tmp_path) as url, pytest.raises(openai.BadRequestError) as refused:
        official.client(url).chat.completions.create(model="smollm2:135m", messages=[{"role": "user", "content": [part]}])
    assert "it has no text, and this model cannot see its pages" in refused.value.message
    assert refused.value.param == "messages[0].content[0].file.file_data"


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        (b"%PDF-1.7\n" + bytes(range(256)) * 40, "it is not a valid PDF"),
        (WHALE[: len(WHALE) // 3], "it is not a valid PDF"),
    ],
)
def test_a_pdf_that_cannot_be_read_is_refused(reading, file, reason):
    client = official.client(reading[0])
    part = {"type": "file", "file": {"filename": "a.pdf", "file_data": data_url(file)}}
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": [part]}])
    assert reason in refused.value.message and refused.value.param == "messages[0].content[0].file.file_data"


def test_a_document_that_is_not_there_or_not_allowed_is_refused(reading):
    url, web, _ = reading
    for address, reason in ((f"{web}/gone.pdf", "status 404"), ("http://127.0.0.1:1/a.pdf", "its port is not allowed")):
        part = {"type": "input_file", "file_url": address}
        with pytest.raises(openai.BadRequestError) as refused:
            official.client(url).responses.create(model="m", input=[{"role": "user", "content": [part]}])
        assert reason in refused.value.message and refused.value.param == "input[0].content[0].file_url"
