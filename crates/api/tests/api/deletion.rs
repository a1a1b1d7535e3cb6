//! `DELETE /v1/models/{id}`: which keys may delete, what the backend receives, and what the client
//! sees.

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use loggia_api::{Caller, Policy};
use serde_json::json;

use crate::support::{Answer, Scripted, layered, recording, send};

const MODEL: &str = "/v1/models/smollm2:135m";

fn ollama() -> Scripted {
    let none: [&str; 0] = [];
    Scripted::default()
        .on("/api/delete", 200, none)
        .on("/api/generate", 200, ["{}"])
}

fn open() -> Policy {
    Policy {
        deletes_without_key: true,
        ..Policy::default()
    }
}

fn delete(path: &str) -> Request<Full<Bytes>> {
    Request::delete(path)
        .body(Full::default())
        .expect("a request")
}

async fn by(
    caller: Option<Caller>,
    policy: Policy,
    request: Request<Full<Bytes>>,
) -> (Answer, Scripted) {
    let (ollama, mut request) = (ollama(), request);
    if let Some(caller) = caller {
        request.extensions_mut().insert(caller);
    }
    (send(&layered(&ollama, policy), request).await, ollama)
}

fn alice(may_delete_models: bool, models: Option<&[&str]>) -> Caller {
    let models = models.map(|models| {
        models
            .iter()
            .map(|model| model.parse().expect("a pattern"))
            .collect()
    });
    Caller {
        name: "alice".into(),
        strictness: None,
        models,
        may_delete_models,
        may_have_priority: false,
    }
}

/// The requests that reached Ollama, each as method, path and body.
fn asked(ollama: &Scripted) -> Vec<String> {
    let seen = ollama.seen.lock().expect("no panic");
    let line = |(head, body): &(Request<()>, Bytes)| {
        format!(
            "{} {} {}",
            head.method(),
            head.uri().path(),
            String::from_utf8_lossy(body)
        )
    };
    seen.iter().map(line).collect()
}

#[tokio::test]
async fn a_model_of_ollamas_is_unloaded_and_deleted_and_the_answer_is_openais() {
    for path in [
        MODEL,
        "/v1/models/smollm2%3A135m",
        "/v1/models/smollm2:135m/",
    ] {
        let (answer, ollama) = by(None, open(), delete(path)).await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
        assert_eq!(
            answer.json(),
            json!({"id": "smollm2:135m", "object": "model", "deleted": true})
        );
        assert_eq!(
            asked(&ollama),
            [
                r#"POST /api/generate {"model":"smollm2:135m","keep_alive":0}"#,
                r#"DELETE /api/delete {"model":"smollm2:135m"}"#
            ]
        );
    }
    let (answer, ollama) = by(None, open(), delete("/v1/models/hf.co/owner/repo:Q4_K_M")).await;
    assert_eq!(answer.json()["id"], "hf.co/owner/repo:Q4_K_M");
    assert_eq!(
        asked(&ollama)[1],
        r#"DELETE /api/delete {"model":"hf.co/owner/repo:Q4_K_M"}"#
    );
}

#[tokio::test]
async fn a_model_that_ollama_does_not_have_is_a_404_and_its_refusals_are_passed_on() {
    let (status, missing) = recording("server/show-missing");
    let gone = ollama()
        .on("/api/delete", status, [missing])
        .on("/api/generate", 404, ["{}"]);
    let answer = send(&layered(&gone, open()), delete("/v1/models/nope")).await;
    assert_eq!(
        (answer.status(), &answer.json()["error"]["code"]),
        (404, &json!("model_not_found"))
    );
    assert_eq!(answer.json()["error"]["param"], "model");
    let refusing = ollama().on("/api/delete", 400, [r#"{"error":"invalid model name"}"#]);
    let answer = send(&layered(&refusing, open()), delete("/v1/models/x")).await;
    assert_eq!(
        (answer.status(), &answer.json()["error"]["message"]),
        (400, &json!("invalid model name"))
    );
}

#[tokio::test]
async fn only_a_key_that_may_deletes_and_only_what_it_sees() {
    let (answer, ollama) = by(Some(alice(false, None)), open(), delete(MODEL)).await;
    let error = &answer.json()["error"];
    assert_eq!(
        (answer.status(), &error["code"]),
        (403, &json!("insufficient_permissions")),
        "{error}"
    );
    assert!(
        error["message"]
            .as_str()
            .expect("a text")
            .contains("may_delete_models"),
        "{error}"
    );
    assert_eq!(asked(&ollama), [""; 0], "Ollama is not asked");
    let (answer, _) = by(Some(alice(true, None)), Policy::default(), delete(MODEL)).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let (answer, ollama) = by(Some(alice(true, Some(&["gpt-*"]))), open(), delete(MODEL)).await;
    assert_eq!(
        (answer.status(), &answer.json()["error"]["code"]),
        (404, &json!("model_not_found"))
    );
    assert!(
        asked(&ollama)
            .iter()
            .all(|line| line.starts_with("GET /api/tags")),
        "only for a near name"
    );
}

#[tokio::test]
async fn without_a_key_the_policy_decides_and_a_web_page_never_deletes() {
    let (answer, ollama) = by(None, Policy::default(), delete(MODEL)).await;
    assert_eq!(
        (answer.status(), &answer.json()["error"]["code"]),
        (403, &json!("insufficient_permissions"))
    );
    assert_eq!(asked(&ollama), [""; 0]);
    for origin in ["https://evil.example", "http://localhost:3000", "null"] {
        let mut request = delete(MODEL);
        request
            .headers_mut()
            .insert("origin", origin.parse().expect("a value"));
        let (answer, ollama) = by(None, open(), request).await;
        assert_eq!(
            (answer.status(), &answer.json()["error"]["code"]),
            (403, &json!("insufficient_permissions"))
        );
        assert_eq!(asked(&ollama), [""; 0], "{origin}");
    }
    let mut request = delete(MODEL);
    request
        .headers_mut()
        .insert("origin", "https://chat.example".parse().expect("a value"));
    let (answer, _) = by(Some(alice(true, None)), Policy::default(), request).await;
    assert_eq!(
        answer.status(),
        200,
        "a page with a key that may: {}",
        answer.text()
    );
}

#[tokio::test]
async fn a_wrong_method_names_all_that_a_route_has() {
    for (method, path, allowed) in [
        (Method::POST, MODEL, "GET, DELETE"),
        (Method::DELETE, "/v1/models", "GET"),
        (Method::GET, "/v1/embeddings", "POST"),
    ] {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .body(Full::default())
            .expect("a request");
        let (answer, _) = by(None, open(), request).await;
        assert_eq!(
            (answer.status(), answer.header("allow")),
            (405, Some(allowed)),
            "{path}"
        );
    }
}
