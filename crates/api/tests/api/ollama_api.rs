//! Ollama's own API, passed on to the Ollama server that has the model.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use loggia_api::{Caller, Door, Policy};
use loggia_backend::OllamaRoute;
use loggia_backend::ollama::Ollama;
use loggia_backend::roster::{Alias, Roster};
use serde_json::{Value, json};

use crate::support::{Answer, Scripted, recording};

const ANSWER: &str =
    "{\"model\":\"smollm2:135m\",\"response\":\"Hi\",\"done\":true,\"odd\":  1.50}";

fn ollama() -> Scripted {
    let (status, tags) = recording("server/tags");
    Scripted::default()
        .on("/api/tags", status, [tags])
        .on("/api/generate", 200, [&ANSWER[..20], &ANSWER[20..]])
        .on("/api/ps", 200, ["{\"models\":[]}"])
        .on("/api/delete", 200, [""])
}

fn allowing(ollama_api: &[OllamaRoute]) -> Policy {
    Policy {
        ollama_api: ollama_api.to_vec(),
        ..Policy::default()
    }
}

/// A request with an API key and other headers of a client, for any content type.
fn request(route: OllamaRoute, body: &Value) -> Request<Full<Bytes>> {
    Request::builder()
        .method(route.method())
        .uri(route.path())
        .header("authorization", "Bearer sk-of-the-client")
        .header("cookie", "a=b")
        .header("connection", "close, x-hop")
        .header("x-hop", "1")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Full::from(body.to_string()))
        .expect("a request")
}

async fn asked(inner: &Scripted, policy: Policy, request: Request<Full<Bytes>>) -> Answer {
    let ollama = Arc::new(Ollama::new("ollama", inner.clone()));
    let alias = Alias::new("short", "smollm2:135m").expect("an alias");
    let roster = Roster::new([("ollama".into(), ollama as _)], vec![alias]).expect("a roster");
    let door = Door::new(Arc::new(roster), policy);
    let (head, body) = door.serve(request).await.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    Answer {
        head: http::Response::from_parts(head, ()),
        body,
    }
}

fn may_use(models: &[&str]) -> Caller {
    let models = models.iter().map(|model| model.parse().expect("a pattern"));
    Caller {
        name: "alice".into(),
        strictness: None,
        models: Some(models.collect()),
        may_delete_models: false,
        may_have_priority: false,
    }
}

#[tokio::test]
async fn a_request_reaches_ollama_with_its_fields_and_without_the_clients_headers() {
    let inner = ollama();
    let body =
        json!({"model": "short", "prompt": "x", "format": {"b": 1, "a": 2}, "Model": "other"});
    let policy = allowing(&[OllamaRoute::Generate]);
    let answer = asked(&inner, policy, request(OllamaRoute::Generate, &body)).await;
    assert_eq!((answer.status(), answer.text()), (200, ANSWER));
    let served_by = answer.header("x-loggia-served-by");
    assert_eq!(served_by, Some("ollama; model=smollm2:135m"));
    let seen = inner.seen.lock().expect("no panic");
    let (head, body) = seen.last().expect("a request");
    assert_eq!(
        (head.method(), head.uri().path()),
        (&Method::POST, "/api/generate")
    );
    let mut headers: Vec<&str> = head
        .headers()
        .keys()
        .map(http::HeaderName::as_str)
        .collect();
    headers.sort_unstable();
    assert_eq!(headers, ["content-length", "content-type"]);
    let expected = r#"{"prompt":"x","format":{"b":1,"a":2},"model":"smollm2:135m"}"#;
    assert_eq!(body, expected);
}

#[tokio::test]
async fn a_route_that_is_not_allowed_is_unknown() {
    let inner = ollama();
    let body = json!({"model": "smollm2:135m"});
    for route in OllamaRoute::ALL {
        let answer = asked(&inner, allowing(&[]), request(route, &body)).await;
        let error = &answer.json()["error"];
        assert_eq!(
            (answer.status(), &error["code"]),
            (404, &json!("unknown_url"))
        );
        // With any route of its API, clients of Ollama read its errors.
        let another = OllamaRoute::ALL.into_iter().find(|other| *other != route);
        let policy = allowing(another.as_slice());
        let answer = asked(&inner, policy, request(route, &body)).await;
        assert_eq!(answer.status(), 404);
        assert!(answer.json()["error"].is_string(), "{}", answer.text());
    }
    assert!(inner.seen.lock().expect("no panic").is_empty());
}

#[tokio::test]
async fn a_key_reaches_its_own_models_and_nothing_that_is_about_all() {
    let inner = ollama();
    let ask = async |route: OllamaRoute, model: &str| {
        let mut request = request(route, &json!({"model": model}));
        request.extensions_mut().insert(may_use(&["short"]));
        asked(&inner, allowing(&OllamaRoute::ALL), request).await
    };
    assert_eq!(ask(OllamaRoute::Generate, "short").await.status(), 200);
    for route in OllamaRoute::ALL {
        // `/api/copy` names its model in another field.
        let (model, status) = match route.model_field() {
            Some("model") => ("smollm2:135m", 404),
            Some(_) => ("smollm2:135m", 400),
            None => ("short", 403),
        };
        let answer = ask(route, model).await;
        assert_eq!(answer.status(), status, "{route}: {}", answer.text());
        assert!(answer.json()["error"].is_string(), "{}", answer.text());
    }
    let seen = inner.seen.lock().expect("no panic");
    let reached = seen
        .iter()
        .filter(|(head, _)| head.uri().path() != "/api/tags");
    assert_eq!(reached.count(), 1);
}

#[tokio::test]
async fn a_route_without_a_model_is_answered_by_the_first_ollama_server() {
    let policy = allowing(&[OllamaRoute::Ps]);
    let answer = asked(&ollama(), policy, request(OllamaRoute::Ps, &json!({}))).await;
    assert_eq!((answer.status(), answer.text()), (200, "{\"models\":[]}"));
}

#[tokio::test]
async fn a_model_is_deleted_by_its_own_name_and_not_by_an_alias() {
    let inner = ollama();
    for (model, status) in [("short", 403), ("smollm2:135m", 200)] {
        let policy = allowing(&[OllamaRoute::Delete]);
        let request = request(OllamaRoute::Delete, &json!({"model": model}));
        let answer = asked(&inner, policy, request).await;
        assert_eq!(answer.status(), status, "{model}: {}", answer.text());
    }
    assert_eq!(inner.last("/api/delete"), json!({"model": "smollm2:135m"}));
}

#[tokio::test]
async fn a_body_that_is_too_large_or_no_request_is_an_error_in_ollamas_format() {
    for (body, status) in [
        (
            json!({"model": "smollm2:135m", "prompt": "x".repeat(2000)}),
            413,
        ),
        (json!([]), 400),
        (json!({"prompt": "x"}), 400),
        (json!({"model": 5}), 400),
        (json!({"model": "unknown"}), 404),
    ] {
        let policy = Policy {
            body_limit: 1000,
            ..allowing(&[OllamaRoute::Generate])
        };
        let answer = asked(&ollama(), policy, request(OllamaRoute::Generate, &body)).await;
        assert_eq!(answer.status(), status, "{}", answer.text());
        assert!(answer.json()["error"].is_string(), "{}", answer.text());
    }
}
