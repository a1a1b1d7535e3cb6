//! Divides a text into chunks of a number of tokens, which overlap.
//!
//! Backends compute embeddings, but do not divide texts into tokens. So the tokens of a text are
//! estimated from its length, by the ratio that the embedding model itself has reported for samples
//! of the text.

use std::ops::Range;

use loggia_wire::openai::{ChunkSizes, ChunkingStrategy};

use crate::ApiError;
use crate::admit::checks::{between, missing, one_of};

/// OpenAI's own sizes.
const USUAL: ChunkSizes = ChunkSizes {
    max_chunk_size_tokens: 800,
    chunk_overlap_tokens: 400,
};
const LEAST_TOKENS: i64 = 100;
const MOST_TOKENS: i64 = 4096;

/// The minimum length of a chunk in bytes, so that each chunk begins after the one before it.
const LEAST_BYTES: usize = 32;

/// Returns the sizes of a strategy at the path `param` of a request.
pub(super) fn sizes(
    param: &str,
    strategy: Option<&ChunkingStrategy>,
) -> Result<ChunkSizes, ApiError> {
    let Some(strategy) = strategy else {
        return Ok(USUAL);
    };
    let kinds = ["auto", "static"];
    one_of(format_args!("{param}.type"), Some(&strategy.kind), &kinds)?;
    if strategy.kind == "auto" {
        return Ok(USUAL);
    }
    let sizes = strategy
        .sizes
        .ok_or_else(|| missing(format!("{param}.static")))?;
    let (most, overlap) = (sizes.max_chunk_size_tokens, sizes.chunk_overlap_tokens);
    let place = format!("{param}.static.max_chunk_size_tokens");
    between(&place, Some(most), LEAST_TOKENS, MOST_TOKENS)?;
    let place = format!("{param}.static.chunk_overlap_tokens");
    // OpenAI's own rule.
    between(&place, Some(overlap), 0, most / 2)?;
    Ok(sizes)
}

/// Returns the strategy of a file as it is answered.
pub(super) fn strategy(sizes: ChunkSizes) -> ChunkingStrategy {
    ChunkingStrategy {
        kind: "static".to_owned(),
        sizes: Some(sizes),
    }
}

/// Divides a text. `token_bytes` is the mean length of its tokens in bytes.
pub(super) fn divided(text: &str, sizes: ChunkSizes, token_bytes: f64) -> Vec<Range<usize>> {
    let size = bytes_of(sizes.max_chunk_size_tokens, token_bytes).max(LEAST_BYTES);
    let overlap = bytes_of(sizes.chunk_overlap_tokens, token_bytes).min(size / 2);
    let mut chunks: Vec<Range<usize>> = Vec::new();
    let mut start = 0;
    loop {
        let rest = text.len() - start;
        if rest <= size {
            chunks.push(start..text.len());
            return chunks;
        }
        let end = end_before(text, start + size, start + size - size / 4);
        chunks.push(start..end);
        // A chunk is at least three quarters of the size, and the overlap at most half of it.
        start = start_after(text, end - overlap, end);
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a few thousand tokens of a few bytes"
)]
fn bytes_of(tokens: i64, token_bytes: f64) -> usize {
    (tokens as f64 * token_bytes) as usize
}

/// Returns the best end of a chunk up to `most`, and from `least` on: after a paragraph, a line, a
/// sentence or a word.
fn end_before(text: &str, most: usize, least: usize) -> usize {
    let (most, least) = (
        text.floor_char_boundary(most),
        text.ceil_char_boundary(least),
    );
    let tail = text.get(least..most).unwrap_or_default();
    for separator in ["\n\n", "\n", ". ", " "] {
        if let Some(at) = tail.rfind(separator) {
            return least + at + separator.len();
        }
    }
    most
}

/// Returns the first beginning of a word from `least` on, or `least` if there is none before `most`.
fn start_after(text: &str, least: usize, most: usize) -> usize {
    let least = text.floor_char_boundary(least);
    let head = text.get(least..most).unwrap_or_default();
    let is_start = least == 0 || text[..least].ends_with(char::is_whitespace);
    if is_start {
        return least;
    }
    let space = head.find(char::is_whitespace);
    space.map_or(least, |at| {
        let length = head[at..].chars().next().map_or(1, char::len_utf8);
        least + at + length
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sized(most: i64, overlap: i64) -> ChunkSizes {
        ChunkSizes {
            max_chunk_size_tokens: most,
            chunk_overlap_tokens: overlap,
        }
    }

    #[test]
    fn chunks_cover_the_whole_text_and_overlap() {
        let words: Vec<String> = (0..500).map(|one| format!("word{one}")).collect();
        let words = words.join(" ");
        let odd = "😀".repeat(700);
        let lines = "a line of text\n\nand one more. A sentence.\n".repeat(60);
        for text in [words.as_str(), &odd, &lines, "short", "", "x"] {
            for (most, overlap) in [(100, 50), (100, 0), (137, 41)] {
                for token_bytes in [0.001, 1.0, 3.7] {
                    let chunks = divided(text, sized(most, overlap), token_bytes);
                    assert_eq!(chunks[0].start, 0);
                    assert_eq!(chunks[chunks.len() - 1].end, text.len());
                    for pair in chunks.windows(2) {
                        assert!(pair[1].start <= pair[0].end, "a gap");
                        assert!(pair[1].start > pair[0].start && pair[1].end > pair[0].end);
                    }
                    for chunk in chunks {
                        assert!(text.get(chunk.clone()).is_some(), "{chunk:?}");
                        let size = bytes_of(most, token_bytes).max(LEAST_BYTES);
                        assert!(chunk.len() <= size);
                    }
                }
            }
        }
    }

    #[test]
    fn a_chunk_ends_after_a_paragraph_or_a_word_and_begins_with_a_word() {
        let text = format!(
            "{}\n\n{}",
            "one two ".repeat(22).trim(),
            "three four ".repeat(30)
        );
        let chunks = divided(&text, sized(100, 20), 2.0);
        assert!(text[chunks[0].clone()].ends_with("two\n\n"));
        for chunk in &chunks[1..] {
            let before = &text[..chunk.start];
            assert!(before.ends_with(char::is_whitespace), "{before:?}");
        }
    }

    #[test]
    fn sizes_are_those_of_openai_or_within_its_limits() {
        assert_eq!(sizes("s", None).ok(), Some(USUAL));
        let auto = ChunkingStrategy {
            kind: "auto".to_owned(),
            sizes: None,
        };
        assert_eq!(sizes("s", Some(&auto)).ok(), Some(USUAL));
        let fits = strategy(sized(4096, 2048));
        assert_eq!(sizes("s", Some(&fits)).ok(), Some(sized(4096, 2048)));
        for (most, overlap) in [(99, 0), (4097, 0), (800, 401), (800, -1)] {
            assert!(sizes("s", Some(&strategy(sized(most, overlap)))).is_err());
        }
    }
}
