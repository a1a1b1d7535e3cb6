//! An axum app with Ollama's API (here it only echoes) that also speaks OpenAI's API.
//!
//! ```text
//! cargo run -p loggia-api --example around_an_axum_router
//! curl http://127.0.0.1:8080/v1/chat/completions -H 'content-type: application/json' \
//!   -d '{"model": "echo", "messages": [{"role": "user", "content": "Hello"}]}'
//! ```

use axum::routing::{get, post};
use axum::{Json, Router};
use loggia_api::OpenAiLayer;
use serde_json::{Value, json};
use tower::Layer;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let app = Router::new()
        .route("/api/chat", post(chat))
        .route("/api/tags", get(tags));
    // Around the whole router. `Router::layer` would wrap each route separately, so the layer would
    // not reach all of them.
    let app = Router::new().fallback_service(OpenAiLayer::new().layer(app));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app).await
}

/// Answers with the last message.
async fn chat(Json(request): Json<Value>) -> Json<Value> {
    let said = request["messages"]
        .as_array()
        .and_then(|messages| messages.last())
        .map(|message| &message["content"]);
    let message = json!({"role": "assistant", "content": said});
    Json(
        json!({"model": request["model"], "message": message, "done": true, "done_reason": "stop"}),
    )
}

async fn tags() -> Json<Value> {
    Json(json!({"models": [{"name": "echo"}]}))
}
