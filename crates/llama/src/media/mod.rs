//! Pictures and sounds in a conversation, for models that have a projector.
//!
//! Reading order: `asked` (where they stand in the messages, and the marks that stand for them in
//! the prompt), `image` and `sound` (bytes to pixels and samples), `projector` (the thread that
//! makes rows of these, which the model reads like tokens), `kept` (what it has made of late),
//! `reading` (the prompt that comes of it). `docs/engine.md` tells it in words,
//! `docs/decisions/0011-pictures-and-sounds.md` why so.

mod asked;
mod image;
mod kept;
mod projector;
mod reading;
mod resample;
mod sound;

pub(crate) use projector::{Facts, Media};
pub(crate) use reading::read;

use std::sync::Arc;

use loggia_backend::BackendError;
use loggia_wire::openai::ChatCompletionRequest;

pub(crate) use asked::Marked;

/// Takes the pictures and sounds out of a request; `None` where there are none. They are decoded
/// where blocking is allowed: they may be large.
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
