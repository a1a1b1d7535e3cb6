//! The text of a model becomes blocks, which come back as the same text.

use loggia_wire::openai::FinishReason;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::stand_in::{StandIn, call, chat_of, hi, message};

/// A piece of the model's answer.
#[derive(Clone, Debug)]
enum Said {
    Reasoning(String),
    Text(String),
    Call { name: String, arguments: Value },
}

fn said() -> impl Strategy<Value = Vec<Said>> {
    let text = || "[a-z \n\"\\\\é😀<>{}]{0,9}";
    let value = prop_oneof![
        any::<i64>().prop_map(Value::from),
        text().prop_map(Value::from),
        Just(Value::Null),
        prop::collection::vec(any::<bool>(), 0..3).prop_map(Value::from),
    ];
    let arguments = prop::collection::hash_map("[a-z]{1,3}", value, 0..3);
    let call = ("[a-zA-Z0-9_-]{1,12}", arguments).prop_map(|(name, arguments)| Said::Call {
        name,
        arguments: json!(arguments),
    });
    let piece = prop_oneof![
        text().prop_map(Said::Reasoning),
        text().prop_map(Said::Text),
        call
    ];
    prop::collection::vec(piece, 0..7)
}

/// The deltas of a model that says this.
fn deltas(said: &[Said]) -> Vec<Value> {
    let mut deltas = Vec::new();
    let mut calls = 0;
    for piece in said {
        match piece {
            Said::Reasoning(text) => deltas.push(json!({ "reasoning_content": text })),
            Said::Text(text) => deltas.push(json!({ "content": text })),
            Said::Call { name, arguments } => {
                let arguments = arguments.to_string();
                let half = arguments.floor_char_boundary(arguments.len() / 2);
                let (first, second) = arguments.split_at(half);
                let id = format!("call_{calls}");
                deltas.extend(call(calls, &id, name, &[first, second]));
                calls += 1;
            }
        }
    }
    deltas
}

/// The chat message with the pieces of the model's answer. `None` if there are none.
fn in_a_chat(said: &[Said]) -> Option<Value> {
    let (mut text, mut calls) = (String::new(), Vec::new());
    // Blocks of reasoning, each until something else is said.
    let mut blocks: Vec<String> = Vec::new();
    let mut is_open = false;
    for piece in said {
        match piece {
            Said::Reasoning(new) | Said::Text(new) if new.is_empty() => {}
            Said::Reasoning(new) => {
                if !std::mem::replace(&mut is_open, true) {
                    blocks.push(String::new());
                }
                blocks.last_mut().expect("a block").push_str(new);
            }
            Said::Text(new) => {
                is_open = false;
                text.push_str(new);
            }
            Said::Call { name, arguments } => {
                is_open = false;
                let id = format!("call_{}", calls.len());
                let function = json!({"name": name, "arguments": arguments.to_string()});
                calls.push(json!({"id": id, "type": "function", "function": function}));
            }
        }
    }
    if text.is_empty() && calls.is_empty() {
        return None;
    }
    let mut message = json!({"role": "assistant"});
    if !text.is_empty() {
        message["content"] = json!(text);
    }
    if !blocks.is_empty() {
        message["reasoning_content"] = json!(blocks.join("\n\n"));
    }
    if !calls.is_empty() {
        message["tool_calls"] = json!(calls);
    }
    Some(message)
}

async fn check(said: &[Said], reversed: bool) {
    let engine = StandIn::says(&deltas(said), FinishReason::Stop);
    let asked = hi(json!({"thinking": {"type": "adaptive"}}));
    let (message, _) = message(engine, &asked).await;
    let content = message["content"].as_array().expect("a list");
    let calls = content.iter().filter(|block| block["type"] == "tool_use");
    let mut ids: Vec<&Value> = calls.map(|block| &block["id"]).collect();
    let results = ids.iter().map(|id| format!("result of {id}"));
    let results: Vec<String> = results.collect();
    if reversed {
        ids.reverse();
    }
    let answers = ids.iter().map(|id| {
        json!({"type": "tool_result", "tool_use_id": id, "content": format!("result of {id}")})
    });
    let mut answers: Vec<Value> = answers.collect();
    answers.push(json!({"type": "text", "text": "And?"}));
    let messages = json!([
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": content},
        {"role": "user", "content": answers}
    ]);
    let chat = chat_of(json!({ "messages": messages })).await;
    let mut expected = vec![json!({"role": "user", "content": "Hi"})];
    expected.extend(in_a_chat(said));
    let of_calls = results.iter().enumerate().map(|(index, text)| {
        json!({"role": "tool", "content": text, "tool_call_id": format!("call_{index}")})
    });
    expected.extend(of_calls);
    expected.push(json!({"role": "user", "content": "And?"}));
    assert_eq!(chat["messages"], json!(expected), "{message}");
}

proptest! {
    #[test]
    fn what_a_model_says_comes_back_to_it(said in said(), reversed: bool) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        runtime.expect("a runtime").block_on(check(&said, reversed));
    }
}
