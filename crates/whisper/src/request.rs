//! [`Request`]: the fields of a form, as far as they have an effect on a Whisper model.

use loggia_backend::{AudioTask, BackendError, Recording};

use crate::languages;
use crate::tokens::Tokens;

/// The fields that have an effect.
const READ: [&str; 9] = [
    "response_format",
    "language",
    "languages[]",
    "keywords[]",
    "prompt",
    "temperature",
    "timestamp_granularities[]",
    "include[]",
    "stream",
];

/// The longest prompt that is read, in bytes. Only its last 223 tokens have an effect.
const LONGEST_PROMPT: usize = 64 << 10;

/// What is to be done with a recording.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each follows from another field of the form"
)]
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) task: Task,
    pub(crate) format: Format,
    pub(crate) stream: bool,
    /// The language that the client names.
    pub(crate) language: Option<usize>,
    /// Those that are possible. All, if it is empty.
    pub(crate) languages: Vec<usize>,
    pub(crate) prompt: String,
    /// `None` for 0, which is raised for bad text.
    pub(crate) temperature: Option<f32>,
    /// Whether `verbose_json` has segments, and words.
    pub(crate) segments: bool,
    pub(crate) words: bool,
    pub(crate) logprobs: bool,
    /// The names of the fields without effect.
    pub(crate) ignored: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    Transcribe,
    Translate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Text,
    Srt,
    Vtt,
    Verbose,
}

impl Request {
    /// Reads the fields. `None` if the work is not about a recording.
    pub(crate) fn of(task: &AudioTask, tokens: &Tokens) -> Option<Result<Self, BackendError>> {
        match task {
            AudioTask::Transcribe(recording) => {
                Some(Self::read(Task::Transcribe, recording, tokens))
            }
            AudioTask::Translate(recording) => Some(Self::read(Task::Translate, recording, tokens)),
            AudioTask::Speak(_) => None,
        }
    }

    fn read(task: Task, recording: &Recording, tokens: &Tokens) -> Result<Self, BackendError> {
        let format = format(recording)?;
        let is_verbose = format == Format::Verbose;
        let wants =
            |granularity| all(recording, "timestamp_granularities[]").any(|one| one == granularity);
        let mut request = Self {
            task,
            format,
            stream: recording.stream,
            language: language(recording, tokens)?,
            languages: all(recording, "languages[]")
                .filter_map(languages::find)
                .collect(),
            prompt: prompt(recording),
            temperature: recording
                .field("temperature")
                .and_then(|text| text.trim().parse().ok())
                .filter(|one| *one > 0.0),
            segments: wants("segment") || !wants("word"),
            words: is_verbose && wants("word"),
            logprobs: format == Format::Json
                && all(recording, "include[]").any(|one| one == "logprobs"),
            ignored: Vec::new(),
        };
        request.ignored = ignored(recording, &request);
        Ok(request)
    }
}

/// Returns the values of a list.
fn all<'a>(recording: &'a Recording, name: &'a str) -> impl Iterator<Item = &'a str> {
    let fields = recording.fields.iter();
    fields
        .filter(move |(one, _)| one == name)
        .map(|(_, value)| value.trim())
}

fn format(recording: &Recording) -> Result<Format, BackendError> {
    let asked = recording.field("response_format").unwrap_or("json");
    let format = match asked {
        "json" => Format::Json,
        "text" => Format::Text,
        "srt" => Format::Srt,
        "vtt" => Format::Vtt,
        "verbose_json" => Format::Verbose,
        _ => {
            let message = format!(
                "Unsupported value: 'response_format' does not support '{asked}' with this model. Supported values are: \
                 'json', 'text', 'srt', 'verbose_json', and 'vtt'."
            );
            return Err(invalid("response_format", "unsupported_value", message));
        }
    };
    if recording.stream && !matches!(format, Format::Json | Format::Text) {
        let message = format!(
            "Unsupported value: 'response_format' does not support '{asked}' with 'stream'. Supported values are: 'json' and 'text'."
        );
        return Err(invalid("response_format", "unsupported_value", message));
    }
    Ok(format)
}

fn language(recording: &Recording, tokens: &Tokens) -> Result<Option<usize>, BackendError> {
    let asked = recording
        .field("language")
        .map(str::trim)
        .filter(|asked| !asked.is_empty());
    let Some(asked) = asked else {
        return Ok(None);
    };
    let found = languages::find(asked);
    let found = found.ok_or_else(|| {
        let message = format!(
            "Invalid value for 'language': '{asked}'. Expected the ISO-639-1 code of a language that Whisper knows, such as 'en'."
        );
        invalid("language", "invalid_value", message)
    })?;
    if tokens.language(found).is_none() && found != 0 {
        let only = if tokens.is_multilingual() {
            "does not know it"
        } else {
            "hears English only"
        };
        let message = format!(
            "Unsupported value: 'language' does not support '{asked}' with this model, which {only}."
        );
        return Err(invalid("language", "unsupported_value", message));
    }
    Ok(Some(found))
}

/// Returns the client's example, with its words in front, because the end has the largest effect.
fn prompt(recording: &Recording) -> String {
    let words: Vec<&str> = all(recording, "keywords[]")
        .filter(|word| !word.is_empty())
        .collect();
    let mut prompt = words.join(", ");
    let example = recording.field("prompt").unwrap_or_default().trim();
    if !prompt.is_empty() && !example.is_empty() {
        prompt.push_str(". ");
    }
    prompt.push_str(example);
    let mut from = prompt.len().saturating_sub(LONGEST_PROMPT);
    while !prompt.is_char_boundary(from) {
        from += 1;
    }
    prompt.split_off(from)
}

/// Returns the names of the fields without effect.
fn ignored(recording: &Recording, request: &Request) -> Vec<String> {
    let is_read = |name: &str| match name {
        "timestamp_granularities[]" => request.format == Format::Verbose,
        "include[]" => request.logprobs,
        "languages[]" => request.language.is_none(),
        name => READ.contains(&name),
    };
    let names = recording.fields.iter().map(|(name, _)| name.as_str());
    let names = names.filter(|name| !is_read(name));
    let mut ignored: Vec<String> = names
        .map(|name| name.split('[').next().unwrap_or(name).to_owned())
        .collect();
    ignored.sort();
    ignored.dedup();
    ignored
}

pub(crate) fn invalid(param: &str, code: &str, message: String) -> BackendError {
    BackendError::InvalidRequest {
        message,
        param: Some(param.to_owned()),
        code: Some(code.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::tokens::tests::english;

    fn read(fields: &[(&str, &str)]) -> Result<Request, BackendError> {
        let recording = Recording {
            name: "a.wav".to_owned(),
            media_type: None,
            content: Bytes::new().into(),
            fields: fields
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            stream: fields.contains(&("stream", "true")),
        };
        Request::of(&AudioTask::Transcribe(recording), &english(&[])).unwrap()
    }

    fn refused(fields: &[(&str, &str)]) -> (String, String) {
        match read(fields).unwrap_err() {
            BackendError::InvalidRequest { message, param, .. } => {
                (param.unwrap_or_default(), message)
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn fields_have_an_effect_or_are_listed() {
        let request = read(&[
            ("language", "English"),
            ("prompt", "Hello."),
            ("keywords[]", "Loggia"),
            ("keywords[]", "vLLM"),
            ("temperature", "0.4"),
            ("include[]", "logprobs"),
            ("timestamp_granularities[]", "word"),
            ("chunking_strategy[type]", "server_vad"),
            ("chunking_strategy[threshold]", "0.4"),
            ("vad_filter", "true"),
        ])
        .unwrap();
        assert_eq!(request.prompt, "Loggia, vLLM. Hello.");
        assert_eq!(
            (request.language, request.temperature, request.logprobs),
            (Some(0), Some(0.4), true)
        );
        assert!(!request.words);
        assert_eq!(
            request.ignored,
            ["chunking_strategy", "timestamp_granularities", "vad_filter"]
        );
        let verbose = |granularities: &[&'static str]| {
            let fields = granularities
                .iter()
                .map(|one| ("timestamp_granularities[]", *one));
            let fields: Vec<_> = fields
                .chain([("response_format", "verbose_json"), ("temperature", "0")])
                .collect();
            let request = read(&fields).unwrap();
            assert_eq!((request.temperature, request.ignored.len()), (None, 0));
            (request.segments, request.words)
        };
        assert_eq!(verbose(&[]), (true, false));
        assert_eq!(verbose(&["word"]), (false, true));
        assert_eq!(verbose(&["word", "segment"]), (true, true));
        let listed = read(&[("include[]", "logprobs"), ("response_format", "text")]).unwrap();
        assert_eq!(listed.ignored, ["include"]);
    }

    #[test]
    fn what_the_model_cannot_do_is_refused_with_its_field() {
        for (fields, param, part) in [
            (
                &[("response_format", "diarized_json")][..],
                "response_format",
                "'diarized_json' with this model",
            ),
            (
                &[("response_format", "srt"), ("stream", "true")],
                "response_format",
                "with 'stream'",
            ),
            (&[("language", "klingon")], "language", "ISO-639-1"),
            (&[("language", "de")], "language", "hears English only"),
        ] {
            let (found, message) = refused(fields);
            assert_eq!(found, param);
            assert!(message.contains(part), "{message}");
        }
    }
}
