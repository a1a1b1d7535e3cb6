//! `/api/version`, `/api/tags` and `/api/pull`: what clients of Ollama's API ask before a chat.

use std::sync::Arc;

use bytes::Bytes;
use futures_core::future::BoxFuture;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use loggia_api::{ApiError, Caller, Door, Policy};
use loggia_backend::{Abilities, Backend, BackendError, Call, Reply};
use loggia_wire::openai::Model;
use serde_json::{Value, json};

use crate::support::{Answer, Scripted, layered};

/// An engine with these models. Without any, it cannot be reached.
struct Listing(&'static [&'static str]);

impl Backend for Listing {
    fn abilities(&self, _: &str) -> BoxFuture<'_, Result<Arc<Abilities>, BackendError>> {
        Box::pin(async { Err(unreachable()) })
    }

    fn start(&self, _: Call) -> BoxFuture<'_, Result<Reply, BackendError>> {
        Box::pin(async { Err(unreachable()) })
    }

    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, BackendError>> {
        let models = self.0.iter().map(|name| Model::new(*name, 0, "listing"));
        let models: Vec<Model> = models.collect();
        Box::pin(async {
            if models.is_empty() {
                Err(unreachable())
            } else {
                Ok(models)
            }
        })
    }
}

fn unreachable() -> BackendError {
    BackendError::Unreachable {
        backend: "listing".to_owned(),
    }
}

fn request(method: Method, path: &str, body: &str) -> Request<Full<Bytes>> {
    Request::builder()
        .method(method)
        .uri(path)
        .body(Full::from(body.to_owned()))
        .expect("a request")
}

async fn answered(models: &'static [&'static str], request: Request<Full<Bytes>>) -> Answer {
    let door = Door::new(Arc::new(Listing(models)), Policy::default());
    let (head, body) = door.serve(request).await.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    Answer {
        head: http::Response::from_parts(head, ()),
        body,
    }
}

async fn pull(models: &'static [&'static str], body: &str) -> Answer {
    answered(models, request(Method::POST, "/api/pull", body)).await
}

#[tokio::test]
async fn the_version_is_one_that_has_responses_and_says_whose_it_is() {
    let answer = answered(&["m"], request(Method::GET, "/api/version", "")).await;
    let version = answer.json()["version"].clone();
    let parts: Vec<u32> = version
        .as_str()
        .expect("a text")
        .split('.')
        .map(|part| part.parse().expect("a number"))
        .collect();
    // Codex refuses older versions. A newer version would promise features that Loggia does not
    // have.
    assert_eq!(parts, [0, 13, 4]);
    let server = answer.json()["server"].clone();
    assert!(
        server
            .as_str()
            .is_some_and(|name| name.starts_with("loggia "))
    );
}

#[tokio::test]
async fn the_served_models_are_listed_in_ollamas_format() {
    let answer = answered(&["m", "a/b:1"], request(Method::GET, "/api/tags", "")).await;
    let models = answer.json()["models"].clone();
    let names: Vec<&Value> = models
        .as_array()
        .expect("a list")
        .iter()
        .map(|model| &model["name"])
        .collect();
    assert_eq!(names, ["m", "a/b:1"]);
    // Fields that the engine does not report are empty, because clients require them.
    assert_eq!(
        models[0]["details"],
        json!({"parent_model": "", "format": "", "family": "", "families": [],
            "parameter_size": "", "quantization_level": ""})
    );
    assert_eq!(models[0]["modified_at"], "1970-01-01T00:00:00Z");
    assert_eq!(models[0]["size"], 0);
    assert!(models[0].get("capabilities").is_none());
    assert_ne!(models[0]["digest"], models[1]["digest"]);
}

#[tokio::test]
async fn a_pull_of_a_served_model_succeeds() {
    for body in [
        r#"{"model": "m"}"#,
        r#"{"name": "m", "insecure": true}"#,
        r#"{"model": "m", "name": "other", "stream": true}"#,
    ] {
        let answer = pull(&["m"], body).await;
        assert_eq!(
            (answer.status(), answer.text()),
            (200, "{\"status\":\"success\"}\n")
        );
        assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
    }
    let answer = pull(&["m"], r#"{"model": "m", "stream": false}"#).await;
    assert_eq!(
        (answer.status(), answer.json()),
        (200, json!({"status": "success"}))
    );
}

/// `curl -d` sends another content type.
#[tokio::test]
async fn a_pull_may_have_any_content_type() {
    let mut asked = request(Method::POST, "/api/pull", r#"{"model": "m"}"#);
    let form = http::HeaderValue::from_static("application/x-www-form-urlencoded");
    asked.headers_mut().insert("content-type", form);
    let answer = answered(&["m"], asked).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
}

#[tokio::test]
async fn a_pull_of_another_model_is_an_error_and_downloads_nothing() {
    let answer = pull(&["smollm2:135m"], r#"{"model": "smollm2:135n"}"#).await;
    assert_eq!(answer.status(), 200);
    let error = answer.json()["error"].clone();
    let text = error.as_str().expect("a text");
    assert!(
        text.contains("smollm2:135m") && text.contains("loggia pull"),
        "{text}"
    );
    assert_eq!(answer.text().lines().count(), 1);

    let answer = pull(&["smollm2:135m"], r#"{"model": "x", "stream": false}"#).await;
    assert_eq!(answer.status(), 404);
    assert!(answer.json()["error"].is_string(), "{}", answer.text());
}

#[tokio::test]
async fn every_error_has_ollamas_format() {
    for (models, method, path, body, status) in [
        (&["m"][..], Method::POST, "/api/pull", "", 400),
        (&["m"], Method::POST, "/api/pull", "{}", 400),
        (&["m"], Method::POST, "/api/pull", "[]", 400),
        (&["m"], Method::POST, "/api/pull", r#"{"model": ""}"#, 400),
        (&["m"], Method::POST, "/api/pull", r#"{"model": 1}"#, 400),
        (&["m"], Method::GET, "/api/pull", "", 405),
        (&["m"], Method::POST, "/api/tags", "", 405),
        (&["m"], Method::DELETE, "/api/version", "", 405),
        (&[], Method::GET, "/api/tags", "", 502),
        (
            &[],
            Method::POST,
            "/api/pull",
            r#"{"model": "m", "stream": false}"#,
            502,
        ),
    ] {
        let answer = answered(models, request(method, path, body)).await;
        assert_eq!(answer.status(), status, "{path} {body}: {}", answer.text());
        let error = answer.json();
        let fields: Vec<&String> = error.as_object().expect("an object").keys().collect();
        assert_eq!(fields, ["error"], "{path} {body}");
        assert!(error["error"].is_string(), "{path} {body}");
    }
    let door = Door::new(Arc::new(Listing(&["m"])), Policy::default());
    let errors = door.error_format(&request(Method::GET, "/api/tags", ""));
    let refused = errors.response(ApiError::no_key());
    assert_eq!(refused.status(), 401);
    let body = refused
        .into_body()
        .collect()
        .await
        .expect("a body")
        .to_bytes();
    let error: Value = serde_json::from_slice(&body).expect("JSON");
    assert!(error["error"].is_string(), "{error}");
}

#[tokio::test]
async fn a_key_that_may_use_one_model_neither_sees_nor_pulls_another() {
    let caller = || Caller {
        name: "alice".into(),
        strictness: None,
        models: Some(
            ["m"]
                .map(|name| name.parse().expect("a pattern"))
                .into_iter()
                .collect(),
        ),
        may_delete_models: false,
        may_have_priority: false,
    };
    let mut list = request(Method::GET, "/api/tags", "");
    list.extensions_mut().insert(caller());
    let models = answered(&["m", "other"], list).await.json()["models"].clone();
    assert_eq!(models.as_array().map(Vec::len), Some(1));
    let mut pull = request(Method::POST, "/api/pull", r#"{"model": "other"}"#);
    pull.extensions_mut().insert(caller());
    let answer = answered(&["m", "other"], pull).await;
    assert!(answer.json()["error"].is_string(), "{}", answer.text());
}

/// An Ollama behind the layer answers its own routes.
#[tokio::test]
async fn the_layer_leaves_these_routes_to_the_service() {
    let inner = Scripted::default()
        .on("/api/tags", 200, ["its own"])
        .on("/api/pull", 200, ["its own"])
        .on("/api/version", 200, ["its own"]);
    for (method, path) in [
        (Method::GET, "/api/tags"),
        (Method::POST, "/api/pull"),
        (Method::GET, "/api/version"),
    ] {
        let service = layered(&inner, Policy::default());
        let answer = crate::support::send(&service, request(method, path, "{}")).await;
        assert_eq!(answer.text(), "its own");
    }
}
