//! Text completions (`/v1/completions`) of an engine that speaks OpenAI's API.

use std::sync::Arc;

use super::*;
use crate::raw::{RawEngine, answer, piece, stream_end, stream_head};
use loggia_backend::{Backend, BackendError, CompletionCall};
use serde_json::{Value, json};

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
