//! Requests that ask for a summary instead of an answer, and the messages that replace a
//! conversation in later requests.

use loggia_wire::openai::FinishReason;
use serde_json::{Value, json};

use super::stand_in::{KINDS, Kind, StandIn, chat_of, hi, ignored, message};

fn block(content: &Value, tool_changes: &Value) -> Value {
    json!({"type": "compaction", "content": content, "encrypted_content": null, "tool_changes": tool_changes})
}

fn tool(name: &str) -> Value {
    json!({"name": name, "input_schema": {"type": "object", "properties": {}}})
}

#[tokio::test]
async fn a_summary_is_the_only_block_of_its_message() {
    for (instructions, asked) in [
        (json!("Be brief."), Some("Be brief.")),
        (json!(" "), None),
        (Value::Null, None),
    ] {
        for kind in KINDS {
            let said = [
                json!({"reasoning_content": "Hm."}),
                json!({"content": " They said "}),
                json!({"content": "hi.\n"}),
            ];
            // A summary that reached the token limit is one too.
            let engine = StandIn::says(&said, FinishReason::Length).of(kind);
            let more = json!({"tools": [tool("f")], "thinking": {"type": "adaptive"},
                "compaction": {"type": "summarize", "instructions": instructions}});
            let (message, engine) = message(engine, &hi(more)).await;
            assert_eq!(
                message["content"],
                json!([block(&json!("They said hi."), &json!([]))])
            );
            assert_eq!(message["stop_reason"], "compaction");
            assert_eq!(message["usage"]["output_tokens"], 7);
            let chat = engine.asked();
            assert_eq!(chat.get("tools"), None);
            let question = &chat["messages"][1];
            assert_eq!(question["role"], "user");
            let text = question["content"].as_str().expect("a text");
            assert_eq!(asked.unwrap_or(text), text);
            assert_eq!(text.starts_with("Summarize"), asked.is_none(), "{text}");
        }
    }
    let silent = StandIn::says(&[json!({"reasoning_content": "Hm."})], FinishReason::Stop);
    let (message, _) = message(silent, &hi(json!({"compaction": {"type": "summarize"}}))).await;
    assert_eq!(message["content"], json!([block(&Value::Null, &json!([]))]));
}

#[tokio::test]
async fn what_only_shapes_an_answer_is_listed_beside_a_compaction() {
    let format = json!({"type": "json_schema", "schema": {"type": "object"}});
    let asked = hi(
        json!({"compaction": {"type": "summarize"}, "stop_sequences": ["x"], "tools": [tool("f")],
        "tool_choice": {"type": "any"}, "output_config": {"format": format}}),
    );
    let listed = ignored(Kind::Embedded, &asked).await;
    assert_eq!(listed, "stop_sequences, tool_choice, output_config.format");
}

#[tokio::test]
async fn a_summary_stands_for_all_messages_before_it() {
    let user = |content: &str| json!({"role": "user", "content": content});
    let assistant = |content: Value| json!({"role": "assistant", "content": content});
    let text = |text: &str| json!({"type": "text", "text": text});
    let chat = async |messages: Value| chat_of(json!({ "messages": messages })).await;
    let told = |summary: &str| {
        let introduced = "The conversation before this message was replaced by this summary:";
        user(&format!("{introduced}\n\n{summary}"))
    };
    let summary = |content: &str| block(&json!(content), &json!([]));
    for (messages, expected) in [
        (
            json!([assistant(json!([summary("S")])), user("b")]),
            json!([told("S"), user("b")]),
        ),
        // The model continues from the summary.
        (
            json!([assistant(json!([summary("S")]))]),
            json!([told("S")]),
        ),
        // The messages that the summary replaces may still be sent.
        (
            json!([
                user("a"),
                assistant(json!([summary("S")])),
                assistant(json!([text("old"), summary("T"), text("new")])),
                user("b")
            ]),
            json!([told("T"), {"role": "assistant", "content": "new"}, user("b")]),
        ),
        // A failed summary replaces nothing.
        (
            json!([
                user("a"),
                assistant(json!([block(&Value::Null, &json!([])), text("x")])),
                user("b")
            ]),
            json!([user("a"), {"role": "assistant", "content": "x"}, user("b")]),
        ),
    ] {
        assert_eq!(chat(messages).await["messages"], expected);
    }
}

#[tokio::test]
async fn a_summary_keeps_the_tools_that_the_conversation_added_and_removed() {
    let addition = json!({"type": "tool_addition",
        "tool": {"type": "tool_definition", "definition": tool("added")}});
    let removal =
        json!({"type": "tool_removal", "tool": {"type": "tool_reference", "name": "old"}});
    let changes = json!([addition, removal]);
    let asked = hi(
        json!({"compaction": {"type": "summarize"}, "tools": [tool("old"), tool("kept")],
        "messages": [{"role": "user", "content": "a"}, {"role": "system", "content": changes}]}),
    );
    let (message, _) = message(StandIn::hello(), &asked).await;
    let summary = message["content"][0].clone();
    assert_eq!(summary["tool_changes"], changes);
    let chat = chat_of(json!({"tools": [tool("old"), tool("kept")],
        "messages": [{"role": "assistant", "content": [summary]}, {"role": "user", "content": "b"}]}))
    .await;
    let names: Vec<&Value> = chat["tools"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|tool| &tool["function"]["name"])
        .collect();
    assert_eq!(names, ["kept", "added"]);
}
