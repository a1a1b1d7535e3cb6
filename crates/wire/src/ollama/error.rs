//! Ollama's errors: `{"error": "…"}`, before a stream or as a line of it.

use serde::Deserialize;

/// An error as Ollama sends it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ErrorLine {
    /// For a person; or an engine's error as JSON inside this string (see [`InnerError`]).
    pub error: String,
}

/// An engine's error, which Ollama passes on as JSON inside the string of its own.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct InnerError {
    /// The HTTP status the engine gave.
    #[serde(default)]
    pub code: Option<u16>,
    /// For a person.
    pub message: String,
    /// `exceed_context_size_error`, `invalid_request_error`, …
    #[serde(rename = "type", default)]
    pub kind: Option<String>,
    /// Tokens of a prompt that does not fit.
    #[serde(default)]
    pub n_prompt_tokens: Option<u64>,
    /// Tokens that would have fitted.
    #[serde(default)]
    pub n_ctx: Option<u64>,
}

impl InnerError {
    /// The engine's error inside the text of an Ollama error, where there is one.
    pub fn inside(text: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Wrapped {
            error: InnerError,
        }
        // The JSON may follow words of Ollama's own; they say nothing that the inner message does
        // not.
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
