//! Answers of Ollama and what the client gets: ends without a reason, refusals of its cloud,
//! repeated text, calls, and parameters of tools that Ollama would drop.

use serde_json::{Value, json};

use crate::support::{
    Answer, Scripted, chat, hello, layered, plain_model, post, recording, send, strict,
};
use loggia_api::Policy;

/// The lines of a streamed answer, or the single line of a complete one.
fn lines(lines: &[Value]) -> Vec<u8> {
    lines
        .iter()
        .flat_map(|line| format!("{line}\n").into_bytes())
        .collect()
}

fn line(content: &str) -> Value {
    json!({"message": {"role": "assistant", "content": content}, "done": false})
}

fn last(reason: &str) -> Value {
    json!({"message": {"role": "assistant", "content": ""}, "done": true, "done_reason": reason, "eval_count": 2})
}

/// An Ollama whose model supports tools.
fn with_tools() -> Scripted {
    let (status, show) = recording("server/show-tools");
    Scripted::default()
        .on("/api/show", status, [show])
        .recorded("chat/whole")
}

async fn asked(inner: &Scripted, more: Value) -> Answer {
    chat(inner, Policy::default(), hello(more)).await
}

#[tokio::test]
async fn a_conversation_of_system_messages_asks_the_last_of_them() {
    let inner = plain_model();
    let system = |text: &str| json!({"role": "system", "content": text});
    let roles = |chat: Value| -> Vec<Value> {
        chat["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|message| message["role"].clone())
            .collect()
    };
    for (messages, expected) in [
        (json!([system("Say hello.")]), vec!["user"]),
        (
            json!([system("Be brief."), {"role": "developer", "content": "Say hello."}]),
            vec!["system", "user"],
        ),
        (
            json!([system("Be brief."), {"role": "user", "content": "Hello"}]),
            vec!["system", "user"],
        ),
        (
            json!([{"role": "user", "content": "Hello"}, system("Be brief.")]),
            vec!["user", "system"],
        ),
    ] {
        let answer = asked(&inner, json!({"messages": messages})).await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
        assert_eq!(roles(inner.last_chat()), expected, "{messages}");
        let is_changed = messages
            .as_array()
            .unwrap()
            .iter()
            .all(|message| message["role"] != "user");
        let changed = is_changed.then_some("messages: the last system message made a user message");
        assert_eq!(answer.header("x-loggia-changed"), changed, "{messages}");
    }
}

#[tokio::test]
async fn a_model_that_was_only_loaded_or_unloaded_has_not_answered() {
    for reason in ["load", "unload"] {
        for stream in [false, true] {
            let inner = plain_model().on("/api/chat", 200, [lines(&[last(reason)])]);
            let answer = asked(&inner, json!({"stream": stream})).await;
            let error = answer.json()["error"].clone();
            assert_eq!(
                (answer.status(), &error["code"]),
                (502, &json!("backend_bad_answer")),
                "{reason} {stream}"
            );
            assert!(
                error["message"]
                    .as_str()
                    .unwrap()
                    .contains("without generating an answer"),
                "{error}"
            );
        }
    }
    let inner = plain_model().on(
        "/api/generate",
        200,
        [lines(&[
            json!({"response": "", "done": true, "done_reason": "load"}),
        ])],
    );
    let body = json!({"model": "smollm2:135m", "prompt": "Hi"}).to_string();
    let answer = send(
        &layered(&inner, Policy::default()),
        post("/v1/completions", body),
    )
    .await;
    assert_eq!(answer.status(), 502, "{}", answer.text());
}

#[tokio::test]
async fn what_ollamas_cloud_refuses_keeps_its_status_and_its_words() {
    for (status, words) in [
        (401, "unauthorized"),
        (402, "this account has a balance to pay"),
        (403, "this model requires a subscription"),
    ] {
        for stream in [false, true] {
            let inner =
                plain_model().on("/api/chat", status, [json!({"error": words}).to_string()]);
            let answer = asked(&inner, json!({"stream": stream})).await;
            let message = answer.json()["error"]["message"]
                .as_str()
                .unwrap()
                .to_owned();
            assert_eq!(answer.status(), status, "{message}");
            assert!(
                message.contains(words) && !message.contains("credentials"),
                "{message}"
            );
            assert_eq!(
                status == 401,
                message.contains("ollama signin"),
                "{message}"
            );
        }
    }
}

/// A real Ollama does this: its last line, or its complete object, has `done: false`, and the body
/// ends normally.
#[tokio::test]
async fn an_answer_that_repeats_itself_is_given_with_length_and_a_name_for_it() {
    let whole = asked(&plain_model().recorded("chat/whole-repetition"), json!({})).await;
    assert_eq!(
        (whole.status(), whole.header("x-loggia-cut-short")),
        (200, Some("repetition"))
    );
    let choice = &whole.json()["choices"][0];
    assert_eq!(choice["finish_reason"], "length");
    assert!(
        choice["message"]["content"]
            .as_str()
            .unwrap()
            .starts_with("No no no")
    );

    let stream = asked(
        &plain_model().recorded("chat/stream-repetition"),
        json!({"stream": true}),
    )
    .await;
    let text = stream.text();
    assert_eq!(stream.status(), 200);
    assert!(
        text.contains("\n\n: x-loggia-cut-short: repetition\n\n"),
        "{text}"
    );
    assert!(
        text.ends_with("\"finish_reason\":\"length\"}]}\n\ndata: [DONE]\n\n"),
        "{text}"
    );

    let again: Vec<Value> = (0..31)
        .map(|_| json!({"response": " no", "done": false}))
        .collect();
    let inner = plain_model().on("/api/generate", 200, [lines(&again)]);
    let body = json!({"model": "smollm2:135m", "prompt": "no", "stream": true}).to_string();
    let text = send(
        &layered(&inner, Policy::default()),
        post("/v1/completions", body),
    )
    .await;
    assert!(
        text.text().contains("\"finish_reason\":\"length\"")
            && text.text().ends_with("data: [DONE]\n\n")
    );
}

#[tokio::test]
async fn an_answer_that_is_cut_otherwise_is_an_error_and_a_whole_one_is_given_as_far_as_it_came() {
    let stream = asked(
        &plain_model().on("/api/chat", 200, [lines(&[line("Hi"), line(" there")])]),
        json!({"stream": true}),
    )
    .await;
    assert!(
        stream.text().contains("backend_cut_short") && !stream.text().contains("[DONE]"),
        "{}",
        stream.text()
    );
    let whole = asked(
        &plain_model().on("/api/chat", 200, [lines(&[line("Hi there")])]),
        json!({}),
    )
    .await;
    assert_eq!(
        (whole.status(), whole.header("x-loggia-cut-short")),
        (200, Some("unknown"))
    );
    assert_eq!(whole.json()["choices"][0]["finish_reason"], "length");
    for nothing in [
        lines(&[line("")]),
        Vec::new(),
        b"{\"message\":{\"content\":\"Hi".to_vec(),
    ] {
        let whole = asked(
            &plain_model().on("/api/chat", 200, [nothing.clone()]),
            json!({}),
        )
        .await;
        assert_eq!(whole.status(), 502, "{}", String::from_utf8_lossy(&nothing));
    }
}

#[tokio::test]
async fn two_calls_of_ollamas_with_one_id_have_ids_that_differ() {
    let call = |at: &str| {
        json!({"message": {"content": "", "tool_calls": [
        {"id": "call_0", "function": {"name": "look", "arguments": {"at": at}}}]}, "done": false})
    };
    let tools = json!([{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]);
    let streamed = with_tools().on(
        "/api/chat",
        200,
        [lines(&[call("x"), call("y"), last("stop")])],
    );
    let answer = asked(&streamed, json!({"tools": tools, "stream": true})).await;
    let calls: Vec<Value> = answer
        .chunks()
        .iter()
        .filter_map(|chunk| chunk.pointer("/choices/0/delta/tool_calls/0").cloned())
        .collect();
    assert_eq!(
        (&calls[0]["index"], &calls[1]["index"]),
        (&json!(0), &json!(1))
    );
    assert_ne!(calls[0]["id"], calls[1]["id"]);
    let both = json!({"message": {"content": "", "tool_calls": [call("x")["message"]["tool_calls"][0], call("y")["message"]["tool_calls"][0]]},
        "done": true, "done_reason": "stop"});
    let answer = asked(
        &with_tools().on("/api/chat", 200, [lines(&[both])]),
        json!({"tools": tools}),
    )
    .await;
    let choice = answer.json()["choices"][0].clone();
    assert_eq!(choice["finish_reason"], "tool_calls");
    let calls = &choice["message"]["tool_calls"];
    assert_ne!(calls[0]["id"], calls[1]["id"]);
}

#[tokio::test]
async fn what_ollama_drops_of_a_tool_is_written_in_its_words_or_named() {
    let guest =
        json!({"type": "object", "properties": {"name": {"type": "string", "pattern": "^[A-Z]"}}});
    let parameters = json!({"type": "object", "properties": {"guest": {"$ref": "#/$defs/Guest"}, "kind": {"const": "double"}},
        "required": ["guest"], "additionalProperties": false, "$defs": {"Guest": guest}});
    let tools =
        json!([{"type": "function", "function": {"name": "book", "parameters": parameters}}]);
    let inner = with_tools();
    for policy in [Policy::default(), strict()] {
        let answer = chat(&inner, policy, hello(json!({"tools": tools}))).await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
        let named = "tools[0].function.parameters#/properties/guest/properties/name/pattern";
        assert_eq!(answer.header("x-loggia-ignored"), Some(named));
        let sent = &inner.last_chat()["tools"][0]["function"]["parameters"];
        let guest = json!({"type": "object", "properties": {"name": {"type": "string"}}});
        let expected = json!({"type": "object", "properties": {"guest": guest, "kind": {"enum": ["double"]}}, "required": ["guest"]});
        assert_eq!(*sent, expected);
    }
    // For a model without support for tools, the prompt describes the tools completely.
    let inner = plain_model();
    let answer = asked(&inner, json!({"tools": tools})).await;
    assert_eq!(answer.header("x-loggia-ignored"), None);
    assert!(
        inner.last_chat()["messages"][0]["content"]
            .as_str()
            .unwrap()
            .contains("pattern")
    );
}

#[tokio::test]
async fn numbers_in_a_tools_schema_reach_ollama_with_all_their_digits() {
    let numbers = "[25227143063332189585438,0.1234567890123456789]";
    let body = format!(
        r#"{{"model":"smollm2:135m","messages":[{{"role":"user","content":"Hi"}}],"tools":[{{"type":"function",
            "function":{{"name":"f","parameters":{{"type":"object","properties":{{"a":{{"enum":{numbers}}}}}}}}}}}]}}"#
    );
    let inner = with_tools();
    let answer = send(
        &layered(&inner, Policy::default()),
        post("/v1/chat/completions", body),
    )
    .await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let seen = inner.seen.lock().expect("no panic");
    let (_, sent) = seen.last().expect("a request");
    let sent = std::str::from_utf8(sent).expect("UTF-8");
    assert!(sent.contains(&format!("\"enum\":{numbers}")), "{sent}");
}
