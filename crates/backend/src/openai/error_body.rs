//! Parses the error bodies of engines: `{"error": {…}}` with numeric or text codes, `{"object":
//! "error", …}`, `FastAPI`'s `detail`, plain text, and any of these as JSON within a string.

use serde_json::Value;

use crate::BackendError;

/// A parsed error of an engine.
#[derive(Debug, Default, PartialEq)]
pub(super) struct EngineError {
    pub(super) message: Option<String>,
    pub(super) kind: Option<String>,
    pub(super) param: Option<String>,
    pub(super) code: Option<String>,
    /// `code`, if it is an HTTP status.
    pub(super) code_status: Option<u16>,
    pub(super) prompt_tokens: Option<u64>,
    pub(super) context: Option<u64>,
}

/// The field that contains the schema, unless it is a schema of tools.
pub(super) const FORMAT: &str = "response_format";

/// Parts of llama-server's messages and the fields that they are about.
const UNREAD: [(&str, &str); 8] = [
    ("input is not supported", "messages"),
    ("unsupported content[].type", "messages"),
    ("Failed to parse messages", "messages"),
    ("Failed to parse tools", "tools"),
    ("JSON schema error at ", FORMAT),
    ("JSON schema conversion failed", FORMAT),
    ("logprobs is not supported with tools", "logprobs"),
    ("Cannot use custom grammar constraints", "grammar"),
];

/// The maximum depth of errors wrapped in JSON strings, and the maximum length of plain text that
/// counts as a message.
pub(super) const WRAPPED: usize = 3;
const PLAIN_TEXT: usize = 300;

impl EngineError {
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        match serde_json::from_slice::<Value>(body) {
            Ok(value) => Self::from_value(&value, WRAPPED),
            Err(_) => std::str::from_utf8(body).ok().and_then(Self::from_text),
        }
    }

    /// Plain text counts as a message, a page of HTML does not.
    fn from_text(text: &str) -> Option<Self> {
        let text = text.trim();
        let is_message = !text.is_empty() && text.len() <= PLAIN_TEXT && !text.starts_with('<');
        is_message.then(|| Self {
            message: Some(text.to_owned()),
            ..Self::default()
        })
    }

    pub(super) fn from_value(value: &Value, deeper: usize) -> Option<Self> {
        match value {
            Value::String(text) => Self::from_string(text, deeper),
            Value::Object(object) => {
                if let Some(inner) = object.get("error").filter(|inner| !inner.is_null()) {
                    return Self::from_value(inner, deeper.checked_sub(1)?);
                }
                match object.get("detail") {
                    Some(Value::Array(items)) => Self::from_validation(items),
                    Some(detail) => Self::from_value(detail, deeper.checked_sub(1)?),
                    None => Self::from_object(value, deeper),
                }
            }
            _ => None,
        }
    }

    fn from_string(text: &str, deeper: usize) -> Option<Self> {
        let wrapped = text
            .trim_start()
            .starts_with('{')
            .then(|| serde_json::from_str::<Value>(text).ok())
            .flatten();
        match (wrapped, deeper.checked_sub(1)) {
            (Some(wrapped), Some(deeper)) => Self::from_value(&wrapped, deeper),
            _ => Self::from_text(text).or_else(|| {
                Some(Self {
                    message: Some(text.to_owned()),
                    ..Self::default()
                })
            }),
        }
    }

    fn from_object(value: &Value, deeper: usize) -> Option<Self> {
        let text = |name: &str| {
            value
                .get(name)
                .and_then(Value::as_str)
                .filter(|text| !text.is_empty())
                .map(str::to_owned)
        };
        let number = |name: &str| value.get(name).and_then(Value::as_u64);
        let message = text("message");
        if let (Some(message), Some(deeper)) = (&message, deeper.checked_sub(1))
            && message.trim_start().starts_with('{')
            && let Some(inner) = serde_json::from_str::<Value>(message)
                .ok()
                .and_then(|inner| Self::from_value(&inner, deeper))
        {
            return Some(inner);
        }
        let code_text = text("code");
        let code_number = number("code").or_else(|| code_text.as_deref()?.parse().ok());
        let told = Self {
            message,
            kind: text("type"),
            param: text("param"),
            code: code_text.filter(|_| code_number.is_none()),
            code_status: code_number
                .and_then(|code| u16::try_from(code).ok())
                .filter(|code| (400..600).contains(code)),
            prompt_tokens: number("n_prompt_tokens"),
            context: number("n_ctx"),
        };
        (told != Self::default()).then_some(told)
    }

    /// Parses `FastAPI`'s list of validation errors. `input`, which repeats the client's data, is
    /// dropped.
    fn from_validation(items: &[Value]) -> Option<Self> {
        let first = items.first()?;
        let path = first
            .get("loc")
            .and_then(Value::as_array)
            .map(|path| field_path(path));
        let message = first
            .get("msg")
            .and_then(Value::as_str)
            .unwrap_or("the engine considers the request invalid");
        let message = match path.as_deref() {
            Some(path) if !path.is_empty() => format!("{path}: {message}"),
            _ => message.to_owned(),
        };
        Some(Self {
            message: Some(message),
            param: path.filter(|path| !path.is_empty()),
            ..Self::default()
        })
    }

    pub(super) fn status(&self) -> u16 {
        self.code_status.unwrap_or_else(|| {
            match self
                .kind
                .as_deref()
                .or(self.code.as_deref())
                .unwrap_or_default()
            {
                "invalid_request_error"
                | "BadRequestError"
                | "exceed_context_size_error"
                | "context_length_exceeded" => 400,
                "authentication_error" | "AuthenticationError" => 401,
                "permission_error" | "permission_denied_error" | "PermissionDeniedError" => 403,
                "not_found_error" | "NotFoundError" | "model_not_found" => 404,
                "rate_limit_exceeded"
                | "rate_limit_error"
                | "RateLimitError"
                | BackendError::NO_QUOTA => 429,
                "unavailable_error" => 503,
                _ => 500,
            }
        })
    }

    /// Returns whether the model does not support embeddings, in the words of llama-server or a
    /// version of vLLM.
    pub(super) fn is_about_no_embeddings(&self) -> bool {
        let message = self
            .message
            .as_deref()
            .unwrap_or_default()
            .to_ascii_lowercase();
        message.contains("not support embedding") || message.contains("not support the embedding")
    }

    /// Returns whether the error says that the model does not rerank.
    pub(super) fn is_about_no_reranking(&self) -> bool {
        let message = self.message.as_deref().unwrap_or_default();
        let message = message.to_ascii_lowercase();
        message.contains("not support rerank") || message.contains("not support score")
    }

    /// Returns whether the model neither hears nor speaks, in the words of vLLM or llama-server.
    pub(super) fn is_about_no_audio(&self) -> bool {
        let message = self.message.as_deref().unwrap_or_default();
        let message = message.to_ascii_lowercase();
        ["transcriptions", "translations", "speech", "audio input"]
            .iter()
            .any(|what| message.contains(&format!("not support {what}")))
    }

    /// Returns the field that llama-server names only in its message: `Field 'n': Value must be …`,
    /// `[json.exception.…] key 'prompt' not found`.
    pub(super) fn field_in_its_words(&self) -> Option<String> {
        let message = self.message.as_deref()?;
        let wrong = message
            .strip_prefix("Field '")
            .and_then(|rest| rest.split_once("': "));
        let missing = || message.split_once("] key '")?.1.split_once("' not found");
        wrong.or_else(missing).map(|(field, _)| field.to_owned())
    }

    /// Returns the field that llama-server cannot read. It answers 500 to an image for a model
    /// without vision, and to a tool that is not a function. A retry will not help.
    pub(super) fn field_it_cannot_read(&self) -> Option<&'static str> {
        let message = self.message.as_deref()?;
        let says = |words: &str| message.contains(words);
        UNREAD
            .iter()
            .find(|(words, _)| says(words))
            .map(|(_, field)| *field)
    }

    /// Returns whether the model does not exist. It may also be a model for another kind of work.
    pub(super) fn says_that_there_is_no_model(&self, model: &str) -> bool {
        let message = self.message.as_deref().unwrap_or_default();
        let is_named = self.code.as_deref() == Some("model_not_found");
        let words = [
            "not exist",
            "not found",
            "no such model",
            "no model named",
            "unknown model",
        ];
        let lower = message.to_ascii_lowercase();
        self.is_about_the_model(model)
            && (is_named || message.is_empty() || words.iter().any(|words| lower.contains(words)))
    }

    /// Returns whether the error is about the model. A 404 may also mean that the path does not
    /// exist.
    pub(super) fn is_about_the_model(&self, model: &str) -> bool {
        let names = |text: &Option<String>, what: &str| {
            text.as_deref().is_some_and(|text| text.contains(what))
        };
        names(&self.code, "model")
            || names(&self.param, "model")
            || names(&self.message, model)
            || names(&self.message, "model")
    }
}

/// Converts `["body", "messages", 0, "role"]` to `messages[0].role`, as OpenAI writes it.
fn field_path(path: &[Value]) -> String {
    let mut written = String::new();
    for step in path.iter().skip_while(|step| step.as_str() == Some("body")) {
        match step {
            Value::String(name) if written.is_empty() => written.push_str(name),
            Value::String(name) => written.extend([".", name]),
            position => written.extend(["[", &position.to_string(), "]"]),
        }
    }
    written
}
