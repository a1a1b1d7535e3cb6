"""Pictures and sounds through the official Python client, with the embedded engine and a projector with
random weights. Its answers have no meaning, but differ between pictures."""

import base64
import http.server
import io
import math
import struct
import subprocess
import threading
import wave
import zlib

import openai
import pytest

import targets

WRITER = targets.REPOSITORY / "target" / "debug" / "examples" / "projector"

pytestmark = [
    pytest.mark.skipif("embedded" not in targets.TARGETS, reason="LOGGIA_TEST_TARGETS leaves the embedded engine out"),
    pytest.mark.skipif(not WRITER.exists(), reason="what writes the projector is built with the Rust tests"),
]


@pytest.fixture(scope="module")
def pictures():
    """A server of pictures on loopback: /COLOUR.png, and something else under /nothing."""

    class Pictures(http.server.BaseHTTPRequestHandler):
        def do_GET(self):  # noqa: N802
            found = {"/red.png": (255, 0, 0), "/blue.png": (0, 0, 255)}.get(self.path)
            self.send_response(200 if found else 404)
            self.send_header("content-type", "image/png")
            self.end_headers()
            self.wfile.write(png(found) if found else b"")

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pictures) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_port
        server.shutdown()


@pytest.fixture(scope="module")
def target(tmp_path_factory, pictures):
    folder = tmp_path_factory.mktemp("seeing")
    projector, config = folder / "mmproj.gguf", folder / "loggia.toml"
    subprocess.run([str(WRITER), str(projector)], check=True)
    config.write_text(f'[images]\nports = [{pictures}]\nnetworks = ["127.0.0.1/32"]\n')
    arguments = ["--config", str(config), "--model", str(targets.MODEL), "--mmproj", str(projector), "--context", "2048", "--parallel", "2", "--threads", "1"]
    with targets.loggia(*arguments) as direct, targets.watched(direct) as url:
        yield targets.Target("embedded", url, targets.first_model(url))


def png(color: tuple[int, int, int], side: int = 40) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + bytes(color) * side) * side
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tone(hertz: float) -> str:
    """Half a second of a tone as WAV, in base64."""
    kept = io.BytesIO()
    with wave.open(kept, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(b"".join(struct.pack("<h", int(20_000 * math.sin(math.tau * hertz * at / 16_000))) for at in range(8_000)))
    return base64.b64encode(kept.getvalue()).decode()


def data_url(picture: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture).decode()}"


def image(url: str) -> dict:
    return {"type": "image_url", "image_url": {"url": url}}


def sound(hertz: float) -> dict:
    return {"type": "input_audio", "input_audio": {"data": tone(hertz), "format": "wav"}}


def about(client, target, *parts: dict, **fields):
    messages = [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, *parts]}]
    # The random picture embedding could end the answer at once, so the tokens that end an answer are banned.
    ends = {"0": -100, "2": -100}
    asked = {"temperature": 0, "max_completion_tokens": 4, "logprobs": True, "top_logprobs": 3, "logit_bias": ends}
    return client.chat.completions.create(model=target.model, messages=messages, **asked | fields)


def first(answer) -> list[tuple[str, float]]:
    return [(top.token, top.logprob) for top in answer.choices[0].logprobs.content[0].top_logprobs]


def test_a_model_says_that_it_sees_and_hears(client, target):
    card = client.models.retrieve(target.model)
    assert {"vision", "audio"} <= set(card.capabilities)


def test_a_picture_is_seen_and_counted_and_another_is_another(client, target):
    without = about(client, target)
    red, again, blue = (about(client, target, image(data_url(png(color)))) for color in [(255, 0, 0), (255, 0, 0), (0, 0, 255)])
    assert first(red) != first(blue)
    assert 16 <= red.usage.prompt_tokens - without.usage.prompt_tokens <= 18
    assert again.choices[0].message.content == red.choices[0].message.content
    assert again.usage.prompt_tokens_details.cached_tokens == again.usage.prompt_tokens - 1


def test_a_picture_from_the_network_is_the_picture(client, target, pictures):
    sent = about(client, target, image(data_url(png((255, 0, 0)))))
    fetched = about(client, target, image(f"http://127.0.0.1:{pictures}/red.png"))
    assert fetched.choices[0].message.content == sent.choices[0].message.content
    assert fetched.usage.prompt_tokens == sent.usage.prompt_tokens
    assert fetched.usage.prompt_tokens_details.cached_tokens == sent.usage.prompt_tokens - 1, "it is found as the same picture"
    with pytest.raises(openai.BadRequestError) as refused:
        about(client, target, image(f"http://127.0.0.1:{pictures}/nothing"))
    assert (refused.value.code, refused.value.param) == ("invalid_image_url", "messages[0].content[1].image_url.url")


def test_a_sound_is_heard_and_another_is_another(client, target):
    low, high = (about(client, target, sound(hertz)) for hertz in [200, 3000])
    assert first(low) != first(high)
    assert low.usage.prompt_tokens > 375


def test_a_recording_is_transcribed_and_translated_by_a_model_that_hears(client, target):
    file = ("tone.wav", base64.b64decode(tone(200)))
    heard = client.audio.transcriptions.create(model=target.model, file=file, language="en")
    assert isinstance(heard.text, str) and heard.usage.input_tokens > 375
    again = client.audio.transcriptions.create(model=target.model, file=file, language="en", response_format="text")
    assert again == f"{heard.text}\n"
    events = list(client.audio.transcriptions.create(model=target.model, file=file, language="en", stream=True))
    assert "".join(event.delta for event in events[:-1]).strip() == events[-1].text == heard.text
    assert isinstance(client.audio.translations.create(model=target.model, file=file).text, str)
    with pytest.raises(openai.BadRequestError) as refused:
        client.audio.transcriptions.create(model=target.model, file=file, response_format="srt")
    assert refused.value.param == "response_format"
    with pytest.raises(openai.BadRequestError, match="cannot speak"):
        client.audio.speech.create(model=target.model, input="Hi", voice="alloy")


def test_a_stream_about_a_picture_ends_with_its_usage(client, target):
    whole = about(client, target, image(data_url(png((255, 0, 0)))))
    chunks = list(about(client, target, image(data_url(png((255, 0, 0)))), stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].choices == [] and chunks[-1].usage.prompt_tokens == whole.usage.prompt_tokens
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_what_is_no_picture_or_too_much_of_it_is_a_400_at_its_place(client, target):
    with pytest.raises(openai.BadRequestError) as refused:
        about(client, target, image("data:image/png;base64,iVBORw0KGgo="))
    assert (refused.value.code, refused.value.param) == ("invalid_image_url", "messages[0].content[1].image_url.url")
    many = [image(data_url(png((shade % 256, shade // 256, 9), side=2))) for shade in range(64)] + [sound(200), sound(300), sound(400)]
    with pytest.raises(openai.BadRequestError) as refused:
        about(client, target, *many[3:])
    assert refused.value.code == "context_length_exceeded"
