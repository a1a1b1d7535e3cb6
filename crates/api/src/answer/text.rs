//! Writes a completion's stream: text, and log-probabilities in the older format.

use std::collections::BTreeMap;

use loggia_backend::{BackendError, Event, ServedBy};
use loggia_wire::Extra;
use loggia_wire::openai::{
    ChunkChoice, CompletionChoice, CompletionLogprobs, Delta, FinishReason, TokenLogprob,
};

use crate::ApiError;
use crate::answer::chunks::Chunks;
use crate::answer::writer::{Head, Writer};

/// Replaces a missing log-probability: JSON has no infinity, and a chat's log-probability cannot be
/// null.
const IMPOSSIBLE: f64 = -9999.0;

/// Writes the stream of a completion: `text_completion`.
pub(crate) struct TextWriter {
    chunks: Chunks,
    /// The progress of each choice.
    texts: Vec<TextChoice>,
}

impl TextWriter {
    /// Creates the writer. With `echoes` each text begins with its prompt.
    pub(crate) fn new(head: Head, served_by: &ServedBy, echoes: bool) -> Self {
        let texts = vec![TextChoice::new(echoes); head.choices];
        Self {
            chunks: Chunks::new(head, served_by, "text_completion"),
            texts,
        }
    }

    /// Writes a piece of a text. The finish reason is sent last, in a separate chunk.
    fn choice(
        &mut self,
        mut choice: ChunkChoice,
        extra: &Extra,
        out: &mut Vec<u8>,
    ) -> Result<(), BackendError> {
        if self.chunks.progress(&choice).is_none() {
            return Ok(());
        }
        let (index, reason) = (choice.index, choice.finish_reason.take());
        let Some(text) = self.texts.get_mut(index as usize) else {
            return Ok(());
        };
        let content = choice.delta.content.as_deref().unwrap_or_default();
        let says_nothing = content.is_empty() && choice.logprobs.is_none();
        if !says_nothing {
            let more = text.of(choice);
            let none = Extra::new();
            let extra = if reason.is_none() { extra } else { &none };
            self.chunks.write(&more, extra, out)?;
            choice = ChunkChoice::delta(index, Delta::default());
        }
        let Some(reason) = reason else { return Ok(()) };
        choice.finish_reason = Some(reason);
        self.chunks.write(&text.of(choice), extra, out)
    }
}

impl Writer for TextWriter {
    fn push(&mut self, event: Event, out: &mut Vec<u8>) -> Result<(), BackendError> {
        let Some(chunk) = self.chunks.chunk_of(event)? else {
            return Ok(());
        };
        let mut extra = chunk.extra;
        for choice in chunk.choices {
            self.choice(choice, &std::mem::take(&mut extra), out)?;
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), BackendError> {
        self.chunks.finish(out)
    }

    fn fail(&mut self, error: &ApiError, out: &mut Vec<u8>) {
        self.chunks.fail(error, out);
    }
}

/// The progress of one choice's text.
#[derive(Clone, Debug)]
pub(crate) struct TextChoice {
    /// The position of the next token, in characters.
    offset: u64,
    /// Whether the next token is the first of an echoed prompt, which has no probability because no
    /// token precedes it.
    is_first_of_prompt: bool,
}

impl TextChoice {
    /// Creates the state of a text. With `echoes` it begins with the prompt.
    pub(crate) fn new(echoes: bool) -> Self {
        Self {
            offset: 0,
            is_first_of_prompt: echoes,
        }
    }

    /// Converts a piece to the older format.
    pub(crate) fn of(&mut self, choice: ChunkChoice) -> CompletionChoice {
        let ChunkChoice {
            index,
            delta,
            logprobs,
            finish_reason,
            extra,
        } = choice;
        let tokens = logprobs.and_then(|logprobs| logprobs.content);
        CompletionChoice {
            text: delta.content.unwrap_or_default(),
            index,
            logprobs: tokens.map(|tokens| self.logprobs(&tokens)),
            finish_reason: finish_reason.map(of_a_text),
            extra,
        }
    }

    fn logprobs(&mut self, tokens: &[TokenLogprob]) -> CompletionLogprobs {
        let mut older = CompletionLogprobs::default();
        for token in tokens {
            // An engine that ignores `echo` begins with a generated token, which has a probability.
            let is_first =
                std::mem::take(&mut self.is_first_of_prompt) && token.logprob <= IMPOSSIBLE;
            older
                .tokens
                .push(shown(&token.token, token.bytes.as_deref()));
            older
                .token_logprobs
                .push((!is_first).then_some(token.logprob));
            older
                .top_logprobs
                .push((!is_first).then(|| likeliest(token)));
            older.text_offset.push(self.offset);
            self.offset += characters(token.bytes.as_deref().unwrap_or(token.token.as_bytes()));
        }
        older
    }
}

/// A completion makes no calls.
fn of_a_text(reason: FinishReason) -> FinishReason {
    match reason {
        FinishReason::ToolCalls | FinishReason::FunctionCall => FinishReason::Stop,
        reason => reason,
    }
}

/// Returns the most probable tokens, and the chosen one, whatever its probability.
fn likeliest(token: &TokenLogprob) -> BTreeMap<String, f64> {
    let top = token
        .top_logprobs
        .iter()
        .map(|top| (shown(&top.token, top.bytes.as_deref()), top.logprob));
    let own = (shown(&token.token, token.bytes.as_deref()), token.logprob);
    top.chain([own]).collect()
}

/// Returns a token as a key. A token that is not a complete character is written by its bytes, as
/// OpenAI does, because several would look the same.
fn shown(text: &str, bytes: Option<&[u8]>) -> String {
    match bytes {
        Some(bytes) if str::from_utf8(bytes).is_err() => {
            bytes.iter().fold("bytes:".to_owned(), |shown, byte| {
                shown + &format!("\\x{byte:02x}")
            })
        }
        _ => text.to_owned(),
    }
}

/// Returns the number of characters that begin in these bytes.
fn characters(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .filter(|&&byte| byte & 0b1100_0000 != 0b1000_0000)
        .count() as u64
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn choice(tokens: &Value) -> ChunkChoice {
        let logprobs = json!({"content": tokens, "refusal": null});
        let value = json!({"index": 0, "delta": {"content": "x"}, "logprobs": logprobs, "finish_reason": null});
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn each_token_has_its_place_in_the_text_counted_in_characters() {
        let mut text = TextChoice::new(false);
        let tokens = json!([
            {"token": "né", "logprob": -0.5, "bytes": [110, 195, 169], "top_logprobs": [{"token": "a", "logprob": -0.25, "bytes": [97]}]},
            {"token": "\u{fffd}", "logprob": -1.0, "bytes": [240, 159]},
            {"token": "\u{fffd}", "logprob": -2.0, "bytes": [166, 128]}
        ]);
        let first = serde_json::to_value(text.of(choice(&tokens))).unwrap();
        assert_eq!(
            first["logprobs"],
            json!({
                "tokens": ["né", "bytes:\\xf0\\x9f", "bytes:\\xa6\\x80"],
                "token_logprobs": [-0.5, -1.0, -2.0],
                "top_logprobs": [{"a": -0.25, "né": -0.5}, {"bytes:\\xf0\\x9f": -1.0}, {"bytes:\\xa6\\x80": -2.0}],
                "text_offset": [0, 2, 3]
            })
        );
        let next = text
            .of(choice(&json!([{"token": "!", "logprob": -3.0}])))
            .logprobs
            .unwrap();
        assert_eq!(next.text_offset, [3], "the next chunk counts on");
    }

    #[test]
    fn the_first_token_of_an_echoed_prompt_has_no_probability() {
        let mut text = TextChoice::new(true);
        let tokens = json!([{"token": "a", "logprob": -9999.0}, {"token": "b", "logprob": -1.0}]);
        let logprobs = text.of(choice(&tokens)).logprobs.unwrap();
        assert_eq!(logprobs.token_logprobs, [None, Some(-1.0)]);
        assert_eq!(logprobs.top_logprobs[0], None);
        let own = json!([{"token": "a", "logprob": -0.5}]);
        let logprobs = TextChoice::new(true).of(choice(&own)).logprobs.unwrap();
        assert_eq!(
            logprobs.token_logprobs,
            [Some(-0.5)],
            "an engine that does not echo"
        );
    }
}
