//! Builds the engine's input from a prompt with images and sounds: tokens for the text, and the
//! projector's rows for the rest.

use std::sync::Arc;
use std::time::Duration;

use loggia_backend::BackendError;

use super::encoded::Piece;
use super::job::Refused;
use super::marks::{Asked, Marked, Part};
use super::projector::Media;
use crate::engine::{Builder, Passage};
use crate::model::Model;

/// The `Retry-After` time if the projector is busy: about the time that an image takes.
const BUSY_FOR: Duration = Duration::from_secs(2);

/// Builds the input from the rendered prompt of a request, for a context of `context` tokens.
pub(crate) async fn read(
    media: &Media,
    model: &Model,
    marked: &Marked,
    prompt: &str,
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
    let mut passage = Builder::default();
    for (part, text) in parts.iter().zip(&texts) {
        let Part::Medium(number) = part else {
            passage.tokens(text);
            continue;
        };
        let asked = &marked.asked[*number];
        // One token is for the answer.
        let room = context.saturating_sub(tokens + 1);
        let seen = media
            .see(asked, room)
            .await
            .map_err(|why| explain(why, asked, tokens, context))?;
        tokens += seen.tokens();
        for piece in &seen.pieces {
            match piece {
                Piece::Tokens(tokens) => passage.tokens(tokens),
                Piece::Rows(rows) => passage.rows(rows),
            }
        }
    }
    passage.build().ok_or_else(|| BackendError::Engine {
        message:
            "the model's chat template ends with a picture or a sound: nothing would follow from it"
                .to_owned(),
    })
}

/// Counts the tokens and rows of the input, whatever the context. Encodes nothing.
pub(crate) async fn count(
    media: &Media,
    model: &Model,
    marked: &Marked,
    prompt: &str,
) -> Result<usize, BackendError> {
    let mut count = 0;
    for (at, part) in marked.parts(prompt)?.iter().enumerate() {
        count += match part {
            Part::Medium(number) => {
                let asked = &marked.asked[*number];
                let counted = media.count(asked).await;
                counted.map_err(|why| explain(why, asked, count, usize::MAX))?
            }
            Part::Text(_) => tokens_of(model, at, *part).len(),
        };
    }
    Ok(count)
}

/// The tokens of a text part. The first part may need the token that begins every text.
fn tokens_of(model: &Model, at: usize, part: Part<'_>) -> Vec<crate::Token> {
    match part {
        Part::Text(text) if at == 0 => model.tokenize(text),
        Part::Text(text) => model.tokenize_on(text),
        Part::Medium(_) => Vec::new(),
    }
}

fn explain(why: Refused, asked: &Arc<Asked>, before: usize, context: usize) -> BackendError {
    match why {
        Refused::File(why) => asked.refused(&why),
        Refused::Kind => asked.untaken(),
        Refused::TooLong { tokens } => BackendError::ContextLengthExceeded {
            prompt_tokens: Some((before + tokens) as u64),
            context: Some(context as u64),
        },
        Refused::Busy => BackendError::Busy {
            retry_after: Some(BUSY_FOR),
        },
        Refused::Failed(what) => BackendError::Engine {
            message: what.to_owned(),
        },
    }
}
