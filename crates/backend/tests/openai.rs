//! An OpenAI-native engine, from outside: what it is sent, byte by byte, and what becomes of what
//! it sends.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod raw;

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use loggia_backend::http::{Client, Limits};
use loggia_backend::openai::OpenAi;
use loggia_backend::{
    Backend, BackendError, ChatCall, CompletionCall, Event, NotDeleted, Phase, Reply,
};
use raw::{RawEngine, Step, answer, json, piece, stream_end, stream_head};
use serde_json::{Value, json};

fn engine_at(url: &str) -> OpenAi {
    let limits = Limits {
        idle: Duration::from_millis(100),
        ..Limits::default()
    };
    OpenAi::new("gpu", Client::new(limits), url.parse().unwrap(), None)
}

fn call(request: Value) -> ChatCall {
    let request = Arc::new(serde_json::from_value(request).unwrap());
    ChatCall::new("chatcmpl-1", request)
}

fn whole_call() -> ChatCall {
    call(json!({"model": "m", "messages": [{"role": "user", "content": "Hi"}]}))
}

fn stream_call() -> ChatCall {
    call(json!({"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": true}))
}

/// Each event as the JSON of what it holds, then the error if there is one.
async fn told(reply: Reply) -> (Vec<Value>, Option<BackendError>) {
    let mut events = reply.events;
    let mut told = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Chunk(chunk)) => {
                let mut value = json!({"choices": chunk.choices});
                value.as_object_mut().unwrap().extend(chunk.extra);
                told.push(value);
            }
            Ok(Event::Usage(usage)) => told.push(json!({"usage": usage})),
            Ok(other @ (Event::Waiting(_) | Event::EndedEarly(_))) => {
                panic!("no engine of this kind tells {other:?}")
            }
            Err(error) => return (told, Some(error)),
        }
    }
    (told, None)
}

async fn stream_of(text: &str) -> Result<(Vec<Value>, Option<BackendError>), BackendError> {
    let engine = RawEngine::start([vec![stream_head(), piece(text), stream_end()]]).await;
    Ok(told(engine_at(&engine.url).start(stream_call().into()).await?).await)
}

async fn refused_with(status: &str, headers: &str, body: &str) -> BackendError {
    let engine = RawEngine::start([answer(status, headers, body)]).await;
    engine_at(&engine.url)
        .start(whole_call().into())
        .await
        .unwrap_err()
}

/// What llama-server sends, with its own fields, and its usage in a frame of its own.
const STREAM: &str = concat!(
    "data: {\"choices\":[{\"finish_reason\":null,\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":null}}],\"created\":1760000000,",
    "\"id\":\"chatcmpl-x\",\"model\":\"/models/m.gguf\",\"system_fingerprint\":\"b6500-abc\",\"object\":\"chat.completion.chunk\"}\n\n",
    ": a comment\n\n",
    "data: {\"choices\":[{\"finish_reason\":null,\"index\":0,\"delta\":{\"content\":\"Hé\",\"of_its_own\":[1]},\"stop_reason\":null}],",
    "\"created\":1760000000,\"id\":\"chatcmpl-x\",\"model\":\"/models/m.gguf\",\"object\":\"chat.completion.chunk\"}\n\n",
    "data: {\"choices\":[{\"finish_reason\":\"stop\",\"index\":0,\"delta\":{}}],\"created\":1760000000,\"id\":\"chatcmpl-x\",",
    "\"model\":\"/models/m.gguf\",\"object\":\"chat.completion.chunk\"}\n\n",
    "data: {\"choices\":[],\"created\":1760000000,\"id\":\"chatcmpl-x\",\"model\":\"/models/m.gguf\",\"object\":\"chat.completion.chunk\",",
    "\"usage\":{\"completion_tokens\":1,\"prompt_tokens\":9,\"total_tokens\":10},\"timings\":{\"predicted_ms\":1.5}}\n\n",
    "data: [DONE]\n\n",
);

fn stream_told() -> Vec<Value> {
    vec![
        json!({"choices": [{"index": 0, "delta": {"role": "assistant"}, "logprobs": null, "finish_reason": null}]}),
        json!({"choices": [{
            "index": 0, "delta": {"content": "Hé", "of_its_own": [1]}, "logprobs": null, "finish_reason": null, "stop_reason": null,
        }]}),
        json!({"choices": [{"index": 0, "delta": {}, "logprobs": null, "finish_reason": "stop"}]}),
        json!({"choices": [], "timings": {"predicted_ms": 1.5}}),
        json!({"usage": {"completion_tokens": 1, "prompt_tokens": 9, "total_tokens": 10}}),
    ]
}

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

#[tokio::test]
async fn a_stream_passes_frame_by_frame_with_the_engines_own_fields() {
    assert_eq!(stream_of(STREAM).await, Ok((stream_told(), None)));
}

#[tokio::test]
async fn the_first_chunk_is_there_before_the_second_frame() {
    let first = &STREAM[..STREAM.find(": a comment").unwrap()];
    let engine = RawEngine::start([vec![stream_head(), piece(first), Step::Hang]]).await;
    let mut reply = engine_at(&engine.url)
        .start(stream_call().into())
        .await
        .unwrap();
    assert!(matches!(
        reply.events.next().await,
        Some(Ok(Event::Chunk(_)))
    ));
    drop(reply);
    engine.closed().await;
}

#[tokio::test]
async fn the_connection_serves_again_after_a_stream() {
    let last_bytes_late = vec![
        stream_head(),
        piece(STREAM),
        Step::Pause(Duration::from_millis(30)),
        stream_end(),
    ];
    let engine = RawEngine::start([last_bytes_late.clone(), last_bytes_late]).await;
    let backend = engine_at(&engine.url);
    assert_eq!(
        told(backend.start(stream_call().into()).await.unwrap())
            .await
            .1,
        None
    );
    // The end of the answer does not wait for the last bytes; the pool has the connection back once
    // they have come.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(
        told(backend.start(stream_call().into()).await.unwrap())
            .await
            .1,
        None
    );
    assert_eq!(engine.connections(), 1);
}

#[tokio::test]
async fn a_stream_that_ends_early_is_cut_short() {
    let cut_short = Some(BackendError::CutShort {
        backend: "gpu".to_owned(),
    });
    let two = STREAM
        .find("data: {\"choices\":[{\"finish_reason\":\"stop\"")
        .unwrap();
    assert_eq!(
        stream_of(&STREAM[..two]).await,
        Ok((stream_told()[..2].to_vec(), cut_short.clone()))
    );
    assert_eq!(
        stream_of(": nothing at all\n\n").await,
        Err(cut_short.clone().unwrap())
    );
    let engine = RawEngine::start([vec![stream_head(), piece(&STREAM[..two]), Step::Close]]).await;
    let reply = engine_at(&engine.url)
        .start(stream_call().into())
        .await
        .unwrap();
    assert_eq!(told(reply).await, (stream_told()[..2].to_vec(), cut_short));
}

#[tokio::test]
async fn a_stream_without_done_is_whole_once_every_choice_has_ended() {
    let without_done = STREAM.strip_suffix("data: [DONE]\n\n").unwrap();
    assert_eq!(stream_of(without_done).await, Ok((stream_told(), None)));
    assert_eq!(
        stream_of(without_done.trim_end()).await,
        Ok((stream_told(), None)),
        "nor a last blank line"
    );
    let engine = RawEngine::start([vec![stream_head(), piece(without_done), stream_end()]]).await;
    let two = call(json!({"model": "m", "messages": [], "stream": true, "n": 2}));
    let (_, error) = told(engine_at(&engine.url).start(two.into()).await.unwrap()).await;
    assert_eq!(
        error,
        Some(BackendError::CutShort {
            backend: "gpu".to_owned()
        }),
        "the second choice never ended"
    );
}

#[tokio::test]
async fn a_stream_that_falls_silent_is_given_up() {
    let first = &STREAM[..STREAM.find(": a comment").unwrap()];
    let engine = RawEngine::start([vec![stream_head(), piece(first), Step::Hang]]).await;
    let (events, error) = told(
        engine_at(&engine.url)
            .start(stream_call().into())
            .await
            .unwrap(),
    )
    .await;
    assert_eq!(events, stream_told()[..1]);
    assert!(
        matches!(
            error,
            Some(BackendError::TimedOut {
                phase: Phase::Idle,
                ..
            })
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_connection_that_breaks_after_every_choice_has_ended_takes_nothing_from_the_answer() {
    let without_done = STREAM.strip_suffix("data: [DONE]\n\n").unwrap();
    let engine = RawEngine::start([vec![stream_head(), piece(without_done), Step::Close]]).await;
    assert_eq!(
        told(
            engine_at(&engine.url)
                .start(stream_call().into())
                .await
                .unwrap()
        )
        .await,
        (stream_told(), None)
    );
}

#[tokio::test]
async fn an_error_in_a_stream_ends_it_and_before_the_first_chunk_refuses() {
    let first = &STREAM[..STREAM.find(": a comment").unwrap()];
    let engine_error = |message: &str| BackendError::Engine {
        message: message.to_owned(),
    };
    for (frame, error) in [
        (
            r#"data: {"error":{"code":500,"message":"out of memory","type":"server_error"}}"#,
            engine_error("out of memory"),
        ),
        (
            r#"error: {"code":500,"message":"out of memory","type":"server_error"}"#,
            engine_error("out of memory"),
        ),
        (
            "event: error\ndata: {\"error\":{\"message\":\"out of memory\"}}",
            engine_error("out of memory"),
        ),
        (
            r#"data: {"object":"error","message":"bad guided grammar","type":"BadRequestError","param":null,"code":400}"#,
            BackendError::InvalidRequest {
                message: "bad guided grammar".to_owned(),
                param: None,
                code: None,
            },
        ),
        (
            r#"data: {"error":"{\"error\":{\"message\":\"out of memory\"}}"}"#,
            engine_error("out of memory"),
        ),
        (
            r#"data: {"choices":[{"index":0,"delta":{},"finish_reason":"abort"}]}"#,
            engine_error("the engine gave up before the answer was whole"),
        ),
    ] {
        let told = stream_of(&format!("{first}{frame}\n\ndata: [DONE]\n\n")).await;
        assert_eq!(
            told,
            Ok((stream_told()[..1].to_vec(), Some(error.clone()))),
            "{frame}"
        );
        assert_eq!(
            stream_of(&format!("{frame}\n\ndata: [DONE]\n\n")).await,
            Err(error),
            "{frame}"
        );
    }
}

#[tokio::test]
async fn what_is_no_frame_is_a_bad_answer_and_is_not_repeated() {
    for (frame, what) in [
        (
            "data: {\"choices\": secret",
            "a frame of its stream is not JSON",
        ),
        (
            "data: [\"secret\"]",
            "a frame of its stream is no chat.completion.chunk",
        ),
        (
            "data: {\"choices\":[{\"delta\":\"secret\"}]}",
            "a frame of its stream is no chat.completion.chunk",
        ),
    ] {
        let error = stream_of(&format!("{frame}\n\n")).await.unwrap_err();
        assert_eq!(
            error,
            BackendError::BadAnswer {
                backend: "gpu".to_owned(),
                what: what.to_owned()
            }
        );
    }
    let endless = vec![b'x'; 1 << 20];
    let mut steps = vec![stream_head(), piece("data: ")];
    steps.extend(std::iter::repeat_n(piece(&endless), 20));
    let engine = RawEngine::start([steps]).await;
    let error = engine_at(&engine.url)
        .start(stream_call().into())
        .await
        .unwrap_err();
    assert!(matches!(error, BackendError::BadAnswer { .. }), "{error:?}");
}

#[tokio::test]
async fn what_engines_send_irregularly_is_made_regular() {
    for (sent, becomes) in [
        (
            r#"{"choices":[{"delta":{"content":"a"},"finish_reason":""}],"created":1760000000.5}"#,
            json!({"choices": [{"index": 0, "delta": {"content": "a"}, "logprobs": null, "finish_reason": null}]}),
        ),
        (
            r#"{"choices":[{"index":0,"delta":null,"finish_reason":"eos_token"}]}"#,
            json!({"choices": [{"index": 0, "delta": {}, "logprobs": null, "finish_reason": "stop"}]}),
        ),
        (
            r#"{"choices":[{"index":0,"delta":{"role":"model","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}}]}"#,
            json!({"choices": [{"index": 0, "delta": {"content": "ab"}, "logprobs": null, "finish_reason": null}]}),
        ),
        (
            r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":{"a":1}}}]}}]}"#,
            json!({"choices": [{"index": 0, "delta": {"tool_calls": [
                {"index": 0, "id": "1", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}},
            ]}, "logprobs": null, "finish_reason": null}]}),
        ),
        (
            r#"{"choices":[{"index":0,"delta":{},"logprobs":{"content":[{"token":"a","logprob":null,"bytes":null,"top_logprobs":[]}]}}]}"#,
            json!({"choices": [{"index": 0, "delta": {}, "logprobs": {"content": [
                {"token": "a", "logprob": -9999.0, "bytes": null, "top_logprobs": []},
            ], "refusal": null}, "finish_reason": null}]}),
        ),
    ] {
        let (events, _) = stream_of(&format!("data: {sent}\n\ndata: [DONE]\n\n"))
            .await
            .unwrap();
        assert_eq!(events[0], becomes, "{sent}");
    }
    let usage = r#"{"choices":null,"usage":{"prompt_tokens":1,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":null}}}"#;
    let (events, _) = stream_of(&format!("data: {usage}\n\ndata: [DONE]\n\n"))
        .await
        .unwrap();
    let details = json!({"cached_tokens": 0, "audio_tokens": 0});
    let usage = json!({"usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "prompt_tokens_details": details}});
    assert_eq!(events, [usage]);
}

/// llama-server sends 20 where nobody says how many, and no log-probabilities at all where somebody
/// says none.
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
async fn a_running_count_is_told_once_at_the_end_and_an_unreadable_one_never() {
    let frame = |usage: &str| {
        format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{}}}}],\"usage\":{usage}}}\n\n")
    };
    let counts = |n: u64| {
        format!(
            "{{\"prompt_tokens\":1,\"completion_tokens\":{n},\"total_tokens\":{}}}",
            n + 1
        )
    };
    let (events, _) = stream_of(&format!(
        "{}{}data: [DONE]\n\n",
        frame(&counts(1)),
        frame(&counts(2))
    ))
    .await
    .unwrap();
    assert_eq!(events.len(), 3);
    assert_eq!(
        events[2],
        json!({"usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}})
    );
    let (events, _) = stream_of(&format!(
        "{}data: [DONE]\n\n",
        frame("{\"prompt_tokens\":\"many\"}")
    ))
    .await
    .unwrap();
    assert!(
        events.iter().all(|event| event.get("usage").is_none()),
        "{events:?}"
    );
}

/// What vLLM answers, with its own fields.
const WHOLE: &str = r#"{"id":"chatcmpl-x","object":"chat.completion","created":1760000000,"model":"/models/m","choices":[{"index":0,
"message":{"role":"assistant","content":null,"refusal":null,"annotations":null,"audio":null,"reasoning_content":"Hm.","tool_calls":[
{"id":"call_a","type":"function","function":{"name":"f","arguments":"{}"}},{"id":"call_b","type":"function","function":{"name":"g",
"arguments":"{}"}}]},"logprobs":null,"finish_reason":"tool_calls","stop_reason":null}],"service_tier":null,"system_fingerprint":null,
"usage":{"prompt_tokens":9,"total_tokens":10,"completion_tokens":1,"prompt_tokens_details":null},"kv_transfer_params":null}"#;

#[tokio::test]
async fn a_whole_answer_is_one_chunk_and_its_usage() {
    let engine = RawEngine::start([json("200 OK", WHOLE)]).await;
    let reply = engine_at(&engine.url)
        .start(whole_call().into())
        .await
        .unwrap();
    assert_eq!(
        (&*reply.served_by.backend, &*reply.served_by.model),
        ("gpu", "m")
    );
    let (events, error) = told(reply).await;
    let call = |index: u32, id: &str, name: &str| json!({"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": "{}"}});
    let delta = json!({
        "role": "assistant", "reasoning_content": "Hm.", "reasoning": "Hm.", "audio": null,
        "tool_calls": [call(0, "call_a", "f"), call(1, "call_b", "g")],
    });
    assert_eq!(error, None);
    assert_eq!(
        events,
        [
            json!({
                "choices": [{"index": 0, "delta": delta, "logprobs": null, "finish_reason": "tool_calls", "stop_reason": null}],
                "service_tier": null, "kv_transfer_params": null,
            }),
            json!({"usage": {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}}),
        ]
    );
}

#[tokio::test]
async fn an_engine_that_answers_a_stream_whole_is_understood() {
    let engine = RawEngine::start([json("200 OK", WHOLE)]).await;
    let (events, error) = told(
        engine_at(&engine.url)
            .start(stream_call().into())
            .await
            .unwrap(),
    )
    .await;
    assert_eq!((events.len(), error), (2, None));
}

#[tokio::test]
async fn a_whole_answer_that_lacks_what_nobody_needs_is_mended() {
    let bare = r#"{"choices":[{"message":{"content":"Hi"},"finish_reason":"end_turn"}]}"#;
    let engine = RawEngine::start([json("200 OK", bare)]).await;
    let (events, _) = told(
        engine_at(&engine.url)
            .start(whole_call().into())
            .await
            .unwrap(),
    )
    .await;
    let choice = json!({"index": 0, "delta": {"role": "assistant", "content": "Hi"}, "logprobs": null, "finish_reason": "stop"});
    assert_eq!(
        events,
        [json!({"choices": [choice]})],
        "and no usage is made up"
    );
}

#[tokio::test]
async fn a_200_that_holds_no_answer_is_a_bad_one_or_the_error_it_holds() {
    let bad = |what: &str| BackendError::BadAnswer {
        backend: "gpu".to_owned(),
        what: what.to_owned(),
    };
    assert_eq!(
        refused_with("200 OK", "", "<html>secret</html>").await,
        bad("it is not JSON")
    );
    assert_eq!(
        refused_with("200 OK", "", "{}").await,
        bad("it is no chat.completion")
    );
    assert_eq!(
        refused_with("200 OK", "", r#"{"error":{"message":"out of memory"}}"#).await,
        BackendError::Engine {
            message: "out of memory".to_owned()
        }
    );
}

#[tokio::test]
async fn the_fingerprint_changes_with_the_engines_build_and_only_then() {
    let of = async |build: &str, server: &str| {
        let stream = STREAM.replace("b6500-abc", build);
        let head =
            format!("HTTP/1.1 200 OK\r\nserver: {server}\r\ntransfer-encoding: chunked\r\n\r\n");
        let engine = RawEngine::start([vec![
            Step::Send(head.into_bytes()),
            piece(stream),
            stream_end(),
        ]])
        .await;
        engine_at(&engine.url)
            .start(stream_call().into())
            .await
            .unwrap()
            .served_by
            .fingerprint
    };
    let first = of("b6500-abc", "llama.cpp").await;
    assert_eq!(first, of("b6500-abc", "llama.cpp").await);
    assert_ne!(first, of("b6501-abd", "llama.cpp").await);
    assert_ne!(first, of("b6500-abc", "another").await);
}

#[tokio::test]
async fn what_llama_server_cannot_read_is_a_400_about_its_field() {
    for (status, message, field) in [
        ("400 Bad Request", "Field 'n': Value must be 1", "n"),
        (
            "500 Internal Server Error",
            "Failed to parse tools: Unsupported tool type",
            "tools",
        ),
        (
            "500 Internal Server Error",
            "image input is not supported",
            "messages",
        ),
        ("400 Bad Request", "unsupported content[].type", "messages"),
        (
            "400 Bad Request",
            "[json.exception.out_of_range.403] key 'prompt' not found",
            "prompt",
        ),
        (
            "400 Bad Request",
            "Unable to generate parser: JSON schema error at #: unrecognized type x",
            "response_format",
        ),
        (
            "400 Bad Request",
            "logprobs is not supported with tools + stream",
            "logprobs",
        ),
    ] {
        let body =
            json!({"error": {"code": 500, "message": message, "type": "server_error"}}).to_string();
        let (message, param) = (message.to_owned(), Some(field.to_owned()));
        assert_eq!(
            refused_with(status, "", &body).await,
            BackendError::InvalidRequest {
                message,
                param,
                code: None
            }
        );
    }
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn each_refusal_is_understood_whatever_its_shape() {
    let invalid =
        |message: &str, param: Option<&str>, code: Option<&str>| BackendError::InvalidRequest {
            message: message.to_owned(),
            param: param.map(str::to_owned),
            code: code.map(str::to_owned),
        };
    let too_long = |prompt, context| BackendError::ContextLengthExceeded {
        prompt_tokens: Some(prompt),
        context: Some(context),
    };
    let bad = |what: &str| BackendError::BadAnswer {
        backend: "gpu".to_owned(),
        what: what.to_owned(),
    };
    let engine = |message: &str| BackendError::Engine {
        message: message.to_owned(),
    };
    let its_own = |status, message: &str, param: Option<&str>| BackendError::Refused {
        status,
        message: message.to_owned(),
        param: param.map(str::to_owned),
        code: None,
    };
    let only_the_answer =
        "This model's maximum context length is 4096 tokens and your request has 15 input tokens";
    for (status, body, error) in [
        (
            "400 Bad Request",
            r#"{"error":{"message":"no","type":"t","param":"stop","code":"bad_stop"}}"#,
            invalid("no", Some("stop"), Some("bad_stop")),
        ),
        (
            "400 Bad Request",
            r#"{"error":{"code":400,"message":"no","type":"invalid_request_error"}}"#,
            invalid("no", None, None),
        ),
        (
            "400 Bad Request",
            r#"{"object":"error","message":"no","type":"BadRequestError","param":null,"code":400}"#,
            invalid("no", None, None),
        ),
        (
            "400 Bad Request",
            r#"{"error":"no"}"#,
            invalid("no", None, None),
        ),
        (
            "400 Bad Request",
            r#"{"detail":"{\"error\":{\"message\":\"no\",\"code\":\"c\"}}"}"#,
            invalid("no", None, Some("c")),
        ),
        ("400 Bad Request", "no", invalid("no", None, None)),
        (
            "400 Bad Request",
            "<html>no</html>",
            invalid("the engine refused the request with status 400", None, None),
        ),
        (
            "422 Unprocessable Entity",
            r#"{"detail":[{"type":"enum","loc":["body","messages",0,"role"],"msg":"Input should be 'user'","input":"secret"}]}"#,
            its_own(
                422,
                "messages[0].role: Input should be 'user'",
                Some("messages[0].role"),
            ),
        ),
        (
            "501 Not Implemented",
            r#"{"error":{"code":501,"message":"no images","type":"not_supported_error"}}"#,
            invalid("no images", None, None),
        ),
        (
            "400 Bad Request",
            r#"{"error":{"code":400,"message":"the request exceeds it","type":"exceed_context_size_error","n_prompt_tokens":13392,"n_ctx":8192}}"#,
            too_long(13392, 8192),
        ),
        (
            "400 Bad Request",
            r#"{"error":{"message":"This model's maximum context length is 1536 tokens. However, your request has 4176 input tokens.","type":"BadRequestError","param":null,"code":400}}"#,
            too_long(4176, 1536),
        ),
        (
            "400 Bad Request",
            r#"{"error":{"message":"This model's maximum context length is 4096 tokens and your request has 15 input tokens","code":400}}"#,
            invalid(
                only_the_answer,
                Some("max_tokens"),
                Some("context_length_exceeded"),
            ),
        ),
        (
            "404 Not Found",
            r#"{"error":{"message":"The model `x` does not exist.","type":"NotFoundError","param":"model","code":404}}"#,
            BackendError::model_not_found("m"),
        ),
        (
            "404 Not Found",
            r#"{"error":{"message":"no such thing","type":"x","param":null,"code":"model_not_found"}}"#,
            BackendError::model_not_found("m"),
        ),
        // OpenAI's words, and Loggia's, for a model of another kind.
        (
            "404 Not Found",
            r#"{"error":{"message":"This is not a chat model and thus not supported in the v1/chat/completions endpoint. Did you mean to use v1/embeddings?","type":"invalid_request_error","param":"model","code":null}}"#,
            BackendError::Refused {
                status: 404,
                message: "This is not a chat model and thus not supported in the v1/chat/completions endpoint. Did you mean to use v1/embeddings?".to_owned(),
                param: Some("model".to_owned()),
                code: None,
            },
        ),
        (
            "404 Not Found",
            r#"{"detail":"Not Found"}"#,
            bad("status 404; check that its URL is the base of an OpenAI API"),
        ),
        (
            "405 Method Not Allowed",
            "",
            bad("status 405; check that its URL is the base of an OpenAI API"),
        ),
        ("307 Temporary Redirect", "", bad("status 307")),
        (
            "408 Request Timeout",
            "too slow",
            its_own(408, "too slow", None),
        ),
        (
            "409 Conflict",
            r#"{"error":{"message":"in use"}}"#,
            its_own(409, "in use", None),
        ),
        (
            "409 Conflict",
            "",
            its_own(409, "the engine refused the request with status 409", None),
        ),
        (
            "500 Internal Server Error",
            r#"{"error":{"message":"CUDA error","code":500}}"#,
            engine("CUDA error"),
        ),
        (
            "502 Bad Gateway",
            "<html>nginx</html>",
            engine("the engine failed with status 502"),
        ),
        (
            "503 Service Unavailable",
            r#"{"error":{"message":"Loading model","type":"unavailable_error","code":503}}"#,
            BackendError::Busy { retry_after: None },
        ),
    ] {
        assert_eq!(
            refused_with(status, "", body).await,
            error,
            "{status} {body}"
        );
    }
    let busy = BackendError::Busy {
        retry_after: Some(Duration::from_secs(7)),
    };
    assert_eq!(
        refused_with("503 Service Unavailable", "retry-after: 7\r\n", "{}").await,
        busy
    );
}

#[tokio::test]
async fn what_an_engine_wants_of_its_account_keeps_its_status_and_its_words() {
    for (status, body, expected) in [
        (
            "401 Unauthorized",
            r#"{"error":{"message":"Unauthorized","code":"invalid_api_key"}}"#,
            (
                401,
                "Unauthorized (No API key is configured for the backend `gpu`, and none was sent.)",
                Some("backend_credentials"),
            ),
        ),
        (
            "402 Payment Required",
            r#"{"detail":"nothing left"}"#,
            (402, "nothing left", None),
        ),
        (
            "403 Forbidden",
            r#"{"error":{"message":"not for you"}}"#,
            (403, "not for you", None),
        ),
        (
            "403 Forbidden",
            "",
            (403, "the engine refused the request with status 403", None),
        ),
    ] {
        let (status_told, message, code) = expected;
        let (message, code) = (message.to_owned(), code.map(str::to_owned));
        let expected = BackendError::Refused {
            status: status_told,
            message,
            param: None,
            code,
        };
        assert_eq!(
            refused_with(status, "", body).await,
            expected,
            "{status} {body}"
        );
    }
}

/// A key of this server's that an engine refuses is no fault of the client's; what the engine says
/// of it is told all the same.
#[tokio::test]
async fn a_refused_key_of_the_servers_own_is_told_with_the_engines_words() {
    let no = || json("403 Forbidden", r#"{"error":{"message":"wrong key"}}"#);
    let credentials = |message: &str| BackendError::Credentials {
        backend: "gpu".to_owned(),
        message: Some(message.to_owned()),
    };
    let engine = RawEngine::start([
        no(),
        json("401 Unauthorized", ""),
        json("402 Payment Required", "pay"),
        no(),
    ])
    .await;
    let url = engine.url.parse().unwrap();
    let backend = OpenAi::new("gpu", Client::default(), url, Some("sk-1".parse().unwrap()));
    let error = backend.start(whole_call().into()).await.unwrap_err();
    assert_eq!(error, credentials("wrong key"));
    assert!(
        error
            .to_string()
            .ends_with("missing or wrong. It says: wrong key"),
        "{error}"
    );
    let refused = backend.start(whole_call().into()).await.unwrap_err();
    assert_eq!(
        refused,
        credentials("the engine refused the request with status 401")
    );
    let refused = backend.start(whole_call().into()).await.unwrap_err();
    assert!(
        matches!(refused, BackendError::Refused { status: 402, message, .. } if message == "pay")
    );
    assert_eq!(backend.models().await, Err(credentials("wrong key")));
    // Where it has none, a list that is refused is about the server too: the client did not ask for
    // it.
    let engine = RawEngine::start([no()]).await;
    assert_eq!(
        engine_at(&engine.url).models().await,
        Err(credentials("wrong key"))
    );
}

#[tokio::test]
async fn a_limit_of_the_engines_is_told_with_its_words_and_its_time() {
    let limited =
        |message: &str, code: Option<&str>, retry_after: Option<u64>| BackendError::RateLimited {
            message: message.to_owned(),
            code: code.map(str::to_owned),
            retry_after: retry_after.map(Duration::from_millis),
        };
    for (head, body, error) in [
        (
            "retry-after: 7\r\n",
            "{}",
            limited(
                "the engine limits how often it may be asked; try again later",
                None,
                Some(7000),
            ),
        ),
        (
            "retry-after: 1\r\nretry-after-ms: 250\r\n",
            r#"{"error":{"message":"slow down","type":"requests","param":null,"code":"rate_limit_exceeded"}}"#,
            limited("slow down", Some("rate_limit_exceeded"), Some(250)),
        ),
        (
            "",
            r#"{"error":{"message":"nothing left","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#,
            limited("nothing left", Some("insufficient_quota"), None),
        ),
    ] {
        assert_eq!(
            refused_with("429 Too Many Requests", head, body).await,
            error,
            "{body}"
        );
    }
    let in_place_of_an_answer = r#"{"error":{"message":"slow down","type":"rate_limit_exceeded"}}"#;
    assert_eq!(
        refused_with("200 OK", "", in_place_of_an_answer).await,
        limited("slow down", None, None)
    );
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

#[tokio::test]
async fn models_keep_what_the_engine_tells_of_them() {
    let list = r#"{"object":"list","data":[
        {"id":"meta/llama","object":"model","created":1760000000,"owned_by":"vllm","root":"/m","max_model_len":4096},
        {"id":"small.gguf","object":"model","created":1760000000.9,"owned_by":"llamacpp","meta":{"n_ctx_train":2048}},
        {"id":"bare"}, {"no":"id"}
    ],"models":[]}"#;
    let engine = RawEngine::start([json("200 OK", list)]).await;
    let backend = engine_at(&engine.url);
    let models = serde_json::to_value(backend.models().await.unwrap()).unwrap();
    assert_eq!(
        models,
        json!([
            {"id": "meta/llama", "object": "model", "created": 1_760_000_000, "owned_by": "vllm", "root": "/m", "max_model_len": 4096,
             "context_length": 4096},
            {"id": "small.gguf", "object": "model", "created": 1_760_000_000, "owned_by": "llamacpp", "meta": {"n_ctx_train": 2048},
             "context_length": 2048},
            {"id": "bare", "object": "model", "created": 0, "owned_by": "gpu"},
        ])
    );
    assert_eq!(
        backend.abilities("bare").await.unwrap().context_length,
        None
    );
    assert_eq!(
        backend.abilities("unknown").await.unwrap().context_length,
        None
    );
    assert_eq!(
        engine.requests().len(),
        1,
        "the abilities come from the list that was asked for"
    );
}

#[tokio::test]
async fn the_list_of_models_is_asked_for_once_to_know_the_abilities() {
    let engine = RawEngine::start([json("404 Not Found", "{}")]).await;
    let backend = engine_at(&engine.url);
    for _ in 0..3 {
        assert_eq!(backend.abilities("m").await.unwrap().context_length, None);
    }
    assert_eq!(engine.requests().len(), 1);
}

#[tokio::test]
async fn an_engine_that_manages_its_own_models_deletes_none() {
    let list = || answer("200 OK", "", r#"{"object":"list","data":[{"id":"m"}]}"#);
    let engine = RawEngine::start([list(), list()]).await;
    let backend = engine_at(&engine.url);
    let refused = BackendError::NotDeleted {
        model: "m".to_owned(),
        why: NotDeleted::EngineKeepsIt,
    };
    assert_eq!(backend.delete_model("m").await, Err(refused));
    assert_eq!(
        backend.delete_model("n").await,
        Err(BackendError::model_not_found("n"))
    );
}

#[tokio::test]
async fn an_engine_that_is_still_loading_is_not_ready() {
    let list = || json("200 OK", r#"{"object":"list","data":[{"id":"m"}]}"#);
    let loading = json(
        "503 Service Unavailable",
        r#"{"error":{"message":"Loading model"}}"#,
    );
    let engine = RawEngine::start([
        list(),
        loading,
        list(),
        json("200 OK", "{}"),
        list(),
        json("404 Not Found", "{}"),
    ])
    .await;
    let backend = engine_at(&engine.url);
    assert_eq!(
        backend.ready().await,
        Err(BackendError::Busy { retry_after: None })
    );
    assert_eq!(backend.ready().await, Ok(()));
    assert_eq!(backend.ready().await, Ok(()));
    assert!(engine.requests()[1].starts_with("GET /health HTTP/1.1\r\n"));
}

fn completion_call(more: &Value) -> CompletionCall {
    let mut request = json!({"model": "m", "prompt": ["a", "b"], "n": 1, "logprobs": 1, "echo": true, "max_tokens": 3, "its_own": 1});
    request
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    let request = Arc::new(serde_json::from_value(request).unwrap());
    CompletionCall::new("cmpl-1", request)
}

#[tokio::test]
async fn the_older_completions_of_an_engine_are_read_in_either_shape_of_log_probabilities() {
    let of_vllm = json!({"tokens": ["x"], "token_logprobs": [-0.5], "top_logprobs": [{"x": -0.5}], "text_offset": [0]});
    let of_llama_server =
        json!({"content": [{"token": "y", "logprob": -0.25, "bytes": [121], "top_logprobs": []}]});
    let answered = json!({
        "id": "cmpl-9", "object": "text_completion", "created": 7, "model": "m", "choices": [
            {"index": 0, "text": "x", "logprobs": of_vllm, "finish_reason": "length", "stop_reason": null},
            {"index": 1, "text": "y", "logprobs": of_llama_server, "finish_reason": "stop"}
        ], "usage": {"prompt_tokens": 2, "completion_tokens": 2, "total_tokens": 4}
    });
    let engine = RawEngine::start([answer(
        "200 OK",
        "content-type: application/json\r\n",
        &answered.to_string(),
    )])
    .await;
    let call = completion_call(&json!({}));
    let asked = serde_json::to_value(&*call.work).unwrap();
    let (told, error) = told(engine_at(&engine.url).start(call.into()).await.unwrap()).await;
    assert_eq!(error, None);
    let sent = engine.requests().remove(0);
    let (head, body) = sent.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /v1/completions "), "{head}");
    assert_eq!(
        serde_json::from_str::<Value>(body).unwrap(),
        asked,
        "as it came"
    );
    let choices = &told[0]["choices"];
    assert_eq!(
        (
            &choices[0]["delta"]["content"],
            &choices[1]["delta"]["content"]
        ),
        (&json!("x"), &json!("y"))
    );
    assert_eq!(
        choices[0]["logprobs"]["content"][0]["top_logprobs"][0]["logprob"],
        -0.5
    );
    assert_eq!(choices[1]["logprobs"]["content"][0]["logprob"], -0.25);
    assert_eq!(told[1]["usage"]["total_tokens"], 4);
}

#[tokio::test]
async fn a_streamed_completion_of_an_engine_is_whole_when_every_prompts_choices_have_ended() {
    let chunk = |index: u32, text: &str, reason: Value| {
        let choice =
            json!({"index": index, "text": text, "logprobs": null, "finish_reason": reason});
        let chunk = json!({"id": "cmpl-9", "object": "text_completion", "created": 7, "model": "m", "choices": [choice]});
        piece(format!("data: {chunk}\n\n"))
    };
    let all = vec![
        stream_head(),
        chunk(0, "x", json!(null)),
        chunk(0, "", json!("length")),
        chunk(1, "y", json!("stop")),
        stream_end(),
    ];
    let engine = RawEngine::start([all]).await;
    let (told, error) = told(
        engine_at(&engine.url)
            .start(completion_call(&json!({"stream": true})).into())
            .await
            .unwrap(),
    )
    .await;
    assert_eq!(error, None, "no [DONE], but both have ended");
    let texts: Vec<_> = told
        .iter()
        .map(|chunk| {
            chunk["choices"][0]["delta"]["content"]
                .as_str()
                .unwrap_or_default()
        })
        .collect();
    assert_eq!(texts, ["x", "", "y"]);
    let sent = engine.requests().remove(0);
    assert!(
        sent.contains(r#""stream_options":{"include_usage":true}"#),
        "{sent}"
    );
    let cut = vec![stream_head(), chunk(0, "x", json!("stop")), stream_end()];
    let engine = RawEngine::start([cut]).await;
    let (_, error) = self::told(
        engine_at(&engine.url)
            .start(completion_call(&json!({"stream": true})).into())
            .await
            .unwrap(),
    )
    .await;
    assert!(
        matches!(error, Some(BackendError::CutShort { .. })),
        "{error:?}"
    );
}

/// What vLLM sends without a reasoning parser: the tags in the text, and the usage with nothing of
/// it.
const THOUGHTS: &str = concat!(
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"<thi\"}}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"nk>\\nHm</think>\\n\"}}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\\nParis.\"}}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
    "data: [DONE]\n\n",
);

#[tokio::test]
async fn reasoning_that_an_engine_leaves_in_the_text_is_told_apart() {
    let (events, error) = stream_of(THOUGHTS).await.unwrap();
    let deltas: Vec<&Value> = events
        .iter()
        .map(|event| &event["choices"][0]["delta"])
        .collect();
    assert_eq!(error, None);
    let thought = json!({"reasoning_content": "Hm", "reasoning": "Hm"});
    assert_eq!(
        deltas,
        [
            &json!({"role": "assistant", "content": ""}),
            &thought,
            &json!({"content": "Paris."}),
            &json!({})
        ]
    );

    let whole = r#"{"choices":[{"index":0,"message":{"role":"assistant","content":"<think>Hm</think>Paris."},"finish_reason":"stop"}]}"#;
    let engine = RawEngine::start([json("200 OK", whole)]).await;
    let (events, _) = told(
        engine_at(&engine.url)
            .start(whole_call().into())
            .await
            .unwrap(),
    )
    .await;
    let expected = json!({"role": "assistant", "content": "Paris.", "reasoning_content": "Hm", "reasoning": "Hm"});
    assert_eq!(events[0]["choices"][0]["delta"], expected);
}

#[tokio::test]
async fn a_client_that_wants_reasoning_left_in_the_text_has_it_there() {
    let engine = RawEngine::start([vec![stream_head(), piece(THOUGHTS), stream_end()]]).await;
    let request = json!({"model": "m", "messages": [], "stream": true, "reasoning_format": "none"});
    let (events, _) = told(
        engine_at(&engine.url)
            .start(call(request).into())
            .await
            .unwrap(),
    )
    .await;
    let text: String = events
        .iter()
        .filter_map(|event| event["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(text, "<think>\nHm</think>\n\nParis.");
}
