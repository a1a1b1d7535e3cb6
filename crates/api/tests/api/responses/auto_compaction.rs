//! `context_management`: a conversation that is long enough is summarized before the answer.

use std::sync::Arc;

use loggia_api::Policy;
use loggia_wire::openai::FinishReason;
use serde_json::{Value, json};

use super::memory::{Stand, id, pairs, refused};
use super::stand_in::{Kind, StandIn, ask, call, hi, ignored};
use super::state_machine::checked;

const TOLD: &str =
    "The conversation before this message was replaced by this summary:\n\nThey told a story.";

/// An engine that answers, then writes a summary, then answers again.
fn tells_a_story() -> StandIn {
    StandIn::hello()
        .then(
            &[json!({"content": "They told a story."})],
            FinishReason::Stop,
        )
        .then(&[json!({"content": "Yes."})], FinishReason::Stop)
}

fn long() -> String {
    "word ".repeat(1100)
}

/// OpenAI's smallest threshold.
fn at_1000() -> Value {
    json!([{"type": "compaction", "compact_threshold": 1000}])
}

fn types(response: &Value) -> Vec<&str> {
    let output = response["output"].as_array().expect("a list").iter();
    output.filter_map(|item| item["type"].as_str()).collect()
}

async fn second_turn(stand: &Stand, stream: bool, more: Value) -> Value {
    let mut body =
        hi(json!({"input": "And now?", "context_management": at_1000(), "stream": stream}));
    let fields = body.as_object_mut().expect("an object");
    fields.extend(more.as_object().cloned().unwrap_or_default());
    let answer = stand.post("/v1/responses", &body).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert_eq!(answer.header("x-loggia-ignored"), None);
    if stream {
        checked(answer.text())
    } else {
        answer.json()
    }
}

#[tokio::test]
async fn a_prompt_past_the_threshold_is_summarized_before_the_answer() {
    for stream in [false, true] {
        let stand = Stand::new(tells_a_story());
        let first = stand.respond(json!({ "input": long() })).await;
        let previous = json!({"previous_response_id": id(&first), "instructions": "Be brief."});
        let second = second_turn(&stand, stream, previous).await;
        assert_eq!(types(&second), ["compaction", "message"]);
        assert_eq!(second["status"], "completed");
        assert_eq!(second["output"][1]["content"][0]["text"], "Yes.");
        assert_eq!(second["usage"]["input_tokens"], 40, "the summary counts");
        let expected = [
            ("system", "Be brief."),
            ("user", TOLD),
            ("user", "And now?"),
        ];
        assert_eq!(stand.asked(), pairs(&expected));
        assert_eq!(stand.fetched(&id(&second)).await, second);

        // The next turn continues from the summary.
        let more = json!({"input": "More.", "previous_response_id": id(&second)});
        stand.respond(more).await;
        let expected = [
            ("user", TOLD),
            ("user", "And now?"),
            ("assistant", "Yes."),
            ("user", "More."),
        ];
        assert_eq!(stand.asked(), pairs(&expected));

        // So does a turn that sends the whole conversation, with or without the summarized
        // messages.
        let new = json!({"role": "user", "content": "More."});
        let answer = [&second["output"][0], &second["output"][1]];
        let story = json!({"role": "user", "content": long()});
        let now = json!({"role": "user", "content": "And now?"});
        for input in [
            json!([story, {"role": "assistant", "content": "Hello!"}, now, answer[0], answer[1], new]),
            json!([answer[0], answer[1], new]),
        ] {
            stand.respond(json!({"input": input, "store": false})).await;
            assert_eq!(stand.asked(), pairs(&expected));
        }
    }
}

#[tokio::test]
async fn a_conversation_goes_on_from_its_summary() {
    let stand = Stand::new(tells_a_story());
    let items = json!({"items": [{"role": "system", "content": "Rhyme."}]});
    let conversation = id(&stand.post("/v1/conversations", &items).await.json());
    let in_it = |input: &str| json!({"conversation": conversation, "input": input});
    stand.respond(in_it(&long())).await;
    let second = second_turn(&stand, false, json!({ "conversation": conversation })).await;
    assert_eq!(types(&second), ["compaction", "message"]);
    stand.respond(in_it("More.")).await;
    let expected = [
        ("system", "Rhyme."),
        ("user", TOLD),
        ("user", "And now?"),
        ("assistant", "Yes."),
        ("user", "More."),
    ];
    assert_eq!(stand.asked(), pairs(&expected));
    // The conversation still lists every message.
    let path = format!("/v1/conversations/{conversation}/items?limit=100");
    let items = stand.get(&path).await.json();
    assert_eq!(items["data"].as_array().map(Vec::len), Some(8));
}

#[tokio::test]
async fn the_outputs_of_calls_stay_with_their_calls() {
    let calls = call(0, "call_1", "add", &[r#"{"a":1}"#]);
    let stand = Stand::new(
        StandIn::says(&calls, FinishReason::ToolCalls)
            .then(
                &[json!({"content": "They told a story."})],
                FinishReason::Stop,
            )
            .then(&[json!({"content": "Yes."})], FinishReason::Stop),
    );
    let add = json!([{"type": "function", "name": "add", "parameters": {"type": "object"}, "strict": false}]);
    let first = stand.respond(json!({"input": long(), "tools": add})).await;
    let output = json!([{"type": "function_call_output", "call_id": "call_1", "output": "2"}]);
    let more = json!({"input": output, "tools": add, "previous_response_id": id(&first)});
    let second = second_turn(&stand, false, more).await;
    assert_eq!(types(&second), ["compaction", "message"]);
    let asked = stand.engine.asked();
    assert_eq!(asked["messages"][0]["content"], TOLD);
    assert_eq!(asked["messages"][1]["tool_calls"][0]["id"], "call_1");
    assert_eq!(asked["messages"][2]["content"], "2");
    assert_eq!(asked["messages"].as_array().map(Vec::len), Some(3));
    assert!(asked["tools"].is_array(), "the answer may call tools again");
}

#[tokio::test]
async fn a_prompt_below_the_threshold_is_neither_counted_nor_summarized() {
    let stand = Stand::new(tells_a_story());
    let first = stand.respond(json!({})).await;
    let previous = json!({"previous_response_id": id(&first)});
    let second = second_turn(&stand, false, previous).await;
    assert_eq!(types(&second), ["message"]);
    assert_eq!(stand.engine.counts(), 0);
    // Nothing precedes the only message, however long it is.
    let only = second_turn(&stand, false, json!({ "input": long() })).await;
    assert_eq!(types(&only), ["message"]);
}

#[tokio::test]
async fn a_prompt_that_exceeds_the_context_is_truncated_if_the_client_allows_it() {
    let input = json!([{"role": "user", "content": long()}, {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "And now?"}]);
    for (truncation, expected) in [
        ("auto", ["message"].as_slice()),
        ("disabled", &["compaction", "message"]),
    ] {
        let stand = Stand::new(StandIn::hello().with_context(1050));
        let body =
            hi(json!({"input": input, "context_management": at_1000(), "truncation": truncation}));
        let answer = stand.post("/v1/responses", &body).await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
        assert_eq!(types(&answer.json()), expected);
        let is_truncated = answer.header("x-loggia-truncated").is_some();
        assert_eq!(is_truncated, truncation == "auto");
    }
}

#[tokio::test]
async fn a_summary_has_at_most_half_of_the_threshold() {
    for (threshold, limit) in [(1000, 500), (5000, 2048)] {
        // The engine dies while it writes the summary, so no other request follows.
        let engine = StandIn::says(&[json!({"content": "A story."})], FinishReason::Stop).dies();
        let stand = Stand::new(engine);
        let input = json!([{"role": "user", "content": "word ".repeat(6000)}, {"role": "user", "content": "x"},
            {"role": "assistant", "content": "y"}, {"role": "user", "content": "z"}]);
        let manage = json!([{"type": "compaction", "compact_threshold": threshold}]);
        let body =
            hi(json!({"input": input, "context_management": manage, "max_output_tokens": 9}));
        let answer = stand.post("/v1/responses", &body).await;
        assert_eq!(answer.status(), 502, "{}", answer.text());
        assert_eq!(stand.engine.asked()["max_completion_tokens"], limit);
    }
}

#[tokio::test]
async fn a_model_that_writes_no_summary_answers_the_whole_conversation() {
    let stand = Stand::new(
        StandIn::hello()
            .then(&[json!({"content": " \n"})], FinishReason::Stop)
            .then(&[json!({"content": "Yes."})], FinishReason::Stop),
    );
    let first = stand.respond(json!({ "input": long() })).await;
    let previous = json!({"previous_response_id": id(&first)});
    let second = second_turn(&stand, false, previous).await;
    assert_eq!(types(&second), ["message"]);
    assert_eq!(stand.asked().len(), 3);
}

#[tokio::test]
async fn without_a_threshold_four_fifths_of_the_context_are_it() {
    let without = json!([{"type": "compaction"}]);
    let history = json!([{"role": "user", "content": long()}, {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "And now?"}]);
    for (context, expected) in [
        (1300, ["compaction", "message"].as_slice()),
        (1500, &["message"]),
    ] {
        let engine = StandIn::says(
            &[json!({"content": "They told a story."})],
            FinishReason::Stop,
        );
        let stand = Stand::new(engine.with_context(context));
        let body = json!({"input": history, "context_management": without});
        assert_eq!(types(&stand.respond(body).await), expected, "{context}");
    }
    // The size of the context is unknown.
    let stand = Stand::new(StandIn::hello());
    let body = hi(json!({"input": history, "context_management": without}));
    let answer = stand.post("/v1/responses", &body).await;
    assert_eq!(
        answer.header("x-loggia-ignored"),
        Some("context_management")
    );
}

#[tokio::test]
async fn entries_that_openai_does_not_have_are_refused() {
    let stand = Stand::new(StandIn::hello());
    for (given, code, param) in [
        (json!({}), "invalid_type", "context_management"),
        (
            json!([{}]),
            "missing_required_parameter",
            "context_management[0].type",
        ),
        (
            json!([{"type": "truncation"}]),
            "invalid_value",
            "context_management[0].type",
        ),
        (
            json!([{"type": "compaction", "compact_threshold": 999}]),
            "integer_below_min_value",
            "context_management[0].compact_threshold",
        ),
        (
            json!([{"type": "compaction", "compact_threshold": "1000"}]),
            "invalid_type",
            "context_management[0].compact_threshold",
        ),
        (
            json!([{"type": "compaction", "compact_threshold": 1e20}]),
            "invalid_type",
            "context_management[0].compact_threshold",
        ),
    ] {
        let body = hi(json!({ "context_management": given }));
        let answer = stand.post("/v1/responses", &body).await;
        let expected = (400, code.to_owned(), param.to_owned());
        assert_eq!(refused(&answer), expected, "{given}");
    }
    for given in [json!([]), json!(null)] {
        stand.respond(json!({ "context_management": given })).await;
    }
}

#[tokio::test]
async fn without_keys_nothing_is_compacted_and_the_field_is_named() {
    let body = hi(json!({ "context_management": at_1000() }));
    assert_eq!(ignored(Kind::OpenAi, &body).await, "context_management");
    let engine = Arc::new(StandIn::hello());
    let answer = ask(&engine, Policy::default(), &body).await;
    assert_eq!(types(&answer.json()), ["message"]);
}
