//! Tests of reranking by an engine that speaks OpenAI's API.

use crate::raw::{RawEngine, answer, json};
use loggia_backend::http::Client;
use loggia_backend::openai::OpenAi;
use loggia_backend::{Backend, BackendError, Rerank, RerankCall, Reranked};
use serde_json::{Value, json};

async fn rerank(engine: &RawEngine) -> Result<Option<Reranked>, BackendError> {
    let backend = OpenAi::new("gpu", Client::default(), engine.url.parse().unwrap(), None);
    let work = Rerank {
        model: "m".to_owned(),
        query: "cat".to_owned(),
        documents: vec!["dog".to_owned(), "cats".to_owned()],
    };
    backend.rerank(RerankCall::new("1", work)).await
}

#[tokio::test]
async fn scores_come_back_in_the_order_of_the_documents() {
    let body = r#"{"results":[{"index":1,"relevance_score":7.5},{"index":0,"relevance_score":-3}],"usage":{"total_tokens":9}}"#;
    let engine = RawEngine::start([json("200 OK", body)]).await;
    let ranked = rerank(&engine).await.unwrap().unwrap();
    assert_eq!((ranked.scores, ranked.prompt_tokens), (vec![-3.0, 7.5], 9));
    let sent = engine.requests().remove(0);
    let (head, body) = sent.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /v1/rerank HTTP/1.1\r\n"), "{head}");
    let sent: Value = serde_json::from_str(body).unwrap();
    let expected = json!({"model": "m", "query": "cat", "documents": ["dog", "cats"]});
    assert_eq!(sent, expected);
}

#[tokio::test]
async fn an_engine_without_reranking_is_no_error() {
    for (status, body) in [
        (
            "501 Not Implemented",
            r#"{"error":{"code":501,"message":"This server does not support reranking. Start it with `--reranking`","type":"not_supported_error"}}"#,
        ),
        ("404 Not Found", r#"{"detail":"Not Found"}"#),
        ("405 Method Not Allowed", ""),
        (
            "400 Bad Request",
            r#"{"error":{"message":"The model does not support Rerank (Score) API","type":"BadRequestError","code":400}}"#,
        ),
    ] {
        let engine = RawEngine::start([answer(status, "", body)]).await;
        assert_eq!(rerank(&engine).await, Ok(None), "{body}");
    }
}

#[tokio::test]
async fn broken_scores_and_refusals_are_errors() {
    for body in [
        "{}",
        r#"{"results":[]}"#,
        r#"{"results":[{"index":0,"relevance_score":1},{"index":0,"relevance_score":1}]}"#,
        r#"{"results":[{"index":0,"relevance_score":1},{"index":2,"relevance_score":1}]}"#,
    ] {
        let engine = RawEngine::start([json("200 OK", body)]).await;
        let error = rerank(&engine).await.unwrap_err();
        assert!(matches!(error, BackendError::BadAnswer { .. }), "{error:?}");
    }
    let missing = r#"{"error":{"message":"The model `m` does not exist.","type":"NotFoundError","param":"model","code":404}}"#;
    let engine = RawEngine::start([answer("404 Not Found", "", missing)]).await;
    let error = rerank(&engine).await.unwrap_err();
    assert_eq!(error, BackendError::model_not_found("m"));
}
