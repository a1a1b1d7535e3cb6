//! `POST /v1/moderations`, from bytes to bytes, over a service that speaks Ollama.

use crate::decisions::first_token;
use crate::support::{Answer, Scripted, layered, plain_model, post, send, strict};
use loggia_api::{ModerationFormat, Policy};
use serde_json::{Value, json};

/// A policy under which `smollm2:135m` moderates, in this format.
fn by(format: ModerationFormat) -> Policy {
    Policy {
        moderation_model: Some("smollm2:135m".to_owned()),
        moderation_format: Some(format),
        ..Policy::default()
    }
}

async fn moderate(inner: &Scripted, policy: Policy, body: Value) -> Answer {
    let service = layered(inner, policy);
    send(&service, post("/v1/moderations", body.to_string())).await
}

/// A token and its alternatives, as Ollama writes them.
fn token(probabilities: &[(&str, f64)]) -> Value {
    let one = |(token, probability): &(&str, f64)| json!({"token": token, "logprob": probability.ln(), "bytes": token.as_bytes()});
    let mut first = one(&probabilities[0]);
    first["top_logprobs"] = probabilities.iter().map(one).collect();
    first
}

/// A Llama Guard that answers with these tokens.
fn guard(tokens: &[Value]) -> Scripted {
    let text: String = tokens
        .iter()
        .filter_map(|token| token["token"].as_str())
        .collect();
    let answer = json!({
        "model": "smollm2:135m", "created_at": "2026-11-29T10:00:00Z",
        "message": {"role": "assistant", "content": text},
        "logprobs": tokens, "done": true, "done_reason": "stop",
        "prompt_eval_count": 200, "eval_count": tokens.len()
    });
    plain_model().on("/api/chat", 200, [answer.to_string()])
}

fn rounded(value: &Value) -> String {
    format!("{:.3}", value.as_f64().expect("a number"))
}

#[tokio::test]
async fn llama_guard_scores_its_hazards() {
    let inner = guard(&[
        token(&[("\n\n", 1.0)]),
        token(&[("unsafe", 0.9), ("safe", 0.1)]),
        token(&[("\n", 1.0)]),
        token(&[("S", 1.0)]),
        token(&[("10", 0.75), ("1", 0.25)]),
    ]);
    let body = json!({"input": ["I hate them.", "all"], "model": "omni-moderation-latest"});
    let answer = moderate(&inner, by(ModerationFormat::LlamaGuard), body).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let served_by = answer.header("x-loggia-served-by").expect("a header");
    assert!(served_by.contains("smollm2:135m"), "{served_by}");
    let answer = answer.json();
    assert!(
        answer["id"]
            .as_str()
            .is_some_and(|id| id.starts_with("modr-"))
    );
    assert_eq!(answer["model"], "omni-moderation-latest");
    assert_eq!(answer["results"].as_array().map(Vec::len), Some(2));
    let result = &answer["results"][0];
    assert_eq!(result["flagged"], true);
    assert_eq!(result["categories"]["hate"], true);
    assert_eq!(result["categories"]["violence"], false);
    assert_eq!(rounded(&result["category_scores"]["hate"]), "0.900");
    assert_eq!(rounded(&result["category_scores"]["violence"]), "0.225");
    assert_eq!(
        result["category_applied_input_types"]["hate"],
        json!(["text"])
    );
    // The model knows no such category.
    assert_eq!(result["categories"]["self-harm/intent"], false);
    assert_eq!(result["category_scores"]["self-harm/intent"], 0.0);
    assert_eq!(
        result["category_applied_input_types"]["self-harm/intent"],
        json!([])
    );
    // The model's chat template has the hazards; only the input is sent.
    let chats = inner.chats();
    assert_eq!(chats.len(), 2);
    assert_eq!(
        chats[0]["messages"],
        json!([{"role": "user", "content": "I hate them."}])
    );
}

#[tokio::test]
async fn shield_gemma_is_asked_about_each_policy() {
    let answer = json!({
        "model": "smollm2:135m", "created_at": "2026-11-29T10:00:00Z", "response": "No",
        "logprobs": [token(&[("No", 0.6), ("Yes", 0.2), (" Yes", 0.1)])],
        "done": true, "done_reason": "length", "prompt_eval_count": 100, "eval_count": 1
    });
    let inner = plain_model().on("/api/generate", 200, [answer.to_string()]);
    let answer = moderate(
        &inner,
        by(ModerationFormat::ShieldGemma),
        json!({"input": "Hello"}),
    )
    .await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let result = answer.json()["results"][0].clone();
    assert_eq!(result["flagged"], false);
    assert_eq!(rounded(&result["category_scores"]["harassment"]), "0.333");
    assert_eq!(result["category_scores"]["violence/graphic"], 0.0);
    let asked = inner.last("/api/generate");
    let prompt = asked["prompt"].as_str().expect("a prompt");
    assert!(
        prompt.contains("Human Question: Hello\n<end_of_turn>"),
        "{prompt}"
    );
    assert!(prompt.contains("No Sexually Explicit"), "{prompt}");
    let image =
        json!([{"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}]);
    let answer = moderate(
        &inner,
        by(ModerationFormat::ShieldGemma),
        json!({"input": image}),
    )
    .await;
    assert_eq!(
        (answer.status(), &answer.json()["error"]["param"]),
        (400, &json!("input"))
    );
}

#[tokio::test]
async fn another_model_is_asked_about_each_category() {
    let inner = first_token(&[("Yes", 0.75), ("No", 0.25)]);
    let body = json!({"model": "smollm2:135m", "input": [{"type": "text", "text": "One"}, {"type": "text", "text": "two"}]});
    let answer = moderate(&inner, Policy::default(), body).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let answer = answer.json();
    assert_eq!(answer["results"].as_array().map(Vec::len), Some(1));
    let scores = answer["results"][0]["category_scores"]
        .as_object()
        .expect("scores");
    assert_eq!(scores.len(), 13);
    assert!(
        scores.values().all(|score| rounded(score) == "0.750"),
        "{scores:?}"
    );
    assert_eq!(inner.chats().len(), 13);
}

#[tokio::test]
async fn no_configured_model_is_a_404_that_names_the_setting() {
    let inner = Scripted::default().on("/api/show", 404, [r#"{"error":"model not found"}"#]);
    for body in [
        json!({"input": "x"}),
        json!({"input": "x", "model": "text-moderation-stable"}),
    ] {
        let answer = moderate(&inner, Policy::default(), body).await;
        let error = answer.json()["error"].clone();
        assert_eq!(
            (answer.status(), &error["code"]),
            (404, &json!("model_not_found"))
        );
        let message = error["message"].as_str().expect("a message");
        assert!(message.contains("`moderation_model`"), "{message}");
    }
    let other = moderate(
        &inner,
        Policy::default(),
        json!({"input": "x", "model": "other"}),
    )
    .await;
    assert_eq!(other.status(), 404);
    assert!(
        !other.text().contains("moderation_model"),
        "{}",
        other.text()
    );
}

#[tokio::test]
async fn a_model_that_gives_no_verdict_is_an_error_and_never_safe() {
    let inner = guard(&[token(&[("Sure", 0.9), ("safe", 0.1)])]);
    let answer = moderate(
        &inner,
        by(ModerationFormat::LlamaGuard),
        json!({"input": "x"}),
    )
    .await;
    assert!(answer.status() >= 500, "{}", answer.text());
    let inner = first_token(&[("Well", 1.0)]);
    let answer = moderate(
        &inner,
        by(ModerationFormat::Questions),
        json!({"input": "x"}),
    )
    .await;
    assert!(answer.status() >= 500, "{}", answer.text());
}

#[tokio::test]
async fn a_wrong_input_is_refused_with_its_place() {
    let inner = first_token(&[("Yes", 1.0)]);
    let policy = || by(ModerationFormat::LlamaGuard);
    for (input, param) in [
        (Value::Null, "input"),
        (json!([]), "input"),
        (json!([3]), "input[0]"),
        (json!(["a", 3]), "input[1]"),
    ] {
        let answer = moderate(&inner, policy(), json!({"input": input})).await;
        assert_eq!(
            (answer.status(), &answer.json()["error"]["param"]),
            (400, &json!(param))
        );
    }
    let unknown = json!({"input": "x", "colour": "blue"});
    let answer = moderate(
        &inner,
        Policy {
            moderation_format: Some(ModerationFormat::Questions),
            ..policy()
        },
        unknown.clone(),
    )
    .await;
    assert_eq!(answer.header("x-loggia-ignored"), Some("colour"));
    let answer = moderate(
        &inner,
        Policy {
            strictness: strict().strictness,
            ..policy()
        },
        unknown,
    )
    .await;
    assert_eq!(answer.json()["error"]["param"], "colour");
}
