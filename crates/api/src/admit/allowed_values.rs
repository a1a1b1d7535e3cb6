//! The words, lengths and formats that OpenAI's specification allows for hints. A strict server
//! refuses all others. Other servers list the hint as ignored, because it has no effect whatever
//! its value.
//!
//! Not for engines that speak OpenAI's API: they may allow other words and check them themselves.

use std::collections::BTreeMap;
use std::fmt::Display;

use loggia_wire::Extra;
use loggia_wire::openai::{ChatCompletionRequest, Content, Message, Part, PartKind, Tool};
use serde_json::Value;

use crate::ApiError;
use crate::admit::checks::{missing, one_of};

const SERVICE_TIERS: &[&str] = &[
    "auto",
    "default",
    "flex",
    "scale",
    "priority",
    "fast",
    "ultrafast",
];
/// Older packages write this value with a dash.
const CACHE_RETENTIONS: &[&str] = &["in_memory", "24h", "in-memory"];
/// How long OpenAI caches prompts.
const TTLS: &[&str] = &["30m", "12h"];
const LEVELS: &[&str] = &["low", "medium", "high"];
const MODALITIES: &[&str] = &["text", "audio"];
const SOUNDS: &[&str] = &["wav", "mp3"];
const SPOKEN_SOUNDS: &[&str] = &["wav", "aac", "mp3", "flac", "opus", "pcm16"];
/// `original` is in the packages, but not in the specification.
const DETAILS: &[&str] = &["auto", "low", "high", "original"];
const TOOLS: &[&str] = &["function", "custom"];

/// A field of parts: a hint for OpenAI's prompt cache.
pub(crate) const BREAKPOINT: &str = "prompt_cache_breakpoint";

/// The maximum number of entries of `metadata`, and the maximum length of a key and of a value in
/// characters.
const MOST_METADATA: (usize, usize, usize) = (16, 64, 512);
/// The maximum length of `safety_identifier` in characters.
const LONGEST_IDENTIFIER: usize = 128;

/// Refuses the first word, length or format that the specification does not allow.
pub(crate) fn check(request: &ChatCompletionRequest) -> Result<(), ApiError> {
    let words = [
        ("service_tier", &request.service_tier, SERVICE_TIERS),
        (
            "prompt_cache_retention",
            &request.prompt_cache_retention,
            CACHE_RETENTIONS,
        ),
        ("verbosity", &request.verbosity, LEVELS),
    ];
    words
        .into_iter()
        .try_for_each(|(param, word, known)| one_of(param, word.as_deref(), known))?;
    for (index, modality) in request.modalities.iter().flatten().enumerate() {
        one_of(
            format_args!("modalities[{index}]"),
            Some(modality),
            MODALITIES,
        )?;
    }
    if let Some(identifier) = &request.safety_identifier {
        at_most("safety_identifier", LONGEST_IDENTIFIER, identifier)?;
    }
    request.metadata.as_ref().map_or(Ok(()), check_metadata)?;
    check_hosted(request)?;
    request
        .tools
        .iter()
        .flatten()
        .enumerate()
        .try_for_each(|(index, tool)| check_tool(index, tool))?;
    request
        .messages
        .iter()
        .enumerate()
        .try_for_each(|(index, message)| check_message(index, message))
}

/// Checks that labels are within OpenAI's limits.
pub(crate) fn check_metadata(metadata: &BTreeMap<String, Value>) -> Result<(), ApiError> {
    let (entries, name_length, length) = MOST_METADATA;
    if metadata.len() > entries {
        let message = format!(
            "Invalid 'metadata': too many properties. Expected an object with at most {entries} properties, but got an object with {} properties instead.",
            metadata.len()
        );
        return Err(ApiError::invalid(
            "metadata",
            "object_above_max_properties",
            message,
        ));
    }
    for (name, value) in metadata {
        if name.chars().count() > name_length {
            let message = format!(
                "Invalid 'metadata': property name too long. Expected names with a maximum length of {name_length}, but got '{name}'."
            );
            return Err(ApiError::invalid(
                "metadata",
                "property_name_above_max_length",
                message,
            ));
        }
        let param = format!("metadata.{name}");
        at_most(&param, length, text(&param, value)?)?;
    }
    Ok(())
}

/// Refuses features that only hosted services have.
fn check_hosted(request: &ChatCompletionRequest) -> Result<(), ApiError> {
    if let Some(options) = ObjectAt::optional(
        "prompt_cache_options",
        request.prompt_cache_options.as_ref(),
    )? {
        options.word("ttl", TTLS)?;
        options.word("mode", &["implicit", "explicit"])?;
    }
    if let Some(prediction) = ObjectAt::optional("prediction", request.prediction.as_ref())? {
        prediction.needed("type")?;
        prediction.word("type", &["content"])?;
        check_texts("prediction.content", prediction.needed("content")?)?;
    }
    if let Some(audio) = ObjectAt::optional("audio", request.audio.as_ref())? {
        audio.needed("format")?;
        audio.word("format", SPOKEN_SOUNDS)?;
        if audio.needed("voice")?.is_object() {
            let own = audio.object("voice")?;
            own.map_or(Ok(()), |own| {
                text(&own.param("id"), own.needed("id")?).map(|_| ())
            })?;
        } else {
            audio.text("voice")?;
        }
    }
    if let Some(search) =
        ObjectAt::optional("web_search_options", request.web_search_options.as_ref())?
    {
        check_search(&search)?;
    }
    let Some(moderation) = ObjectAt::optional("moderation", request.moderation.as_ref())? else {
        return Ok(());
    };
    moderation.needed("model")?;
    moderation.text("model")?;
    let Some(policy) = moderation.object("policy")? else {
        return Ok(());
    };
    for side in ["input", "output"] {
        if let Some(side) = policy.object(side)? {
            side.needed("mode")?;
            side.word("mode", &["score", "block"])?;
        }
    }
    Ok(())
}

fn check_search(search: &ObjectAt<'_>) -> Result<(), ApiError> {
    search.word("search_context_size", LEVELS)?;
    let Some(location) = search.object("user_location")? else {
        return Ok(());
    };
    location.needed("type")?;
    location.word("type", &["approximate"])?;
    location.needed("approximate")?;
    let Some(place) = location.object("approximate")? else {
        return Ok(());
    };
    ["country", "region", "city", "timezone"]
        .into_iter()
        .try_for_each(|field| place.text(field))
}

/// Checks that a value is a string or text parts.
fn check_texts(param: &str, content: &Value) -> Result<(), ApiError> {
    let Value::Array(parts) = content else {
        let expected = "a string or an array of text parts";
        return if content.is_string() {
            Ok(())
        } else {
            Err(no(expected, param))
        };
    };
    for (index, part) in parts.iter().enumerate() {
        let part = ObjectAt::new(format!("{param}[{index}]"), part)?;
        part.needed("type")?;
        part.word("type", &["text"])?;
        part.needed("text")?;
        part.text("text")?;
    }
    Ok(())
}

fn check_tool(index: usize, tool: &Tool) -> Result<(), ApiError> {
    one_of(format_args!("tools[{index}].type"), Some(&tool.kind), TOOLS)
}

fn check_message(index: usize, message: &Message) -> Result<(), ApiError> {
    if let Some(audio) = ObjectAt::optional(
        format_args!("messages[{index}].audio"),
        message.audio.as_ref(),
    )? {
        audio.needed("id")?;
        audio.text("id")?;
    }
    let mut parts = message.content.iter().flat_map(Content::parts).enumerate();
    parts.try_for_each(|(at, part)| {
        check_part(format_args!("messages[{index}].content[{at}]"), part)
    })
}

fn check_part(place: impl Display, part: &Part) -> Result<(), ApiError> {
    match &part.kind {
        PartKind::ImageUrl { detail, .. } => {
            one_of(
                format_args!("{place}.image_url.detail"),
                detail.as_deref(),
                DETAILS,
            )?;
        }
        PartKind::InputAudio { format, .. } => {
            one_of(
                format_args!("{place}.input_audio.format"),
                Some(format),
                SOUNDS,
            )?;
        }
        _ => {}
    }
    // The field that marks the end of the part that OpenAI should cache.
    let mark = part.extra.get(BREAKPOINT);
    let Some(mark) = ObjectAt::optional(format_args!("{place}.{BREAKPOINT}"), mark)? else {
        return Ok(());
    };
    mark.needed("mode")?;
    mark.word("mode", &["explicit"])?;
    mark.word("ttl", TTLS)
}

/// An object and its path.
struct ObjectAt<'a> {
    place: String,
    fields: &'a Extra,
}

impl<'a> ObjectAt<'a> {
    fn new(place: String, value: &'a Value) -> Result<Self, ApiError> {
        match value {
            Value::Object(fields) => Ok(Self { place, fields }),
            _ => Err(no("an object", &place)),
        }
    }

    /// Returns the object, or `None` if it is absent or null.
    fn optional(place: impl Display, value: Option<&'a Value>) -> Result<Option<Self>, ApiError> {
        value
            .filter(|value| !value.is_null())
            .map(|value| Self::new(place.to_string(), value))
            .transpose()
    }

    fn param(&self, field: &str) -> String {
        format!("{}.{field}", self.place)
    }

    fn object(&self, field: &str) -> Result<Option<Self>, ApiError> {
        Self::optional(self.param(field), self.fields.get(field))
    }

    fn needed(&self, field: &str) -> Result<&'a Value, ApiError> {
        self.fields
            .get(field)
            .filter(|value| !value.is_null())
            .ok_or_else(|| missing(self.param(field)))
    }

    fn text(&self, field: &str) -> Result<(), ApiError> {
        self.word_of(field).map(|_| ())
    }

    fn word(&self, field: &str, known: &[&str]) -> Result<(), ApiError> {
        one_of(self.param(field), self.word_of(field)?, known)
    }

    fn word_of(&self, field: &str) -> Result<Option<&'a str>, ApiError> {
        let value = self.fields.get(field).filter(|value| !value.is_null());
        value
            .map(|value| text(&self.param(field), value))
            .transpose()
    }
}

fn text<'a>(param: &str, value: &'a Value) -> Result<&'a str, ApiError> {
    value.as_str().ok_or_else(|| no("a string", param))
}

fn no(expected: &str, param: &str) -> ApiError {
    ApiError::invalid(
        param,
        "invalid_type",
        format!("Invalid type for '{param}': expected {expected}."),
    )
}

fn at_most(param: &str, most: usize, text: &str) -> Result<(), ApiError> {
    let length = text.chars().count();
    if length <= most {
        return Ok(());
    }
    let message = format!(
        "Invalid '{param}': string too long. Expected a string with maximum length {most}, but got a string with length {length} instead."
    );
    Err(ApiError::invalid(param, "string_above_max_length", message))
}
