//! The context size in requests to Ollama: chosen if the client sends none, and increased if it was
//! too small.

use crate::support::{Scripted, chat, hello, layered, recording, send};
use bytes::Bytes;
use loggia_api::Policy;
use serde_json::{Value, json};

/// An Ollama with one model, `smollm2:135m`, whose context may have up to 8,192 tokens.
fn ollama(loaded: Option<u64>) -> Scripted {
    let (_, show) = recording("server/show");
    let models: Vec<Value> = loaded
        .map(|size| json!({"name": "smollm2:135m", "context_length": size}))
        .into_iter()
        .collect();
    Scripted::default()
        .on("/api/show", 200, [show])
        .on("/api/tags", 200, [recording("server/tags").1])
        .on("/api/ps", 200, [json!({"models": models}).to_string()])
        .recorded("chat/whole")
}

fn saying(letters: usize) -> Value {
    hello(json!({"messages": [{"role": "user", "content": "a".repeat(letters)}]}))
}

async fn asked_for(inner: &Scripted, body: Value) -> Value {
    let answer = chat(inner, Policy::default(), body).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    inner.last_chat()["options"]["num_ctx"].clone()
}

#[tokio::test]
async fn a_short_prompt_leaves_the_size_to_ollama_unless_the_model_is_loaded() {
    assert_eq!(asked_for(&ollama(None), saying(100)).await, Value::Null);
    assert_eq!(asked_for(&ollama(Some(8192)), saying(100)).await, 8192);
}

#[tokio::test]
async fn a_long_prompt_gets_the_smallest_step_that_holds_it_and_no_more_than_the_model_has() {
    assert_eq!(asked_for(&ollama(None), saying(9_000)).await, 8192);
    assert_eq!(asked_for(&ollama(Some(4096)), saying(9_000)).await, 8192);
    assert_eq!(asked_for(&ollama(None), saying(100_000)).await, 8192);
}

/// Agents send such large limits with every request. A context that holds them would take
/// gigabytes.
#[tokio::test]
async fn the_limit_of_an_answer_reserves_no_more_than_4096_tokens() {
    let (_, show) = recording("server/show");
    let mut show: Value = serde_json::from_slice(&show).expect("JSON");
    show["model_info"]["llama.context_length"] = json!(131_072);
    let inner = || {
        ollama(None).on("/api/show", 200, [show.to_string()]).on(
            "/api/generate",
            200,
            [recording("generate/raw-whole").1],
        )
    };
    for (letters, limit, size) in [
        (100, 100, Value::Null),
        (100, 4_090, json!(8192)),
        (100, 32_000, json!(8192)),
        (100, 128_000, json!(8192)),
        (100, 4_294_967_295_u64, json!(8192)),
        (9_000, 3_000, json!(8192)),
        (9_000, 32_000, json!(16_384)),
        (60_000, 128_000, json!(65_536)),
    ] {
        for field in ["max_tokens", "max_completion_tokens"] {
            let (inner, mut body) = (inner(), saying(letters));
            body[field] = json!(limit);
            assert_eq!(asked_for(&inner, body).await, size, "{letters} {limit}");
            assert_eq!(inner.last_chat()["options"]["num_predict"], limit);
        }
        let inner = inner();
        let body =
            json!({"model": "smollm2:135m", "prompt": "a".repeat(letters), "max_tokens": limit});
        let completion = crate::support::post("/v1/completions", body.to_string());
        let answer = send(&layered(&inner, Policy::default()), completion).await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
        let options = &inner.last("/api/generate")["options"];
        assert_eq!(
            (&options["num_ctx"], &options["num_predict"]),
            (&size, &json!(limit))
        );
    }
}

/// The recorded answer used 234 of the 400 allowed tokens, in a context of 256.
#[tokio::test]
async fn an_answer_that_ends_with_the_context_says_so() {
    let recorded = || ollama(None).recorded("chat/generation-past-context-shift-false");
    let whole = async |fields: Value| chat(&recorded(), Policy::default(), hello(fields)).await;
    for (fields, cut_short) in [
        (json!({"max_tokens": 400}), Some("context")),
        (json!({"options": {"num_predict": 235}}), Some("context")),
        (json!({"options": {"num_predict": -1}}), Some("context")),
        (json!({}), Some("context")),
        (json!({"max_tokens": 234}), None),
        (json!({"options": {"num_predict": 234}}), None),
    ] {
        let answer = whole(fields.clone()).await;
        assert_eq!(
            answer.header("x-loggia-cut-short"),
            cut_short,
            "{fields} {}",
            answer.text()
        );
        let choice = &answer.json()["choices"][0];
        assert_eq!(choice["finish_reason"], "length");
        assert_eq!(answer.json()["usage"]["completion_tokens"], 234);
        let mut fields = fields;
        fields["stream"] = json!(true);
        let text = whole(fields.clone()).await.text().to_owned();
        assert_eq!(
            text.contains(": x-loggia-cut-short: context\n\n"),
            cut_short.is_some(),
            "{fields} {text}"
        );
        assert!(text.ends_with("\"finish_reason\":\"length\"}]}\n\ndata: [DONE]\n\n"));
    }
    // The limit of the model's own Modelfile.
    let (_, show) = recording("server/show");
    let mut show: Value = serde_json::from_slice(&show).expect("JSON");
    show["parameters"] = json!("num_predict                    234");
    let inner = recorded().on("/api/show", 200, [show.to_string()]);
    let answer = chat(&inner, Policy::default(), hello(json!({}))).await;
    assert_eq!(answer.header("x-loggia-cut-short"), None);
}

#[tokio::test]
async fn a_size_once_chosen_is_kept() {
    let inner = ollama(None);
    let service = layered(&inner, Policy::default());
    for (letters, size) in [(9_000, json!(8192)), (100, json!(8192))] {
        send(
            &service,
            crate::support::post("/v1/chat/completions", saying(letters).to_string()),
        )
        .await;
        assert_eq!(inner.last_chat()["options"]["num_ctx"], size);
    }
}

#[tokio::test]
async fn the_size_that_was_chosen_stands_beside_the_models_own() {
    let service = layered(&ollama(None), Policy::default());
    let told = async || {
        let request = http::Request::get("/v1/models/smollm2:135m")
            .body(http_body_util::Full::new(Bytes::new()));
        let model = send(&service, request.expect("a request")).await.json();
        (
            model["context_length"].clone(),
            model["chosen_context_length"].clone(),
        )
    };
    assert_eq!(told().await, (json!(8192), Value::Null));
    send(
        &service,
        crate::support::post("/v1/chat/completions", saying(9_000).to_string()),
    )
    .await;
    assert_eq!(told().await, (json!(8192), json!(8192)));
}

#[tokio::test]
async fn what_the_client_asks_for_is_sent() {
    let mut body = saying(9_000);
    body["num_ctx"] = json!(2048);
    assert_eq!(asked_for(&ollama(Some(4096)), body).await, 2048);
}

#[tokio::test]
async fn a_prompt_that_was_underrated_is_asked_again_with_room_for_it() {
    let refusal = |prompt: u64| {
        let inner = json!({"error": {"code": 400, "message": "too long", "type": "exceed_context_size_error",
            "n_prompt_tokens": prompt, "n_ctx": 4096}});
        Bytes::from(json!({"error": inner.to_string()}).to_string())
    };
    let inner = ollama(None).on("/api/chat", 400, [refusal(5000)]);
    let answer = chat(&inner, Policy::default(), saying(100)).await;
    let sizes: Vec<Value> = inner
        .chats()
        .iter()
        .map(|chat| chat["options"]["num_ctx"].clone())
        .collect();
    assert_eq!(
        sizes,
        [Value::Null, json!(8192)],
        "once more, and not again"
    );
    assert_eq!(
        (answer.status(), &answer.json()["error"]["code"]),
        (400, &json!("context_length_exceeded"))
    );

    let inner = ollama(None).on("/api/chat", 400, [refusal(9000)]);
    chat(&inner, Policy::default(), saying(100)).await;
    assert_eq!(
        inner.chats().len(),
        1,
        "no context of this model can hold it"
    );
}

#[tokio::test]
async fn a_prompt_that_is_too_long_by_the_words_of_ollamas_own_runner_is_no_input() {
    let inner = ollama(None).on(
        "/api/chat",
        400,
        [r#"{"error":"the input length exceeds the context length"}"#],
    );
    let answer = chat(&inner, Policy::default(), hello(json!({}))).await;
    let error = answer.json()["error"].clone();
    assert_eq!(
        (answer.status(), &error["code"]),
        (400, &json!("context_length_exceeded"))
    );
    assert_eq!(error["param"], "messages");
}
