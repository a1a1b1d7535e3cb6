//! Tests of the list of models, of deletion, and of readiness.

use super::*;
use crate::raw::{RawEngine, answer, json};
use loggia_backend::{Backend, BackendError, NotDeleted};
use serde_json::json;

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
