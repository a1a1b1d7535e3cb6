"""An engine that hears and speaks, as vLLM and speaches do: `whisper` turns every recording into the same words, `tts` says `RIFF` and the
text. What it was asked is kept for the tests to look at."""

import base64
import contextlib
import dataclasses
import email.parser
import email.policy
import json

from odd_upstreams import Quiet, serving

WORDS = "Hello there."
SEGMENT = {
    "id": 0,
    "seek": 0,
    "start": 0.0,
    "end": 1.5,
    "text": " Hello there.",
    "tokens": [1, 2],
    "temperature": 0.0,
    "avg_logprob": -0.25,
    "compression_ratio": 0.5,
    "no_speech_prob": 0.01,
}
VERBOSE = {"task": "transcribe", "language": "english", "duration": 1.5, "text": WORDS, "segments": [SEGMENT]}
USAGE = {"type": "tokens", "input_tokens": 14, "output_tokens": 3, "total_tokens": 17}


@dataclasses.dataclass
class Asked:
    """One request: the end of its path, its fields in order, and the size of its file."""

    path: str
    fields: list[tuple[str, str]]
    file: tuple[str, int] | None = None


@contextlib.contextmanager
def engine():
    """Yields the address, and the requests so far."""
    asked: list[Asked] = []

    class Engine(Quiet):
        def do_GET(self):
            models = [{"id": name, "object": "model", "created": 1, "owned_by": "tests"} for name in ("whisper", "tts")]
            self.say({"object": "list", "data": models}) if self.path == "/v1/models" else self.answer("text/plain", b"", 404)

        def do_POST(self):
            request = self.form() if self.path in ("/v1/audio/transcriptions", "/v1/audio/translations") else self.json()
            asked.append(request)
            fields = dict(request.fields)
            if request.path == "speech":
                return self.speak(fields)
            if fields.get("stream") == "true":
                chunks = [{"object": "transcription.chunk", "choices": [{"delta": {"content": word}}]} for word in ("Hello", " there.")]
                usage = {"object": "transcription.chunk", "choices": [], "usage": {"prompt_tokens": 14, "completion_tokens": 3}}
                events = [f"data: {json.dumps(each)}\n\n" for each in (*chunks, usage)]
                return self.answer("text/event-stream", "".join([*events, "data: [DONE]\n\n"]).encode())
            match fields.get("response_format", "json"):
                case "json":
                    self.say({"text": WORDS, "usage": USAGE})
                case "text":
                    self.answer("text/plain; charset=utf-8", f"{WORDS}\n".encode())
                case _:
                    # As engines that write no subtitles.
                    self.say(VERBOSE)

        def speak(self, fields: dict):
            sound = b"RIFF" + fields["input"].encode()
            if fields.get("stream_format") != "sse":
                return self.answer("audio/wav", sound)
            delta = {"type": "speech.audio.delta", "audio": base64.b64encode(sound).decode()}
            done = {"type": "speech.audio.done", "usage": {"input_tokens": 2, "output_tokens": 5, "total_tokens": 7}}
            self.answer("text/event-stream", "".join(f"data: {json.dumps(each)}\n\n" for each in (delta, done)).encode())

        def form(self) -> Asked:
            head = f"content-type: {self.headers['content-type']}\r\n\r\n".encode()
            parts = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + self.body()).iter_parts()
            request = Asked(self.path.rsplit("/", 1)[1], [])
            for part in parts:
                name = part.get_param("name", header="content-disposition")
                if part.get_filename():
                    request.file = (part.get_filename(), len(part.get_payload(decode=True)))
                else:
                    request.fields.append((name, part.get_payload(decode=True).decode()))
            return request

        def json(self) -> Asked:
            return Asked(self.path.rsplit("/", 1)[1], list(json.loads(self.body()).items()))

    with serving(Engine) as url:
        yield url, asked
