//! `POST /v1/decisions`, from bytes to bytes, over a service that speaks Ollama.

use crate::support::{Answer, Scripted, layered, plain_model, post, send, strict};
use loggia_api::Policy;
use serde_json::{Value, json};

/// An Ollama whose first token has these probabilities.
pub(crate) fn first_token(probabilities: &[(&str, f64)]) -> Scripted {
    let top: Vec<Value> = probabilities
        .iter()
        .map(|(token, probability)| {
            json!({"token": token, "logprob": probability.ln(), "bytes": token.as_bytes()})
        })
        .collect();
    let mut first = top[0].clone();
    first["top_logprobs"] = top.into();
    let answer = json!({
        "model": "smollm2:135m", "created_at": "2026-11-29T10:00:00Z",
        "message": {"role": "assistant", "content": probabilities[0].0},
        "logprobs": [first], "done": true, "done_reason": "length",
        "prompt_eval_count": 30, "eval_count": 1
    });
    plain_model().on("/api/chat", 200, [answer.to_string()])
}

async fn decide(inner: &Scripted, policy: Policy, fields: Value) -> Answer {
    let mut body = json!({"model": "smollm2:135m", "input": "The cat sat on the mat."});
    body.as_object_mut()
        .expect("an object")
        .extend(fields.as_object().expect("fields").clone());
    let body = body.to_string();
    send(&layered(inner, policy), post("/v1/decisions", body)).await
}

fn near(value: &Value, number: f64) -> bool {
    value
        .as_f64()
        .is_some_and(|value| (value - number).abs() < 1e-6)
}

#[tokio::test]
async fn each_kind_of_question_is_answered_with_probabilities() {
    let inner = first_token(&[
        ("A", 0.5),
        ("Yes", 0.2),
        ("B", 0.1),
        ("No", 0.05),
        ("C", 0.0125),
    ]);
    let levels = json!([{"label": "low"}, {"label": "high", "description": "above 3"}]);
    let questions = json!([
        {"type": "predicate", "name": "p", "instructions": "It is about a cat."},
        {"type": "choice", "instructions": [{"type": "input_text", "text": "Which?"}, {"type": "input_json", "data": {"a": [1]}}],
         "choices": [{"value": true}, {"value": "true", "description": "the word"}]},
        {"type": "score", "name": "s", "instructions": "How warm?", "levels": levels},
    ]);
    let answer = decide(&inner, Policy::default(), json!({"questions": questions})).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert_eq!(answer.header("x-loggia-ignored"), None);
    let decision = answer.json();
    let answers = &decision["answers"];
    assert_eq!(decision["model"], "smollm2:135m");
    assert_eq!(
        (&answers[0]["type"], &answers[0]["name"]),
        (&json!("predicate"), &json!("p"))
    );
    assert!(near(&answers[0]["probability"], 0.8), "{answers}");
    assert_eq!(
        (&answers[1]["choice"], &answers[1]["name"]),
        (&json!(true), &Value::Null)
    );
    assert!(near(&answers[1]["confidence"], 5.0 / 6.0), "{answers}");
    assert_eq!(answers[1]["probabilities"][1]["value"], "true");
    assert!(near(&answers[2]["score"], 1.0 + 1.0 / 6.0), "{answers}");
    assert_eq!(
        (
            &answers[2]["probabilities"][1]["label"],
            &answers[2]["probabilities"][1]["value"]
        ),
        (&json!("high"), &json!(2))
    );
    assert_eq!(
        decision["usage"],
        json!({
            "input_tokens": 90, "input_tokens_details": {"cache_write_tokens": 0, "cached_tokens": 0},
            "output_tokens": 3, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 93
        })
    );
    // One step for each question, after the same input.
    let chats = inner.chats();
    assert_eq!(chats.len(), 3);
    for chat in &chats {
        assert_eq!(chat["options"]["num_predict"], 1);
        assert_eq!(chat["messages"][0]["content"], "The cat sat on the mat.");
    }
    let question = &chats[0]["messages"][1]["content"];
    let question = question.as_str().expect("a text");
    assert!(
        question.starts_with("It is about a cat.\n\nIs this true"),
        "{question}"
    );
    let asked = chats[1]["messages"].to_string();
    assert!(
        asked.contains(r#"{\"a\":[1]}"#) && asked.contains("B. true: the word"),
        "{asked}"
    );
}

#[tokio::test]
async fn a_model_that_answers_something_else_refuses_this_question_only() {
    let inner = first_token(&[("Yes", 0.5), ("Well", 0.5)]);
    let questions = json!([
        {"type": "choice", "name": "c", "instructions": "Which?", "choices": [{"value": "a"}, {"value": "b"}]},
        {"type": "predicate", "instructions": "It is a cat."},
    ]);
    let answer = decide(&inner, Policy::default(), json!({"questions": questions})).await;
    let answers = answer.json()["answers"].clone();
    assert_eq!(answers[0], json!({"type": "refusal", "name": "c"}));
    assert!(near(&answers[1]["probability"], 1.0), "{answers}");
}

#[tokio::test]
async fn bad_input_is_refused_with_the_clients_names() {
    let inner = first_token(&[("Yes", 1.0)]);
    let predicate = |fields: Value| {
        let mut question = json!({"type": "predicate", "instructions": "It is a cat."});
        let fields = fields.as_object().expect("fields").clone();
        question.as_object_mut().expect("an object").extend(fields);
        json!({"questions": [question]})
    };
    let picture = json!({"instructions": [{"type": "input_image", "image_url": 3}]});
    for (fields, param) in [
        (json!({}), "questions"),
        (json!({"questions": []}), "questions"),
        (
            json!({"questions": [{"type": "guess"}]}),
            "questions[0].type",
        ),
        (
            json!({"questions": [{"type": "predicate"}]}),
            "questions[0].instructions",
        ),
        (predicate(picture), "questions[0].instructions[0].image_url"),
    ] {
        let answer = decide(&inner, Policy::default(), fields.clone()).await;
        let error = answer.json()["error"].clone();
        assert_eq!(
            (answer.status(), &error["param"]),
            (400, &json!(param)),
            "{fields}: {error}"
        );
        let message = error["message"].as_str().expect("a message");
        assert!(!message.contains("input["), "{message}");
    }
    let mut no_input = predicate(json!({}));
    no_input["input"] = Value::Null;
    let answer = decide(&inner, Policy::default(), no_input).await;
    assert_eq!(answer.json()["error"]["param"], "input");

    let unknown = predicate(json!({"colour": "blue"}));
    let answer = decide(&inner, Policy::default(), unknown.clone()).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(
        answer.header("x-loggia-ignored"),
        Some("questions[0].colour")
    );
    let answer = decide(&inner, strict(), unknown).await;
    assert_eq!(answer.json()["error"]["param"], "questions[0].colour");
}

#[tokio::test]
async fn fields_of_responses_have_no_effect_and_are_listed() {
    let inner = first_token(&[("Yes", 0.5)]);
    let questions = json!([{"type": "predicate", "instructions": "It is a cat."}]);
    let fields = json!({"questions": questions, "stream": true, "temperature": 0.5,
        "text": {"format": {"type": "json_object"}}});
    let answer = decide(&inner, Policy::default(), fields.clone()).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let ignored = answer.header("x-loggia-ignored");
    assert_eq!(ignored, Some("stream, temperature, text"));
    let chats = inner.chats();
    assert_eq!(chats[0].get("format"), None);
    assert_eq!(chats[0]["options"].get("temperature"), None);
    let answer = decide(&inner, strict(), fields).await;
    assert_eq!(answer.json()["error"]["param"], "stream");
}
