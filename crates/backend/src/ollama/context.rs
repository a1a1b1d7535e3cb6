//! Which context size to ask Ollama for, where the client asks for none.
//!
//! Ollama's default (4,096 tokens on small machines) is too small for what agents send, and it cuts
//! what does not fit. A change of the size loads the model anew, so sizes are few, and a size once
//! chosen is kept.

use loggia_wire::ollama;
use loggia_wire::openai::{ChatCompletionRequest, Content, Message, PartKind};

/// The smallest size: what Ollama takes by itself on a small machine. Each step is twice the one
/// before.
const SMALLEST: u64 = 4096;

/// Tokens kept for an answer whose length the client does not limit.
const ANSWER: u64 = 1024;

/// The most tokens kept for an answer. Agents send limits of 32,000 and 128,000 with every request
/// and seldom use them, but a context that holds them takes memory from the start. An answer may
/// still go on to the end of the context.
const LONGEST_ANSWER: u64 = 4096;

/// What a template writes around a message.
const PER_MESSAGE: u64 = 16;

/// What models that see make of an image, at most: Gemma 256, Llava 576, Qwen up to about a
/// thousand.
const PER_IMAGE: u64 = 1024;

/// Tokens that prompt and answer may need: an upper estimate for text in any language. Base64 and
/// the like, which it may underrate, are caught when Ollama refuses them with the true number.
pub(super) fn need(request: &ChatCompletionRequest) -> u64 {
    let prompt: u64 = request.messages.iter().map(of_message).sum();
    let tools = request
        .tools
        .as_ref()
        .and_then(|tools| serde_json::to_string(tools).ok());
    let tools = tools.as_deref().map_or(0, of_text);
    prompt + tools + answer(request)
}

/// The same of a completion: its prompt, and what comes after it.
pub(super) fn need_of_text(request: &ollama::GenerateRequest, answer: u64) -> u64 {
    PER_MESSAGE + of_text(&request.prompt) + request.suffix.as_deref().map_or(0, of_text) + answer
}

/// Tokens kept for the answer.
pub(super) fn answer(request: &ChatCompletionRequest) -> u64 {
    request
        .token_limit()
        .and_then(|limit| u64::try_from(limit).ok())
        .map_or(ANSWER, |limit| limit.min(LONGEST_ANSWER))
}

/// The size to ask for: the smallest step that holds what is needed, never below what is loaded,
/// never above what the model can. `None` where Ollama's own default will do and nothing is loaded.
pub(super) fn choose(need: u64, loaded: Option<u64>, most: u64) -> Option<u64> {
    if loaded.is_none() && need <= SMALLEST {
        return None;
    }
    let mut step = SMALLEST;
    while step < need && step < most {
        step *= 2;
    }
    Some(step.max(loaded.unwrap_or(0)).min(most))
}

fn of_message(message: &Message) -> u64 {
    let content = match &message.content {
        None => 0,
        Some(Content::Text(text)) => of_text(text),
        Some(Content::Parts(parts)) => parts.iter().map(|part| of_part(&part.kind)).sum(),
    };
    let calls = message.tool_calls.iter().flatten();
    let calls: u64 = calls
        .map(|call| of_text(&call.function.name) + of_text(&call.function.arguments))
        .sum();
    PER_MESSAGE + content + calls + message.earlier_reasoning().map_or(0, of_text)
}

fn of_part(part: &PartKind) -> u64 {
    match part {
        PartKind::Text(text) | PartKind::Refusal(text) => of_text(text),
        PartKind::ImageUrl { .. } | PartKind::InputAudio { .. } | PartKind::File(_) => PER_IMAGE,
    }
}

/// Half a token for an ASCII character (prose has a quarter, code a third), two for any other
/// (Chinese has one, rare scripts three).
pub(super) fn of_text(text: &str) -> u64 {
    let ascii = text.bytes().filter(u8::is_ascii).count() as u64;
    let others = text.chars().count() as u64 - ascii;
    ascii.div_ceil(2) + 2 * others
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_step_that_holds_it_never_below_what_is_loaded_never_above_the_model() {
        for (need, loaded, most, size) in [
            (100, None, 131_072, None),
            (4_097, None, 131_072, Some(8_192)),
            (20_000, None, 131_072, Some(32_768)),
            (100, Some(16_384), 131_072, Some(16_384)),
            (20_000, Some(4_096), 131_072, Some(32_768)),
            (500_000, None, 131_072, Some(131_072)),
            (5_000, None, 2_048, Some(2_048)),
            (100, Some(4_096), 2_048, Some(2_048)),
        ] {
            assert_eq!(choose(need, loaded, most), size, "{need} {loaded:?} {most}");
        }
    }

    #[test]
    fn text_is_never_estimated_below_a_token_for_two_letters() {
        assert_eq!(
            (of_text("ab"), of_text("äöü"), of_text("你好 ok")),
            (1, 6, 6)
        );
    }
}
