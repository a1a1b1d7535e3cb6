//! `truncation`: the oldest items of an input that exceeds the context are dropped if the client
//! allows it.

use std::sync::Arc;
use std::time::Duration;

use loggia_api::{Policy, Strictness};
use serde_json::{Value, json};

use super::stand_in::{Kind, StandIn, ask, ask_at, refusal_under};
use super::state_machine::checked;

/// A text of this many words, which a stand-in counts as tokens.
fn words(count: usize) -> String {
    "word ".repeat(count)
}

/// A conversation of 40 turns with 100 tokens each, and a last question.
fn long(more: &Value) -> Value {
    let turn = |at: usize| {
        [
            json!({"role": "user", "content": format!("{at} {}", words(48))}),
            json!({"role": "assistant", "content": format!("{at} {}", words(48))}),
        ]
    };
    let mut input: Vec<Value> = (0..40).flat_map(turn).collect();
    input.insert(4, json!({"role": "developer", "content": "Be kind."}));
    input.push(json!({"role": "user", "content": "And now?"}));
    let mut body = json!({"model": "m", "instructions": "Be brief.", "input": input,
        "truncation": "auto"});
    let fields = body.as_object_mut().expect("an object");
    fields.extend(more.as_object().expect("an object").clone());
    body
}

#[tokio::test]
async fn the_oldest_items_are_dropped_until_the_prompt_and_its_answer_fit() {
    let engine = Arc::new(StandIn::hello().with_context(2000));
    let answer = ask(
        &engine,
        Policy::default(),
        &long(&json!({"max_output_tokens": 500})),
    )
    .await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert_eq!(answer.json()["truncation"], "auto");
    let messages = engine.asked()["messages"]
        .as_array()
        .expect("a list")
        .clone();
    let first: Vec<&Value> = messages.iter().take(2).map(|one| &one["content"]).collect();
    assert_eq!(first, ["Be brief.", "Be kind."]);
    assert_eq!(messages.last().expect("one")["content"], "And now?");
    let tokens = |one: &Value| {
        1 + one["content"]
            .as_str()
            .expect("a text")
            .split_whitespace()
            .count()
    };
    let tokens: usize = messages.iter().map(tokens).sum();
    // At most an eighth of the room is left.
    assert!((1312..=1500).contains(&tokens), "{tokens}");
    let truncated = answer.header("x-loggia-truncated").expect("it says so");
    assert!(
        truncated.starts_with("input[0], input[1], input[2], input[3], input[5], "),
        "{truncated}"
    );
    let dropped = truncated.split(", ").count();
    assert_eq!(messages.len() + dropped, 83);
    assert!(engine.counts() <= 4, "{} counts", engine.counts());
}

#[tokio::test]
async fn a_stream_says_so_in_a_header_or_in_a_comment_if_it_has_begun() {
    let body = long(&json!({"max_output_tokens": 500, "stream": true}));
    let engine = Arc::new(StandIn::hello().with_context(2000));
    let answer = ask(&engine, Policy::default(), &body).await;
    assert!(answer.header("x-loggia-truncated").is_some());
    assert_eq!(checked(answer.text())["truncation"], "auto");
    tokio::time::pause();
    let late = StandIn::hello()
        .with_context(2000)
        .accepts_after(Duration::from_mins(1));
    let answer = ask(&Arc::new(late), Policy::default(), &body).await;
    assert_eq!(answer.header("x-loggia-truncated"), None);
    assert!(
        answer.text().contains(": x-loggia-truncated: input[0], "),
        "{}",
        answer.text()
    );
}

#[tokio::test]
async fn a_call_is_dropped_with_its_output() {
    let call = |at: usize| {
        [
            json!({"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "Hm."}]}),
            json!({"type": "function_call", "call_id": format!("c{at}"), "name": "f", "arguments": "{}"}),
            json!({"type": "function_call_output", "call_id": format!("c{at}"), "output": words(100)}),
        ]
    };
    let mut input = vec![json!({"role": "user", "content": "Find it."})];
    input.extend((0..30).flat_map(call));
    let body =
        json!({"model": "m", "input": input, "truncation": "auto", "max_output_tokens": 200});
    let engine = Arc::new(StandIn::hello().with_context(1000));
    let answer = ask(&engine, Policy::default(), &body).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let messages = engine.asked()["messages"]
        .as_array()
        .expect("a list")
        .clone();
    assert_eq!(messages[0]["content"], "Find it.");
    assert!(messages.len() < 20, "{}", messages.len());
    for pair in messages[1..].chunks(2) {
        assert_eq!(pair[0]["tool_calls"][0]["id"], pair[1]["tool_call_id"]);
        assert_eq!(pair[0]["reasoning_content"], "Hm.");
    }
    assert_eq!(messages.last().expect("one")["tool_call_id"], "c29");
    let truncated = answer.header("x-loggia-truncated").expect("it says so");
    assert!(truncated.starts_with("input[1], input[3], "), "{truncated}");
}

#[tokio::test]
async fn nothing_is_counted_or_dropped_where_it_fits_or_is_not_allowed() {
    for (context, fields, counts) in [
        // Fewer bytes than the context has tokens.
        (100_000, json!({}), 0),
        (8_000, json!({}), 1),
        (2_000, json!({"truncation": "disabled"}), 0),
        (2_000, json!({"truncation": null}), 0),
        // No item of this input may be dropped.
        (100, json!({"input": words(200)}), 0),
    ] {
        let engine = Arc::new(StandIn::hello().with_context(context));
        let answer = ask(&engine, Policy::default(), &long(&fields)).await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
        assert_eq!(answer.header("x-loggia-truncated"), None, "{fields}");
        assert_eq!(engine.counts(), counts, "{context} {fields}");
    }
}

#[tokio::test]
async fn a_smaller_context_that_the_request_sets_counts() {
    let engine = Arc::new(StandIn::hello().with_context(100_000).of(Kind::Ollama));
    let fields = json!({"max_output_tokens": 500, "options": {"num_ctx": 2000}});
    let answer = ask(&engine, Policy::default(), &long(&fields)).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert!(answer.header("x-loggia-truncated").is_some());
}

#[tokio::test]
async fn where_the_context_is_unknown_truncation_is_ignored_and_named() {
    let engine = Arc::new(StandIn::hello());
    let answer = ask(&engine, Policy::default(), &long(&json!({}))).await;
    assert_eq!(answer.header("x-loggia-ignored"), Some("truncation"));
    assert_eq!(engine.counts(), 0);
    let strict = refusal_under(Strictness::Strict, Kind::OpenAi, &long(&json!({}))).await;
    let refused = (
        400,
        "unsupported_parameter".to_owned(),
        "truncation".to_owned(),
    );
    assert_eq!(strict, refused);
}

#[tokio::test]
async fn a_count_is_that_of_the_truncated_input() {
    let engine = Arc::new(StandIn::hello().with_context(2000));
    let body = long(&json!({"max_output_tokens": 500}));
    let path = "/v1/responses/input_tokens";
    let answer = ask_at(path, &engine, Policy::default(), &body).await;
    let count = answer.json()["input_tokens"].as_u64().expect("a number");
    assert!((1312..=1500).contains(&count), "{count}");
    assert!(answer.header("x-loggia-truncated").is_some());
}
