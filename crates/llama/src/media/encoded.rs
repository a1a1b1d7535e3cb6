//! The projector's output for an image or a sound.

use std::sync::Arc;

use crate::Token;
use crate::raw::Rows;

/// An image or a sound in the form that the model reads: tokens and rows.
#[derive(Debug, PartialEq)]
pub(crate) struct Encoded {
    pub(crate) pieces: Vec<Piece>,
}

/// A part of an image or sound: tokens or rows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Piece {
    /// The tokens around the rows, which mark the beginning and the end of the image or sound.
    Tokens(Vec<Token>),
    Rows(Arc<Rows>),
}

impl Encoded {
    /// The number of tokens and rows that the image or sound takes in a prompt.
    pub(crate) fn tokens(&self) -> usize {
        self.pieces.iter().map(Piece::tokens).sum()
    }

    pub(super) fn bytes(&self) -> usize {
        let of = |piece: &Piece| match piece {
            Piece::Tokens(tokens) => tokens.len() * 4,
            Piece::Rows(rows) => rows.values.len() * 4,
        };
        self.pieces.iter().map(of).sum()
    }
}

impl Piece {
    fn tokens(&self) -> usize {
        match self {
            Self::Tokens(tokens) => tokens.len(),
            Self::Rows(rows) => rows.places.len(),
        }
    }
}
