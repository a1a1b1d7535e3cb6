//! Converts an engine's older completions to the format of a chat: text becomes content, and
//! log-probabilities get the newer format. `loggia-api` converts them back, the same way for every
//! engine.
//!
//! llama-server already sends log-probabilities in the newer format, vLLM in the older.

use serde_json::{Map, Value, json};

/// Converts a chunk or a complete answer. `said` is the field of a chat that contains the message:
/// `delta` or `message`.
pub(super) fn as_a_chat(answer: &mut Value, said: &str) {
    let choices = answer.get_mut("choices").and_then(Value::as_array_mut);
    for choice in choices
        .into_iter()
        .flatten()
        .filter_map(Value::as_object_mut)
    {
        let content = match choice.remove("text") {
            Some(Value::String(text)) => json!({"content": text}),
            _ => json!({}),
        };
        choice.insert(said.to_owned(), content);
        if let Some(logprobs) = choice.get_mut("logprobs")
            && let Some(tokens) = newer(logprobs)
        {
            *logprobs = json!({"content": tokens, "refusal": null});
        }
    }
}

/// Converts parallel lists to one list of tokens. `None` if they are not such lists.
fn newer(older: &Value) -> Option<Vec<Value>> {
    let tokens = older.get("tokens")?.as_array()?;
    let at = |list: &str, index: usize| older.get(list).and_then(|list| list.get(index));
    let token = |(index, token): (usize, &Value)| {
        let mut entry = named(
            token.as_str().unwrap_or_default(),
            at("token_logprobs", index),
        );
        let top = at("top_logprobs", index)
            .and_then(Value::as_object)
            .map(likeliest_first)
            .unwrap_or_default();
        entry.insert("top_logprobs".to_owned(), top.into());
        Value::Object(entry)
    };
    Some(tokens.iter().enumerate().map(token).collect())
}

fn likeliest_first(top: &Map<String, Value>) -> Vec<Value> {
    let mut all: Vec<(&String, &Value)> = top.iter().collect();
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NEG_INFINITY);
    all.sort_by(|one, other| number(other.1).total_cmp(&number(one.1)));
    all.into_iter()
        .map(|(token, logprob)| Value::Object(named(token, Some(logprob))))
        .collect()
}

/// Returns a token with its log-probability. `repair.rs` repairs one that is null.
fn named(token: &str, logprob: Option<&Value>) -> Map<String, Value> {
    let logprob = logprob.cloned().unwrap_or(Value::Null);
    let entry = json!({"token": token, "logprob": logprob, "bytes": bytes(token)});
    if let Value::Object(entry) = entry {
        entry
    } else {
        Map::new()
    }
}

/// Returns the bytes of a token. OpenAI writes a token that is not a complete character as
/// `bytes:\xf0\x9f`.
fn bytes(token: &str) -> Vec<u8> {
    let escaped = token.strip_prefix("bytes:\\x");
    let read = escaped.and_then(|hex| {
        hex.split("\\x")
            .map(|byte| u8::from_str_radix(byte, 16).ok())
            .collect()
    });
    read.unwrap_or_else(|| token.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_side_by_side_become_tokens_with_the_likeliest_first() {
        let mut answer = json!({"choices": [{"index": 0, "text": "a b", "finish_reason": "stop", "logprobs": {
            "tokens": ["a", "bytes:\\xf0\\x9f"], "token_logprobs": [null, -1.5], "text_offset": [0, 1],
            "top_logprobs": [null, {" c": -2.0, "bytes:\\xf0\\x9f": -1.5}]
        }}]});
        as_a_chat(&mut answer, "delta");
        let expected = json!({"content": [
            {"token": "a", "logprob": null, "bytes": [97], "top_logprobs": []},
            {"token": "bytes:\\xf0\\x9f", "logprob": -1.5, "bytes": [240, 159], "top_logprobs": [
                {"token": "bytes:\\xf0\\x9f", "logprob": -1.5, "bytes": [240, 159]},
                {"token": " c", "logprob": -2.0, "bytes": [32, 99]}
            ]}
        ], "refusal": null});
        assert_eq!(answer["choices"][0]["logprobs"], expected);
        assert_eq!(answer["choices"][0]["delta"], json!({"content": "a b"}));
    }

    #[test]
    fn what_has_a_chats_shape_already_is_left_alone() {
        let logprobs = json!({"content": [{"token": "a", "logprob": -1.0, "bytes": [97], "top_logprobs": []}]});
        let mut answer = json!({"choices": [{"index": 0, "text": "a", "logprobs": logprobs}]});
        as_a_chat(&mut answer, "message");
        assert_eq!(answer["choices"][0]["logprobs"], logprobs);
    }
}
