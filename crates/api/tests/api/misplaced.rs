//! Fields without a meaning: in the wrong place, duplicate, or of a type that they cannot have.
//! Each is reported.

use crate::support::{chat, hello, layered, plain_model, post, send, strict};
use loggia_api::{Policy, Strictness};
use loggia_backend::Profile;
use serde_json::json;

#[tokio::test]
async fn what_belongs_to_another_type_or_is_said_in_two_ways_is_named() {
    let file = json!({"filename": "a.txt", "file_data": "aGk=", "file_id": "file-1", "mood": 1});
    for (ignored, fields) in [
        (
            "max_tokens",
            json!({"max_tokens": 3, "max_completion_tokens": 5}),
        ),
        (
            "messages[].content[].image_url",
            json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "x", "image_url": {"url": "data:,"}}]}]}),
        ),
        (
            "messages[].content[].file.file_id, messages[].content[].file.mood",
            json!({"messages": [{"role": "user", "content": [{"type": "file", "file": file}]}]}),
        ),
        (
            "messages[].reasoning",
            json!({"messages": [{"role": "assistant", "content": "x", "reasoning": "a", "reasoning_content": "b"}, {"role": "user", "content": "x"}]}),
        ),
    ] {
        let answer = chat(&plain_model(), Policy::default(), hello(fields.clone())).await;
        assert_eq!(
            (answer.status(), answer.header("x-loggia-ignored")),
            (200, Some(ignored)),
            "{}",
            answer.text()
        );
        assert_eq!(
            chat(&plain_model(), strict(), hello(fields)).await.status(),
            400,
            "{ignored}"
        );
    }
    let the_same = json!({"max_tokens": 3, "max_completion_tokens": 3});
    let answer = chat(&plain_model(), strict(), hello(the_same)).await;
    assert_eq!(
        (answer.status(), answer.header("x-loggia-ignored")),
        (200, None),
        "{}",
        answer.text()
    );
}

#[tokio::test]
async fn what_cannot_mean_anything_is_refused_with_its_place() {
    let function = json!({"name": "f"});
    let tool = json!({"type": "function", "function": function});
    let call = json!({"id": "c", "type": "banana", "function": {"name": "f", "arguments": "{}"}});
    for (param, code, fields) in [
        (
            "response_format.json_schema",
            "unknown_parameter",
            json!({"response_format": {"type": "json_object", "json_schema": {"name": "s"}}}),
        ),
        (
            "tool_choice.allowed_tools",
            "unknown_parameter",
            json!({"tools": [tool], "tool_choice": {"type": "function", "function": function, "allowed_tools": {"mode": "auto", "tools": []}}}),
        ),
        (
            "tools[0].function",
            "missing_required_parameter",
            json!({"tools": [{"type": "function"}]}),
        ),
        (
            "functions",
            "invalid_value",
            json!({"tools": [tool], "functions": [function]}),
        ),
        (
            "function_call.mood",
            "unknown_parameter",
            json!({"functions": [function], "function_call": {"name": "f", "mood": 1}}),
        ),
        (
            "messages[0].tool_calls[0].type",
            "invalid_value",
            json!({"messages": [{"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "c", "content": "x"}]}),
        ),
        (
            "messages[0].tool_calls[0].type",
            "invalid_value",
            json!({"messages": [{"role": "assistant", "tool_calls": [{"id": "c", "type": "banana", "banana": {"name": "f"}}]}]}),
        ),
        (
            "messages[0].tool_calls[0].custom.input",
            "missing_required_parameter",
            json!({"messages": [{"role": "assistant", "tool_calls": [{"id": "c", "type": "custom", "custom": {"name": "f"}}]}]}),
        ),
        (
            "messages[0].tool_calls[0].function",
            "missing_required_parameter",
            json!({"messages": [{"role": "assistant", "tool_calls": [{"id": "c", "type": "function"}]}]}),
        ),
        (
            "messages[0].content[0].file.filename",
            "invalid_type",
            json!({"messages": [{"role": "user", "content": [{"type": "file", "file": {"filename": 7}}]}]}),
        ),
    ] {
        let answer = chat(&plain_model(), Policy::default(), hello(fields)).await;
        let error = &answer.json()["error"];
        assert_eq!(
            (answer.status(), &error["param"], &error["code"]),
            (400, &json!(param), &json!(code)),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_refusal_beside_a_content_is_said_after_it() {
    let text = |text: &str| json!([{"type": "text", "text": text}]);
    for (content, said) in [
        (json!(null), "No."),
        (json!(""), "No."),
        (json!([]), "No."),
        (json!("I see. "), "I see. No."),
        (text("I see. "), "I see. No."),
    ] {
        let inner = plain_model();
        let messages = json!([{"role": "assistant", "content": content, "refusal": "No."}, {"role": "user", "content": "x"}]);
        let answer = chat(&inner, strict(), hello(json!({"messages": messages}))).await;
        assert_eq!(
            (
                answer.status(),
                &inner.last_chat()["messages"][0]["content"]
            ),
            (200, &json!(said)),
            "{content}"
        );
    }
}

#[tokio::test]
async fn a_field_that_is_there_twice_is_refused_however_deep_it_is() {
    let begin = r#""model":"a","messages":[{"role":"user","content":"x"}]"#;
    let with = |more: &str| format!("{{{begin},{more}}}");
    let tools = |parameters: &str| {
        format!(
            r#""tools":[{{"type":"function","function":{{"name":"f","parameters":{parameters}}}}}]"#
        )
    };
    for (param, twice) in [
        ("model", with(r#""model":"b""#)),
        ("odd", with(r#""odd":1,"odd":1"#)),
        ("messages[0].content", r#"{"model":"a","messages":[{"role":"user","content":"x","content":"y"}]}"#.to_owned()),
        ("options.top_k", with(r#""options":{"top_k":1,"top_k":2}"#)),
        ("logit_bias.5", with(r#""logit_bias":{"5":1,"5":2}"#)),
        ("metadata.a", with(r#""metadata":{"a":"x","a":"x"}"#)),
        ("chat_template_kwargs.deep[1].b", with(r#""chat_template_kwargs":{"deep":[0,{"b":1,"b":1}]}"#)),
        ("prediction.content[0].text", with(r#""prediction":{"content":[{"text":"a","text":"b"}]}"#)),
        ("audio.voice", with(r#""audio":{"voice":"a","voice":"b"}"#)),
        ("functions[0].parameters.type", with(r#""functions":[{"name":"f","parameters":{"type":"a","type":"b"}}]"#)),
        (
            "tools[0].function.parameters.properties.a",
            with(&tools(r#"{"properties":{"a":{},"b":{"a":{}},"a":{"type":"string"}}}"#)),
        ),
        (
            "response_format.json_schema.schema.$defs.x.type",
            with(r#""response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"$defs":{"x":{"type":"string","type":"null"}}}}}"#),
        ),
        (
            "messages[0].content[0].cache_control.type",
            r#"{"model":"a","messages":[{"role":"user","content":[{"type":"text","text":"x","cache_control":{"type":1,"type":2}}]}]}"#.to_owned(),
        ),
    ] {
        for profile in [Profile::Openai, Profile::Original] {
            let policy = Policy { profile, ..Policy::default() };
            let error = loggia_api::parse_chat(twice.as_bytes(), &policy).unwrap_err().body().error;
            let found = (error.param.as_deref(), error.code.as_deref());
            assert_eq!(found, (Some(param), Some("duplicate_parameter")), "{twice}");
        }
    }
    for (path, body) in [
        (
            "/v1/completions",
            r#"{"model":"a","prompt":"x","options":{"top_k":1,"top_k":1}}"#,
        ),
        (
            "/v1/embeddings",
            r#"{"model":"a","input":"x","options":{"top_k":1,"top_k":1}}"#,
        ),
    ] {
        let answer = send(
            &layered(&plain_model(), Policy::default()),
            post(path, body),
        )
        .await;
        let error = &answer.json()["error"];
        let found = (answer.status(), &error["param"], &error["code"]);
        assert_eq!(
            found,
            (400, &json!("options.top_k"), &json!("duplicate_parameter")),
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_field_that_is_there_twice_in_a_response_is_refused_however_lenient() {
    for (param, body) in [
        (
            "model",
            r#"{"model":"a","model":"b","input":"x","store":false}"#,
        ),
        ("model", r#"{"model":null,"model":null,"input":"x"}"#),
        ("input", r#"{"model":"a","input":"x","input":"y"}"#),
        ("input", r#"{"model":null,"input":"x","input":"y"}"#),
        ("input", r#"{"input":"x","input":"y"}"#),
        (
            "tools[0].parameters.type",
            r#"{"model":"a","input":"x","tools":[{"type":"function","name":"f","parameters":{"type":"a","type":"b"}}]}"#,
        ),
        (
            "tools[0].parameters.type",
            r#"{"model":null,"input":"x","tools":[{"type":"function","name":"f","parameters":{"type":"a","type":"b"}}]}"#,
        ),
    ] {
        for strictness in [Strictness::Strict, Strictness::Plain, Strictness::Lenient] {
            // Strict and default servers refuse a `model` of null first.
            if strictness != Strictness::Lenient && body.contains("null") {
                continue;
            }
            let policy = Policy {
                strictness,
                ..Policy::default()
            };
            let engine = layered(&plain_model(), policy);
            let answer = send(&engine, post("/v1/responses", body)).await;
            let error = &answer.json()["error"];
            let found = (answer.status(), &error["param"], &error["code"]);
            let expected = (400, &json!(param), &json!("duplicate_parameter"));
            assert_eq!(found, expected, "{strictness:?}: {body}");
        }
    }
}

#[tokio::test]
async fn a_model_without_a_name_is_no_model_that_is_missing() {
    for (path, body) in [
        (
            "/v1/chat/completions",
            json!({"model": "", "messages": [{"role": "user", "content": "x"}]}),
        ),
        ("/v1/completions", json!({"model": "", "prompt": "x"})),
        ("/v1/embeddings", json!({"model": "", "input": "x"})),
    ] {
        let answer = send(
            &layered(&plain_model(), Policy::default()),
            post(path, body.to_string()),
        )
        .await;
        let error = &answer.json()["error"];
        let found = (answer.status(), &error["param"], &error["code"]);
        assert_eq!(
            found,
            (400, &json!("model"), &json!("missing_required_parameter")),
            "{path}"
        );
    }
}
