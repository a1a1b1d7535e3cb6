//! A backend of your own in thirty lines: it answers every chat with the words of the question in
//! reverse order. The API serves it complete or streamed, with models, errors and usage.
//!
//! ```text
//! cargo run -p loggia-server --example your_own_backend
//! curl http://127.0.0.1:8080/v1/chat/completions -H 'content-type: application/json' \
//!   -d '{"model": "mirror", "messages": [{"role": "user", "content": "first second"}]}'
//! ```

use std::sync::Arc;

use futures_core::future::BoxFuture;
use loggia_api::Policy;
use loggia_backend::{Abilities, Backend, BackendError, Call, Chunk, Event, Reply, ServedBy, Work};
use loggia_server::{AppState, ServerOptions, app, run};
use loggia_wire::openai::{ChunkChoice, CompletionUsage, Delta, FinishReason, Model};

struct Mirror;

impl Backend for Mirror {
    /// The default abilities: chats only. The API refuses other fields, or lists them as ignored.
    fn abilities<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Arc<Abilities>, BackendError>> {
        Box::pin(async { Ok(Arc::default()) })
    }

    fn start(&self, call: Call) -> BoxFuture<'_, Result<Reply, BackendError>> {
        Box::pin(async move {
            let Work::Chat(request) = call.work else {
                return Err(call.work.unsupported());
            };
            let said = request
                .messages
                .last()
                .and_then(|last| last.content.as_ref());
            let said = said.map_or_else(String::new, |said| said.joined_text().into_owned());
            let words: Vec<&str> = said.split_whitespace().rev().collect();
            let usage = CompletionUsage::new(words.len() as u64, words.len() as u64);
            let mut events: Vec<Result<Event, BackendError>> = Vec::new();
            for word in words {
                let delta = Delta::content(format!("{word} "));
                events.push(Ok(Event::Chunk(Chunk::of(ChunkChoice::delta(0, delta)))));
            }
            let end = ChunkChoice::finish(0, FinishReason::Stop);
            events.push(Ok(Event::Chunk(Chunk::of(end))));
            events.push(Ok(Event::Usage(usage)));
            Ok(Reply {
                served_by: ServedBy::new("mirror", &request.model),
                events: Box::pin(futures_util::stream::iter(events)),
            })
        })
    }

    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, BackendError>> {
        Box::pin(async { Ok(vec![Model::new("mirror", 0, "me")]) })
    }
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("127.0.0.1:8080");
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    serve(listener).await
}

/// Serves OpenAI's API over the backend.
pub(crate) async fn serve(listener: tokio::net::TcpListener) -> std::io::Result<()> {
    let options = ServerOptions::default();
    let state = AppState::new(Arc::new(Mirror), Policy::default(), options.clone());
    run(listener, app(state), std::future::pending(), &options).await
}
