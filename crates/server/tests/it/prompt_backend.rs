//! A backend that answers at once, and a client of an app around it, without a server.

use std::sync::Arc;

use futures_core::future::BoxFuture;
use futures_util::StreamExt as _;
use futures_util::stream;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use loggia_backend::{
    Abilities, Backend, BackendError, Call, Chunk, Event, PromptUsage, Reply, ServedBy,
};
use loggia_server::{App, KeyDigest, Keys};
use loggia_wire::openai::{ChunkChoice, CompletionUsage, Delta, FinishReason, Model};
use serde_json::Value;
use tower::ServiceExt as _;

use crate::keys::alice;

const KEY: &str = "secret-of-alice-1";

/// A backend that answers at once, except by these models: `slow` never writes a second word, `broken`
/// fails after the first, `never` writes none, and `clumsy` panics.
pub(crate) struct PromptBackend;

impl Backend for PromptBackend {
    fn abilities<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Arc<Abilities>, BackendError>> {
        Box::pin(async { Ok(Arc::default()) })
    }

    fn start(&self, call: Call) -> BoxFuture<'_, Result<Reply, BackendError>> {
        let model = call.work.model().to_owned();
        Box::pin(async move {
            assert_ne!(model, "clumsy", "a panic that quotes: secret words");
            let first = Event::Chunk(Chunk {
                prompt: Some(PromptUsage {
                    tokens: 3,
                    cached: 1,
                }),
                ..Chunk::of(ChunkChoice::delta(0, Delta::content("one")))
            });
            let last = Event::Chunk(Chunk::of(ChunkChoice::finish(0, FinishReason::Stop)));
            let usage = Event::Usage(CompletionUsage::new(3, 2));
            let first = stream::iter([Ok(first)]);
            let events = match &*model {
                "never" => stream::pending().boxed(),
                "slow" => first.chain(stream::pending()).boxed(),
                "broken" => {
                    let broken = Err(BackendError::Unfinished);
                    first.chain(stream::iter([broken])).boxed()
                }
                _ => first.chain(stream::iter([Ok(last), Ok(usage)])).boxed(),
            };
            Ok(Reply {
                served_by: ServedBy::new("b", "m"),
                events,
            })
        })
    }

    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, BackendError>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

/// The API key of alice, with which requests are sent.
pub(crate) fn keys() -> Keys {
    Keys::new([(KeyDigest::of(KEY), alice())])
}

/// Sends a request with the key and a body of this media type.
pub(crate) async fn send(
    app: &App,
    method: Method,
    path: &str,
    (media_type, body): (&str, String),
) -> Response<axum::body::Body> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", format!("Bearer {KEY}"))
        .header("content-type", media_type);
    let request = request.body(axum::body::Body::new(Full::from(body)));
    let answer = app.clone().oneshot(request.expect("a request")).await;
    answer.expect("an answer")
}

/// Sends a request, and returns the JSON of the answer.
pub(crate) async fn ask(app: &App, method: Method, path: &str, body: (&str, String)) -> Value {
    let answer = send(app, method, path, body).await;
    let body = answer.into_body().collect().await.expect("a body");
    serde_json::from_slice(&body.to_bytes()).expect("JSON")
}
