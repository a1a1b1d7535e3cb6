//! Tests of the errors of engines, and of the errors that the client gets for them.

use std::time::Duration;

use super::*;
use crate::raw::{RawEngine, json};
use loggia_backend::http::Client;
use loggia_backend::openai::OpenAi;
use loggia_backend::{Backend, BackendError};
use serde_json::json;

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
        // The messages of OpenAI and of Loggia for a model of another kind.
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

/// If an engine refuses the server's API key, that is not the client's fault. The engine's message
/// is passed on all the same.
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
    // Without a key, a refused list of models is about the server too: no client requested the
    // list.
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
                "the engine's rate limit is exceeded; try again later",
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
