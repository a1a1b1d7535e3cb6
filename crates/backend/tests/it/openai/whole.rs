//! Tests of answers that are not streamed.

use super::*;
use crate::raw::{RawEngine, Step, json, piece, stream_end};
use loggia_backend::{Backend, BackendError};
use serde_json::json;

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
        bad("it is not a chat.completion")
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
