//! Chooses the context size for Ollama if the client sets none.
//!
//! Ollama's default (4,096 tokens on small machines) is too small for agents, and Ollama truncates
//! longer prompts. A change of the size reloads the model. So there are few sizes, and a chosen
//! size is kept.

use loggia_wire::ollama;
use loggia_wire::openai::{ChatCompletionRequest, Content, Message, PartKind};

/// The smallest size: Ollama's default on a small machine. Each step is twice the previous one.
const SMALLEST: u64 = 4096;

/// The number of tokens reserved for an answer without a limit.
const ANSWER: u64 = 1024;

/// The maximum number of tokens reserved for an answer. Agents send limits of 32,000 and 128,000
/// with every request and rarely need them, but a context of that size takes memory from the start.
/// An answer may still continue to the end of the context.
const LONGEST_ANSWER: u64 = 4096;

/// The number of tokens that a template adds per message.
const PER_MESSAGE: u64 = 16;

/// The maximum number of tokens that vision models need per image: Gemma 256, Llava 576, Qwen about
/// a thousand.
const PER_IMAGE: u64 = 1024;

/// Returns an upper estimate of the tokens that prompt and answer need, for text in any language.
/// It may be too low for base64 and similar data; Ollama then refuses the prompt and reports the
/// exact number.
pub(super) fn need(request: &ChatCompletionRequest) -> u64 {
    let prompt: u64 = request.messages.iter().map(of_message).sum();
    let tools = request
        .tools
        .as_ref()
        .and_then(|tools| serde_json::to_string(tools).ok());
    let tools = tools.as_deref().map_or(0, of_text);
    prompt + tools + answer(request)
}

/// Returns the estimate for a completion: its prompt and its answer.
pub(super) fn need_of_text(request: &ollama::GenerateRequest, answer: u64) -> u64 {
    PER_MESSAGE + of_text(&request.prompt) + request.suffix.as_deref().map_or(0, of_text) + answer
}

/// Returns the number of tokens reserved for the answer.
pub(super) fn answer(request: &ChatCompletionRequest) -> u64 {
    request
        .token_limit()
        .and_then(|limit| u64::try_from(limit).ok())
        .map_or(ANSWER, |limit| limit.min(LONGEST_ANSWER))
}

/// Returns the size to request: the smallest step that is large enough, at least the loaded size,
/// at most the model's maximum. Returns `None` if Ollama's default is enough and the model is not
/// loaded.
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

/// Estimates the tokens of a text: half a token per ASCII character (prose needs a quarter, code a
/// third), two per other character (Chinese needs one, rare scripts three).
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
