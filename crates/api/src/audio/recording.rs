//! Reads the form of a transcription or a translation, and checks its fields.

use std::fmt::Display;

use bytes::Buf;
use http::HeaderMap;
use loggia_backend::{Audio, AudioTask, Content, Recording};
use multer::Field;
use serde_json::Value;

use super::received::{CountedBytes, Receiving, RecordingBytes};
use crate::admit::checks::{check_model, missing, one_of, too_long, within};
use crate::door::form::{Form, FormLimits, too_large};
use crate::{ApiError, Policy};

/// The maximum number of bytes of a field that is not the file: a sample of a speaker's voice, of
/// 10 s.
const MOST_OF_A_TEXT: usize = 2 << 20;
/// The maximum number of bytes of all fields that are not the file.
const MOST_BESIDES: u64 = 12 << 20;
/// The maximum number of fields.
const MOST_FIELDS: usize = 512;
/// The maximum number of speakers that a request may name, as at OpenAI.
const MOST_SPEAKERS: usize = 4;

/// The fields of a transcription that may occur several times. Clients send them with or without
/// brackets after the name; engines read them with brackets, as OpenAI's SDKs send them.
const LISTS: [&str; 6] = [
    "languages",
    "keywords",
    "include",
    "timestamp_granularities",
    "known_speaker_names",
    "known_speaker_references",
];

/// A form that was read and checked.
pub(super) struct ReadForm {
    pub(super) audio: Audio,
    pub(super) counted: CountedBytes,
}

/// The file of a form.
struct ReceivedFile {
    name: String,
    media_type: Option<String>,
    content: Content,
    counted: CountedBytes,
}

/// Reads and checks a form. `translates` says whether the route is that of translations.
pub(super) async fn read<B>(
    headers: &HeaderMap,
    body: B,
    policy: &Policy,
    all: &RecordingBytes,
    translates: bool,
) -> Result<ReadForm, ApiError>
where
    B: http_body::Body<Data: Buf, Error: Display> + Send,
{
    let limits = FormLimits {
        file: policy.recording_bytes,
        besides: MOST_BESIDES,
        text: MOST_OF_A_TEXT,
        fields: MOST_FIELDS,
    };
    let mut form = Form::new(headers, body, limits, policy.body_within)?;
    let (mut file, mut fields) = (None, Vec::<(String, String)>::new());
    while let Some(field) = form.next().await? {
        let sent = field.name().unwrap_or_default().to_owned();
        if sent == "file" {
            if file.is_some() {
                return Err(duplicate("file"));
            }
            let counted = CountedBytes::new(all, limits.file);
            file = Some(receive(&form, field, limits.file, counted).await?);
            continue;
        }
        let name = name_of(&sent);
        if !name.ends_with("[]") && fields.iter().any(|(one, _)| *one == name) {
            return Err(duplicate(&name));
        }
        fields.push((name, form.text(field).await?));
    }
    let file = file.ok_or_else(|| missing("file".to_owned()))?;
    let model = fields.iter().position(|(name, _)| name == "model");
    let model = model.ok_or_else(|| missing("model".to_owned()))?;
    let (_, model) = fields.remove(model);
    check_model(&model)?;
    let mut recording = Recording {
        name: file.name,
        media_type: file.media_type,
        content: file.content,
        fields,
        stream: false,
    };
    check(&recording, translates)?;
    recording.stream = is_true(&recording)?;
    let task = if translates {
        AudioTask::Translate(recording)
    } else {
        AudioTask::Transcribe(recording)
    };
    Ok(ReadForm {
        audio: Audio { model, task },
        counted: file.counted,
    })
}

/// Returns the name of a field as engines read it.
fn name_of(sent: &str) -> String {
    let bare = sent.split('[').next().unwrap_or(sent);
    if LISTS.contains(&bare) {
        format!("{bare}[]")
    } else {
        sent.to_owned()
    }
}

async fn receive<'b>(
    form: &Form<'b>,
    mut field: Field<'b>,
    most: u64,
    counted: CountedBytes,
) -> Result<ReceivedFile, ApiError> {
    let name = field.file_name().map(str::to_owned);
    let name = name.ok_or_else(|| {
        let message = "Invalid type for 'file': expected a file with a name.";
        ApiError::invalid("file", "invalid_type", message)
    })?;
    let media_type = field.content_type().map(ToString::to_string);
    let mut receiving = Receiving::new(counted);
    while let Some(piece) = form.piece(&mut field).await? {
        if receiving.length() + piece.len() as u64 > most {
            return Err(too_large(most));
        }
        receiving.push(&piece).await?;
    }
    let (content, counted) = receiving.finish().await?;
    Ok(ReceivedFile {
        name,
        media_type,
        content,
        counted,
    })
}

/// Checks the fields that OpenAI's API has.
fn check(recording: &Recording, translates: bool) -> Result<(), ApiError> {
    let formats: &[&str] = if translates {
        &["json", "text", "srt", "verbose_json", "vtt"]
    } else {
        &[
            "json",
            "text",
            "srt",
            "verbose_json",
            "vtt",
            "diarized_json",
        ]
    };
    one_of(
        "response_format",
        recording.field("response_format"),
        formats,
    )?;
    let temperature = recording.field("temperature").map(|text| {
        text.trim().parse::<f64>().map_err(|_| {
            let message = "Invalid type for 'temperature': expected a decimal.";
            ApiError::invalid("temperature", "invalid_type", message)
        })
    });
    within("temperature", temperature.transpose()?, 0.0, 1.0)?;
    for (name, value) in &recording.fields {
        match name.as_str() {
            "include[]" => one_of("include", Some(value), &["logprobs"])?,
            "timestamp_granularities[]" => {
                one_of("timestamp_granularities", Some(value), &["word", "segment"])?;
            }
            "chunking_strategy" => {
                let is_object = serde_json::from_str::<Value>(value).is_ok_and(|it| it.is_object());
                one_of(
                    name,
                    Some(value).filter(|_| !is_object).map(|it| &**it),
                    &["auto"],
                )?;
            }
            _ => {}
        }
    }
    for name in ["known_speaker_names", "known_speaker_references"] {
        let all = recording.fields.iter();
        let number = all
            .filter(|(one, _)| one.strip_suffix("[]") == Some(name))
            .count();
        if number > MOST_SPEAKERS {
            return Err(too_long(name, MOST_SPEAKERS, number));
        }
    }
    Ok(())
}

/// Returns whether the text is to be streamed. Forms have no booleans; clients write them as JSON or
/// as their language does.
fn is_true(recording: &Recording) -> Result<bool, ApiError> {
    match recording
        .field("stream")
        .map(str::to_ascii_lowercase)
        .as_deref()
    {
        None | Some("" | "false" | "0" | "null") => Ok(false),
        Some("true" | "1") => Ok(true),
        Some(_) => {
            let message = "Invalid type for 'stream': expected a boolean.";
            Err(ApiError::invalid("stream", "invalid_type", message))
        }
    }
}

fn duplicate(name: &str) -> ApiError {
    let message = format!("Duplicate parameter: '{name}'.");
    ApiError::invalid(name, "duplicate_parameter", message)
}
