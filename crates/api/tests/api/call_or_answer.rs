//! Tools together with `response_format`, for an Ollama that cannot do both in one request.

use crate::support::{Scripted, chat, hello};
use loggia_api::Policy;
use serde_json::{Value, json};

#[tokio::test]
async fn tools_beside_a_response_format_are_a_schema_of_a_call_or_the_answer() {
    let tools = json!([{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]);
    let schema = json!({"type": "object", "properties": {"age": {"$ref": "#/$defs/age"}}, "$defs": {"age": {"type": "integer"}}});
    let format = json!({"type": "json_schema", "json_schema": {"name": "n", "schema": schema}});
    let both =
        |stream: bool| hello(json!({"tools": tools, "response_format": format, "stream": stream}));

    let inner = Scripted::default().recorded("chat/whole-call-forced-by-format");
    let choice = chat(&inner, Policy::default(), both(false)).await.json()["choices"][0].clone();
    assert_eq!(
        (&choice["finish_reason"], &choice["message"]["content"]),
        (&json!("tool_calls"), &Value::Null)
    );
    assert_eq!(
        choice["message"]["tool_calls"][0]["function"]["name"],
        "get_weather"
    );
    let sent = inner.last_chat();
    assert_eq!(
        (sent.get("tools"), &sent["messages"][0]["role"]),
        (None, &json!("system"))
    );
    assert_eq!(
        sent["format"]["anyOf"],
        json!([{"$ref": "#/$defs/call_0"}, {"$ref": "#/$defs/answer"}])
    );
    assert_eq!(
        sent["format"]["$defs"]["answer"]["properties"]["age"]["$ref"],
        "#/$defs/answer/$defs/age"
    );

    let inner = Scripted::default().recorded("chat/whole-format-schema");
    let choice = chat(&inner, Policy::default(), both(false)).await.json()["choices"][0].clone();
    assert_eq!(choice["finish_reason"], "stop");
    assert_eq!(
        choice["message"]["content"], "{\n  \"name\": \"Ethan\",\"age\": 25}",
        "it only begins like a call"
    );

    let inner = Scripted::default().recorded("chat/stream-format-schema");
    let chunks = chat(&inner, Policy::default(), both(true)).await.chunks();
    let pieces = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str());
    let pieces: Vec<&str> = pieces.filter(|piece| !piece.is_empty()).collect();
    assert!(
        pieces.len() > 2 && serde_json::from_str::<Value>(&pieces.concat()).is_ok(),
        "{pieces:?}"
    );
}

#[tokio::test]
async fn text_that_may_be_a_call_is_held_back_until_it_is_one_or_none() {
    let line = |message: Value| json!({"message": message, "done": false}).to_string() + "\n";
    let streamed = async |pieces: &[&str]| {
        let end = r#"{"message":{"content":""},"done":true,"done_reason":"stop","prompt_eval_count":5,"eval_count":9}"#;
        let mut lines = vec![line(json!({"content": "", "thinking": "hm"}))];
        lines.extend(pieces.iter().map(|piece| line(json!({"content": piece}))));
        let inner =
            Scripted::default().on("/api/chat", 200, lines.into_iter().chain([end.to_owned()]));
        let fields = json!({"tools": [{"type": "function", "function": {"name": "f"}}], "response_format": {"type": "json_object"}, "stream": true});
        let chunks = chat(&inner, Policy::default(), hello(fields))
            .await
            .chunks();
        let deltas = chunks
            .iter()
            .map(|chunk| chunk["choices"][0]["delta"].clone())
            .collect::<Vec<_>>();
        assert!(
            deltas.iter().any(|delta| delta["reasoning"] == "hm"),
            "{deltas:?}"
        );
        let of = |name: &str| {
            deltas
                .iter()
                .map(|delta| delta[name].clone())
                .filter(|it| !it.is_null() && it != "")
                .collect()
        };
        let (texts, calls): (Vec<Value>, Vec<Value>) = (of("content"), of("tool_calls"));
        (
            texts,
            calls,
            chunks.iter().find_map(|chunk| {
                chunk["choices"][0]["finish_reason"]
                    .as_str()
                    .map(str::to_owned)
            }),
        )
    };
    let (texts, calls, end) =
        streamed(&["{\"name", "\": \"f\", \"arg", "uments\": {\"x\":1}}"]).await;
    assert_eq!(
        (texts.len(), calls.len(), end.as_deref()),
        (0, 1, Some("tool_calls"))
    );
    assert_eq!(
        (
            &calls[0][0]["function"]["name"],
            &calls[0][0]["function"]["arguments"]
        ),
        (&json!("f"), &json!("{\"x\":1}"))
    );
    let (texts, calls, end) = streamed(&["{\"name", "\": \"Ada", "\"}"]).await;
    assert_eq!(
        (texts, calls.len(), end.as_deref()),
        (
            vec![json!("{\"name"), json!("\": \"Ada"), json!("\"}")],
            0,
            Some("stop")
        )
    );
    let (texts, calls, _) = streamed(&["{\"name\": \"f\", \"age\": 3}"]).await;
    assert_eq!(
        (texts.len(), calls.len()),
        (1, 0),
        "no call, for it has no arguments"
    );
}
