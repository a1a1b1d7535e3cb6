"""Recordings by a Whisper model on this machine, with OpenAI's Python SDK: tiny.en and a real recording."""

import io
import os
import signal
import subprocess
import time
import wave
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import openai
import pytest

from targets import PROGRAM, REPOSITORY, loggia, watched

MODEL = Path(os.environ.get("LOGGIA_TEST_WHISPER_MODEL", REPOSITORY / ".loggia" / "models" / "whisper-tiny.en"))
SPEECH = REPOSITORY / "fixtures" / "speech" / "jfk.wav"
WORDS = "And so my fellow Americans ask not what your country can do for you ask what you can do for your country."


@pytest.fixture(scope="module")
def running():
    """A loggia with the model: its own address, and one that checks its answers."""
    with loggia("--model", str(MODEL), "--recording-length", "2min", "--queue", "4") as direct, watched(direct) as url:
        yield direct, url


@pytest.fixture
def client(running):
    with openai.OpenAI(base_url=f"{running[1]}/v1", api_key="unused", max_retries=0, _strict_response_validation=True) as client:
        yield client


def recording(seconds: float, speech: bool = False) -> io.BytesIO:
    """A WAV file: the speech, again and again, or silence."""
    with wave.open(str(SPEECH)) as read:
        frames = read.readframes(read.getnframes())
    length = int(16000 * seconds) * 2
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setparams((1, 2, 16000, 0, "NONE", ""))
        written.writeframes((frames * (length // len(frames) + 1))[:length] if speech else bytes(length))
    file.seek(0)
    file.name = "recording.wav"
    return file


def engines(direct: str) -> list[int]:
    """The processes of the model."""
    found = []
    for one in Path("/proc").iterdir():
        try:
            arguments = (one / "cmdline").read_bytes().split(b"\0")
        except (OSError, NotADirectoryError):
            continue
        if arguments[1:3] == [b"engine", MODEL.name.encode()]:
            found.append(int(one.name))
    return found


def test_a_recording_becomes_text_in_every_format(client):
    def create(**fields):
        with SPEECH.open("rb") as file:
            return client.audio.transcriptions.create(model=MODEL.name, file=file, **fields)

    heard = create(language="en", include=["logprobs"])
    assert heard.text == WORDS and heard.usage.type == "duration" and heard.usage.seconds == 11
    assert b"".join(bytes(map(int, one.bytes)) for one in heard.logprobs).decode().strip() == WORDS
    assert create(response_format="text") == WORDS + "\n"
    assert create(response_format="srt").startswith("1\n00:00:00,")
    assert create(response_format="vtt").startswith("WEBVTT\n\n00:00:00.")
    verbose = create(response_format="verbose_json", timestamp_granularities=["word", "segment"])
    assert verbose.text == WORDS and verbose.language == "english" and 10.9 < verbose.duration < 11.1
    assert [word.word for word in verbose.words] == WORDS.split() and verbose.segments[0].no_speech_prob < 0.2
    assert create(response_format="verbose_json", timestamp_granularities=["word"]).segments is None


def test_a_stream_has_the_events_of_openai(client):
    def create():
        return list(client.audio.transcriptions.create(model=MODEL.name, file=recording(25, speech=True), stream=True))

    *deltas, done = create()
    assert len(deltas) >= 2 and {delta.type for delta in deltas} == {"transcript.text.delta"} and done.type == "transcript.text.done"
    assert "".join(delta.delta for delta in deltas) == done.text and done.text.count("country") >= 3
    # The text repeats itself, so tokens are chosen by chance, but the same ones each time.
    assert create()[-1].text == done.text
    assert done.usage.output_tokens > 20


def test_a_translation_of_english_is_its_text(client):
    with SPEECH.with_suffix(".mp3").open("rb") as file:
        assert "fellow Americans" in client.audio.translations.create(model=MODEL.name, file=file).text


def test_silence_is_empty_text(client):
    assert client.audio.transcriptions.create(model=MODEL.name, file=recording(3)).text == ""


def test_the_model_is_listed_and_cannot_chat(client):
    (model,) = client.models.list().data
    assert (model.id, model.capabilities, model.task) == (MODEL.name, ["transcription"], "automatic-speech-recognition")
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model=MODEL.name, messages=[{"role": "user", "content": "Hi"}])
    with pytest.raises(openai.BadRequestError) as refusal:
        client.audio.speech.create(model=MODEL.name, input="Hi", voice="alloy")
    assert refusal.value.code == "unsupported_model"


def test_what_has_no_effect_is_listed_and_what_cannot_be_done_is_refused(client):
    answer = client.audio.transcriptions.with_raw_response.create(model=MODEL.name, file=recording(1), chunking_strategy="auto", extra_body={"vad": "1"})
    assert answer.headers["x-loggia-ignored"] == "chunking_strategy, vad"
    assert answer.headers["x-loggia-served-by"].startswith("embedded")
    for fields, param in [
        ({"response_format": "diarized_json"}, "response_format"),
        ({"response_format": "srt", "stream": True}, "response_format"),
        ({"language": "de"}, "language"),
        ({"file": ("a.ogg", b"OggS" + bytes(5000))}, "file"),
        ({"file": recording(121)}, "file"),
    ]:
        with pytest.raises(openai.BadRequestError) as refusal:
            client.audio.transcriptions.create(**{"model": MODEL.name, "file": recording(1)} | fields)
        assert refusal.value.param == param, fields


def test_a_client_that_leaves_frees_the_engine(running):
    direct, _ = running
    form = {"model": MODEL.name, "stream": "true"}
    for _ in range(3):
        with httpx.stream("POST", f"{direct}/v1/audio/transcriptions", data=form, files={"file": recording(119, speech=True)}, timeout=60) as answer:
            next(answer.iter_lines())
    began = time.monotonic()
    answer = httpx.post(f"{direct}/v1/audio/transcriptions", data={"model": MODEL.name}, files={"file": SPEECH.open("rb")}, timeout=60)
    # The three recordings together would take much longer.
    assert answer.json()["text"] == WORDS and time.monotonic() - began < 30


def test_more_recordings_than_may_wait_are_refused(running):
    direct, _ = running

    def post(_):
        file = recording(20, speech=True)
        return httpx.post(f"{direct}/v1/audio/transcriptions", data={"model": MODEL.name}, files={"file": file}, timeout=120).status_code

    with ThreadPoolExecutor(12) as pool:
        statuses = sorted(pool.map(post, range(12)))
    assert set(statuses) == {200, 503} and statuses.count(200) >= 5


def test_a_killed_process_is_started_again(running):
    direct, _ = running
    (engine,) = engines(direct)
    os.kill(engine, signal.SIGKILL)
    answer = httpx.post(f"{direct}/v1/audio/transcriptions", data={"model": MODEL.name}, files={"file": SPEECH.open("rb")}, timeout=60)
    assert answer.status_code == 200 and answer.json()["text"] == WORDS
    assert engines(direct) != [engine]


def test_check_tells_about_the_model(tmp_path):
    checked = subprocess.run([PROGRAM, "check", "--model", str(MODEL), "--data-dir", str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert checked.returncode == 0, checked.stderr
    assert f"# {MODEL.name} transcribes recordings of up to 120 minutes, with " in checked.stdout
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "config.json").write_bytes((MODEL / "config.json").read_bytes())
    (damaged / "tokenizer.json").write_text("{}")
    (damaged / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    served = subprocess.run([PROGRAM, "serve", "--model", str(damaged), "--data-dir", str(tmp_path), "--port", "0"], capture_output=True, text=True, timeout=60)
    assert served.returncode != 0 and "safetensors" in served.stderr, served.stderr
