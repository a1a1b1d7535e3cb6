//! Translates a streamed transcription into OpenAI's events, `transcript.text.delta` and
//! `transcript.text.done`. Engines stream in three formats: OpenAI's (llama-server), chunks like
//! those of a chat (vLLM), and one object with `text` for each segment (speaches).

use bytes::{Bytes, BytesMut};
use loggia_wire::frame::sse;
use serde_json::{Value, json};

use super::refusal;
use super::rewritten_events::Rewrite;
use crate::transcript::tokens;
use crate::{AudioPiece, BackendError};

/// The events of a transcription, as far as they have arrived.
#[derive(Debug)]
pub(super) struct TranscriptEvents {
    backend: String,
    model: String,
    text: String,
    usage: Option<Value>,
    /// Whether the engine says when the text is complete.
    tells_end: bool,
    is_done: bool,
}

impl TranscriptEvents {
    pub(super) fn new(backend: &str, model: &str) -> Self {
        Self {
            backend: backend.to_owned(),
            model: model.to_owned(),
            text: String::new(),
            usage: None,
            tells_end: false,
            is_done: false,
        }
    }

    /// Returns the pieces for more text.
    fn delta(&mut self, delta: &str) -> Vec<AudioPiece> {
        if delta.is_empty() {
            return Vec::new();
        }
        self.text.push_str(delta);
        vec![event(
            &json!({"type": "transcript.text.delta", "delta": delta}),
        )]
    }

    /// Returns the last pieces.
    fn done(&mut self) -> Vec<AudioPiece> {
        if std::mem::replace(&mut self.is_done, true) {
            return Vec::new();
        }
        let text = std::mem::take(&mut self.text);
        let mut done = json!({"type": "transcript.text.done", "text": text.trim()});
        let counted = self.usage.as_ref().and_then(tokens);
        if let Some(counted) = &counted {
            done["usage"] = json!({
                "type": "tokens",
                "input_tokens": counted.prompt_tokens,
                "output_tokens": counted.completion_tokens,
                "total_tokens": counted.total_tokens,
            });
        }
        let usage = counted.map(AudioPiece::Usage);
        usage.into_iter().chain([event(&done)]).collect()
    }
}

impl Rewrite for TranscriptEvents {
    fn push(&mut self, data: &Bytes) -> Result<Vec<AudioPiece>, BackendError> {
        if &data[..] == b"[DONE]" {
            return Ok(self.done());
        }
        let Ok(told) = serde_json::from_slice::<Value>(data) else {
            // speaches sends the bare text of a segment if `response_format` is `text`.
            return Ok(self.delta(&String::from_utf8_lossy(data)));
        };
        if told.get("error").is_some_and(|error| !error.is_null()) {
            return Err(refusal::instead(&told, &self.model, &self.backend));
        }
        if let Some(kind) = told["type"].as_str()
            && kind.starts_with("transcript.")
        {
            self.tells_end = true;
            let usage = told.get("usage").and_then(tokens);
            self.is_done |= kind == "transcript.text.done";
            let usage = usage.map(AudioPiece::Usage);
            return Ok(usage.into_iter().chain([event(&told)]).collect());
        }
        if let Some(usage) = told.get("usage").filter(|usage| !usage.is_null()) {
            self.usage = Some(usage.clone());
        }
        if let Some(choices) = told["choices"].as_array() {
            self.tells_end = true;
            let first = choices.first();
            let delta = first.and_then(|first| first["delta"]["content"].as_str());
            return Ok(self.delta(delta.unwrap_or_default()));
        }
        match told["text"].as_str() {
            Some(text) => Ok(self.delta(text)),
            None => Err(BackendError::BadAnswer {
                backend: self.backend.clone(),
                what: "an event has no text".to_owned(),
            }),
        }
    }

    fn end(&mut self) -> Result<Vec<AudioPiece>, BackendError> {
        if self.tells_end && !self.is_done {
            return Err(BackendError::CutShort {
                backend: self.backend.clone(),
            });
        }
        Ok(self.done())
    }
}

fn event(value: &Value) -> AudioPiece {
    let mut out = BytesMut::new();
    // Cannot fail: the keys are strings.
    let _ = sse::write(&mut out, value);
    AudioPiece::Bytes(out.freeze())
}

#[cfg(test)]
mod tests {
    use loggia_wire::openai::CompletionUsage;

    use super::*;

    /// Returns the events that the client gets for these events, and the tokens.
    fn rewritten(told: &[&str]) -> Result<(Vec<Value>, Option<CompletionUsage>), BackendError> {
        let mut events = TranscriptEvents::new("gpu", "m");
        let mut pieces = Vec::new();
        for one in told {
            pieces.extend(events.push(&Bytes::copy_from_slice(one.as_bytes()))?);
        }
        pieces.extend(events.end()?);
        let (mut found, mut usage) = (Vec::new(), None);
        for piece in pieces {
            match piece {
                AudioPiece::Usage(tokens) => usage = Some(tokens),
                AudioPiece::Bytes(bytes) => {
                    let data = bytes.strip_prefix(b"data: ").unwrap();
                    found.push(serde_json::from_slice(data).unwrap());
                }
            }
        }
        Ok((found, usage))
    }

    #[test]
    fn the_formats_of_all_engines_become_openais_events() {
        let delta = |text: &str| json!({"type": "transcript.text.delta", "delta": text});
        let done = |text: &str| json!({"type": "transcript.text.done", "text": text});
        let mut counted = done("Hello there.");
        counted["usage"] =
            json!({"type": "tokens", "input_tokens": 9, "output_tokens": 3, "total_tokens": 12});
        let usage = Some(CompletionUsage::new(9, 3));

        let vllm = [
            r#"{"id":"trsc-1","object":"transcription.chunk","choices":[{"delta":{"content":" Hello"}}]}"#,
            r#"{"id":"trsc-1","object":"transcription.chunk","choices":[{"delta":{"content":" there."},"finish_reason":"stop"}]}"#,
            r#"{"id":"trsc-1","object":"transcription.chunk","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":3}}"#,
            "[DONE]",
        ];
        let expected = vec![delta(" Hello"), delta(" there."), counted.clone()];
        assert_eq!(rewritten(&vllm), Ok((expected, usage.clone())));

        let speaches = [r#"{"text":"Hello"}"#, r#"{"text":" there."}"#];
        let expected = vec![delta("Hello"), delta(" there."), done("Hello there.")];
        assert_eq!(rewritten(&speaches), Ok((expected, None)));
        let bare = ["Hello", " there."];
        assert_eq!(rewritten(&bare).unwrap().0.len(), 3);

        let first = delta("Hello there.").to_string();
        let openai = [&*first, &*counted.to_string()];
        let expected = vec![delta("Hello there."), counted.clone()];
        assert_eq!(rewritten(&openai), Ok((expected, usage)));
        assert_eq!(rewritten(&[]), Ok((vec![done("")], None)));
    }

    #[test]
    fn a_stream_that_ends_before_its_end_is_an_error() {
        let cut = BackendError::CutShort {
            backend: "gpu".to_owned(),
        };
        let chunk = r#"{"object":"transcription.chunk","choices":[{"delta":{"content":"Hel"}}]}"#;
        assert_eq!(rewritten(&[chunk]), Err(cut.clone()));
        let delta = r#"{"type":"transcript.text.delta","delta":"Hel"}"#;
        assert_eq!(rewritten(&[delta]), Err(cut));
        let failed =
            r#"{"error":{"message":"out of memory","type":"InternalServerError","code":500}}"#;
        let error = rewritten(&[delta, failed]).unwrap_err();
        assert!(matches!(error, BackendError::Engine { .. }), "{error:?}");
        let odd = rewritten(&[r#"{"segments":[]}"#]).unwrap_err();
        assert!(matches!(odd, BackendError::BadAnswer { .. }), "{odd:?}");
    }
}
