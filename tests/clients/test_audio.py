"""Transcriptions, translations and speech (`/v1/audio/…`) through the official Python client, in front of an engine that hears and speaks."""

import io
import wave
from pathlib import Path

import httpx
import openai
import pytest

import audio_engine
from targets import PROGRAM, loggia, watched


@pytest.fixture(scope="module")
def running():
    """A loggia in front of the engine: its own address, one that checks its answers, and what the engine was asked."""
    with audio_engine.engine() as (upstream, asked), loggia("--openai", f"gpu={upstream}/v1", "--recording-size", "64MiB") as direct:
        with watched(direct) as url:
            yield direct, url, asked


@pytest.fixture
def client(running):
    with openai.OpenAI(base_url=f"{running[1]}/v1", api_key="unused", max_retries=0, _strict_response_validation=True) as client:
        yield client


def recording(seconds: float = 1.0) -> io.BytesIO:
    """A WAV file of silence."""
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setparams((1, 2, 16000, 0, "NONE", ""))
        written.writeframes(bytes(2 * int(16000 * seconds)))
    file.seek(0)
    file.name = "speech.wav"
    return file


def test_a_recording_becomes_text(client, running):
    heard = client.audio.transcriptions.create(
        model="whisper",
        file=recording(),
        language="en",
        prompt="Loggia",
        temperature=0.2,
        include=["logprobs"],
        timestamp_granularities=["word", "segment"],
        chunking_strategy={"type": "server_vad", "threshold": 0.4},
    )
    assert heard.text == audio_engine.WORDS and heard.usage.type == "tokens" and heard.usage.total_tokens == 17
    asked = running[2][-1]
    assert (asked.path, asked.file) == ("transcriptions", ("speech.wav", 32044))
    expected = [
        ("model", "whisper"),
        ("language", "en"),
        ("prompt", "Loggia"),
        ("temperature", "0.2"),
        ("include[]", "logprobs"),
        ("timestamp_granularities[]", "word"),
        ("timestamp_granularities[]", "segment"),
        ("chunking_strategy[type]", "server_vad"),
        ("chunking_strategy[threshold]", "0.4"),
    ]
    assert sorted(asked.fields) == sorted(expected)


def test_every_format_is_answered(client):
    formats = {name: client.audio.transcriptions.create(model="whisper", file=recording(), response_format=name) for name in ("text", "srt", "vtt")}
    assert formats["text"] == "Hello there.\n"
    assert formats["srt"] == "1\n00:00:00,000 --> 00:00:01,500\nHello there.\n\n"
    assert formats["vtt"] == "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\nHello there.\n\n"
    verbose = client.audio.transcriptions.create(model="whisper", file=recording(), response_format="verbose_json")
    assert (verbose.language, verbose.duration, verbose.segments[0].end) == ("english", 1.5, 1.5)


def test_a_stream_has_the_events_of_openai(client):
    events = list(client.audio.transcriptions.create(model="whisper", file=recording(), stream=True))
    assert [event.type for event in events] == ["transcript.text.delta", "transcript.text.delta", "transcript.text.done"]
    assert "".join(event.delta for event in events[:2]) == events[2].text == audio_engine.WORDS
    assert events[2].usage.output_tokens == 3


def test_a_recording_is_translated(client, running):
    assert client.audio.translations.create(model="whisper", file=recording(), prompt="p").text == audio_engine.WORDS
    verbose = client.audio.translations.create(model="whisper", file=recording(), response_format="verbose_json")
    assert verbose.segments[0].text == " Hello there."
    assert running[2][-1].path == "translations"


def test_text_becomes_speech(client, running, tmp_path):
    speech = client.audio.speech.create(model="tts", input="Hi", voice="alloy", response_format="wav", speed=1.5, instructions="slowly")
    assert speech.content == b"RIFFHi" and speech.response.headers["content-type"] == "audio/wav"
    assert dict(running[2][-1].fields)["speed"] == 1.5
    with client.audio.speech.with_streaming_response.create(model="tts", input="Hi", voice={"id": "v"}) as streamed:
        streamed.stream_to_file(tmp_path / "hi.wav")
    assert (tmp_path / "hi.wav").read_bytes() == b"RIFFHi"
    with client.audio.speech.with_streaming_response.create(model="tts", input="Hi", voice="alloy", stream_format="sse") as streamed:
        lines = [line for line in streamed.iter_lines() if line]
    assert len(lines) == 2 and "speech.audio.done" in lines[1]


def test_what_cannot_be_done_is_refused(client):
    with pytest.raises(openai.NotFoundError, match="Did you mean `whisper`"):
        client.audio.transcriptions.create(model="whispers", file=recording())
    with pytest.raises(openai.BadRequestError) as refusal:
        client.audio.transcriptions.create(model="whisper", file=recording(), response_format="xml")
    assert refusal.value.param == "response_format"
    lies = recording().read().replace((32000).to_bytes(4, "little"), (1 << 30).to_bytes(4, "little"))
    with pytest.raises(openai.BadRequestError) as refusal:
        client.audio.transcriptions.create(model="whisper", file=("lies.wav", lies))
    assert refusal.value.code == "invalid_file"
    with pytest.raises(openai.APIStatusError) as refusal:
        client.audio.transcriptions.create(model="whisper", file=("long.wav", bytes((64 << 20) + 1)))
    assert refusal.value.status_code == 413 and refusal.value.code == "file_too_large"


def test_a_long_recording_is_not_held_in_memory(running):
    direct, _, asked = running
    pid = next(one.name for one in Path("/proc").iterdir() if one.name.isdigit() and is_server(one))

    def peak() -> int:
        status = Path(f"/proc/{pid}/status").read_text()
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))

    def send(size: int) -> None:
        form = {"files": {"file": ("long.mp3", bytes(size))}, "data": {"model": "whisper"}}
        assert httpx.post(f"{direct}/v1/audio/transcriptions", timeout=60, **form).json()["text"] == audio_engine.WORDS

    send(1 << 20)
    before = peak()
    send(60 << 20)
    assert asked[-1].file == ("long.mp3", 60 << 20)
    assert peak() - before < 16 << 10, "KiB more for a recording of 60 MiB"


def is_server(process: Path) -> bool:
    """Whether a process is the loggia of this test."""
    try:
        command = (process / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return str(PROGRAM).encode() in command and b"--recording-size" in command
