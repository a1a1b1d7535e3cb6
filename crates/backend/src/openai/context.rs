//! Detects errors about a prompt that exceeds the context, and parses their numbers.

use super::error_body::EngineError;

/// A prompt that exceeds the context. Each number is present if known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Overflow {
    pub(super) prompt_tokens: Option<u64>,
    pub(super) context: Option<u64>,
}

/// The words of vLLM (several versions), llama-server and OpenAI before the context size.
const BEFORE_CONTEXT: [&str; 5] = [
    "maximum context length is ",
    "context length is only ",
    "maximum model length of ",
    "available context size (",
    "context length of ",
];

/// The text before the number of prompt tokens in these engines' errors.
const BEFORE_PROMPT: [&str; 8] = [
    "resulted in ",
    "your request has ",
    "your prompt contains at least ",
    "You passed ",
    "prompt (length ",
    "the request (",
    "request (",
    "prompt contains ",
];

/// The words of these engines after the number of prompt tokens.
const AFTER_PROMPT: [&str; 2] = [" in the messages", " in the prompt"];

/// Returns the numbers if the error is about a prompt that exceeds the context.
pub(super) fn overflow(told: &EngineError) -> Option<Overflow> {
    let message = told.message.as_deref().unwrap_or_default();
    let named = [&told.kind, &told.code]
        .into_iter()
        .flatten()
        .any(|name| name == "exceed_context_size_error" || name == "context_length_exceeded");
    let said = BEFORE_CONTEXT[..4]
        .iter()
        .any(|phrase| message.contains(phrase))
        || message.contains("available context size");
    if !named && !said {
        return None;
    }
    let context = told.context.or_else(|| {
        BEFORE_CONTEXT
            .iter()
            .find_map(|phrase| number_after(message, phrase))
    });
    let prompt_tokens = told
        .prompt_tokens
        .or_else(|| {
            BEFORE_PROMPT
                .iter()
                .find_map(|phrase| number_after(message, phrase))
        })
        .or_else(|| {
            AFTER_PROMPT
                .iter()
                .find_map(|phrase| number_before(message, phrase))
        });
    Some(Overflow {
        prompt_tokens,
        context,
    })
}

/// Returns the numbers of llama-server's error about an input of embeddings, which must fit into
/// one batch.
pub(super) fn overflow_of_a_batch(told: &EngineError) -> Option<Overflow> {
    let message = told
        .message
        .as_deref()
        .filter(|message| message.contains("too large to process"))?;
    let (prompt_tokens, context) = (
        number_after(message, "input ("),
        number_after(message, "current batch size: "),
    );
    Some(Overflow {
        prompt_tokens,
        context,
    })
}

fn number_after(text: &str, phrase: &str) -> Option<u64> {
    let (_, rest) = text.split_once(phrase)?;
    rest.split(|c: char| !c.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}

fn number_before(text: &str, phrase: &str) -> Option<u64> {
    let (before, _) = text.split_once(phrase)?;
    before
        .rsplit(|c: char| !c.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(message: &str) -> Option<(Option<u64>, Option<u64>)> {
        let told = EngineError {
            message: Some(message.to_owned()),
            ..EngineError::default()
        };
        overflow(&told).map(|overflow| (overflow.prompt_tokens, overflow.context))
    }

    #[test]
    fn both_numbers_are_found_in_every_engines_words() {
        for (message, prompt, context) in [
            (
                "This model's maximum context length is 4096 tokens. However, you requested 5100 tokens (5000 in the messages, \
                 100 in the completion). Please reduce the length of the messages or completion.",
                5000,
                4096,
            ),
            (
                "This model's maximum context length is 1536 tokens. However, your request has 4176 input tokens. Please reduce \
                 the length of the input messages.",
                4176,
                1536,
            ),
            (
                "This model's maximum context length is 16384 tokens. However, you requested 8192 output tokens and your prompt \
                 contains at least 8193 input tokens, for a total of at least 16385 tokens.",
                8193,
                16384,
            ),
            (
                "'max_tokens' or 'max_completion_tokens' is too large: 8000. This model's maximum context length is 4096 tokens \
                 and your request has 2778 input tokens (8000 > 4096 - 2778).",
                2778,
                4096,
            ),
            (
                "You passed 4097 input tokens and requested 1 output tokens. However, the model's context length is only 4096 \
                 tokens, resulting in a maximum input length of 4095 tokens.",
                4097,
                4096,
            ),
            (
                "The decoder prompt (length 5000) is longer than the maximum model length of 4096.",
                5000,
                4096,
            ),
            (
                "request (13392 tokens) exceeds the available context size (8192 tokens), try increasing it",
                13392,
                8192,
            ),
            (
                "This model's maximum context length is 4096 tokens. However, your messages resulted in 9000 tokens.",
                9000,
                4096,
            ),
        ] {
            assert_eq!(
                numbers(message),
                Some((Some(prompt), Some(context))),
                "{message}"
            );
        }
    }

    #[test]
    fn other_errors_are_no_overflow() {
        assert_eq!(numbers("temperature must be non-negative, got -1"), None);
        assert_eq!(
            numbers(
                "the request exceeds the available context size. try increasing the context size"
            ),
            Some((None, None))
        );
    }
}
