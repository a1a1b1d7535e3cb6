//! The message: its blocks, its end and its usage, complete and streamed.

use std::sync::Arc;
use std::time::Duration;

use loggia_api::Policy;
use loggia_backend::{Chunk, EarlyEnd, Event};
use loggia_wire::openai::{ChunkChoice, FinishReason};
use serde_json::{Value, json};

use super::stand_in::{StandIn, ask, call, hi, message};
use super::state_machine;
use crate::responses::stand_in::delta;
use crate::responses::state_machine::events;

/// Returns the names of the events of a stream.
fn names(stream: &str) -> Vec<String> {
    let events = events(stream);
    let name = |event: &Value| event["type"].as_str().expect("a type").to_owned();
    events.iter().map(name).collect()
}

async fn streamed(engine: StandIn, more: Value) -> String {
    let mut body = hi(more);
    body["stream"] = json!(true);
    let answer = ask(&Arc::new(engine), Policy::default(), &body).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    answer.text().to_owned()
}

#[tokio::test]
async fn the_events_of_a_text_come_in_anthropics_order() {
    let stream = streamed(StandIn::hello(), json!({})).await;
    assert_eq!(
        names(&stream),
        [
            "message_start",
            "content_block_start",
            "ping",
            "content_block_delta",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop"
        ]
    );
    assert!(!stream.contains("[DONE]"));
}

#[tokio::test]
async fn a_message_has_anthropics_fields_and_the_tokens_in_its_terms() {
    let (message, _) = message(StandIn::hello(), &hi(json!({}))).await;
    assert_eq!(
        message,
        json!({
            "id": "msg_", "type": "message", "role": "assistant", "model": "m",
            "content": [{"type": "text", "text": "Hello!"}],
            "stop_reason": "end_turn", "stop_sequence": null, "stop_details": null, "container": null,
            "usage": {
                "input_tokens": 4, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 16,
                "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
                "output_tokens": 7, "output_tokens_details": {"thinking_tokens": 3}, "service_tier": "standard"
            }
        })
    );
}

#[tokio::test]
async fn reasoning_text_and_calls_are_blocks_in_their_order() {
    let mut said = vec![
        json!({"reasoning_content": "Let me "}),
        json!({"reasoning": "see."}),
        json!({"content": "One moment."}),
    ];
    said.extend(call(0, "call_1", "f", &["{\"a\"", ":1}"]));
    said.extend(call(1, "functions.f:1", "f", &[]));
    said.push(json!({"content": "Done."}));
    let engine = StandIn::says(&said, FinishReason::ToolCalls);
    let (message, _) = message(engine, &hi(json!({"thinking": {"type": "adaptive"}}))).await;
    assert_eq!(
        message["content"],
        json!([
            {"type": "thinking", "thinking": "Let me see.", "signature": ""},
            {"type": "text", "text": "One moment."},
            {"type": "tool_use", "id": "call_1", "name": "f", "input": {"a": 1}},
            {"type": "tool_use", "id": "toolu_", "name": "f", "input": {}},
            {"type": "text", "text": "Done."}
        ])
    );
    assert_eq!(message["stop_reason"], "tool_use");
}

#[tokio::test]
async fn reasoning_is_left_out_where_the_client_does_not_want_to_see_it() {
    let said = [
        json!({"reasoning_content": "Hm."}),
        json!({"content": "Yes."}),
    ];
    let engine = StandIn::says(&said, FinishReason::Stop);
    let asked = hi(json!({"thinking": {"type": "adaptive", "display": "omitted"}}));
    let (message, _) = message(engine, &asked).await;
    assert_eq!(
        message["content"],
        json!([
            {"type": "thinking", "thinking": "", "signature": ""},
            {"type": "text", "text": "Yes."}
        ])
    );
}

#[tokio::test]
async fn every_end_has_its_stop_reason() {
    let text = json!({"content": "x"});
    for (engine, reason) in [
        (
            StandIn::says(std::slice::from_ref(&text), FinishReason::Stop),
            "end_turn",
        ),
        (
            StandIn::says(std::slice::from_ref(&text), FinishReason::Length),
            "max_tokens",
        ),
        (
            StandIn::says(std::slice::from_ref(&text), FinishReason::ContentFilter),
            "refusal",
        ),
        (
            StandIn::says(&[json!({"refusal": "No."})], FinishReason::Stop),
            "refusal",
        ),
        (
            StandIn::says(&call(0, "c", "f", &["{}"]), FinishReason::ToolCalls),
            "tool_use",
        ),
        // OpenAI ends a forced call like this.
        (
            StandIn::says(&call(0, "c", "f", &["{}"]), FinishReason::Stop),
            "tool_use",
        ),
    ] {
        let (message, _) = message(engine, &hi(json!({}))).await;
        assert_eq!(message["stop_reason"], reason);
        let details = &message["stop_details"];
        assert_eq!(details.is_object(), reason == "refusal", "{details}");
    }
    for (why, reason) in [
        (EarlyEnd::Context, "model_context_window_exceeded"),
        (EarlyEnd::Repetition, "max_tokens"),
        (EarlyEnd::Unknown, "max_tokens"),
    ] {
        let end = Event::Chunk(Chunk::of(ChunkChoice::finish(0, FinishReason::Length)));
        let engine = StandIn::with(vec![delta(&text), Event::EndedEarly(why), end]);
        let (message, _) = message(engine, &hi(json!({}))).await;
        assert_eq!(message["stop_reason"], reason);
    }
}

#[tokio::test]
async fn a_stop_sequence_is_named_where_the_engine_reports_it() {
    for field in ["stop_reason", "matched_stop"] {
        let mut end = ChunkChoice::finish(0, FinishReason::Stop);
        end.extra.insert(field.to_owned(), json!("END"));
        let end = Event::Chunk(Chunk::of(end));
        let engine = StandIn::with(vec![delta(&json!({"content": "x"})), end]);
        let (message, _) = message(engine, &hi(json!({"stop_sequences": ["END"]}))).await;
        assert_eq!(message["stop_reason"], "stop_sequence");
        assert_eq!(message["stop_sequence"], "END");
    }
    // The embedded engine has an event of its own; one of the operator's strings is no sequence.
    for (stop, reason) in [("END", "stop_sequence"), ("</s>", "end_turn")] {
        let end = Event::Chunk(Chunk::of(ChunkChoice::finish(0, FinishReason::Stop)));
        let said = delta(&json!({"content": "x"}));
        let engine = StandIn::with(vec![said, Event::StopString(stop.to_owned()), end]);
        let (message, _) = message(engine, &hi(json!({"stop_sequences": ["END"]}))).await;
        assert_eq!(message["stop_reason"], reason);
    }
    // vLLM reports the id of a token so.
    let mut end = ChunkChoice::finish(0, FinishReason::Stop);
    end.extra.insert("stop_reason".to_owned(), json!(151_645));
    let engine = StandIn::with(vec![Event::Chunk(Chunk::of(end))]);
    let (message, _) = message(engine, &hi(json!({}))).await;
    assert_eq!(message["stop_reason"], "end_turn");
}

#[tokio::test]
async fn a_call_that_is_cut_is_completed_to_an_object() {
    let said = call(0, "c", "f", &["{\"path\": \"/a", "/b"]);
    let engine = StandIn::says(&said, FinishReason::Length);
    let (message, _) = message(engine, &hi(json!({}))).await;
    assert_eq!(message["stop_reason"], "max_tokens");
    assert_eq!(message["content"][0]["input"], json!({"path": "/a/b"}));
}

#[tokio::test]
async fn an_answer_without_a_word_has_no_blocks() {
    let engine = StandIn::says(&[json!({"content": ""})], FinishReason::Stop);
    let (message, _) = message(engine, &hi(json!({}))).await;
    assert_eq!(message["content"], json!([]));
    assert_eq!(message["stop_reason"], "end_turn");
}

#[tokio::test]
async fn a_stream_that_fails_ends_with_an_error_event() {
    let stream = streamed(StandIn::hello().dies(), json!({})).await;
    let last = events(&stream).pop().expect("an event");
    assert_eq!(last["type"], "error");
    assert_eq!(last["error"]["type"], "api_error");
    assert_eq!(last["request_id"], "req_1");
    let names = names(&stream);
    assert_eq!(names.iter().filter(|name| *name == "error").count(), 1);
    // Clients act on a block that has ended.
    let open = "content_block_stop".to_owned();
    assert!(!names.contains(&open), "{stream}");
    let whole = ask(
        &Arc::new(StandIn::hello().dies()),
        Policy::default(),
        &hi(json!({})),
    )
    .await;
    assert_eq!(whole.status(), 502);
    assert_eq!(whole.json()["error"]["type"], "api_error");
}

#[tokio::test(start_paused = true)]
async fn heartbeats_are_pings() {
    let policy = Policy {
        heartbeat_after: Some(Duration::from_secs(1)),
        heartbeat_every: Duration::from_secs(1),
        ..Policy::default()
    };
    let mut body = hi(json!({}));
    body["stream"] = json!(true);
    let engine = StandIn::hello().accepts_after(Duration::from_millis(2500));
    let answer = ask(&Arc::new(engine), policy.clone(), &body).await;
    let stream = answer.text();
    let names = names(stream);
    let before = names.iter().take_while(|name| *name == "ping").count();
    assert!((2..=4).contains(&before), "{stream}");
    let blocks: Vec<&str> = stream.split_inclusive("\n\n").skip(before).collect();
    state_machine::checked(&blocks.concat());

    let dead = StandIn::with(Vec::new()).accepts_after(Duration::from_millis(2500));
    let answer = ask(&Arc::new(dead.dies()), policy, &body).await;
    let last = events(answer.text()).pop().expect("an event");
    assert_eq!(last["type"], "error");
    assert_eq!(last["request_id"], "req_1");
}

#[tokio::test]
async fn safeguards_are_said_to_be_unsupported() {
    let asked =
        hi(json!({"safeguards": [{"type": "dangerous_tool_use", "classifier_context": {"v": 1}}]}));
    let (message, _) = message(StandIn::hello(), &asked).await;
    assert_eq!(
        message["safeguard_results"],
        json!([{"type": "dangerous_tool_use", "status": {"type": "unsupported"}}])
    );
}

#[tokio::test]
async fn edits_and_diagnoses_are_reported_where_the_client_asks_for_them() {
    let asked = hi(json!({
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "diagnostics": {"previous_message_id": "msg_1"}
    }));
    let (message, _) = message(StandIn::hello(), &asked).await;
    assert_eq!(message["context_management"], json!({"applied_edits": []}));
    assert_eq!(
        message["diagnostics"],
        json!({"cache_miss_reason": {"type": "unavailable"}})
    );
}
