//! Tests of streams: their events, their ends and their errors.

use std::time::Duration;

use super::*;
use crate::raw::{RawEngine, Step, piece, stream_end, stream_head};
use futures_util::StreamExt;
use loggia_backend::{Backend, BackendError, Event, Phase};
use serde_json::json;

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
    // The end of the answer does not wait for the last bytes. The connection returns to the pool
    // when they have arrived.
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
            engine_error("the engine aborted the answer"),
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
            "an event of its stream is not JSON",
        ),
        (
            "data: [\"secret\"]",
            "an event of its stream is not a chat.completion.chunk",
        ),
        (
            "data: {\"choices\":[{\"delta\":\"secret\"}]}",
            "an event of its stream is not a chat.completion.chunk",
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
