//! Transcriptions, translations and speech by an engine: vLLM, llama-server, speaches and others.
//! Streams of transcriptions become OpenAI's events (`transcript_events.rs`).

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, SERVER};
use http::{HeaderMap, HeaderName, Response, StatusCode};
use http_body_util::BodyExt as _;
use loggia_wire::frame::sse;
use serde_json::{Value, json};

use super::engine::{ANSWER_LIMIT, OpenAi, to_json};
use super::error_body::EngineError;
use super::refusal;
use super::rewritten_events::{Rewrite, rewritten};
use super::transcript_events::TranscriptEvents;
use crate::http::{Body, Form, FormFile, read};
use crate::retry_after::retry_after;
use crate::transcript::{Transcript, tokens};
use crate::{Audio, AudioCall, AudioPiece, AudioReply, AudioTask, BackendError, Recording};

const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";

impl OpenAi {
    /// Returns `None` if the engine does not do this with the model.
    pub(super) async fn start_audio(
        &self,
        call: AudioCall,
    ) -> Result<Option<AudioReply>, BackendError> {
        let uri = self.upstream.uri(call.work.path());
        let trace = call.head.trace.as_deref();
        let audio = call.work;
        let response = match &audio.task {
            AudioTask::Transcribe(recording) | AudioTask::Translate(recording) => {
                let accept = if recording.stream { EVENTS } else { "*/*" };
                let form = form_of(&call.head.id, &audio.model, recording);
                self.upstream.post_form(&uri, form, accept, trace).await
            }
            AudioTask::Speak(fields) => {
                let mut fields = fields.clone();
                fields.insert("model".to_owned(), audio.model.as_str().into());
                let body = to_json(&fields)?;
                self.upstream.post_json(&uri, body, "*/*", trace).await
            }
        };
        let response = response.map_err(|error| self.failed(error))?;
        if response.status() != StatusCode::OK {
            return self.audio_refused(response, &audio.model).await;
        }
        let reply = match &audio.task {
            AudioTask::Transcribe(recording) | AudioTask::Translate(recording) => {
                self.transcript(response, &audio, recording).await?
            }
            AudioTask::Speak(fields) => self.speech(response, &audio, fields),
        };
        Ok(Some(reply))
    }

    /// Returns the error of a refusal. `None` if the engine has no such endpoint, or the model
    /// neither hears nor speaks.
    async fn audio_refused(
        &self,
        response: Response<Body>,
        model: &str,
    ) -> Result<Option<AudioReply>, BackendError> {
        let (head, body) = response.into_parts();
        let body = read(body, ANSWER_LIMIT).await.unwrap_or_default();
        let status = head.status.as_u16();
        let told = EngineError::read(&body).unwrap_or_default();
        let is_missing = matches!(status, 404 | 405 | 501) && !told.is_about_the_model(model);
        if is_missing || told.is_about_no_audio() {
            return Ok(None);
        }
        let wait = retry_after(&head.headers);
        let error = refusal::before_the_answer(status, wait, &body, model, &self.name);
        Err(self.about_the_key(error))
    }

    /// Reads the text of a recording: events, if the client asked for them.
    async fn transcript(
        &self,
        response: Response<Body>,
        audio: &Audio,
        recording: &Recording,
    ) -> Result<AudioReply, BackendError> {
        let served_by = self.audio_served_by(&response, audio);
        let media_type = header(response.headers(), &CONTENT_TYPE).unwrap_or_default();
        if recording.stream && media_type.starts_with(EVENTS) {
            let events = TranscriptEvents::new(&self.name, &audio.model);
            return Ok(AudioReply {
                served_by,
                media_type: EVENTS.to_owned(),
                length: None,
                pieces: self.rewritten(response.into_body(), events),
            });
        }
        let body = read(response.into_body(), ANSWER_LIMIT).await;
        let body = body.map_err(|error| self.failed(error))?;
        let format = recording.field("response_format").unwrap_or("json");
        let is_json = media_type.starts_with(JSON);
        if !is_json && matches!(format, "text" | "srt" | "vtt") && !recording.stream {
            return Ok(whole(served_by, media_type, body, None));
        }
        let answer: Value = serde_json::from_slice(&body).map_err(|_| {
            self.bad_answer("it is neither JSON nor in the format that was asked for")
        })?;
        if answer.get("error").is_some_and(|error| !error.is_null()) {
            let error = refusal::instead(&answer, &audio.model, &self.name);
            return Err(self.about_the_key(error));
        }
        // Some engines answer `text` with a JSON string.
        let transcript = match answer {
            Value::String(text) => Ok(Transcript {
                text,
                ..Transcript::default()
            }),
            answer => serde_json::from_value::<Transcript>(answer),
        };
        let transcript = transcript.map_err(|_| self.bad_answer("it has no text"))?;
        let usage = transcript.tokens();
        if recording.stream {
            return Ok(whole(
                served_by,
                EVENTS.to_owned(),
                streamed(&transcript),
                usage,
            ));
        }
        match format {
            "text" | "srt" | "vtt" => {
                let written = transcript.written(format);
                let written = written.ok_or_else(|| self.bad_answer("it has no segments"))?;
                let media_type = "text/plain; charset=utf-8".to_owned();
                Ok(whole(served_by, media_type, written.into(), usage))
            }
            _ => Ok(whole(served_by, JSON.to_owned(), body, usage)),
        }
    }

    /// Passes speech on as it arrives.
    fn speech(
        &self,
        response: Response<Body>,
        audio: &Audio,
        fields: &loggia_wire::Extra,
    ) -> AudioReply {
        let served_by = self.audio_served_by(&response, audio);
        let media_type = header(response.headers(), &CONTENT_TYPE);
        let media_type = media_type.unwrap_or_else(|| media_type_of(fields).to_owned());
        let length = header(response.headers(), &CONTENT_LENGTH);
        let body = response.into_body();
        if media_type.starts_with(EVENTS) {
            let events = SpeechEvents {
                backend: self.name.to_string(),
                model: audio.model.clone(),
            };
            return AudioReply {
                served_by,
                media_type,
                length: None,
                pieces: self.rewritten(body, events),
            };
        }
        let name = self.name.clone();
        let pieces = body.into_data_stream().map(move |piece| {
            let piece = piece.map(AudioPiece::Bytes);
            piece.map_err(|error| error.into_backend(&name))
        });
        AudioReply {
            served_by,
            media_type,
            length: length.and_then(|length| length.parse().ok()),
            pieces: pieces.boxed(),
        }
    }

    fn audio_served_by(&self, response: &Response<Body>, audio: &Audio) -> crate::ServedBy {
        let server = header(response.headers(), &SERVER).unwrap_or_default();
        self.served_by(audio.model.as_str().into(), None, &server)
    }

    /// Returns the events of a body, rewritten one by one.
    fn rewritten(
        &self,
        body: Body,
        rewrite: impl Rewrite,
    ) -> stream::BoxStream<'static, Result<AudioPiece, BackendError>> {
        rewritten(&self.name, body, rewrite)
    }
}

/// The events of speech, which are passed on.
struct SpeechEvents {
    backend: String,
    model: String,
}

impl Rewrite for SpeechEvents {
    fn push(&mut self, data: &Bytes) -> Result<Vec<AudioPiece>, BackendError> {
        let mut pieces = Vec::new();
        if let Ok(event) = serde_json::from_slice::<Value>(data) {
            if event.get("error").is_some_and(|error| !error.is_null()) {
                return Err(refusal::instead(&event, &self.model, &self.backend));
            }
            let usage = event.get("usage").and_then(tokens);
            pieces.extend(usage.map(AudioPiece::Usage));
        }
        let mut out = BytesMut::with_capacity(data.len() + 8);
        for line in data.split(|byte| *byte == b'\n') {
            out.put_slice(b"data: ");
            out.put_slice(line);
            out.put_slice(b"\n");
        }
        out.put_slice(b"\n");
        pieces.push(AudioPiece::Bytes(out.freeze()));
        Ok(pieces)
    }

    fn end(&mut self) -> Result<Vec<AudioPiece>, BackendError> {
        Ok(Vec::new())
    }
}

/// Returns the form of a recording. The id of the call makes its boundary unique.
fn form_of(id: &str, model: &str, recording: &Recording) -> Form {
    let unique: String = id.chars().filter(char::is_ascii_alphanumeric).collect();
    let fields = recording.fields.iter();
    let fields = fields.map(|(name, value)| (name.as_str(), value.as_str()));
    let file = FormFile {
        field: "file",
        name: &recording.name,
        media_type: recording
            .media_type
            .as_deref()
            .unwrap_or("application/octet-stream"),
        content: &recording.content,
    };
    Form::new(
        &unique,
        std::iter::once(("model", model)).chain(fields),
        file,
    )
}

/// Returns a reply that is complete.
fn whole(
    served_by: crate::ServedBy,
    media_type: String,
    bytes: Bytes,
    usage: Option<loggia_wire::openai::CompletionUsage>,
) -> AudioReply {
    let length = Some(bytes.len() as u64);
    let usage = usage.map(AudioPiece::Usage);
    let pieces = usage.into_iter().chain([AudioPiece::Bytes(bytes)]);
    AudioReply {
        served_by,
        media_type,
        length,
        pieces: stream::iter(pieces.map(Ok)).boxed(),
    }
}

/// Returns the events of a text that the engine did not stream.
fn streamed(transcript: &Transcript) -> Bytes {
    let mut out = BytesMut::new();
    let delta = json!({"type": "transcript.text.delta", "delta": transcript.text});
    let mut done = json!({"type": "transcript.text.done", "text": transcript.text});
    if let Some(usage) = &transcript.usage {
        done["usage"] = usage.clone();
    }
    for event in [delta, done] {
        // Cannot fail: the keys are strings.
        let _ = sse::write(&mut out, &event);
    }
    out.freeze()
}

fn header(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?;
    Some(value.to_owned())
}

/// Returns the media type of speech whose engine does not report it.
fn media_type_of(fields: &loggia_wire::Extra) -> &'static str {
    let format = fields.get("response_format").and_then(Value::as_str);
    match format.unwrap_or("mp3") {
        "opus" => "audio/opus",
        "aac" => "audio/aac",
        "flac" => "audio/flac",
        "wav" => "audio/wav",
        "pcm" => "audio/pcm",
        _ => "audio/mpeg",
    }
}
