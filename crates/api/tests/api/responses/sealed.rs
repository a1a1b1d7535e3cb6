//! Reasoning and summaries that a client keeps for the server.

use loggia_seal::Keys;
use loggia_wire::openai::FinishReason;
use serde_json::{Value, json};

use super::memory::{Stand, id, pairs, refused};
use super::stand_in::{StandIn, hi};
use super::state_machine::checked;

/// An engine that reasons before it answers.
fn thinker() -> StandIn {
    let deltas = [
        json!({"reasoning_content": "Hm."}),
        json!({"reasoning_content": " Well."}),
        json!({"content": "Hello"}),
    ];
    StandIn::says(&deltas, FinishReason::Stop)
}

/// Returns a request whose input has this item after a first turn.
fn with_item(item: &Value) -> Value {
    let turn = |text: &str| json!({"role": "user", "content": text});
    let spoken = json!({"role": "assistant", "content": "Hello"});
    hi(json!({"store": false, "input": [turn("one"), item, spoken, turn("two")]}))
}

#[tokio::test]
async fn sealed_reasoning_comes_back_and_is_read() {
    let stand = Stand::new(thinker());
    for reasoning in [json!({}), json!({"summary": "auto"})] {
        let include = json!(["reasoning.encrypted_content"]);
        let asked = json!({"include": include, "reasoning": reasoning, "store": false});
        let answer = stand.post("/v1/responses", &hi(asked.clone())).await;
        assert_eq!(answer.header("x-loggia-ignored"), None);
        let item = answer.json()["output"][0].clone();
        let sealed = item["encrypted_content"].as_str().expect("a sealed text");
        assert!(sealed.len() > 20 && !sealed.contains("Hm. Well."));
        // Codex sends the item with `content: null`, other clients send it without `content`.
        let mut back = item.clone();
        back["content"] = Value::Null;
        back["summary"] = json!([]);
        let read = stand.post("/v1/responses", &with_item(&back)).await;
        assert_eq!(read.status(), 200, "{}", read.text());
        let asked = stand.engine.asked();
        assert_eq!(asked["messages"][1]["reasoning_content"], "Hm. Well.");
    }
}

#[tokio::test]
async fn in_a_stream_the_sealed_text_is_in_the_items_end() {
    let stand = Stand::new(thinker());
    let asked = json!({"include": ["reasoning.encrypted_content"], "stream": true});
    let answer = stand.post("/v1/responses", &hi(asked)).await;
    let end = checked(answer.text());
    assert!(end["output"][0]["encrypted_content"].is_string());
    assert_eq!(stand.fetched(&id(&end)).await, end);
    let unasked = stand.respond(json!({})).await;
    assert_eq!(unasked["output"][0].get("encrypted_content"), None);
}

#[tokio::test]
async fn a_sealed_text_that_was_changed_or_has_another_key_is_refused() {
    let stand = Stand::new(thinker());
    let asked = json!({"include": ["reasoning.encrypted_content"]});
    let mut item = stand.respond(asked).await["output"][0].clone();
    item["content"] = Value::Null;
    let expected = (
        400,
        "invalid_encrypted_content".to_owned(),
        "input[1].encrypted_content".to_owned(),
    );
    let other = Stand::with_keys(thinker(), Keys::random());
    let answer = other.post("/v1/responses", &with_item(&item)).await;
    assert_eq!(refused(&answer), expected);
    assert!(answer.text().contains("key"), "{}", answer.text());

    let sealed = item["encrypted_content"].as_str().expect("a text");
    let at = sealed.len() / 2;
    let changed = if &sealed[at..=at] == "A" { "B" } else { "A" };
    let changed = format!("{}{changed}{}", &sealed[..at], &sealed[at + 1..]);
    let mut tampered = item.clone();
    tampered["encrypted_content"] = json!(changed);
    let answer = stand.post("/v1/responses", &with_item(&tampered)).await;
    assert_eq!(refused(&answer), expected);

    // If the item has the text itself, nothing has to be opened.
    tampered["content"] = json!([{"type": "reasoning_text", "text": "Hm."}]);
    let answer = stand.post("/v1/responses", &with_item(&tampered)).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
}

/// A conversation that began at OpenAI continues here.
#[tokio::test]
async fn reasoning_that_another_server_sealed_is_removed_and_named() {
    let stand = Stand::new(thinker());
    let item = json!({"type": "reasoning", "id": "rs_1", "summary": [], "content": null,
        "encrypted_content": "gAAAAABotherProvidersText=="});
    let answer = stand.post("/v1/responses", &with_item(&item)).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert_eq!(
        answer.json()["input_transformations"],
        json!([{"id": "rs_1", "type": "reasoning", "action": "removed", "reason": "organization_mismatch"}])
    );
    assert_eq!(
        answer.header("x-loggia-ignored"),
        Some("input[].encrypted_content")
    );
    let asked = stand.engine.asked();
    assert_eq!(asked["messages"][1].get("reasoning_content"), None);
}

/// An engine that writes a summary.
fn summarizer() -> StandIn {
    let deltas = [
        json!({"reasoning_content": "Hm."}),
        json!({"content": "They said "}),
        json!({"content": "hi."}),
    ];
    StandIn::says(&deltas, FinishReason::Stop)
}

#[tokio::test]
async fn a_trigger_makes_a_summary_that_later_requests_understand() {
    let stand = Stand::new(summarizer());
    let tools = json!([{"type": "function", "name": "add", "parameters": {"type": "object"}, "strict": false}]);
    let input =
        json!([{"role": "user", "content": "one"}, {"type": "compaction_trigger", "id": "t"}]);
    for stream in [false, true] {
        let body = hi(json!({"input": input, "tools": tools, "stream": stream, "store": false}));
        let answer = stand.post("/v1/responses", &body).await;
        let response = if stream {
            assert!(answer.text().contains("response.compaction.compacting"));
            assert!(!answer.text().contains("They said"));
            checked(answer.text())
        } else {
            answer.json()
        };
        assert_eq!(response["status"], "completed");
        assert_eq!(response["output"].as_array().map(Vec::len), Some(1));
        let item = &response["output"][0];
        assert_eq!(item["type"], "compaction");
        assert!(id(item).starts_with("cmp_"));
        let asked = stand.engine.asked();
        assert_eq!(asked.get("tools"), None);
        let messages = asked["messages"].as_array().expect("messages");
        assert_eq!(messages[0], json!({"role": "user", "content": "one"}));
        let question = messages.last().expect("a message")["content"].as_str();
        assert!(question.expect("a text").contains("Summarize"));

        let next = hi(json!({"input": [item, {"role": "user", "content": "two"}], "store": false}));
        let answer = stand.post("/v1/responses", &next).await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
        let told = stand.asked();
        assert!(told[0].1.ends_with("They said hi."), "{told:?}");
        assert_eq!(told[1].1, "two");
    }
}

#[tokio::test]
async fn after_a_summary_the_turns_before_it_are_not_read_again() {
    let stand = Stand::new(summarizer());
    let first = stand.respond(json!({"input": "a long story"})).await;
    let compacted = stand
        .respond(
            json!({"previous_response_id": id(&first), "input": [{"type": "compaction_trigger"}]}),
        )
        .await;
    assert_eq!(stand.asked()[0].1, "a long story");
    stand
        .respond(json!({"previous_response_id": id(&compacted), "input": "next"}))
        .await;
    let told = stand.asked();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].1.ends_with("They said hi."));
    assert_eq!(told[1], pairs(&[("user", "next")])[0]);
}

#[tokio::test]
async fn after_a_summary_in_a_conversation_the_turns_before_it_are_not_read_again() {
    let stand = Stand::new(summarizer());
    let made = stand.post("/v1/conversations", &json!({})).await.json();
    let conversation = id(&made);
    for input in [
        json!("a long story"),
        json!([{"type": "compaction_trigger"}]),
        json!("next"),
    ] {
        stand
            .respond(json!({"conversation": conversation, "input": input}))
            .await;
    }
    let told = stand.asked();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].1.ends_with("They said hi."));
    assert_eq!(told[1], pairs(&[("user", "next")])[0]);
}

#[tokio::test]
async fn a_compacted_conversation_is_an_item_with_the_users_messages_and_a_summary() {
    let stand = Stand::new(summarizer());
    let input = json!([
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": [{"type": "input_text", "text": "two"}]}
    ]);
    let body = json!({"model": "m", "input": input});
    let answer = stand.post("/v1/responses/compact", &body).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let compacted = answer.json();
    assert_eq!(compacted["object"], "response.compaction");
    assert!(compacted["usage"]["total_tokens"].is_number());
    let output = compacted["output"].as_array().expect("items");
    let types: Vec<&str> = output
        .iter()
        .filter_map(|item| item["type"].as_str())
        .collect();
    // OpenAI's SDKs have no type for a user's message here.
    assert_eq!(types, ["compaction"]);
    // The output of the compaction is the next input.
    let mut next = output.clone();
    next.push(json!({"role": "user", "content": "three"}));
    stand.respond(json!({ "input": next })).await;
    let told: Vec<String> = stand.asked().into_iter().map(|(_, text)| text).collect();
    assert_eq!(told.len(), 4);
    assert_eq!(
        (told[0].as_str(), told[1].as_str(), told[3].as_str()),
        ("one", "two", "three")
    );
    // The compacted response was not stored.
    let path = format!("/v1/responses/{}", id(&compacted));
    assert_eq!(stand.get(&path).await.status(), 404);
}

#[tokio::test]
async fn a_summary_of_another_server_is_refused() {
    let stand = Stand::new(summarizer());
    let item = json!({"type": "compaction", "encrypted_content": "gAAAAABother"});
    let body = hi(json!({"input": [item, {"role": "user", "content": "two"}]}));
    let expected = (
        400,
        "invalid_encrypted_content".to_owned(),
        "input[0].encrypted_content".to_owned(),
    );
    assert_eq!(refused(&stand.post("/v1/responses", &body).await), expected);
    // Sealed reasoning is refused as a summary.
    let asked = json!({"include": ["reasoning.encrypted_content"]});
    let reasoned = Stand::with_keys(thinker(), Keys::new([[7; 32]]).expect("a key"));
    let item = reasoned.respond(asked).await["output"][0].clone();
    let body = hi(json!({"input": [
        {"type": "compaction", "encrypted_content": item["encrypted_content"]},
        {"role": "user", "content": "two"}
    ]}));
    assert_eq!(
        refused(&reasoned.post("/v1/responses", &body).await),
        expected
    );
}

#[tokio::test]
async fn a_model_that_writes_no_summary_fails_the_response() {
    let silent = StandIn::says(&[json!({"content": " "})], FinishReason::Stop);
    let stand = Stand::new(silent);
    let body =
        hi(json!({"input": [{"role": "user", "content": "one"}, {"type": "compaction_trigger"}]}));
    assert_eq!(stand.post("/v1/responses", &body).await.status(), 500);
}
