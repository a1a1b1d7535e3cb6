//! Transcriptions and translations by chat models that hear: a chat with the recording and a fixed
//! instruction. Such models give text without times.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use loggia_backend::{AudioPiece, AudioReply, AudioTask, BackendError, Event, Events, Recording};
use loggia_wire::frame::sse;
use loggia_wire::openai::{ChatCompletionRequest, CompletionUsage};
use serde_json::{Value, json};

use super::{Asked, json_bytes};
use crate::admit::ParsedRequest;
use crate::admit::ask::Parse;
use crate::answer::ended::Progress;
use crate::generate::{Admitted, admitted, start as start_chat};
use crate::{ApiError, Door};

/// The fields that have an effect.
const READ: [&str; 5] = [
    "response_format",
    "language",
    "prompt",
    "temperature",
    "stream",
];

/// Returns the names of the fields without effect.
pub(super) fn unread_fields(recording: &Recording) -> Vec<String> {
    let names = recording.fields.iter().map(|(name, _)| name.as_str());
    let mut unread: Vec<String> = names
        .filter(|name| !READ.contains(name))
        .map(|name| name.split('[').next().unwrap_or(name).to_owned())
        .collect();
    unread.dedup();
    unread
}

/// Starts the chat. Returns the reply, and the progress of the chat.
pub(super) async fn start(
    door: &Door,
    asked: &Asked,
    recording: &Recording,
) -> Result<(AudioReply, Progress), ApiError> {
    let format = recording.field("response_format").unwrap_or("json");
    if !matches!(format, "json" | "text") {
        let message = format!(
            "Unsupported value: 'response_format' does not support '{format}' with this model, which gives no times. \
             Supported values are: 'json', 'text'."
        );
        return Err(ApiError::invalid(
            "response_format",
            "unsupported_value",
            message,
        ));
    }
    let translates = matches!(asked.audio.task, AudioTask::Translate(_));
    let chat = chat_of(&asked.audio.model, recording, translates).await?;
    let parsed = ChatCompletionRequest::parse(&chat, &door.policy);
    let (request, profile) = parsed.map_err(about_file)?;
    let parsed = ParsedRequest::new(door, asked.parts.clone(), request, profile);
    let admitting = Box::pin(admitted(door, parsed));
    let Admitted {
        call,
        steps,
        progress,
        ..
    } = admitting.await.map_err(about_file)?;
    let reply = start_chat(&door.backend, call, steps).await;
    let reply = reply.map_err(|error| about_file(asked.refusals.refuse(error)))?;
    let served_by = reply.served_by.clone();
    let reply = if recording.stream {
        AudioReply {
            served_by,
            media_type: "text/event-stream".to_owned(),
            length: None,
            pieces: streamed(reply.events),
        }
    } else {
        let text = whole(reply.events).await;
        let (text, usage) = text.map_err(|error| about_file(asked.refusals.refuse(error)))?;
        let (media_type, bytes) = if format == "text" {
            ("text/plain; charset=utf-8", format!("{text}\n").into())
        } else {
            let answer = with_usage(json!({"text": text}), usage.as_ref());
            ("application/json", json_bytes(&answer))
        };
        let usage = usage.map(AudioPiece::Usage);
        let pieces = usage.into_iter().chain([AudioPiece::Bytes(bytes)]);
        AudioReply {
            served_by,
            media_type: media_type.to_owned(),
            length: None,
            pieces: stream::iter(pieces.map(Ok)).boxed(),
        }
    };
    Ok((reply, progress))
}

/// Returns the body of the chat.
async fn chat_of(
    model: &str,
    recording: &Recording,
    translates: bool,
) -> Result<Vec<u8>, ApiError> {
    let content = recording.content.whole().await.map_err(|error| {
        tracing::error!(%error, "a recording cannot be read");
        let status = http::StatusCode::INTERNAL_SERVER_ERROR;
        ApiError::new(
            status,
            "The server cannot read the recording that it received.",
        )
    })?;
    let format = format_of(&content).ok_or_else(|| {
        let message = "Unsupported file: this model hears WAV and MP3 files only.";
        ApiError::invalid("file", "unsupported_format", message)
    })?;
    let temperature = recording.field("temperature");
    let temperature: f64 = temperature
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or_default();
    let sound = json!({"data": BASE64_STANDARD.encode(&content), "format": format});
    let chat = json!({
        "model": model,
        "messages": [{"role": "user", "content": [
            {"type": "input_audio", "input_audio": sound},
            {"type": "text", "text": instruction(recording, translates)},
        ]}],
        "temperature": temperature,
        "stream": recording.stream,
    });
    Ok(chat.to_string().into_bytes())
}

/// Returns the instruction for the model.
fn instruction(recording: &Recording, translates: bool) -> String {
    let mut told = if translates {
        "Translate the speech in this recording into English. Answer with the translation and nothing else."
    } else {
        "Transcribe the speech in this recording. Answer with the words that are spoken and nothing else."
    }
    .to_owned();
    let given = |name| recording.field(name).filter(|text| !text.trim().is_empty());
    if let Some(language) = given("language") {
        told.push_str(" The language of the speech is: ");
        told.push_str(language.trim());
        told.push('.');
    }
    if let Some(prompt) = given("prompt") {
        told.push_str(" This text shows the style and the spelling of names: ");
        told.push_str(prompt.trim());
    }
    told
}

/// Returns the format of a file by its first bytes.
fn format_of(content: &[u8]) -> Option<&'static str> {
    match content {
        [b'R', b'I', b'F', b'F', ..] => Some("wav"),
        [b'I', b'D', b'3', ..] => Some("mp3"),
        [0xFF, second, ..] if second & 0xE0 == 0xE0 => Some("mp3"),
        _ => None,
    }
}

/// Collects the text of a chat.
async fn whole(mut events: Events) -> Result<(String, Option<CompletionUsage>), BackendError> {
    let (mut text, mut usage) = (String::new(), None);
    while let Some(event) = events.next().await {
        match event? {
            Event::Usage(used) => usage = Some(used),
            event => text.push_str(&text_of(&event)),
        }
    }
    Ok((text.trim().to_owned(), usage))
}

/// Returns the events of a chat as those of a transcription.
fn streamed(events: Events) -> stream::BoxStream<'static, Result<AudioPiece, BackendError>> {
    let state = (events, String::new(), None, false);
    stream::try_unfold(
        state,
        |(mut events, mut text, mut usage, is_done)| async move {
            if is_done {
                return Ok(None);
            }
            loop {
                match events.next().await.transpose()? {
                    Some(Event::Usage(used)) => {
                        usage = Some(used.clone());
                        let piece = AudioPiece::Usage(used);
                        return Ok(Some((piece, (events, text, usage, false))));
                    }
                    Some(event) => {
                        let delta = text_of(&event);
                        if delta.is_empty() {
                            continue;
                        }
                        text.push_str(&delta);
                        let event = json!({"type": "transcript.text.delta", "delta": delta});
                        let piece = AudioPiece::Bytes(written(&event));
                        return Ok(Some((piece, (events, text, usage, false))));
                    }
                    None => {
                        let done = json!({"type": "transcript.text.done", "text": text.trim()});
                        let piece = AudioPiece::Bytes(written(&with_usage(done, usage.as_ref())));
                        return Ok(Some((piece, (events, text, usage, true))));
                    }
                }
            }
        },
    )
    .boxed()
}

/// Returns the text of an event.
fn text_of(event: &Event) -> String {
    let Event::Chunk(chunk) = event else {
        return String::new();
    };
    let choices = chunk.choices.iter();
    choices
        .filter_map(|choice| choice.delta.content.as_deref())
        .collect()
}

/// Adds the tokens to an answer.
fn with_usage(mut answer: Value, usage: Option<&CompletionUsage>) -> Value {
    if let Some(usage) = usage {
        answer["usage"] = json!({
            "type": "tokens",
            "input_tokens": usage.prompt_tokens,
            "output_tokens": usage.completion_tokens,
            "total_tokens": usage.total_tokens,
        });
    }
    answer
}

fn written(event: &Value) -> Bytes {
    let mut out = BytesMut::new();
    // Cannot fail: the keys are strings.
    let _ = sse::write(&mut out, event);
    out.freeze()
}

/// Returns an error about the messages of the chat as one about the file that they were made of.
fn about_file(error: ApiError) -> ApiError {
    match error.error.param.as_deref() {
        None | Some("model") => error,
        Some(_) => error.about("file"),
    }
}
