//! The input that the engine reads before it answers: tokens, and between them the rows of images
//! and sounds. Pure.
//!
//! A token number above the vocabulary, derived from the hash of the image or sound, represents
//! each row. So passages can be compared like lists of tokens: two passages that begin with the
//! same image have a common beginning. Two different images are confused only if their files have
//! the same hash.

use std::ops::Deref;
use std::sync::Arc;

use crate::Token;
use crate::raw::Rows;

/// Tokens and rows, in order. It can be read like a list of tokens.
#[derive(Debug, Clone)]
pub(crate) struct Passage {
    tokens: Arc<[Token]>,
    spans: Arc<[Span]>,
}

/// The range of the rows of one part of an image or sound.
#[derive(Debug, Clone)]
pub(crate) struct Span {
    pub(crate) start: usize,
    pub(crate) rows: Arc<Rows>,
}

impl Span {
    fn end(&self) -> usize {
        self.start + self.rows.places.len()
    }
}

impl Deref for Passage {
    type Target = [Token];

    fn deref(&self) -> &[Token] {
        &self.tokens
    }
}

impl From<Vec<Token>> for Passage {
    fn from(tokens: Vec<Token>) -> Self {
        Self {
            tokens: tokens.into(),
            spans: Arc::new([]),
        }
    }
}

/// Builds a passage.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    tokens: Vec<Token>,
    spans: Vec<Span>,
}

impl Builder {
    pub(crate) fn tokens(&mut self, tokens: &[Token]) {
        self.tokens.extend_from_slice(tokens);
    }

    pub(crate) fn rows(&mut self, rows: &Arc<Rows>) {
        if rows.places.is_empty() {
            return;
        }
        self.spans.push(Span {
            start: self.tokens.len(),
            rows: Arc::clone(rows),
        });
        self.tokens
            .extend((0..rows.places.len()).map(|at| stand_in(&rows.identity, at)));
    }

    /// Returns `None` if the passage ends with a row, because rows have no logits to continue from.
    pub(crate) fn build(self) -> Option<Passage> {
        let ends_with_rows = self
            .spans
            .last()
            .is_some_and(|last| last.end() == self.tokens.len());
        (!ends_with_rows).then(|| Passage {
            tokens: self.tokens.into(),
            spans: self.spans.into(),
        })
    }
}

/// The token number that represents a row. It is above all real tokens.
fn stand_in(identity: &[u8; 32], at: usize) -> Token {
    let byte = |index: usize| u32::from(identity[(4 * at + index) % 32]);
    let word = byte(0) | byte(1) << 8 | byte(2) << 16 | byte(3) << 24;
    let turn = u32::try_from(at / 8).unwrap_or(0).wrapping_mul(0x9e37_79b9);
    0x8000_0000 | (word ^ turn)
}

impl Passage {
    /// The span of rows that contains this index, and the index within the span.
    pub(super) fn rows_at(&self, index: usize) -> Option<(&Span, usize)> {
        let span = self
            .spans
            .iter()
            .find(|span| (span.start..span.end()).contains(&index))?;
        Some((span, index - span.start))
    }

    /// The number of tokens from this index to the next rows or to the end. 0 if the index is
    /// inside a span of rows.
    pub(super) fn tokens_from(&self, index: usize) -> usize {
        if self.rows_at(index).is_some() {
            return 0;
        }
        let next = self
            .spans
            .iter()
            .map(|span| span.start)
            .find(|&start| start >= index);
        next.unwrap_or(self.tokens.len()) - index
    }

    /// Shortens a length so that it does not end inside a part of an image.
    pub(super) fn unsplit(&self, length: usize) -> usize {
        self.rows_at(length).map_or(length, |(span, _)| span.start)
    }

    /// The position of the token or row at this index. In models with positions inside an image,
    /// rows take fewer positions than there are rows.
    pub(super) fn position(&self, index: usize) -> usize {
        let before = self.spans.iter().filter(|span| span.end() <= index);
        let saved = |span: &Span| span.rows.places.len().saturating_sub(span.rows.positions);
        match self.rows_at(index) {
            // In such models, the positions of all rows are relative to the first row of the span.
            Some((span, at)) if span.rows.positions != span.rows.places.len() => {
                index - at - before.map(saved).sum::<usize>()
            }
            _ => index - before.map(saved).sum::<usize>(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(identity: u8, count: usize, positions: usize) -> Arc<Rows> {
        let places = vec![[0; 4]; count];
        Arc::new(Rows {
            values: vec![0.0; count],
            width: 1,
            places,
            positions,
            causal: true,
            identity: [identity; 32],
        })
    }

    /// Three tokens, ten rows, two tokens.
    fn passage(identity: u8, positions: usize) -> Passage {
        let mut builder = Builder::default();
        builder.tokens(&[1, 2, 3]);
        builder.rows(&rows(identity, 10, positions));
        builder.tokens(&[4, 5]);
        builder.build().unwrap()
    }

    #[test]
    fn rows_have_numbers_that_no_token_has_and_the_same_for_the_same_picture() {
        let (one, same, other) = (passage(1, 10), passage(1, 10), passage(2, 10));
        assert_eq!(one.len(), 15);
        assert!(one[3..13].iter().all(|&number| number >= 1 << 31));
        assert_eq!(*one, *same);
        assert!((3..13).all(|at| one[at] != other[at]));
        assert_eq!(one[..3], other[..3]);
    }

    #[test]
    fn a_picture_is_never_cut() {
        let passage = passage(1, 10);
        for (length, unsplit) in [(2, 2), (3, 3), (4, 3), (12, 3), (13, 13), (14, 14)] {
            assert_eq!(passage.unsplit(length), unsplit, "{length}");
        }
    }

    #[test]
    fn tokens_are_read_up_to_the_next_picture() {
        let passage = passage(1, 10);
        assert_eq!(
            (
                passage.tokens_from(0),
                passage.tokens_from(2),
                passage.tokens_from(3)
            ),
            (3, 1, 0)
        );
        assert_eq!((passage.tokens_from(4), passage.tokens_from(12)), (0, 0));
        assert_eq!((passage.tokens_from(13), passage.tokens_from(14)), (2, 1));
        assert_eq!(
            passage.rows_at(4).map(|(span, at)| (span.start, at)),
            Some((3, 1))
        );
        assert!(passage.rows_at(2).is_none() && passage.rows_at(13).is_none());
    }

    #[test]
    fn positions_are_places_but_where_a_picture_takes_fewer_than_it_has_rows() {
        let usual = passage(1, 10);
        assert!((0..20).all(|at| usual.position(at) == at));
        let in_pictures = passage(1, 4);
        let positions: Vec<usize> = [0, 2, 3, 7, 12, 13, 14, 15, 20]
            .map(|at| in_pictures.position(at))
            .into();
        assert_eq!(positions, [0, 2, 3, 3, 3, 7, 8, 9, 14]);
    }

    #[test]
    fn nothing_follows_from_a_passage_that_ends_with_a_picture() {
        let mut builder = Builder::default();
        builder.tokens(&[1]);
        builder.rows(&rows(1, 2, 2));
        assert!(builder.build().is_none());
        assert_eq!(*Passage::from(vec![1, 2]), [1, 2]);
    }
}
