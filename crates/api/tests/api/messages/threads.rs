//! Later turns: threads that the server keeps, and reasoning in signatures.

use std::sync::Arc;

use loggia_api::{Door, MemoryStore, Policy};
use loggia_seal::Keys;
use loggia_wire::openai::FinishReason;
use serde_json::{Value, json};

use super::stand_in::{StandIn, ask_door, call, door, hi};
use super::state_machine::checked;

/// A door with a store, and its engine, which calls a tool.
fn keeping(store: &Arc<MemoryStore>) -> (Door, Arc<StandIn>) {
    let said = call(0, "toolu_1", "get_weather", &["{\"city\":\"Paris\"}"]);
    let engine = Arc::new(StandIn::says(&said, FinishReason::ToolCalls));
    let door = door(&engine, Policy::default()).with_store(Arc::clone(store) as _);
    (door, engine)
}

fn create(streams: bool) -> Value {
    let tool = json!({"name": "get_weather", "input_schema": {"type": "object"}});
    hi(
        json!({"system": "Be brief.", "tools": [tool], "thread": {"type": "create"}, "stream": streams}),
    )
}

fn go_on(id: &Value, content: &Value) -> Value {
    hi(json!({
        "messages": [{"role": "user", "content": content}],
        "thread": {"type": "continue", "previous_message_id": id}
    }))
}

fn result(id: &str) -> Value {
    json!([{"type": "tool_result", "tool_use_id": id, "content": "Sun."}])
}

/// Returns the message that an answer is or adds up to.
fn message(answer: &crate::support::Answer, streams: bool) -> Value {
    assert_eq!(answer.status(), 200, "{}", answer.text());
    if streams {
        checked(answer.text())
    } else {
        answer.json()
    }
}

#[tokio::test]
async fn a_thread_goes_on_with_its_new_messages_alone() {
    for streams in [false, true] {
        let store = Arc::new(MemoryStore::default());
        let (door, engine) = keeping(&store);
        let first = message(&ask_door(&door, &create(streams)).await, streams);
        // Another server with the same store.
        let (other, _) = keeping(&store);
        drop(other);
        let mut next = go_on(&first["id"], &result("toolu_1"));
        next["stream"] = json!(streams);
        let second = message(&ask_door(&door, &next).await, streams);
        let asked = engine.asked();
        let roles: Vec<&str> = asked["messages"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|message| message["role"].as_str().expect("a role"))
            .collect();
        assert_eq!(roles, ["system", "user", "assistant", "tool"]);
        assert_eq!(asked["messages"][0]["content"], "Be brief.");
        assert_eq!(
            asked["messages"][2]["tool_calls"][0]["function"]["arguments"],
            "{\"city\":\"Paris\"}"
        );
        assert_eq!(asked["tools"][0]["function"]["name"], "get_weather");
        // The third turn has all earlier messages. Another turn may continue from the first.
        let third = ask_door(&door, &go_on(&second["id"], &result("toolu_1"))).await;
        assert_eq!(third.status(), 200, "{}", third.text());
        let asked = engine.asked()["messages"].as_array().expect("a list").len();
        assert_eq!(asked, 6);
        let fork = ask_door(&door, &go_on(&first["id"], &result("toolu_1"))).await;
        assert_eq!(fork.status(), 200);
    }
}

#[tokio::test]
async fn errors_about_a_thread_have_the_codes_that_the_sdks_read() {
    let store = Arc::new(MemoryStore::default());
    let (with, engine) = keeping(&store);
    let without = door(&engine, Policy::default());
    let unknown = go_on(&json!("msg_none"), &json!("Hi"));
    for (door, body, status, code) in [
        (&without, create(false), 400, "thread_unsupported_request"),
        (&without, unknown.clone(), 400, "thread_unsupported_request"),
        (&with, unknown, 404, "thread_not_found"),
    ] {
        let answer = ask_door(door, &body).await;
        assert_eq!(answer.status(), status);
        let details = answer.json()["error"]["details"].clone();
        assert_eq!(details["error_code"], code);
    }
}

#[tokio::test]
async fn an_error_in_a_thread_is_about_the_messages_of_the_request() {
    let store = Arc::new(MemoryStore::default());
    let (door, _) = keeping(&store);
    let first = message(&ask_door(&door, &create(false)).await, false);
    let answer = ask_door(&door, &go_on(&first["id"], &result("toolu_2"))).await;
    assert_eq!(answer.status(), 400);
    let text = answer.json()["error"]["message"].to_string();
    assert!(
        text.contains("messages[0].content[0].tool_use_id"),
        "{text}"
    );
}

#[tokio::test]
async fn an_answer_that_fails_is_not_part_of_a_thread() {
    let store = Arc::new(MemoryStore::default());
    let engine = Arc::new(StandIn::hello().dies());
    let door = door(&engine, Policy::default()).with_store(Arc::clone(&store) as _);
    let answer = ask_door(&door, &create(true)).await;
    let start = answer.text().split("\"id\":\"").nth(1).expect("an id");
    let id = start.split('"').next().expect("an id");
    let next = ask_door(&door, &go_on(&json!(id), &json!("Hi"))).await;
    assert_eq!(next.status(), 404);
}

#[tokio::test]
async fn reasoning_that_the_client_does_not_see_comes_back_in_its_signature() {
    let said = [
        json!({"reasoning_content": "It is "}),
        json!({"reasoning_content": "noon."}),
        json!({"content": "Noon."}),
    ];
    let engine = || Arc::new(StandIn::says(&said, FinishReason::Stop));
    let keys = Arc::new(Keys::random());
    let asked = |display: &str, streams: bool| {
        hi(json!({"thinking": {"type": "adaptive", "display": display}, "stream": streams}))
    };
    for (display, shown) in [("omitted", ""), ("summarized", "It is noon.")] {
        for streams in [false, true] {
            let first = door(&engine(), Policy::default()).with_keys(Arc::clone(&keys));
            let answer = ask_door(&first, &asked(display, streams)).await;
            let content = message(&answer, streams)["content"].clone();
            assert_eq!(content[0]["thinking"], shown);
            assert!(!content[0]["signature"].as_str().expect("a text").is_empty());
            let history = hi(json!({"messages": [
                {"role": "user", "content": "When?"},
                {"role": "assistant", "content": content},
                {"role": "user", "content": "And now?"}
            ]}));
            // Another server with the same keys, and one with others.
            for (keys, is_own) in [(Arc::clone(&keys), true), (Arc::new(Keys::random()), false)] {
                let engine = engine();
                let second = door(&engine, Policy::default()).with_keys(keys);
                let answer = ask_door(&second, &history).await;
                assert_eq!(answer.status(), 200, "{}", answer.text());
                let reasoning = engine.asked()["messages"][1]["reasoning_content"].clone();
                let is_lost = display == "omitted" && !is_own;
                assert_eq!(reasoning == "It is noon.", !is_lost, "{reasoning}");
                let listed = answer.header("x-loggia-ignored").unwrap_or_default();
                assert_eq!(listed.contains("signature"), is_lost, "{listed}");
            }
        }
    }
}
