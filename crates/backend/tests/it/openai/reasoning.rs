//! Tests of reasoning that an engine leaves in the text.

use super::*;
use crate::raw::{RawEngine, json, piece, stream_end, stream_head};
use loggia_backend::Backend;
use serde_json::{Value, json};

/// A stream of vLLM without a reasoning parser: the tags are in the text, and the usage does not
/// count the reasoning.
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
