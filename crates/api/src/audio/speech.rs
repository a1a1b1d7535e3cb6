//! Reads the body of `POST /v1/audio/speech`, and checks its fields.

use loggia_backend::{Audio, AudioTask};
use loggia_wire::Extra;
use serde::Deserialize;
use serde_json::Value;

use crate::admit::checks::{check_model, one_of, within};
use crate::admit::parse::parsed;
use crate::{ApiError, Strictness};

/// The maximum number of characters of the text at OpenAI. Engines have other limits, so only
/// `--strict` enforces it.
const LONGEST_INPUT: usize = 4096;

/// The fields that OpenAI's API has. What is sent on is the body itself.
#[derive(Deserialize)]
struct SpeechRequest {
    model: String,
    input: String,
    voice: Value,
    #[serde(default)]
    #[expect(dead_code, reason = "only its type is checked")]
    instructions: Option<String>,
    #[serde(default)]
    response_format: Option<String>,
    #[serde(default)]
    speed: Option<f64>,
    #[serde(default)]
    stream_format: Option<String>,
}

/// Parses and checks a body.
pub(super) fn parse(body: &[u8]) -> Result<Audio, ApiError> {
    let request: SpeechRequest = parsed(body)?;
    check_model(&request.model)?;
    if request.input.is_empty() {
        let message = "Invalid 'input': empty string. Expected a string with minimum length 1.";
        return Err(ApiError::invalid("input", "empty_string", message));
    }
    let voice = &request.voice;
    if !voice.is_string() && !voice["id"].is_string() {
        let message =
            "Invalid type for 'voice': expected a string, or an object with the field 'id'.";
        return Err(ApiError::invalid("voice", "invalid_type", message));
    }
    let format = request.response_format.as_deref();
    let formats = &["mp3", "opus", "aac", "flac", "wav", "pcm"];
    one_of("response_format", format, formats)?;
    within("speed", request.speed, 0.25, 4.0)?;
    one_of(
        "stream_format",
        request.stream_format.as_deref(),
        &["sse", "audio"],
    )?;
    let mut fields: Extra = parsed(body)?;
    fields.remove("model");
    Ok(Audio {
        model: request.model,
        task: AudioTask::Speak(fields),
    })
}

/// Refuses, in strict mode, texts that are longer than OpenAI's API allows.
pub(super) fn check_lengths(fields: &Extra, strictness: Strictness) -> Result<(), ApiError> {
    if strictness != Strictness::Strict {
        return Ok(());
    }
    for name in ["input", "instructions"] {
        let text = fields.get(name).and_then(Value::as_str);
        if text.is_some_and(|text| text.chars().count() > LONGEST_INPUT) {
            let message = format!(
                "Invalid '{name}': string too long. Expected a string with maximum length {LONGEST_INPUT}."
            );
            return Err(ApiError::invalid(name, "string_above_max_length", message));
        }
    }
    Ok(())
}
