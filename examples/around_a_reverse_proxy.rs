//! A reverse proxy in front of Ollama that also speaks OpenAI's API.
//!
//! ```text
//! cargo run -p loggia-api --example around_a_reverse_proxy
//! curl http://127.0.0.1:8080/v1/models
//! ```

use std::convert::Infallible;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::uri::{Authority, Scheme};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use loggia_api::OpenAiLayer;
use tower::{Layer, service_fn};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let mut connector = HttpConnector::new();
    // Without it, a streamed answer waits up to 40 ms for a delayed ACK.
    connector.set_nodelay(true);
    let client = Client::builder(TokioExecutor::new()).build(connector);
    let proxy = service_fn(move |request| pass(client.clone(), request));
    let app = Router::new().fallback_service(OpenAiLayer::new().layer(proxy));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app).await
}

/// Forwards a request to Ollama unchanged.
async fn pass(
    client: Client<HttpConnector, Body>,
    mut request: Request,
) -> Result<Response, Infallible> {
    let mut parts = request.uri().clone().into_parts();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(Authority::from_static("127.0.0.1:11434"));
    *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
    let answer = client.request(request).await;
    Ok(answer.map_or_else(
        |_| StatusCode::BAD_GATEWAY.into_response(),
        IntoResponse::into_response,
    ))
}
