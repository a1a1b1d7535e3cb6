//! Images and sounds in a conversation, for models with a projector.
//!
//! Reading order: `marks` (finds them in the messages, and replaces them by marks in the prompt),
//! `image` and `sound` (decode bytes to pixels and samples), `projector` (the interface of the
//! projector), `job` (what it sends to its thread), `worker` (the thread, which encodes files into
//! rows that the model reads like tokens), `encoded` (its output), `cache` (its recent output),
//! `prompt` (the prompt with the rows). `docs/engine.md` explains it in prose,
//! `docs/decisions/0011-pictures-and-sounds.md` the reasons.

mod cache;
mod encoded;
mod image;
mod job;
mod marks;
mod projector;
mod prompt;
mod sound;
mod worker;

pub(crate) use projector::ProjectorThread;
pub(crate) use prompt::{count, passage};
pub(crate) use worker::ProjectorFacts;

use std::sync::Arc;

use loggia_backend::BackendError;
use loggia_wire::openai::ChatCompletionRequest;

pub(crate) use marks::Marked;

/// Takes the images and sounds out of a request. Returns `None` if it has none. Their base64 is
/// decoded on a blocking thread, because it may be large.
pub(crate) async fn marked(
    request: &Arc<ChatCompletionRequest>,
) -> Result<Option<Marked>, BackendError> {
    if !Marked::has_any(request) {
        return Ok(None);
    }
    let request = Arc::clone(request);
    let marked =
        tokio::task::spawn_blocking(move || Marked::of(&request, crate::sample::any_seed()));
    marked.await.unwrap_or_else(|_| {
        Err(BackendError::Engine {
            message: "the messages could not be read".to_owned(),
        })
    })
}
