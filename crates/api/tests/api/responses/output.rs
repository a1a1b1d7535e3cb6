//! The output of a response: items, events, and ends.

use std::sync::Arc;
use std::time::Duration;

use loggia_api::Policy;
use loggia_wire::openai::FinishReason;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::stand_in::{KINDS, StandIn, ask, call, delta, hi, response, without_ids};
use super::state_machine::{checked, events};

fn text(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}

#[tokio::test]
async fn a_text_is_a_message_with_one_part() {
    let (response, _) = response(StandIn::hello(), &hi(json!({}))).await;
    let message = json!({"type": "message", "id": "msg_", "status": "completed", "role": "assistant",
        "content": [text("Hello!")]});
    assert_eq!(response["output"], json!([message]));
    assert_eq!(
        response["usage"],
        json!({"input_tokens": 20, "input_tokens_details": {"cached_tokens": 16, "cache_write_tokens": 0},
            "output_tokens": 7, "output_tokens_details": {"reasoning_tokens": 3}, "total_tokens": 27})
    );
    assert_eq!(
        (&response["status"], &response["completed_at"]),
        (&json!("completed"), &json!(1))
    );
}

#[tokio::test]
async fn a_warm_up_over_http_has_no_output_either() {
    for kind in KINDS {
        let mut said = vec![
            json!({"reasoning_content": "Hm."}),
            json!({"content": "Hel"}),
        ];
        said.extend(call(0, "call_1", "look", &["{}"]));
        let engine = StandIn::says(&said, FinishReason::Length).of(kind);
        let tools = json!([{"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}}]);
        let more = json!({"prompt_cache_options": {"prewarm": true}, "tools": tools, "tool_choice": "required"});
        let (warm, engine) = response(engine, &hi(more)).await;
        assert_eq!(warm["output"], json!([]));
        assert_eq!(
            (&warm["status"], &warm["incomplete_details"]),
            (&json!("completed"), &Value::Null)
        );
        assert_eq!(warm["usage"]["output_tokens"], 0);
        assert_eq!(warm["usage"]["input_tokens_details"]["cached_tokens"], 16);
        assert_eq!(warm["tool_choice"], "required");
        assert_eq!(engine.asked()["max_completion_tokens"], 1);
        assert_eq!(engine.asked().get("tool_choice"), None);
    }
}

#[tokio::test]
async fn the_events_of_a_text_come_in_openais_order() {
    let answer = ask(
        &Arc::new(StandIn::hello()),
        Policy::default(),
        &hi(json!({"stream": true})),
    )
    .await;
    let events = events(answer.text());
    let names: Vec<&str> = events
        .iter()
        .filter_map(|event| event["type"].as_str())
        .collect();
    assert_eq!(
        names,
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed",
        ]
    );
    assert!(!answer.text().contains("[DONE]"));
}

#[tokio::test]
async fn a_response_repeats_what_was_asked() {
    let function = json!({"type": "function", "name": "f", "parameters": {"type": "object"}});
    let asked = json!({"instructions": "Be brief.", "temperature": 0.5, "top_p": 0.9, "max_output_tokens": 99,
        "metadata": {"a": "b"}, "tools": [function, {"type": "web_search"}], "tool_choice": "auto",
        "reasoning": {"effort": "low"}, "text": {"verbosity": "low"}, "store": false, "user": "u",
        "parallel_tool_calls": false, "prompt_cache_key": "k"});
    let (response, _) = response(StandIn::hello(), &hi(asked)).await;
    let function = json!({"type": "function", "name": "f", "description": null,
        "parameters": {"type": "object"}, "strict": false});
    for (field, value) in [
        ("instructions", json!("Be brief.")),
        ("temperature", json!(0.5)),
        ("top_p", json!(0.9)),
        ("max_output_tokens", json!(99)),
        ("metadata", json!({"a": "b"})),
        ("tools", json!([function, {"type": "web_search"}])),
        ("tool_choice", json!("auto")),
        ("reasoning", json!({"effort": "low", "summary": null})),
        (
            "text",
            json!({"format": {"type": "text"}, "verbosity": "low"}),
        ),
        ("store", json!(false)),
        ("user", json!("u")),
        ("parallel_tool_calls", json!(false)),
        ("prompt_cache_key", json!("k")),
        ("model", json!("m")),
        ("object", json!("response")),
        ("service_tier", json!("default")),
        ("truncation", json!("disabled")),
        ("previous_response_id", Value::Null),
        ("background", json!(false)),
    ] {
        assert_eq!(response[field], value, "{field}");
    }
}

#[tokio::test]
async fn a_response_has_the_fields_that_open_responses_requires() {
    let (response, engine) = response(StandIn::hello(), &hi(json!({}))).await;
    for (field, value) in [
        ("temperature", json!(1.0)),
        ("top_p", json!(1.0)),
        ("presence_penalty", json!(0.0)),
        ("frequency_penalty", json!(0.0)),
        ("prompt_cache_key", Value::Null),
        ("safety_identifier", Value::Null),
    ] {
        assert_eq!(response.get(field), Some(&value), "{field}");
    }
    let stream = ask(&engine, Policy::default(), &hi(json!({"stream": true}))).await;
    let begun = &events(stream.text())[0]["response"];
    assert_eq!(begun["usage"]["total_tokens"], 0);
    let asked = json!({"presence_penalty": 0.5, "frequency_penalty": -0.5});
    let (response, _) = self::response(StandIn::hello(), &hi(asked)).await;
    assert_eq!(response["presence_penalty"], 0.5);
    assert_eq!(response["frequency_penalty"], -0.5);
}

#[tokio::test]
async fn reasoning_is_an_item_of_its_own_raw_or_as_a_summary() {
    let said = [
        json!({"reasoning_content": "Let me", "reasoning": "Let me"}),
        json!({"reasoning_content": " see.", "reasoning": " see."}),
        json!({"content": "4"}),
    ];
    let engine = || StandIn::says(&said, FinishReason::Stop);
    let (raw, _) = response(engine(), &hi(json!({}))).await;
    assert_eq!(
        raw["output"][0],
        json!({"type": "reasoning", "id": "rs_", "status": "completed", "summary": [],
            "content": [{"type": "reasoning_text", "text": "Let me see."}]})
    );
    assert_eq!(raw["output"][1]["content"], json!([text("4")]));
    for asked in [
        json!({"summary": "auto"}),
        json!({"generate_summary": "concise"}),
    ] {
        let (summary, _) = response(engine(), &hi(json!({"reasoning": asked}))).await;
        assert_eq!(
            summary["output"][0],
            json!({"type": "reasoning", "id": "rs_", "status": "completed",
                "summary": [{"type": "summary_text", "text": "Let me see."}]})
        );
    }
}

#[tokio::test]
async fn a_refusal_is_a_part_of_its_own() {
    let said = [
        json!({"content": "Well."}),
        json!({"refusal": "I"}),
        json!({"refusal": " won't."}),
    ];
    let engine = StandIn::says(&said, FinishReason::Stop);
    let (response, _) = response(engine, &hi(json!({}))).await;
    assert_eq!(
        response["output"][0]["content"],
        json!([text("Well."), {"type": "refusal", "refusal": "I won't."}])
    );
}

#[tokio::test]
async fn a_response_that_is_cut_is_incomplete_and_says_why() {
    for (reason, why) in [
        (FinishReason::Length, "max_output_tokens"),
        (FinishReason::ContentFilter, "content_filter"),
    ] {
        let engine = StandIn::says(&[json!({"content": "Onc"})], reason);
        let (response, _) = response(engine, &hi(json!({}))).await;
        assert_eq!(response["status"], "incomplete");
        assert_eq!(response["incomplete_details"], json!({"reason": why}));
        assert_eq!(response["output"][0]["status"], "incomplete");
        assert_eq!(response["completed_at"], Value::Null);
    }
}

#[tokio::test]
async fn a_response_without_a_word_has_an_empty_message() {
    let (nothing, _) = response(StandIn::says(&[], FinishReason::Stop), &hi(json!({}))).await;
    assert_eq!(nothing["output"][0]["content"], json!([text("")]));
    let thought = StandIn::says(&[json!({"reasoning": "Hm"})], FinishReason::Stop);
    let (thought, _) = response(thought, &hi(json!({}))).await;
    assert_eq!(thought["output"][1]["content"], json!([text("")]));
    let cut = StandIn::says(&[json!({"reasoning": "Hm"})], FinishReason::Length);
    let (cut, _) = response(cut, &hi(json!({}))).await;
    assert_eq!(cut["output"].as_array().map(Vec::len), Some(1));
    assert_eq!(cut["output"][0]["status"], "incomplete");
}

#[tokio::test]
async fn log_probabilities_are_in_deltas_and_in_the_part() {
    let token = |token: &str| json!({"token": token, "logprob": -0.5, "top_logprobs": [{"token": "x", "logprob": -1.0}]});
    let logprobs = |tokens: Value| json!({"content": tokens, "refusal": null});
    let said = [
        json!({"content": "a", "logprobs": logprobs(json!([token("a")]))}),
        // This token is not a complete character yet.
        json!({"content": "", "logprobs": logprobs(json!([token("b")]))}),
        json!({"content": "c", "logprobs": logprobs(json!([token("c")]))}),
    ];
    let engine = StandIn::says(&said, FinishReason::Stop);
    let asked = json!({"include": ["message.output_text.logprobs"], "top_logprobs": 1});
    let (response, engine) = response(engine, &hi(asked)).await;
    let tokens = &response["output"][0]["content"][0]["logprobs"];
    let names: Vec<&str> = tokens
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|token| token["token"].as_str())
        .collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!(tokens[0]["bytes"], json!([97]));
    assert_eq!(tokens[0]["top_logprobs"][0]["bytes"], json!([120]));
    let chat = engine.asked();
    assert_eq!(
        (&chat["logprobs"], &chat["top_logprobs"]),
        (&json!(true), &json!(1))
    );
}

#[tokio::test]
async fn a_stream_that_fails_ends_with_a_failed_response() {
    let mut said = vec![json!({"content": "Let me look."})];
    said.extend(call(0, "call_1", "f", &["{\"a\"", ": 1}"]));
    let engine = Arc::new(StandIn::says(&said, FinishReason::ToolCalls).dies());
    let streamed = ask(&engine, Policy::default(), &hi(json!({"stream": true}))).await;
    assert_eq!(streamed.status(), 200);
    let end = checked(streamed.text());
    assert_eq!(end["status"], "failed");
    assert_eq!(end["error"]["code"], "server_error");
    assert_eq!(end["output"][0]["status"], "completed");
    // A call that may have been cut short must not be executed.
    assert_eq!(end["output"][1]["status"], "incomplete");
    let last_done = events(streamed.text());
    let done = last_done
        .iter()
        .filter(|event| event["type"] == "response.output_item.done");
    assert_eq!(done.count(), 1);

    let whole = ask(&engine, Policy::default(), &hi(json!({}))).await;
    assert_eq!(whole.status(), 502, "{}", whole.text());
}

#[tokio::test]
async fn an_engine_that_ends_without_a_reason_has_failed() {
    let engine = Arc::new(StandIn::with(vec![delta(&json!({"content": "a"}))]));
    let answer = ask(&engine, Policy::default(), &hi(json!({"stream": true}))).await;
    assert_eq!(checked(answer.text())["status"], "failed");
}

#[tokio::test(start_paused = true)]
async fn a_failure_before_the_first_word_of_a_begun_stream_is_a_failed_response() {
    let late = Duration::from_mins(1);
    let engine = Arc::new(StandIn::with(Vec::new()).dies().accepts_after(late));
    let body = hi(json!({"stream": true, "store": true}));
    let answer = ask(&engine, Policy::default(), &body).await;
    assert!(answer.text().starts_with(": still working"));
    assert!(answer.text().contains(": x-loggia-ignored: store"));
    let end = checked(answer.text());
    assert_eq!(
        (&end["status"], &end["model"]),
        (&json!("failed"), &json!("m"))
    );
}

#[tokio::test]
async fn more_of_a_call_that_is_done_is_a_failure_and_not_lost() {
    let mut said = call(0, "call_1", "f", &["{"]);
    said.extend(call(1, "call_2", "f", &["{}"]));
    said.push(json!({"tool_calls": [{"index": 0, "function": {"arguments": "}"}}]}));
    let engine = Arc::new(StandIn::says(&said, FinishReason::ToolCalls));
    let answer = ask(&engine, Policy::default(), &hi(json!({"stream": true}))).await;
    assert_eq!(checked(answer.text())["status"], "failed");
}

#[tokio::test]
async fn deltas_are_padded_where_the_client_asks_for_it() {
    let engine = Arc::new(StandIn::hello());
    for (asked, is_padded) in [
        (json!({"include_obfuscation": true}), true),
        (json!({}), false),
    ] {
        let body = hi(json!({"stream": true, "stream_options": asked}));
        let answer = ask(&engine, Policy::default(), &body).await;
        checked(answer.text());
        for event in events(answer.text()) {
            let padding = event.get("obfuscation").and_then(Value::as_str);
            let delta = event.get("delta").and_then(Value::as_str);
            assert_eq!(padding.is_some(), is_padded && delta.is_some(), "{event}");
            if let (Some(padding), Some(delta)) = (padding, delta) {
                assert_eq!((padding.len() + delta.len()) % 16, 0, "{event}");
            }
        }
    }
}

/// The text of a model, by kind.
#[derive(Clone, Debug)]
enum ModelOutput {
    Reasoning(String),
    Content(String),
    Refusal(String),
    Call(String, String),
}

fn said() -> impl Strategy<Value = Vec<ModelOutput>> {
    let word = "[a-zé😀 {}\"\\\\]{1,12}";
    let one = prop_oneof![
        word.prop_map(ModelOutput::Reasoning),
        word.prop_map(ModelOutput::Content),
        word.prop_map(ModelOutput::Refusal),
        (prop_oneof!["f", "patch", "local_shell"], word)
            .prop_map(|(name, arguments)| ModelOutput::Call(name, arguments)),
        Just(ModelOutput::Call(
            "patch".to_owned(),
            "{\"input\": \"*** Begin\\n\"}".to_owned()
        )),
        Just(ModelOutput::Call(
            "local_shell".to_owned(),
            "{\"command\": [\"ls\"]}".to_owned()
        )),
    ];
    proptest::collection::vec(one, 0..6)
}

/// The deltas of these texts, each text split by `cut`.
fn deltas(said: &[ModelOutput], mut cut: impl FnMut(&str) -> Vec<String>) -> Vec<Value> {
    let mut deltas = Vec::new();
    let mut index = 0;
    for one in said {
        match one {
            ModelOutput::Reasoning(text) => deltas.extend(
                cut(text)
                    .into_iter()
                    .map(|piece| json!({"reasoning_content": piece})),
            ),
            ModelOutput::Content(text) => {
                deltas.extend(cut(text).into_iter().map(|piece| json!({"content": piece})));
            }
            ModelOutput::Refusal(text) => {
                deltas.extend(cut(text).into_iter().map(|piece| json!({"refusal": piece})));
            }
            ModelOutput::Call(name, arguments) => {
                let mut names = cut(name).into_iter();
                let id = format!("call_{index}");
                let first = names.next().unwrap_or_default();
                deltas.push(json!({"tool_calls": [{"index": index, "id": id, "type": "function", "function": {"name": first}}]}));
                deltas.extend(names.map(
                    |piece| json!({"tool_calls": [{"index": index, "function": {"name": piece}}]}),
                ));
                deltas.extend(cut(arguments).into_iter().map(|piece| {
                    json!({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
                }));
                index += 1;
            }
        }
    }
    deltas
}

fn with_tools() -> Value {
    hi(json!({"tools": [
        {"type": "function", "name": "f", "parameters": {"type": "object"}},
        {"type": "custom", "name": "patch"},
        {"type": "local_shell"}
    ]}))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The response does not depend on where an engine splits its pieces, complete or streamed.
    #[test]
    fn a_response_is_the_same_wherever_its_pieces_break(
        said in said(),
        cuts in proptest::collection::vec(1..4usize, 1..20),
        cut_off in any::<bool>(),
    ) {
        let reason = if cut_off { FinishReason::Length } else { FinishReason::Stop };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let whole = deltas(&said, |text| vec![text.to_owned()]);
        let mut sizes = cuts.iter().cycle();
        let pieces = deltas(&said, |text| {
            let letters: Vec<char> = text.chars().collect();
            let mut pieces = Vec::new();
            let mut rest = letters.as_slice();
            while !rest.is_empty() {
                let size = (*sizes.next().expect("endless")).min(rest.len());
                pieces.push(rest[..size].iter().collect());
                rest = &rest[size..];
            }
            pieces
        });
        let body = with_tools();
        let once = runtime.block_on(response(StandIn::says(&whole, reason), &body)).0;
        let cut = runtime.block_on(response(StandIn::says(&pieces, reason), &body)).0;
        prop_assert_eq!(without_ids(once), without_ids(cut));
    }
}
