//! `compact_20260112`: a conversation that is long enough is summarized before the answer.

use std::sync::Arc;

use loggia_api::{Door, Policy};
use loggia_seal::Keys;
use loggia_wire::openai::FinishReason;
use serde_json::{Value, json};

use super::stand_in::{KINDS, Kind, StandIn, ask_door, door, hi, ignored, refusal};
use super::state_machine::checked;

const TOLD: &str =
    "The conversation before this message was replaced by this summary:\n\nThey told a story.";

/// An engine that writes a summary, and then answers.
fn summarizes() -> StandIn {
    StandIn::says(
        &[json!({"content": " They told a story.\n"})],
        FinishReason::Stop,
    )
    .then(&[json!({"content": "Yes."})], FinishReason::Stop)
}

/// A door with keys, and its engine.
fn keyed(engine: StandIn) -> (Door, Arc<StandIn>) {
    let engine = Arc::new(engine);
    let keys = Arc::new(Keys::random());
    let door = door(&engine, Policy::default()).with_keys(keys);
    (door, engine)
}

fn user(content: &str) -> Value {
    json!({"role": "user", "content": content})
}

fn assistant(content: &Value) -> Value {
    json!({"role": "assistant", "content": content})
}

/// A long conversation that ends with these messages.
fn story(last: &[Value]) -> Vec<Value> {
    let long = user(&"word ".repeat(1100));
    let mut messages = vec![long, assistant(&json!("Hello!"))];
    messages.extend_from_slice(last);
    messages
}

/// An edit at 1,000 tokens, with more fields.
#[expect(
    clippy::needless_pass_by_value,
    reason = "a literal is what every caller has"
)]
fn at_1000(more: Value) -> Value {
    let trigger = json!({"type": "input_tokens", "value": 1000});
    let mut edit = json!({"type": "compact_20260112", "trigger": trigger});
    let fields = edit.as_object_mut().expect("an object");
    fields.extend(more.as_object().cloned().unwrap_or_default());
    json!({"edits": [edit]})
}

/// Returns the message of a door, complete or streamed.
async fn message(door: &Door, body: &Value, streams: bool) -> Value {
    let mut body = body.clone();
    body["stream"] = json!(streams);
    let answer = ask_door(door, &body).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert_eq!(answer.header("x-loggia-ignored"), None);
    if streams {
        checked(answer.text())
    } else {
        answer.json()
    }
}

/// Returns the messages that an engine was asked with last, as roles and texts.
fn asked(engine: &StandIn) -> Vec<(String, String)> {
    let asked = engine.asked();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let messages = asked["messages"].as_array().expect("messages").iter();
    messages
        .map(|message| (text(&message["role"]), text(&message["content"])))
        .collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(a, b): &(&str, &str)| ((*a).to_owned(), (*b).to_owned());
    pairs.iter().map(owned).collect()
}

/// The usage of one call of the stand-in.
fn iteration(kind: &str) -> Value {
    json!({"type": kind, "input_tokens": 4, "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 16, "output_tokens": 7})
}

#[tokio::test]
async fn a_prompt_past_the_trigger_is_summarized_before_the_answer() {
    for (kind, streams) in KINDS
        .into_iter()
        .flat_map(|kind| [(kind, false), (kind, true)])
    {
        let (door, engine) = keyed(summarizes().of(kind));
        let before = story(&[user("And now?")]);
        let first = hi(json!({"system": "Be brief.", "messages": before,
            "context_management": at_1000(json!({}))}));
        let first = message(&door, &first, streams).await;
        let block = &first["content"][0];
        assert_eq!(block["type"], "compaction");
        assert_eq!(block["content"], "They told a story.");
        assert_eq!(block["tool_changes"], json!([]));
        assert!(block["encrypted_content"].is_string(), "{block}");
        assert_eq!(first["content"][1], json!({"type": "text", "text": "Yes."}));
        assert_eq!(first["stop_reason"], "end_turn");
        assert_eq!(first["context_management"], json!({"applied_edits": []}));
        let usage = &first["usage"];
        assert_eq!(usage["output_tokens"], 7, "the summary is counted apart");
        assert_eq!(
            usage["iterations"],
            json!([iteration("compaction"), iteration("message")])
        );
        let expected = [
            ("system", "Be brief."),
            ("user", TOLD),
            ("user", "And now?"),
        ];
        assert_eq!(asked(&engine), pairs(&expected));

        // The next turn continues from the summary, with or without the summarized messages.
        let turn = [assistant(&first["content"]), user("More.")];
        let whole = [before.as_slice(), &turn].concat();
        let expected = [
            ("user", TOLD),
            ("user", "And now?"),
            ("assistant", "Yes."),
            ("user", "More."),
        ];
        for messages in [whole, turn.to_vec()] {
            let more = hi(json!({"messages": messages, "context_management": at_1000(json!({}))}));
            let next = message(&door, &more, streams).await;
            assert_eq!(next["content"][0]["type"], "text", "a short prompt");
            assert_eq!(next["usage"].get("iterations"), None);
            assert_eq!(asked(&engine), pairs(&expected));
        }
    }
}

#[tokio::test]
async fn a_summary_without_its_sealed_part_stands_alone() {
    let (first_door, _) = keyed(summarizes());
    let body = hi(json!({"messages": story(&[user("And now?")]),
        "context_management": at_1000(json!({}))}));
    let mut content = message(&first_door, &body, false).await["content"].clone();
    let expected = pairs(&[("user", TOLD), ("assistant", "Yes."), ("user", "More.")]);

    // A server with other keys reports that it could not read the sealed part.
    let (other, engine) = keyed(StandIn::hello());
    let next = |content: &Value| hi(json!({"messages": [assistant(content), user("More.")]}));
    let answer = ask_door(&other, &next(&content)).await;
    let listed = answer.header("x-loggia-ignored");
    assert_eq!(listed, Some("messages[].content[].encrypted_content"));
    assert_eq!(asked(&engine), expected);

    content[0]["encrypted_content"] = Value::Null;
    message(&other, &next(&content), false).await;
    assert_eq!(asked(&engine), expected);
}

#[tokio::test]
async fn an_answer_can_end_after_the_compaction_and_go_on_later() {
    for streams in [false, true] {
        let (door, engine) = keyed(summarizes());
        let edit = at_1000(
            json!({"pause_after_compaction": true, "instructions": "Which words were said?"}),
        );
        let body = hi(json!({"messages": story(&[user("And now?")]), "context_management": edit}));
        let first = message(&door, &body, streams).await;
        assert_eq!(first["stop_reason"], "compaction");
        assert_eq!(first["content"].as_array().map(Vec::len), Some(1));
        assert_eq!(first["content"][0]["content"], "They told a story.");
        assert_eq!(first["usage"]["input_tokens"], 0);
        assert_eq!(first["usage"]["output_tokens"], 0);
        assert_eq!(
            first["usage"]["iterations"],
            json!([iteration("compaction")])
        );
        // The summary is about all messages, because clients may continue without any of them.
        let question = asked(&engine).split_off(2);
        let expected = [("user", "And now?"), ("user", "Which words were said?")];
        assert_eq!(question, pairs(&expected));

        let paused = assistant(&first["content"]);
        let next = hi(
            json!({"messages": story(&[user("And now?"), paused.clone()]),
            "context_management": edit}),
        );
        let second = message(&door, &next, streams).await;
        assert_eq!(second["content"], json!([{"type": "text", "text": "Yes."}]));
        assert_eq!(
            asked(&engine),
            pairs(&[("user", TOLD), ("user", "And now?")])
        );

        // A client can repeat the last messages itself.
        let next = hi(json!({"messages": [paused, user("And now?")]}));
        message(&door, &next, streams).await;
        assert_eq!(
            asked(&engine),
            pairs(&[("user", TOLD), ("user", "And now?")])
        );
    }
}

#[tokio::test]
async fn a_result_keeps_its_call_beside_the_summary() {
    let (door, engine) = keyed(summarizes());
    let call = json!([{"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}]);
    let result = json!({"role": "user", "content": [
        {"type": "tool_result", "tool_use_id": "toolu_1", "content": "Sun."}]});
    let before = story(&[user("How is it?"), assistant(&call), result]);
    let tools = json!([{"name": "f", "input_schema": {"type": "object"}}]);
    let body = hi(json!({"messages": before, "tools": tools,
        "context_management": at_1000(json!({}))}));
    let first = message(&door, &body, false).await;
    let mut expected = vec![("user", TOLD), ("assistant", ""), ("tool", "Sun.")];
    assert_eq!(asked(&engine), pairs(&expected));

    let turn = [assistant(&first["content"]), user("More.")];
    let whole = [before.as_slice(), &turn].concat();
    let next = hi(json!({"messages": whole, "tools": tools}));
    message(&door, &next, false).await;
    expected.extend([("assistant", "Yes."), ("user", "More.")]);
    assert_eq!(asked(&engine), pairs(&expected));
}

#[tokio::test]
async fn a_conversation_is_answered_as_it_is_where_nothing_can_be_summarized() {
    let silent = StandIn::says(&[json!({"reasoning_content": "Hm."})], FinishReason::Stop)
        .then(&[json!({"content": "Yes."})], FinishReason::Stop);
    let says_yes = || StandIn::says(&[json!({"content": "Yes."})], FinishReason::Stop);
    let long = user(&"word ".repeat(1100));
    for (engine, messages) in [
        // The model writes no summary.
        (silent, story(&[user("And now?")])),
        // Nothing precedes the messages that the model answers.
        (says_yes(), vec![long]),
        // The prompt is short.
        (
            says_yes(),
            vec![user("a"), assistant(&json!("b")), user("c")],
        ),
    ] {
        let (door, engine) = keyed(engine);
        let pauses = at_1000(json!({"pause_after_compaction": true}));
        let body = hi(json!({"messages": messages, "context_management": pauses}));
        let message = message(&door, &body, false).await;
        assert_eq!(
            message["content"],
            json!([{"type": "text", "text": "Yes."}])
        );
        assert_eq!(message["stop_reason"], "end_turn");
        assert_eq!(asked(&engine).len(), messages.len());
    }
}

#[tokio::test]
async fn the_trigger_is_at_most_four_fifths_of_the_context() {
    for (context, is_compacted) in [(Some(1200), true), (Some(2000), false), (None, false)] {
        let engine = context
            .into_iter()
            .fold(summarizes(), StandIn::with_context);
        let (door, _) = keyed(engine);
        let edits = json!({"edits": [{"type": "compact_20260112"}]});
        let body = hi(json!({"messages": story(&[user("And now?")]), "context_management": edits}));
        let message = message(&door, &body, false).await;
        let first = &message["content"][0]["type"];
        assert_eq!(first == "compaction", is_compacted, "{context:?}");
    }
}

#[tokio::test]
async fn an_edit_that_cannot_be_read_is_refused_with_its_place() {
    let with = |more: Value| at_1000(more)["edits"][0].clone();
    for (edits, place) in [
        (
            json!([with(json!({"trigger": {"type": "tool_uses", "value": 5}}))]),
            "context_management.edits[0].trigger.type",
        ),
        (
            json!([with(
                json!({"trigger": {"type": "input_tokens", "value": 999}})
            )]),
            "context_management.edits[0].trigger.value",
        ),
        (
            json!([with(json!({"trigger": {"type": "input_tokens"}}))]),
            "context_management.edits[0].trigger.value",
        ),
        (
            json!([with(json!({"instructions": 5}))]),
            "context_management.edits[0].instructions",
        ),
        (
            json!([with(json!({})), with(json!({}))]),
            "context_management.edits[1]",
        ),
    ] {
        let body = hi(json!({"context_management": {"edits": edits}}));
        let (status, kind, message) = refusal(&body).await;
        assert_eq!((status, kind.as_str()), (400, "invalid_request_error"));
        assert!(message.contains(place), "{message}");
    }
}

#[tokio::test]
async fn a_compaction_before_a_summary_is_listed() {
    let body = hi(json!({"compaction": {"type": "summarize"},
        "context_management": at_1000(json!({}))}));
    let listed = ignored(Kind::Embedded, &body).await;
    assert_eq!(listed, "context_management.edits[].compact_20260112");
}
