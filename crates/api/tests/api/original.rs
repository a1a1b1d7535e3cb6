//! Part 1 of `docs/dialects.md`, row by row, under both profiles: bytes in, bytes out.

use crate::support::{Scripted, chat, hello, layered, post, send};
use http::Request;
use http_body_util::Full;
use loggia_api::Policy;
use loggia_backend::Profile;
use serde_json::{Value, json};

fn ours() -> Policy {
    Policy::default()
}

fn original() -> Policy {
    Policy {
        profile: Profile::Original,
        ..Policy::default()
    }
}

/// Returns the request that Ollama receives for a chat with these fields.
async fn sent(policy: Policy, more: Value) -> Value {
    let inner = Scripted::default().recorded("chat/whole");
    let answer = chat(&inner, policy, hello(more)).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    inner.last_chat()
}

async fn options(policy: Policy, more: Value) -> Value {
    sent(policy, more)
        .await
        .get("options")
        .cloned()
        .unwrap_or(json!({}))
}

#[tokio::test]
async fn an_error_has_four_fields_filled_by_us_and_half_empty_in_the_original() {
    let inner = Scripted::default();
    let body = json!({"model": "m", "messages": "no"});
    let answer = chat(&inner, ours(), body.clone()).await;
    assert_eq!(answer.status(), 400);
    assert_eq!(answer.json()["error"]["param"], "messages");
    assert_eq!(answer.json()["error"]["code"], "invalid_type");
    let error = chat(&inner, original(), body).await.json()["error"].clone();
    assert_eq!(
        (&error["param"], &error["code"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(error.as_object().expect("an object").len(), 4);
}

#[tokio::test]
async fn the_type_of_an_error_follows_the_status() {
    let status = |status: u16, text: &str| {
        Scripted::default().on("/api/chat", status, [json!({"error": text}).to_string()])
    };
    for (inner, code, kind, kind_then) in [
        (
            status(400, "bad"),
            400,
            "invalid_request_error",
            "invalid_request_error",
        ),
        (
            status(404, "model 'x' not found"),
            404,
            "invalid_request_error",
            "not_found_error",
        ),
        (
            status(408, "too slow"),
            408,
            "invalid_request_error",
            "api_error",
        ),
        (
            status(409, "in use"),
            409,
            "invalid_request_error",
            "api_error",
        ),
        (
            status(422, "cannot"),
            422,
            "invalid_request_error",
            "api_error",
        ),
        (
            status(429, "slow down"),
            429,
            "rate_limit_exceeded",
            "api_error",
        ),
        (status(500, "oh"), 500, "server_error", "api_error"),
        (status(503, "server busy"), 503, "server_error", "api_error"),
    ] {
        let answer = chat(&inner, ours(), hello(json!({}))).await;
        assert_eq!(
            (answer.status(), &answer.json()["error"]["type"]),
            (code, &json!(kind))
        );
        let answer = chat(&inner, original(), hello(json!({}))).await;
        assert_eq!(
            (answer.status(), &answer.json()["error"]["type"]),
            (code, &json!(kind_then))
        );
    }
    let missing = chat(
        &status(404, "model 'x' not found"),
        ours(),
        hello(json!({})),
    )
    .await;
    assert_eq!(missing.json()["error"]["code"], "model_not_found");
}

#[tokio::test]
async fn a_body_that_is_no_json_or_of_the_wrong_type_is_a_400() {
    for policy in [ours(), original()] {
        let service = layered(&Scripted::default(), policy);
        for body in [
            "{\"model\": ",
            "[]",
            "{\"model\": 3}",
            "{}",
            "{\"model\":\"m\",\"messages\":[]} x",
        ] {
            let answer = send(&service, post("/v1/chat/completions", body)).await;
            assert_eq!(
                (answer.status(), &answer.json()["error"]["type"]),
                (400, &json!("invalid_request_error")),
                "{body}"
            );
        }
    }
    let nested =
        json!({"model": "m", "messages": [{"role": "user", "content": "x"}, {"role": "wizard"}]});
    let answer = chat(&Scripted::default(), ours(), nested).await;
    assert_eq!(answer.json()["error"]["param"], "messages[1].role");
}

#[tokio::test]
async fn no_messages_are_too_short() {
    let body = json!({"model": "m", "messages": []});
    for (policy, param) in [(ours(), json!("messages")), (original(), Value::Null)] {
        let answer = chat(&Scripted::default(), policy, body.clone()).await;
        assert_eq!(answer.status(), 400);
        assert_eq!(
            answer.json()["error"]["message"],
            "[] is too short - 'messages'"
        );
        assert_eq!(answer.json()["error"]["param"], param);
    }
}

#[tokio::test]
async fn the_fields_of_the_original_reach_ollama() {
    let fields = json!({"stream": false, "max_tokens": 9, "seed": 3, "stop": ["a", "b"], "temperature": 0.5,
        "frequency_penalty": 0.25, "presence_penalty": -0.5, "top_p": 0.9, "response_format": {"type": "json_object"}});
    let expected = json!({"model": "smollm2:135m", "messages": [{"role": "user", "content": "Hello"}], "stream": false,
        "format": "json", "truncate": false, "shift": false,
        "options": {"num_predict": 9, "seed": 3, "temperature": 0.5, "top_p": 0.9, "presence_penalty": -0.5,
            "frequency_penalty": 0.25, "stop": ["a", "b"]}});
    assert_eq!(sent(ours(), fields).await, expected);
}

#[tokio::test]
async fn the_mistyped_presence_penalty_is_read_under_original_alone() {
    let mistyped = json!({"presence_penalty_penalty": 0.5});
    assert_eq!(
        options(original(), mistyped.clone()).await["presence_penalty"],
        1.0
    );
    assert_eq!(options(ours(), mistyped.clone()).await, json!({}));
    let inner = Scripted::default().recorded("chat/whole");
    let answer = chat(&inner, ours(), hello(mistyped)).await;
    assert_eq!(
        answer.header("x-loggia-ignored"),
        Some("presence_penalty_penalty")
    );
    assert_eq!(
        options(ours(), json!({"presence_penalty": 0.5})).await["presence_penalty"],
        0.5
    );
}

#[tokio::test]
async fn stop_is_a_string_or_an_array_of_strings() {
    for policy in [ours(), original()] {
        assert_eq!(
            options(policy.clone(), json!({"stop": "x"})).await["stop"],
            json!(["x"])
        );
        assert_eq!(
            options(policy, json!({"stop": ["x", "y"]})).await["stop"],
            json!(["x", "y"])
        );
    }
    assert_eq!(
        options(original(), json!({"stop": ["x", 3, null]})).await["stop"],
        json!(["x"])
    );
    let mixed = chat(
        &Scripted::default(),
        ours(),
        hello(json!({"stop": ["x", 3]})),
    )
    .await;
    assert_eq!(
        (mixed.status(), &mixed.json()["error"]["param"]),
        (400, &json!("stop[1]"))
    );
    let five = chat(
        &Scripted::default(),
        ours(),
        hello(json!({"stop": ["1", "2", "3", "4", "5"]})),
    )
    .await;
    assert_eq!(
        (five.status(), &five.json()["error"]["param"]),
        (400, &json!("stop"))
    );
}

#[tokio::test]
async fn max_tokens_is_num_predict_and_max_completion_tokens_wins() {
    for policy in [ours(), original()] {
        assert_eq!(
            options(policy.clone(), json!({"max_tokens": 7})).await["num_predict"],
            7
        );
        let both = json!({"max_tokens": 7, "max_completion_tokens": 5});
        assert_eq!(options(policy, both).await["num_predict"], 5);
    }
    for field in ["max_tokens", "max_completion_tokens"] {
        let inner = Scripted::default();
        let answer = chat(&inner, ours(), hello(json!({field: 0}))).await;
        assert_eq!(
            (answer.status(), &answer.json()["error"]["param"]),
            (400, &json!(field))
        );
        assert!(
            inner.seen.lock().expect("no panic").is_empty(),
            "a limit of 0 must never reach Ollama"
        );
    }
}

#[tokio::test]
async fn temperature_is_sent_as_it_is_and_was_doubled() {
    assert_eq!(
        options(ours(), json!({"temperature": 0.7})).await["temperature"],
        0.7
    );
    assert_eq!(
        options(original(), json!({"temperature": 0.7})).await["temperature"],
        1.4
    );
    assert_eq!(options(ours(), json!({})).await.get("temperature"), None);
    assert_eq!(options(original(), json!({})).await["temperature"], 1.0);
}

#[tokio::test]
async fn a_seed_is_sent_alone_and_forced_temperature_0() {
    assert_eq!(
        options(ours(), json!({"seed": 5})).await,
        json!({"seed": 5})
    );
    let then = options(original(), json!({"seed": 5, "temperature": 0.7})).await;
    assert_eq!(
        (&then["seed"], &then["temperature"]),
        (&json!(5), &json!(0.0))
    );
}

#[tokio::test]
async fn penalties_are_sent_as_they_are_and_were_doubled() {
    let penalties = json!({"frequency_penalty": 0.5, "presence_penalty": -0.25});
    let now = options(ours(), penalties.clone()).await;
    assert_eq!(
        (&now["frequency_penalty"], &now["presence_penalty"]),
        (&json!(0.5), &json!(-0.25))
    );
    let then = options(original(), penalties).await;
    assert_eq!(
        (&then["frequency_penalty"], &then["presence_penalty"]),
        (&json!(1.0), &json!(-0.5))
    );
}

#[tokio::test]
async fn top_p_is_sent_only_if_asked_for_and_was_1() {
    assert_eq!(options(ours(), json!({"top_p": 0.5})).await["top_p"], 0.5);
    assert_eq!(options(ours(), json!({})).await.get("top_p"), None);
    assert_eq!(options(original(), json!({})).await["top_p"], 1.0);
}

#[tokio::test]
async fn response_format_is_format() {
    for policy in [ours(), original()] {
        assert_eq!(
            sent(policy, json!({"response_format": {"type": "json_object"}})).await["format"],
            "json"
        );
    }
    let schema = json!({"type": "object", "properties": {"a": {"type": "integer"}}});
    let wanted = json!({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}});
    assert_eq!(sent(ours(), wanted.clone()).await["format"], schema);
    assert_eq!(sent(original(), wanted).await.get("format"), None);
    let unknown = json!({"response_format": {"type": "yaml"}});
    assert_eq!(sent(original(), unknown.clone()).await.get("format"), None);
    let answer = chat(&Scripted::default(), ours(), hello(unknown)).await;
    assert_eq!(
        (answer.status(), &answer.json()["error"]["param"]),
        (400, &json!("response_format.type"))
    );
}

#[tokio::test]
async fn stream_is_always_sent() {
    for policy in [ours(), original()] {
        assert_eq!(sent(policy, json!({})).await["stream"], false);
    }
    let inner = Scripted::default().recorded("chat/stream");
    chat(&inner, ours(), hello(json!({"stream": true}))).await;
    assert_eq!(inner.last_chat()["stream"], true);
}

#[tokio::test]
async fn a_whole_answer_has_openais_shape() {
    let inner = Scripted::default().recorded("chat/whole");
    let mut now = chat(&inner, ours(), hello(json!({}))).await.json();
    let id = now["id"].take();
    let id = id
        .as_str()
        .and_then(|id| id.strip_prefix("chatcmpl-"))
        .expect("chatcmpl-");
    assert!(id.len() >= 24 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    let fingerprint = now["system_fingerprint"].take();
    let digits = fingerprint
        .as_str()
        .and_then(|text| text.strip_prefix("fp_"))
        .expect("fp_");
    assert!(digits.len() == 10 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
    let details = json!({"cached_tokens": 0, "audio_tokens": 0});
    let more = json!({"reasoning_tokens": 0, "audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0});
    let message =
        json!({"role": "assistant", "content": "The capital of France is Paris.", "refusal": null});
    let expected = json!({"id": null, "object": "chat.completion", "created": 1_795_365_644, "model": "smollm2:135m",
        "choices": [{"index": 0, "message": message, "logprobs": null, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 16, "completion_tokens": 8, "total_tokens": 24,
            "prompt_tokens_details": details, "completion_tokens_details": more}, "system_fingerprint": null});
    assert_eq!(now, expected);

    let then = chat(&inner, original(), hello(json!({}))).await.json();
    let number: u32 = then["id"]
        .as_str()
        .and_then(|id| id.strip_prefix("chatcmpl-")?.parse().ok())
        .expect("a number");
    assert!(number < 999);
    assert_eq!(
        (&then["system_fingerprint"], &then["created"]),
        (&json!("fp_ollama"), &expected["created"])
    );
}

#[tokio::test]
async fn no_two_answers_share_an_id() {
    let inner = Scripted::default().recorded("chat/whole");
    let service = layered(&inner, ours());
    let mut ids = std::collections::HashSet::new();
    for _ in 0..1200 {
        let answer = send(
            &service,
            post("/v1/chat/completions", hello(json!({})).to_string()),
        )
        .await;
        assert!(ids.insert(answer.json()["id"].to_string()));
    }
}

#[tokio::test]
async fn finish_reason_tells_why_an_answer_ended() {
    for (name, reason) in [
        ("chat/whole", "stop"),
        ("chat/whole-length", "length"),
        ("chat/whole-stop-sequence-two-tokens", "stop"),
        ("chat/whole-tool-call", "tool_calls"),
    ] {
        let inner = Scripted::default().recorded(name);
        let answer = chat(&inner, ours(), hello(json!({}))).await;
        assert_eq!(
            answer.json()["choices"][0]["finish_reason"],
            reason,
            "{name}"
        );
        let answer = chat(&inner, original(), hello(json!({}))).await;
        assert_eq!(
            answer.json()["choices"][0]["finish_reason"],
            "stop",
            "{name}"
        );
    }
}

#[tokio::test]
async fn only_the_first_chunk_names_the_role_and_the_last_has_an_empty_delta() {
    let inner = Scripted::default().recorded("chat/stream");
    let answer = chat(&inner, ours(), hello(json!({"stream": true}))).await;
    let chunks = answer.chunks();
    let deltas: Vec<_> = chunks
        .iter()
        .map(|chunk| chunk["choices"][0]["delta"].clone())
        .collect();
    let mut expected = vec![json!({"role": "assistant", "content": "The"})];
    expected.extend(
        [" capital", " of", " France", " is", " Paris", "."].map(|text| json!({"content": text})),
    );
    expected.push(json!({}));
    assert_eq!(deltas, expected);
    let (last, before) = chunks.split_last().expect("chunks");
    assert_eq!(last["choices"][0]["finish_reason"], "stop");
    assert!(
        before
            .iter()
            .all(|chunk| chunk["choices"][0]["finish_reason"].is_null())
    );
    for field in ["id", "object", "created", "model", "system_fingerprint"] {
        assert!(
            chunks.iter().all(|chunk| chunk[field] == chunks[0][field]),
            "{field}"
        );
    }
    assert_eq!(
        (&chunks[0]["object"], &chunks[0]["created"]),
        (&json!("chat.completion.chunk"), &json!(1_795_365_644))
    );
}

#[tokio::test]
async fn every_chunk_of_the_original_names_role_and_content() {
    let inner = Scripted::default().recorded("chat/stream");
    let chunks = chat(&inner, original(), hello(json!({"stream": true})))
        .await
        .chunks();
    assert_eq!(chunks.len(), 8, "a chunk for every line");
    let choices: Vec<_> = chunks.iter().map(|chunk| &chunk["choices"][0]).collect();
    assert_eq!(
        choices[1]["delta"],
        json!({"role": "assistant", "content": " capital"})
    );
    assert_eq!(
        choices[7]["delta"],
        json!({"role": "assistant", "content": ""})
    );
    assert_eq!(choices[7]["finish_reason"], "stop");
    assert!(
        chunks
            .iter()
            .all(|chunk| chunk["id"] == chunks[0]["id"]
                && chunk["system_fingerprint"] == "fp_ollama")
    );
}

#[tokio::test]
async fn a_stream_is_events_until_done() {
    for policy in [ours(), original()] {
        let inner = Scripted::default().recorded("chat/stream");
        let answer = chat(&inner, policy, hello(json!({"stream": true}))).await;
        assert_eq!(answer.header("content-type"), Some("text/event-stream"));
        assert_eq!(answer.events().last(), Some(&"[DONE]"));
        assert_eq!(answer.text().matches("[DONE]").count(), 1);
    }
}

#[tokio::test]
async fn a_stream_is_the_same_wherever_its_packets_break() {
    let (status, body) = crate::support::recording("chat/stream");
    let strip = |answer: crate::support::Answer| {
        let mut chunks = answer.chunks();
        for chunk in &mut chunks {
            chunk["id"] = Value::Null;
        }
        chunks
    };
    let whole = Scripted::default().on("/api/chat", status, [body.clone()]);
    let expected = strip(chat(&whole, ours(), hello(json!({"stream": true}))).await);
    for at in 1..body.len() {
        let cut = Scripted::default().on("/api/chat", status, [body.slice(..at), body.slice(at..)]);
        assert_eq!(
            strip(chat(&cut, ours(), hello(json!({"stream": true}))).await),
            expected,
            "cut at {at}"
        );
    }
    let bytes = body
        .iter()
        .map(|&byte| bytes::Bytes::copy_from_slice(&[byte]));
    let single = Scripted::default().on("/api/chat", status, bytes);
    assert_eq!(
        strip(chat(&single, ours(), hello(json!({"stream": true}))).await),
        expected
    );
}

#[tokio::test]
async fn the_usage_is_a_chunk_of_its_own_when_asked_for() {
    let inner = Scripted::default().recorded("chat/stream");
    let asked = json!({"stream": true, "stream_options": {"include_usage": true}});
    let chunks = chat(&inner, ours(), hello(asked)).await.chunks();
    let (last, before) = chunks.split_last().expect("chunks");
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"]["total_tokens"], 24);
    assert!(
        before
            .iter()
            .all(|chunk| chunk.get("usage") == Some(&Value::Null))
    );
    let unasked = chat(&inner, ours(), hello(json!({"stream": true})))
        .await
        .chunks();
    assert!(unasked.iter().all(|chunk| chunk.get("usage").is_none()));
}

#[tokio::test]
async fn an_upstream_refusal_keeps_its_status() {
    let inner = Scripted::default().recorded("chat/queue-full");
    let answer = chat(&inner, ours(), hello(json!({}))).await;
    assert_eq!(
        (answer.status(), answer.header("retry-after")),
        (503, Some("1"))
    );
    let inner = Scripted::default().recorded("chat/model-missing");
    let error = chat(&inner, ours(), hello(json!({}))).await;
    assert_eq!(
        (error.status(), &error.json()["error"]["code"]),
        (404, &json!("model_not_found"))
    );
    // A mistake of the client is a 400, although Ollama answers 500.
    let inner = Scripted::default().recorded("chat/option-wrong-type");
    assert_eq!(chat(&inner, ours(), hello(json!({}))).await.status(), 400);
}

#[tokio::test]
async fn what_a_proxy_before_the_engine_refuses_keeps_its_status_and_its_words() {
    let refused = async |status: u16, body: &str| {
        chat(
            &Scripted::default().on("/api/chat", status, [body.to_owned()]),
            ours(),
            hello(json!({})),
        )
        .await
    };
    for status in [408, 409, 422] {
        let answer = refused(status, r#"{"error":"not now"}"#).await;
        let error = json!({"message": "not now", "type": "invalid_request_error", "param": null, "code": null});
        assert_eq!((answer.status(), &answer.json()["error"]), (status, &error));
    }
    let limited = refused(429, "Too Many Requests").await;
    let error = json!({"message": "Too Many Requests", "type": "rate_limit_exceeded", "param": null, "code": "rate_limit_exceeded"});
    assert_eq!((limited.status(), &limited.json()["error"]), (429, &error));
    assert_eq!(
        (
            limited.header("x-should-retry"),
            limited.header("retry-after")
        ),
        (None, Some("2"))
    );
    let spent = refused(
        429,
        r#"{"error":{"message":"nothing left","type":"insufficient_quota"}}"#,
    )
    .await;
    let error = json!({"message": "nothing left", "type": "insufficient_quota", "param": null, "code": "insufficient_quota"});
    assert_eq!((spent.status(), &spent.json()["error"]), (429, &error));
    assert_eq!(
        spent.header("x-should-retry"),
        Some("false"),
        "nothing comes of another try"
    );
}

#[tokio::test]
async fn an_error_wrapped_in_a_string_of_json_is_opened() {
    let inner = Scripted::default().recorded("chat/overflow-truncate-false");
    let error = chat(&inner, ours(), hello(json!({}))).await;
    assert_eq!(
        (error.status(), &error.json()["error"]["code"]),
        (400, &json!("context_length_exceeded"))
    );
    let message = error.json()["error"]["message"].to_string();
    assert!(
        message.contains("1210") && message.contains("512"),
        "{message}"
    );
}

#[tokio::test]
async fn an_error_in_a_stream_is_one_event_and_the_end() {
    for policy in [ours(), original()] {
        let inner = Scripted::default().recorded("chat/runner-killed-mid-stream");
        let answer = chat(&inner, policy, hello(json!({"stream": true}))).await;
        let events = answer.events();
        let last: Value = serde_json::from_str(events.last().expect("events")).expect("JSON");
        assert_eq!(
            last["error"]["message"],
            "an error was encountered while running the model: unexpected EOF"
        );
        assert_eq!(
            events
                .iter()
                .filter(|event| event.contains("\"error\""))
                .count(),
            1
        );
        assert!(!answer.text().contains("[DONE]"));
    }
}

#[tokio::test]
async fn a_stream_that_breaks_off_says_so() {
    let (_, body) = crate::support::recording("chat/stream");
    let inner = Scripted::default().on("/api/chat", 200, [body.slice(..body.len() / 2)]);
    let answer = chat(&inner, ours(), hello(json!({"stream": true}))).await;
    let events = answer.events();
    assert!(
        events.last().expect("events").starts_with("{\"error\":{"),
        "{events:?}"
    );
    assert!(!answer.text().contains("[DONE]"));
}

#[tokio::test]
async fn a_count_that_is_missing_is_zero_and_the_sum_right() {
    for policy in [ours(), original()] {
        let line = r#"{"created_at":"2026-11-22T16:40:44Z","message":{"content":"x"},"done":true,"done_reason":"stop","eval_count":3}"#;
        let inner = Scripted::default().on("/api/chat", 200, [line]);
        let usage = chat(&inner, policy, hello(json!({}))).await.json()["usage"].clone();
        assert_eq!(
            (
                &usage["prompt_tokens"],
                &usage["completion_tokens"],
                &usage["total_tokens"]
            ),
            (&json!(0), &json!(3), &json!(3))
        );
    }
}

#[tokio::test]
async fn routes_that_are_not_openais_pass_untouched() {
    let inner = Scripted::default()
        .recorded("chat/stream")
        .on("/mine", 201, ["yes"]);
    let service = layered(&inner, ours());
    let answer = send(&service, post("/api/chat", r#"{"model":"x"}"#)).await;
    assert_eq!(answer.body, crate::support::recording("chat/stream").1);
    let own = Request::delete("/mine?a=b")
        .header("x-own", "1")
        .body(Full::default())
        .expect("a request");
    assert_eq!(send(&service, own).await.status(), 201);
    let seen = inner.seen.lock().expect("no panic");
    let (last, _) = seen.last().expect("a request");
    assert_eq!(
        (
            last.method().as_str(),
            last.uri().query(),
            last.headers().get("x-own").is_some()
        ),
        ("DELETE", Some("a=b"), true)
    );
}

#[tokio::test]
async fn the_clients_headers_go_along() {
    let inner = Scripted::default().recorded("chat/whole");
    let mut request = post("/v1/chat/completions", hello(json!({})).to_string());
    request
        .headers_mut()
        .insert("authorization", "Bearer mine".parse().expect("a header"));
    request
        .headers_mut()
        .insert("content-length", "5".parse().expect("a header"));
    send(&layered(&inner, ours()), request).await;
    let seen = inner.seen.lock().expect("no panic");
    let (head, body) = seen
        .iter()
        .find(|(head, _)| head.uri().path() == "/api/chat")
        .expect("a chat");
    assert_eq!(head.headers()["authorization"], "Bearer mine");
    assert_eq!(
        head.headers()["content-length"],
        body.len().to_string().as_str()
    );
}

#[tokio::test]
async fn a_message_without_content_is_empty_in_the_original_and_refused_by_us() {
    let messages = json!({"messages": [{"role": "user"}]});
    assert_eq!(
        sent(original(), messages.clone()).await["messages"],
        json!([{"role": "user", "content": ""}])
    );
    let answer = chat(&Scripted::default(), ours(), hello(messages)).await;
    assert_eq!(
        (answer.status(), &answer.json()["error"]["param"]),
        (400, &json!("messages[0].content"))
    );
}
