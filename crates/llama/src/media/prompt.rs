//! Builds the engine's input from a prompt with images and sounds: tokens for the text, and the
//! projector's rows for the rest.

use std::sync::Arc;
use std::time::Duration;

use loggia_backend::BackendError;

use super::encoded::Piece;
use super::job::MediaError;
use super::marks::{Marked, MediaFile, Part};
use super::projector::ProjectorThread;
use crate::engine::{Builder, Passage, Scope};
use crate::model::Model;

/// The `Retry-After` time if the projector is busy: about the time for encoding an image.
const BUSY_FOR: Duration = Duration::from_secs(2);

/// Builds the engine's input from the rendered prompt of a request, for a context of `context`
/// tokens.
pub(crate) async fn passage(
    projector: &ProjectorThread,
    model: &Model,
    marked: &Marked,
    prompt: &str,
    scope: &Scope,
    context: usize,
) -> Result<Passage, BackendError> {
    let parts = marked.parts(prompt)?;
    let texts: Vec<_> = parts
        .iter()
        .enumerate()
        .map(|(at, part)| tokens_of(model, at, *part))
        .collect();
    let of_texts: usize = texts.iter().map(Vec::len).sum();
    let mut tokens = of_texts;
    let mut builder = Builder::default();
    for (part, text) in parts.iter().zip(&texts) {
        let Part::File(number) = part else {
            builder.tokens(text);
            continue;
        };
        let file = &marked.files[*number];
        // One token is reserved for the answer.
        let room = context.saturating_sub(tokens + 1);
        let encoded = projector
            .encode(file, scope, room)
            .await
            .map_err(|why| explain(why, file, tokens, context))?;
        tokens += encoded.tokens();
        for piece in &encoded.pieces {
            match piece {
                Piece::Tokens(tokens) => builder.tokens(tokens),
                Piece::Rows(rows) => builder.rows(rows),
            }
        }
    }
    builder.build().ok_or_else(|| BackendError::Engine {
        message: "the prompt ends with an image or a sound, which the model cannot continue from"
            .to_owned(),
    })
}

/// Counts the tokens and rows of the engine's input without encoding anything. The context does not
/// matter.
pub(crate) async fn count(
    projector: &ProjectorThread,
    model: &Model,
    marked: &Marked,
    prompt: &str,
    scope: &Scope,
) -> Result<usize, BackendError> {
    let mut count = 0;
    for (at, part) in marked.parts(prompt)?.iter().enumerate() {
        count += match part {
            Part::File(number) => {
                let file = &marked.files[*number];
                let counted = projector.count(file, scope).await;
                counted.map_err(|why| explain(why, file, count, usize::MAX))?
            }
            Part::Text(_) => tokens_of(model, at, *part).len(),
        };
    }
    Ok(count)
}

/// Tokenizes a text part. The first part may need the token that begins every text.
fn tokens_of(model: &Model, at: usize, part: Part<'_>) -> Vec<crate::Token> {
    match part {
        Part::Text(text) if at == 0 => model.tokenize(text),
        Part::Text(text) => model.tokenize_on(text),
        Part::File(_) => Vec::new(),
    }
}

fn explain(why: MediaError, file: &Arc<MediaFile>, before: usize, context: usize) -> BackendError {
    match why {
        MediaError::InvalidFile(why) => file.invalid_error(&why),
        MediaError::Unsupported => file.unsupported_error(),
        MediaError::TooLong { tokens } => BackendError::ContextLengthExceeded {
            prompt_tokens: Some((before + tokens) as u64),
            context: Some(context as u64),
        },
        MediaError::Busy => BackendError::Busy {
            retry_after: Some(BUSY_FOR),
        },
        MediaError::Failed(what) => BackendError::Engine {
            message: what.to_owned(),
        },
    }
}
