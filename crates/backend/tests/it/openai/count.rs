//! Tests of counting the tokens of a prompt. llama-server and vLLM have endpoints that count a
//! chat. From any other engine, an answer of one token is requested.

use crate::raw::{RawEngine, Step, json};
use loggia_backend::http::Client;
use loggia_backend::openai::OpenAi;
use loggia_backend::{Backend, BackendError, TokenCount};
use serde_json::{Value, json};

use super::call;

const LLAMA_SERVER: &str =
    r#"{"object":"list","data":[{"id":"m","object":"model","created":1,"owned_by":"llamacpp"}]}"#;
const VLLM: &str =
    r#"{"object":"list","data":[{"id":"m","object":"model","created":1,"owned_by":"vllm"}]}"#;
const ANOTHER: &str =
    r#"{"object":"list","data":[{"id":"m","object":"model","created":1,"owned_by":"me"}]}"#;

/// Starts an engine with this list of models and these answers, and requests the abilities of the
/// model.
async fn behind(list: &str, answers: Vec<Vec<Step>>) -> (RawEngine, OpenAi) {
    let engine = RawEngine::start([json("200 OK", list)].into_iter().chain(answers)).await;
    let backend = OpenAi::new("gpu", Client::default(), engine.url.parse().unwrap(), None);
    backend.abilities("m").await.unwrap();
    (engine, backend)
}

async fn count(backend: &OpenAi, fields: Value) -> Result<TokenCount, BackendError> {
    let mut request = json!({"model": "m", "messages": [{"role": "user", "content": "Hi"}]});
    request
        .as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    backend.count_tokens(call(request)).await
}

fn props(tools: bool) -> Vec<Step> {
    let caps = json!({"supports_tools": tools, "supports_tool_calls": tools});
    let props = json!({"chat_template_caps": caps, "chat_template": ""});
    json("200 OK", &props.to_string())
}

/// vLLM's description of its API.
fn description(tokenizes: bool) -> Vec<Step> {
    let chat = json!({"properties": {"messages": {}, "tools": {}}});
    let mut api = json!({"paths": {}, "components": {"schemas": {"ChatCompletionRequest": chat}}});
    if tokenizes {
        api["paths"]["/tokenize"] = json!({"post": {}});
        api["components"]["schemas"]["TokenizeChatRequest"] = chat;
    }
    json("200 OK", &api.to_string())
}

fn one_token(usage: &Value) -> Vec<Step> {
    let choice = json!({"index": 0, "finish_reason": "length", "message": {"role": "assistant", "content": "H"}});
    json(
        "200 OK",
        &json!({"choices": [choice], "usage": usage}).to_string(),
    )
}

fn usage(prompt_tokens: u64) -> Value {
    json!({"prompt_tokens": prompt_tokens, "completion_tokens": 1, "total_tokens": prompt_tokens + 1})
}

/// The path and body of the last request.
fn last(engine: &RawEngine) -> (String, Value) {
    let request = engine.requests().pop().unwrap();
    let path = request.split(' ').nth(1).unwrap().to_owned();
    let (_, body) = request.split_once("\r\n\r\n").unwrap();
    (path, serde_json::from_str(body).unwrap())
}

#[tokio::test]
async fn llama_server_counts_the_chat_as_it_would_get_it() {
    let counted = json(
        "200 OK",
        r#"{"object":"response.input_tokens","input_tokens":11}"#,
    );
    let (engine, backend) = behind(LLAMA_SERVER, vec![props(false), counted]).await;
    let tools = json!({"tools": [{"type": "function", "function": {"name": "f"}}]});
    let count = count(&backend, tools).await.unwrap();
    assert_eq!((count.input_tokens, count.is_exact), (11, true));
    assert_eq!(&*count.served_by.backend, "gpu");
    let (path, body) = last(&engine);
    assert_eq!(path, "/v1/chat/completions/input_tokens");
    // This model's template does not support tools, so a system message describes them.
    assert!(
        body.get("tools").is_none() && body["messages"][0]["role"] == "system",
        "{body}"
    );
}

#[tokio::test]
async fn an_older_llama_server_renders_the_chat_and_tokenizes_the_text() {
    let no_route = json("404 Not Found", r#"{"error":{"message":"File Not Found"}}"#);
    let rendered = json("200 OK", r#"{"prompt":"<user>Hi<assistant>"}"#);
    let tokens = json("200 OK", r#"{"tokens":[1,2,3,4]}"#);
    let answers = vec![props(true), no_route, rendered, tokens];
    let (engine, backend) = behind(LLAMA_SERVER, answers).await;
    let count = count(&backend, json!({})).await.unwrap();
    assert_eq!((count.input_tokens, count.is_exact), (4, true));
    let (path, body) = last(&engine);
    assert_eq!(path, "/tokenize");
    let text = json!({"model": "m", "content": "<user>Hi<assistant>", "add_special": true, "parse_special": true});
    assert_eq!(body, text);
}

#[tokio::test]
async fn images_are_counted_by_an_answer_because_no_endpoint_counts_them() {
    let image = json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}});
    let messages = json!({"messages": [{"role": "user", "content": [image]}]});
    let (engine, backend) = behind(LLAMA_SERVER, vec![props(true), one_token(&usage(300))]).await;
    let count = count(&backend, messages).await.unwrap();
    assert_eq!((count.input_tokens, count.is_exact), (300, true));
    let (path, body) = last(&engine);
    assert_eq!(
        (path.as_str(), &body["max_tokens"]),
        ("/v1/chat/completions", &json!(1))
    );
}

#[tokio::test]
async fn vllm_tokenizes_the_fields_of_a_chat_that_its_prompt_is_made_of() {
    let counted = json(
        "200 OK",
        r#"{"count":7,"max_model_len":4096,"tokens":[1,2,3,4,5,6,7]}"#,
    );
    let (engine, backend) = behind(VLLM, vec![description(true), counted]).await;
    let fields = json!({"temperature": 0.5, "max_tokens": 9, "stream": true,
        "chat_template_kwargs": {"enable_thinking": false}});
    let count = count(&backend, fields).await.unwrap();
    assert_eq!((count.input_tokens, count.is_exact), (7, true));
    let (path, body) = last(&engine);
    assert_eq!(path, "/tokenize");
    let read = json!({"model": "m", "messages": [{"role": "user", "content": "Hi"}],
        "chat_template_kwargs": {"enable_thinking": false}});
    assert_eq!(body, read);
}

#[tokio::test]
async fn vllm_is_asked_for_an_answer_where_its_tokenizer_may_differ_from_a_chat() {
    for (tokenizes, fields) in [
        (false, json!({})),
        (true, json!({"reasoning_effort": "low"})),
        (true, json!({"documents": [{"text": "a"}]})),
    ] {
        let answers = vec![description(tokenizes), one_token(&usage(9))];
        let (engine, backend) = behind(VLLM, answers).await;
        let count = count(&backend, fields.clone()).await.unwrap();
        assert_eq!((count.input_tokens, count.is_exact), (9, true), "{fields}");
        assert_eq!(last(&engine).0, "/v1/chat/completions", "{fields}");
    }
}

#[tokio::test]
async fn any_other_engine_is_asked_for_one_token_once_for_each_prompt() {
    let (engine, backend) = behind(ANOTHER, vec![one_token(&usage(9)), one_token(&usage(5))]).await;
    for _ in 0..3 {
        // The limit and the streaming of the answer do not change the prompt.
        for fields in [json!({}), json!({"stream": true, "max_tokens": 500})] {
            let count = count(&backend, fields).await.unwrap();
            assert_eq!((count.input_tokens, count.is_exact), (9, true));
        }
    }
    assert_eq!(engine.requests().len(), 2);
    let other = json!({"messages": [{"role": "user", "content": "H"}]});
    assert_eq!(count(&backend, other).await.unwrap().input_tokens, 5);
}

#[tokio::test]
async fn an_engine_without_usage_gives_an_estimate() {
    let (_engine, backend) = behind(ANOTHER, vec![one_token(&Value::Null)]).await;
    let count = count(&backend, json!({})).await.unwrap();
    assert!(!count.is_exact && count.input_tokens > 0, "{count:?}");
}

#[tokio::test]
async fn a_refusal_is_the_one_that_a_chat_would_get() {
    let refused =
        r#"{"error":{"message":"no such role","type":"invalid_request_error","code":400}}"#;
    for list_and_answers in [
        (
            LLAMA_SERVER,
            vec![props(true), json("400 Bad Request", refused)],
        ),
        (
            VLLM,
            vec![description(true), json("400 Bad Request", refused)],
        ),
        (ANOTHER, vec![json("400 Bad Request", refused)]),
    ] {
        let (list, answers) = list_and_answers;
        let (_engine, backend) = behind(list, answers).await;
        let error = count(&backend, json!({})).await.unwrap_err();
        assert!(
            matches!(&error, BackendError::InvalidRequest { message, .. } if message == "no such role"),
            "{list}: {error:?}"
        );
    }
}
