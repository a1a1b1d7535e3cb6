//! Tests of embeddings of an engine that speaks OpenAI's API.

use std::sync::Arc;

use crate::raw::{RawEngine, answer, json};
use loggia_backend::http::Client;
use loggia_backend::openai::OpenAi;
use loggia_backend::{Backend, BackendError, EmbeddingCall, Embeddings, WorkKind};
use serde_json::{Value, json};

async fn embed(engine: &RawEngine, request: Value) -> Result<Embeddings, BackendError> {
    let backend = OpenAi::new("gpu", Client::default(), engine.url.parse().unwrap(), None);
    let request = Arc::new(serde_json::from_value(request).unwrap());
    backend.embed(EmbeddingCall::new("embd-1", request)).await
}

async fn told(body: &str, request: Value) -> Result<Embeddings, BackendError> {
    embed(&RawEngine::start([json("200 OK", body)]).await, request).await
}

async fn refused_with(status: &str, body: &str, input: Value) -> BackendError {
    let engine = RawEngine::start([answer(status, "", body)]).await;
    embed(&engine, json!({"model": "m", "input": input}))
        .await
        .unwrap_err()
}

fn two() -> Value {
    json!({"model": "m", "input": ["a", "b"]})
}

#[tokio::test]
async fn the_request_goes_out_as_it_came_but_asks_for_numbers() {
    let engine = RawEngine::start([json("200 OK", "{}")]).await;
    let request = json!({
        "model": "m", "input": [[101, 5], [102]], "encoding_format": "base64", "dimensions": 2, "user": "u", "input_type": "query",
    });
    let _ = embed(&engine, request.clone()).await;
    let sent = engine.requests().remove(0);
    let (head, body) = sent.split_once("\r\n\r\n").unwrap();
    assert!(
        head.starts_with("POST /v1/embeddings HTTP/1.1\r\n"),
        "{head}"
    );
    let mut expected = request;
    expected["encoding_format"] = json!("float");
    assert_eq!(serde_json::from_str::<Value>(body).unwrap(), expected);
}

#[tokio::test]
async fn vectors_come_in_the_order_of_the_inputs_whatever_their_order_was() {
    let body = r#"{"object":"list","data":[{"index":1,"embedding":[0,1.5]},{"index":0,"embedding":[1,2e-1],"object":"embedding"}],
        "model":"/models/m.gguf","usage":{"prompt_tokens":7,"total_tokens":7,"prompt_tokens_details":null}}"#;
    let made = told(body, two()).await.unwrap();
    assert_eq!(
        (made.vectors, made.prompt_tokens),
        (vec![vec![1.0, 0.2], vec![0.0, 1.5]], 7)
    );
    assert_eq!(
        (&*made.served_by.backend, &*made.served_by.model),
        ("gpu", "m")
    );
}

#[tokio::test]
async fn an_engine_that_answers_in_base64_and_without_indexes_or_usage_is_read_too() {
    let body = r#"{"data":[{"embedding":"AACAPwAAAL8="},{"embedding":"AAAAAAAAgD8="}]}"#;
    let made = told(body, json!({"model": "m", "input": [[1, 2], [3]]}))
        .await
        .unwrap();
    assert_eq!(
        (made.vectors, made.prompt_tokens),
        (vec![vec![1.0, -0.5], vec![0.0, 1.0]], 3)
    );
}

#[tokio::test]
async fn dimensions_that_an_engine_ignored_are_made_here() {
    let body = r#"{"data":[{"index":0,"embedding":[3,4,12]}],"usage":{"prompt_tokens":1,"total_tokens":1}}"#;
    let asked = |dimensions: u32| json!({"model": "m", "input": "a", "dimensions": dimensions});
    assert_eq!(told(body, asked(2)).await.unwrap().vectors, [[0.6, 0.8]]);
    let too_many = told(body, asked(4)).await.unwrap_err();
    assert!(
        matches!(&too_many, BackendError::InvalidRequest { param: Some(param), .. } if param == "dimensions")
    );
}

#[tokio::test]
async fn what_is_no_list_of_one_vector_for_each_input_is_a_bad_answer() {
    for body in [
        "[]",
        "{}",
        r#"{"data":[{"index":0,"embedding":[1]}]}"#,
        r#"{"data":[{"index":0,"embedding":[1]},{"index":0,"embedding":[1]}]}"#,
        r#"{"data":[{"index":0,"embedding":[1]},{"index":2,"embedding":[1]}]}"#,
        r#"{"data":[{"index":0,"embedding":[1]},{"index":1,"embedding":[1,2]}]}"#,
        r#"{"data":[{"index":0,"embedding":[]},{"index":1,"embedding":[]}]}"#,
        r#"{"data":[{"index":0,"embedding":[null]},{"index":1,"embedding":[null]}]}"#,
        r#"{"data":[{"index":0,"embedding":"?"},{"index":1,"embedding":"?"}]}"#,
    ] {
        let error = told(body, two()).await.unwrap_err();
        assert!(
            matches!(error, BackendError::BadAnswer { .. }),
            "{body}: {error:?}"
        );
    }
}

#[tokio::test]
async fn an_engine_that_makes_no_embeddings_says_so_in_one_of_many_ways() {
    for (status, body) in [
        (
            "501 Not Implemented",
            r#"{"error":{"code":501,"message":"This server does not support embeddings. Start it with `--embeddings`","type":"not_supported_error"}}"#,
        ),
        (
            "400 Bad Request",
            r#"{"object":"error","message":"The model does not support Embeddings API","type":"BadRequestError","param":null,"code":400}"#,
        ),
        ("404 Not Found", r#"{"detail":"Not Found"}"#),
        ("405 Method Not Allowed", ""),
    ] {
        let error = refused_with(status, body, json!("a")).await;
        assert_eq!(
            error,
            BackendError::Unsupported {
                work: WorkKind::Embeddings
            },
            "{body}"
        );
    }
    let missing = r#"{"error":{"message":"The model `m` does not exist.","type":"NotFoundError","param":"model","code":404}}"#;
    assert_eq!(
        refused_with("404 Not Found", missing, json!("a")).await,
        BackendError::model_not_found("m")
    );
}

#[tokio::test]
async fn an_input_that_is_too_long_is_named_with_both_numbers() {
    let too_long = |index, tokens, most| BackendError::InputTooLong {
        index,
        tokens: Some(tokens),
        most: Some(most),
    };
    let llama_server = r#"{"error":{"code":500,"message":"input (1210 tokens) is too large to process. increase the physical batch size (current batch size: 512)","type":"server_error"}}"#;
    let error = refused_with("500 Internal Server Error", llama_server, json!("a")).await;
    assert_eq!(error, too_long(Some(0), 1210, 512));
    let vllm = r#"{"error":{"message":"This model's maximum context length is 512 tokens. However, you requested 1210 tokens in the input for embedding generation. Please reduce the length of the input.","type":"BadRequestError","param":null,"code":400}}"#;
    let error = refused_with("400 Bad Request", vllm, json!("a")).await;
    assert!(
        matches!(
            error,
            BackendError::InputTooLong {
                index: Some(0),
                most: Some(512),
                ..
            }
        ),
        "{error:?}"
    );
    // If there are several inputs, the longest is tried alone.
    let refusal = || answer("500 Internal Server Error", "", llama_server);
    let engine = RawEngine::start([refusal(), refusal()]).await;
    let error = embed(&engine, json!({"model": "m", "input": ["a", "long", "b"]}))
        .await
        .unwrap_err();
    assert_eq!(error, too_long(Some(1), 1210, 512));
    assert_eq!(engine.bodies().len(), 2);
}

#[tokio::test]
async fn a_client_that_leaves_closes_the_connection() {
    let engine = RawEngine::start([vec![]]).await;
    let waiting =
        tokio::time::timeout(std::time::Duration::from_millis(100), embed(&engine, two())).await;
    assert!(waiting.is_err(), "it never answers: {waiting:?}");
    engine.closed().await;
}
