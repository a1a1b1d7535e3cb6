//! Tests of the requests that an engine gets.

use std::time::Duration;

use super::*;
use crate::raw::{RawEngine, json, piece, stream_end, stream_head};
use loggia_backend::Backend;
use loggia_backend::http::Client;
use loggia_backend::openai::OpenAi;
use serde_json::{Value, json};

#[tokio::test]
async fn the_request_goes_out_as_it_came_with_its_unknown_fields() {
    let engine = RawEngine::start([json("200 OK", "{}")]).await;
    let url = format!("{}/v1/", engine.url).parse().unwrap();
    let backend = OpenAi::new("gpu", Client::default(), url, Some("sk-1".parse().unwrap()));
    let request = json!({
        "model": "m", "messages": [{"role": "developer", "content": [{"type": "text", "text": "Hi"}], "cache": true}],
        "temperature": 0.5, "min_p": 0.1, "chat_template_kwargs": {"enable_thinking": false}, "seed": 1,
    });
    let _ = backend.start(call(request.clone()).into()).await;
    let sent = engine.requests().remove(0);
    let (head, body) = sent.split_once("\r\n\r\n").unwrap();
    assert!(
        head.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"),
        "{head}"
    );
    for header in [
        "content-type: application/json",
        "accept: application/json",
        "authorization: Bearer sk-1",
    ] {
        assert!(head.contains(header), "{head}");
    }
    assert_eq!(serde_json::from_str::<Value>(body).unwrap(), request);
}

#[tokio::test]
async fn a_stream_always_asks_for_usage_and_keeps_its_other_options() {
    let engine = RawEngine::start([]).await;
    let backend = engine_at(&engine.url);
    for options in [
        Value::Null,
        json!({"include_usage": false, "include_obfuscation": false}),
        json!({"include_usage": true}),
    ] {
        let mut request = json!({"model": "m", "messages": [], "stream": true});
        if !options.is_null() {
            request["stream_options"] = options;
        }
        let _ = tokio::time::timeout(
            Duration::from_millis(200),
            backend.start(call(request).into()),
        )
        .await;
    }
    assert_eq!(
        engine.bodies(),
        [
            r#"{"model":"m","messages":[],"stream":true,"stream_options":{"include_usage":true}}"#,
            r#"{"model":"m","messages":[],"stream":true,"stream_options":{"include_usage":true,"include_obfuscation":false}}"#,
            r#"{"model":"m","messages":[],"stream":true,"stream_options":{"include_usage":true}}"#,
        ]
    );
}

/// llama-server sends 20 alternatives if the request does not say how many, and no
/// log-probabilities at all if it says 0.
#[tokio::test]
async fn a_token_has_as_many_alternatives_as_were_asked_for() {
    const SENT: &str = concat!(
        r#"data: {"choices":[{"index":0,"delta":{"content":"a"},"logprobs":{"content":[{"token":"a","logprob":-0.5,"bytes":[97],"#,
        r#""top_logprobs":[{"token":"a","logprob":-0.5,"bytes":[97]},{"token":"b","logprob":-2.0,"bytes":[98]}]}]}}]}"#,
        "\n\ndata: [DONE]\n\n"
    );
    for (asked, sent_on, left) in [
        (None, None, 0),
        (Some(0), None, 0),
        (Some(1), Some(1), 1),
        (Some(5), Some(5), 2),
    ] {
        let engine = RawEngine::start([vec![stream_head(), piece(SENT), stream_end()]]).await;
        let mut request = json!({"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": true, "logprobs": true});
        if let Some(asked) = asked {
            request["top_logprobs"] = json!(asked);
        }
        let (events, error) = told(
            engine_at(&engine.url)
                .start(call(request).into())
                .await
                .unwrap(),
        )
        .await;
        assert_eq!(error, None);
        let token = &events[0]["choices"][0]["logprobs"]["content"][0];
        assert_eq!(
            (
                token["logprob"].as_f64(),
                token["top_logprobs"].as_array().unwrap().len()
            ),
            (Some(-0.5), left)
        );
        let body: Value = serde_json::from_str(&engine.bodies()[0]).unwrap();
        assert_eq!(
            (
                body["logprobs"].as_bool(),
                body.get("top_logprobs").and_then(Value::as_u64)
            ),
            (Some(true), sent_on)
        );
    }
}

#[tokio::test]
async fn calls_after_the_first_are_left_out_where_one_was_asked_for() {
    let one = |index: u32| json!({"index": index, "id": format!("c{index}"), "type": "function", "function": {"name": "f", "arguments": "{}"}});
    let chunk = |index| json!({"choices": [{"index": 0, "delta": {"tool_calls": [one(index)]}, "finish_reason": null}]});
    let text = format!(
        "data: {}\n\ndata: {}\n\ndata: [DONE]\n\n",
        chunk(0),
        chunk(1)
    );
    for (parallel, expected) in [(json!(false), 1), (json!(true), 2), (Value::Null, 2)] {
        let engine = RawEngine::start([vec![stream_head(), piece(&text), stream_end()]]).await;
        let asked =
            json!({"model": "m", "messages": [], "stream": true, "parallel_tool_calls": parallel});
        let (events, _) = told(
            engine_at(&engine.url)
                .start(self::call(asked).into())
                .await
                .unwrap(),
        )
        .await;
        let calls = events
            .iter()
            .filter(|event| event.pointer("/choices/0/delta/tool_calls/0").is_some())
            .count();
        assert_eq!(calls, expected, "{events:?}");
    }
}
