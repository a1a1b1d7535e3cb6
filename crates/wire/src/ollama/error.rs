//! Ollama's errors: `{"error": "…"}`, as a response or as a line of a stream.

use serde::Deserialize;

/// An error as Ollama sends it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ErrorLine {
    /// A message for a person, or an error of the engine as JSON within the string (see
    /// [`InnerError`]).
    pub error: String,
}

/// An error of the engine. Ollama passes it on as JSON within its own error string.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct InnerError {
    /// The HTTP status of the engine's response.
    #[serde(default)]
    pub code: Option<u16>,
    /// The message, for a person.
    pub message: String,
    /// The type: `exceed_context_size_error`, `invalid_request_error`, …
    #[serde(rename = "type", default)]
    pub kind: Option<String>,
    /// The number of tokens of a prompt that is too long.
    #[serde(default)]
    pub n_prompt_tokens: Option<u64>,
    /// The context size in tokens.
    #[serde(default)]
    pub n_ctx: Option<u64>,
}

impl InnerError {
    /// Parses the engine's error from the text of an Ollama error, if it contains one.
    pub fn inside(text: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Wrapped {
            error: InnerError,
        }
        // Ollama may write words before the JSON. They add nothing to the message.
        let start = text.find('{')?;
        let mut values = serde_json::Deserializer::from_str(&text[start..]).into_iter::<Wrapped>();
        values.next()?.ok().map(|wrapped| wrapped.error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engines_error_is_taken_out_of_the_string() {
        let text = r#"{"error":{"code":400,"message":"too long","type":"exceed_context_size_error","n_prompt_tokens":1210,"n_ctx":512}}"#;
        let inner = InnerError::inside(text).expect("an inner error");
        assert_eq!(
            (inner.n_prompt_tokens, inner.n_ctx),
            (Some(1210), Some(512))
        );
        assert_eq!(InnerError::inside("model 'nope' not found"), None);
        assert_eq!(InnerError::inside("strange { text"), None);
    }
}
