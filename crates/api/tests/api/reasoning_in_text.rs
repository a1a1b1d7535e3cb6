//! Reasoning inside the text: an Ollama returns the model's reasoning as text with tags, and Loggia
//! separates it.

use crate::support::{Scripted, chat, hello};
use loggia_api::Policy;
use loggia_backend::Profile;
use serde_json::json;

/// The answer of an Ollama whose template does not separate reasoning: the tags are in the text.
fn thoughts_in_the_text(end: &str) -> Scripted {
    let pieces = ["<th", "ink>\n", "Hm", ".\n</think>", "\n\n", "Paris", "."];
    let line = |piece: &&str| {
        json!({"message": {"role": "assistant", "content": piece}, "done": false}).to_string()
            + "\n"
    };
    let lines = pieces.iter().take_while(|piece| **piece != end).map(line);
    let last = r#"{"message":{"content":""},"done":true,"done_reason":"length","prompt_eval_count":5,"eval_count":9}"#;
    Scripted::default().on("/api/chat", 200, lines.chain([last.to_owned()]))
}

#[tokio::test]
async fn reasoning_that_a_model_writes_into_its_text_is_told_apart() {
    let inner = thoughts_in_the_text("");
    let chunks = chat(&inner, Policy::default(), hello(json!({"stream": true})))
        .await
        .chunks();
    let said = |name: &str| -> String {
        chunks
            .iter()
            .filter_map(|chunk| chunk["choices"][0]["delta"][name].as_str())
            .collect()
    };
    assert_eq!(said("content"), "Paris.");
    assert_eq!(
        (said("reasoning_content"), said("reasoning")),
        ("Hm.\n".to_owned(), "Hm.\n".to_owned())
    );

    let whole =
        json!({"message": {"content": "<think>Hm.</think>Paris."}, "done": true, "done_reason": "stop"}).to_string();
    let inner = Scripted::default().on("/api/chat", 200, [whole]);
    let message = chat(&inner, Policy::default(), hello(json!({})))
        .await
        .json()["choices"][0]["message"]
        .clone();
    assert_eq!(
        (&message["content"], &message["reasoning_content"]),
        (&json!("Paris."), &json!("Hm."))
    );
}

#[tokio::test]
async fn reasoning_that_is_never_closed_is_reasoning() {
    let inner = thoughts_in_the_text(".\n</think>");
    let answer = chat(&inner, Policy::default(), hello(json!({"stream": true}))).await;
    let chunks = answer.chunks();
    let deltas: Vec<_> = chunks
        .iter()
        .map(|chunk| &chunk["choices"][0]["delta"])
        .collect();
    assert!(
        deltas
            .iter()
            .all(|delta| delta["content"].as_str().unwrap_or_default().is_empty()),
        "{deltas:?}"
    );
    assert!(
        deltas.iter().any(|delta| delta["reasoning"] == "Hm"),
        "{deltas:?}"
    );
    assert_eq!(
        chunks
            .iter()
            .filter(|chunk| chunk["choices"][0]["finish_reason"] == "length")
            .count(),
        1
    );
}

#[tokio::test]
async fn the_original_leaves_reasoning_in_the_text() {
    let policy = Policy {
        profile: Profile::Original,
        ..Policy::default()
    };
    let chunks = chat(
        &thoughts_in_the_text(""),
        policy,
        hello(json!({"stream": true})),
    )
    .await
    .chunks();
    let text: String = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(text, "<think>\nHm.\n</think>\n\nParis.");
}
