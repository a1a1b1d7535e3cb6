//! `POST /v1/audio/transcriptions`, `/v1/audio/translations` and `/v1/audio/speech`.
//!
//! Reading order: `recording.rs` and `speech.rs` (the requests), `received.rs` (the file, which is
//! received completely before an engine is asked), this file (the call), `by_chat.rs` (chat models
//! that hear), `body.rs` (answers that are passed on as they arrive).

pub(crate) mod body;
mod by_chat;
pub(crate) mod received;
mod recording;
mod speech;
mod wav;

use std::fmt::Display;
use std::pin::pin;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::StreamExt as _;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderValue, Request, Response};
use loggia_backend::{
    Abilities, Ability, Audio, AudioCall, AudioPiece, AudioReply, AudioTask, CallHead, Trace,
};
use loggia_wire::openai::Model;
use serde_json::Value;

use crate::admit::checks::listed_unless_strict;
use crate::answer::ended::{Outcome, Progress};
use crate::answer::headers::{self, event_stream, name_server};
use crate::answer::id;
use crate::answer::ignored::listed;
use crate::answer::refusal::Refusals;
use crate::audio::body::AudioBody;
use crate::audio::received::CountedBytes;
use crate::audio::recording::ReadForm;
use crate::door::meter::{LimitReport, Tokens};
use crate::door::read;
use crate::door::routes::AudioHandler;
use crate::generate::respond;
use crate::wording::Dialect;
use crate::{ApiError, Body, Caller, Door, Strictness};

/// The maximum number of models that an error lists.
const MOST_LISTED: usize = 10;

/// A request that was read and checked.
struct Asked {
    parts: Parts,
    head: CallHead,
    audio: Audio,
    strictness: Strictness,
    refusals: Refusals,
    progress: Progress,
    counted: Option<CountedBytes>,
}

impl Door {
    /// `POST /v1/audio/…`.
    pub(crate) async fn audio<B>(
        &self,
        handler: AudioHandler,
        request: Request<B>,
    ) -> Response<Body>
    where
        B: http_body::Body<Data: Buf, Error: Display> + Send,
    {
        let (parts, body) = request.into_parts();
        let read = match handler {
            AudioHandler::Speech => {
                let body = read::json_body(&parts.headers, body, &self.policy).await;
                body.and_then(|body| Ok((speech::parse(&body)?, None)))
            }
            AudioHandler::Transcriptions | AudioHandler::Translations => {
                let translates = handler == AudioHandler::Translations;
                let all = &self.recordings;
                let read = recording::read(&parts.headers, body, &self.policy, all, translates);
                let read = read.await;
                read.map(|ReadForm { audio, counted }| (audio, Some(counted)))
            }
        };
        let (audio, counted) = match read {
            Ok(read) => read,
            Err(error) => return self.refuse(error),
        };
        let profile = self.policy.profile_of(&audio.model);
        let asked = self.asked_for_audio(parts, audio, counted);
        let (refusals, model) = (asked.refusals.clone(), asked.progress.model());
        let mut ignored = String::new();
        let answered = {
            let answering = pin!(self.answer_audio(asked, &mut ignored));
            self.in_time(&refusals, answering).await
        };
        respond(answered, profile, &ignored).map(|body| body.about_model(model))
    }

    fn asked_for_audio(&self, parts: Parts, audio: Audio, counted: Option<CountedBytes>) -> Asked {
        let strictness = self.strictness_for(&parts, &audio.model);
        let dialect = match audio.task {
            AudioTask::Speak(_) => Dialect::Speech,
            AudioTask::Transcribe(_) | AudioTask::Translate(_) => Dialect::Recordings,
        };
        let head = CallHead {
            caller: Caller::name_of(&parts),
            profile: self.policy.profile_of(&audio.model),
            strict: strictness == Strictness::Strict,
            trace: Trace::of(&parts.headers),
            ..CallHead::new(id::item("audio-"))
        };
        Asked {
            refusals: Refusals::new(&parts, dialect),
            progress: Progress::new(&audio.model),
            parts,
            head,
            audio,
            strictness,
            counted,
        }
    }

    async fn answer_audio(
        &self,
        mut asked: Asked,
        ignored: &mut String,
    ) -> Result<Response<Body>, ApiError> {
        let refusals = asked.refusals.clone();
        if let AudioTask::Speak(fields) = &asked.audio.task {
            speech::check_lengths(fields, asked.strictness)?;
        }
        let report = asked.parts.extensions.get::<Arc<LimitReport>>();
        let tokens = || tokens_of(&asked.audio);
        if let Some(entering) = self.enter(&asked.head, &asked.audio.model, &tokens, report) {
            asked.progress.hold(entering.await?);
        }
        // Also finds the most similar name of an unknown model.
        let can = self.abilities(&asked.audio.model).await;
        let can = can.map_err(|error| refusals.refuse(error))?;
        let call = AudioCall {
            head: asked.head.clone(),
            work: asked.audio.clone(),
        };
        let reply = self.backend.audio(call).await;
        let reply = reply.map_err(|error| refusals.refuse(error))?;
        if let Some(reply) = reply {
            *ignored = listed(&reply.served_by.ignored);
            return self.answered_audio(asked, reply).await;
        }
        let (audio, takes_sound) = (asked.audio.clone(), can.has(Ability::Audio));
        let recording = match &audio.task {
            AudioTask::Transcribe(recording) | AudioTask::Translate(recording) if takes_sound => {
                recording
            }
            _ => return Err(self.cannot(&audio).await),
        };
        let unread = by_chat::unread_fields(recording);
        *ignored = listed(&listed_unless_strict(unread, asked.strictness)?);
        let begun = by_chat::start(self, &asked, recording).await;
        let (reply, progress) = match begun {
            Ok(begun) => begun,
            // Whether a model of an unknown engine hears shows only when it is asked.
            Err(error) if is_assumed(&can) && error.status.is_client_error() => {
                let mut cannot = self.cannot(&audio).await;
                let message = &mut cannot.error.message;
                message.push_str(" As a chat, the engine refused the recording: ");
                message.push_str(&error.error.message);
                return Err(cannot);
            }
            Err(error) => return Err(error),
        };
        asked.progress = progress;
        self.answered_audio(asked, reply).await
    }

    /// Returns the response for a reply: complete, or passed on as it arrives.
    async fn answered_audio(
        &self,
        asked: Asked,
        mut reply: AudioReply,
    ) -> Result<Response<Body>, ApiError> {
        let Asked {
            audio,
            refusals,
            mut progress,
            counted,
            ..
        } = asked;
        progress.accepted(&reply.served_by);
        let failed = |error| refusals.refuse(error);
        let passes_on = reply.is_events() || matches!(audio.task, AudioTask::Speak(_));
        let served_by = reply.served_by.clone();
        let mut response = if passes_on {
            // The first piece decides whether the answer is an error.
            let first = reply.pieces.next().await.transpose().map_err(failed)?;
            progress.has_begun();
            let until = self.policy.ceilings.whole_time;
            let is_events = reply.is_events();
            let media_type = reply.media_type.clone();
            let body = AudioBody::new(first, reply, progress, refusals, until).holding(counted);
            let body = Body::audio(body);
            if is_events {
                event_stream(body)
            } else {
                of_type(&media_type, body)
            }
        } else {
            let mut whole = BytesMut::new();
            while let Some(piece) = reply.pieces.next().await {
                match piece.map_err(failed)? {
                    AudioPiece::Bytes(bytes) => whole.extend_from_slice(&bytes),
                    AudioPiece::Usage(usage) => progress.cost(usage),
                }
            }
            progress.has_begun();
            let body = Body::ending(whole, progress.end(Outcome::Complete));
            of_type(&reply.media_type, body)
        };
        name_server(&mut response, &served_by);
        Ok(response)
    }

    /// Returns the error for a model that does not do this, with those that may.
    async fn cannot(&self, audio: &Audio) -> ApiError {
        let (does, task) = match audio.task {
            AudioTask::Transcribe(_) => ("transcribe recordings", SPEECH_TO_TEXT),
            AudioTask::Translate(_) => ("translate recordings", SPEECH_TO_TEXT),
            AudioTask::Speak(_) => ("speak", TEXT_TO_SPEECH),
        };
        let models = self.backend.models().await.unwrap_or_default();
        let others = models
            .iter()
            .filter(|model| model.id != audio.model && may(model, task))
            .map(|model| format!("'{}'", model.id))
            .take(MOST_LISTED);
        let others: Vec<String> = others.collect();
        let advice = if others.is_empty() {
            let add = match audio.task {
                AudioTask::Speak(_) => "",
                _ => "a Whisper model with `--model FOLDER`, or ",
            };
            format!(
                "No other model of this server may either; add {add}an engine that can, such as vLLM or speaches, with \
                 `--openai NAME=URL`."
            )
        } else {
            format!("Models that may: {}.", others.join(", "))
        };
        let message = format!(
            "The model '{}' cannot {does}: its engine has no /v1{} for it. {advice}",
            audio.model,
            audio.path()
        );
        ApiError::invalid("model", "unsupported_model", message)
    }
}

/// The tasks of models, as speaches lists them.
const SPEECH_TO_TEXT: &str = "automatic-speech-recognition";
const TEXT_TO_SPEECH: &str = "text-to-speech";

/// Returns whether a model may support a task, by its entry in the list of models.
fn may(model: &Model, task: &str) -> bool {
    if let Some(its_own) = model.extra.get("task").and_then(Value::as_str) {
        return its_own == task;
    }
    let capabilities = model.extra.get("capabilities").and_then(Value::as_array);
    capabilities.is_none_or(|all| {
        task == SPEECH_TO_TEXT && all.iter().any(|capability| capability == "audio")
    })
}

/// Returns whether the abilities are the defaults for an engine that does not report its own.
fn is_assumed(can: &Abilities) -> bool {
    can.has(Ability::UnknownFields)
}

/// Returns the tokens that a request may use. Those of a recording are known only afterwards.
fn tokens_of(audio: &Audio) -> Tokens {
    let text = match &audio.task {
        AudioTask::Speak(fields) => fields.get("input").and_then(Value::as_str),
        AudioTask::Transcribe(_) | AudioTask::Translate(_) => None,
    };
    Tokens {
        // About four bytes are a token.
        prompt: text.map_or(0, |text| text.len() as u64 / 4 + 1),
        answer: Some(0),
    }
}

/// A response with a body of this media type.
fn of_type(media_type: &str, body: Body) -> Response<Body> {
    let mut response = headers::json(body);
    let media_type = HeaderValue::try_from(media_type);
    let media_type =
        media_type.unwrap_or(const { HeaderValue::from_static("application/octet-stream") });
    response.headers_mut().insert(CONTENT_TYPE, media_type);
    response
}

/// Returns JSON as bytes.
fn json_bytes(value: &Value) -> Bytes {
    value.to_string().into()
}
