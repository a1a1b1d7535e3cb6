//! Estimates the tokens of a prompt, for engines that neither count nor report usage. Pure.

use loggia_wire::openai::{ChatCompletionRequest, Content, Message, PartKind, Prompt};

/// The estimated number of tokens that a chat template adds per message, and at the end.
const PER_MESSAGE: u64 = 5;

/// The estimated number of tokens of an image, between Gemma's 256 and the thousand of other
/// models.
const PER_IMAGE: u64 = 576;

/// Returns an estimate of the prompt's tokens.
pub(crate) fn estimate(request: &ChatCompletionRequest) -> u64 {
    let messages: u64 = request.messages.iter().map(of_message).sum();
    let tools = request.tools.as_ref().map(serde_json::to_string);
    let tools = tools.and_then(Result::ok);
    messages + tools.as_deref().map_or(0, of_text) + PER_MESSAGE
}

/// Returns an estimate of the tokens of prompts, or of inputs of embeddings.
pub(crate) fn of_prompt(prompt: &Prompt) -> u64 {
    match prompt {
        Prompt::Text(text) => of_text(text),
        Prompt::Texts(texts) => texts.iter().map(|text| of_text(text)).sum(),
        Prompt::Tokens(tokens) => tokens.len() as u64,
        Prompt::TokenLists(lists) => lists.iter().map(|tokens| tokens.len() as u64).sum(),
    }
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
    PER_MESSAGE + content + calls
}

fn of_part(part: &PartKind) -> u64 {
    match part {
        PartKind::Text(text) | PartKind::Refusal(text) => of_text(text),
        _ => PER_IMAGE,
    }
}

/// Estimates the tokens of a text: a quarter of a token per ASCII character, and one per other
/// character.
pub(crate) fn of_text(text: &str) -> u64 {
    // The usual text, for which this is faster.
    if text.is_ascii() {
        return (text.len() as u64).div_ceil(4);
    }
    let ascii = text.bytes().filter(u8::is_ascii).count() as u64;
    let others = text.chars().count() as u64 - ascii;
    ascii.div_ceil(4) + others
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of(messages: &Value) -> u64 {
        let request = json!({"model": "m", "messages": messages});
        estimate(&serde_json::from_value(request).unwrap())
    }

    #[test]
    fn an_estimate_grows_with_everything_that_the_model_reads() {
        let short = of(&json!([{"role": "user", "content": "Hi"}]));
        for longer in [
            json!([{"role": "user", "content": "Hi, how are you?"}]),
            json!([{"role": "user", "content": "你好你好"}]),
            json!([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": ""}]),
            json!([{"role": "user", "content": [{"type": "text", "text": "Hi"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]}]),
            json!([{"role": "user", "content": "Hi"}, {"role": "assistant", "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}]),
        ] {
            assert!(of(&longer) > short, "{longer}");
        }
        let text = "All of this is plain English prose, as it stands in books. ".repeat(40);
        let prose = of(&json!([{"role": "user", "content": text}]));
        assert!((480..720).contains(&prose), "{prose}");
    }

    #[test]
    fn prompts_are_estimated_and_tokens_are_counted() {
        assert_eq!(of_prompt(&Prompt::Text("12345678".into())), 2);
        assert_eq!(of_prompt(&Prompt::Texts(vec!["1234".into(); 3])), 3);
        assert_eq!(of_prompt(&Prompt::Tokens(vec![7; 5])), 5);
        assert_eq!(of_prompt(&Prompt::TokenLists(vec![vec![7; 2]; 4])), 8);
    }
}
