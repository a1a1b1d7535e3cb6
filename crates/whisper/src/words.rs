//! The times of words: some heads of the decoder attend to the place in the sound where a token is
//! spoken. The best way through their attention, by dynamic time warping, gives each token its time.

use candle_core::{D, Tensor};

use crate::engine::Engine;
use crate::error::Stopped;
use crate::languages::LANGUAGES;
use crate::load::Sizes;
use crate::model::State;
use crate::tokens::Tokens;

/// The positions that a median is taken of, to each side.
const MEDIAN_SIDE: usize = 3;
/// Positions in a second.
const POSITIONS_A_SECOND: f64 = 50.0;
/// Languages without spaces between words.
const WITHOUT_SPACES: [&str; 6] = ["zh", "ja", "th", "lo", "my", "yue"];
/// Signs that belong to the word after them, and to the word before them.
const OPENING: &str = "\"'“¿([{-";
const CLOSING: &str = "\"'.。,，!！?？:：”)]}、";

/// A word, with its times in seconds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Word {
    pub(crate) text: String,
    pub(crate) start: f64,
    pub(crate) end: f64,
}

/// A segment of a window, with times from its beginning, in seconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Part {
    pub(crate) start: f64,
    pub(crate) end: f64,
    pub(crate) tokens: Vec<u32>,
    pub(crate) logprobs: Vec<f32>,
    pub(crate) words: Vec<Word>,
}

/// Gives the parts of a window their words. `marks` are the tokens that begin its transcript, `length`
/// is the window's in frames.
pub(crate) fn times(
    engine: &Engine,
    heard: &State,
    marks: &[u32],
    parts: &mut [Part],
    length: u64,
    language: usize,
) -> Result<(), Stopped> {
    let tokens = &engine.tokens;
    let is_text = |token: &&u32| **token < tokens.end_of_text;
    let counts: Vec<usize> = parts
        .iter()
        .map(|part| part.tokens.iter().filter(is_text).count())
        .collect();
    let texts: Vec<u32> = parts
        .iter()
        .flat_map(|part| part.tokens.iter().filter(is_text))
        .copied()
        .collect();
    if texts.is_empty() {
        return Ok(());
    }
    let all: Vec<u32> = marks
        .iter()
        .chain([&tokens.no_timestamps])
        .chain(&texts)
        .chain([&tokens.end_of_text])
        .copied()
        .collect();
    // A window has at most as many tokens as fit.
    if all.len() > engine.model.sizes.context {
        return Ok(());
    }
    let decoded = engine
        .model
        .decode(&all, &mut heard.clone(), &engine.alignment_heads)?;
    let positions = usize::try_from(length.div_ceil(2)).unwrap_or(usize::MAX);
    let costs = costs(&decoded.attention, positions)?;
    // The row of a token shows where the next one is spoken.
    let costs = &costs[marks.len()..all.len() - 1];
    let begins = begins(costs);
    let has_spaces = !WITHOUT_SPACES.contains(&LANGUAGES[language.min(LANGUAGES.len() - 1)].0);
    let mut place = 0;
    for (part, count) in parts.iter_mut().zip(counts) {
        let of_part = &texts[place..place + count];
        let times = &begins[place..=place + count];
        part.words = joined(of_part, times, tokens, has_spaces);
        for word in &mut part.words {
            word.start = word.start.clamp(part.start, part.end);
            word.end = word.end.clamp(word.start, part.end);
        }
        place += count;
    }
    Ok(())
}

/// Returns the layers and heads that follow the sound. OpenAI published those of its own models; of
/// other models, all heads of the upper half of the layers are taken.
pub(crate) fn alignment_heads(sizes: &Sizes, is_multilingual: bool) -> Vec<(usize, usize)> {
    let published = published_heads(sizes, is_multilingual);
    if published.is_empty() {
        let layers = sizes.decoder_layers / 2..sizes.decoder_layers;
        return layers
            .flat_map(|layer| (0..sizes.decoder_heads).map(move |head| (layer, head)))
            .collect();
    }
    published.to_vec()
}

/// Returns the heads that OpenAI published for its model of these sizes. Empty for other models.
fn published_heads(sizes: &Sizes, is_multilingual: bool) -> &'static [(usize, usize)] {
    match (sizes.encoder_layers, sizes.decoder_layers, is_multilingual) {
        (4, 4, false) => &[
            (1, 0),
            (2, 0),
            (2, 5),
            (3, 0),
            (3, 1),
            (3, 2),
            (3, 3),
            (3, 4),
        ],
        (4, 4, true) => &[(2, 2), (3, 0), (3, 2), (3, 3), (3, 4), (3, 5)],
        (6, 6, false) => &[(3, 3), (4, 7), (5, 1), (5, 5), (5, 7)],
        (6, 6, true) => &[
            (3, 1),
            (4, 2),
            (4, 3),
            (4, 7),
            (5, 1),
            (5, 2),
            (5, 4),
            (5, 6),
        ],
        (12, 12, true) => &[
            (5, 3),
            (5, 9),
            (8, 0),
            (8, 4),
            (8, 7),
            (8, 8),
            (9, 0),
            (9, 7),
            (9, 9),
            (10, 5),
        ],
        (24, 24, true) => &[(13, 15), (15, 4), (15, 15), (16, 1), (20, 0), (23, 4)],
        (32, 4, true) => &[(2, 4), (2, 11), (3, 3), (3, 6), (3, 11), (3, 14)],
        (32, 32, true) if sizes.bands == 128 => &[
            (7, 0),
            (10, 17),
            (12, 18),
            (13, 12),
            (16, 1),
            (17, 14),
            (19, 11),
            (21, 4),
            (24, 1),
            (25, 6),
        ],
        _ => &[],
    }
}

/// Returns what it costs each token to be spoken at each position: the negative mean of the heads,
/// each normalized over the tokens and smoothed over the positions.
fn costs(attention: &[Tensor], positions: usize) -> Result<Vec<Vec<f32>>, Stopped> {
    let heads = Tensor::stack(attention, 0)?;
    let heads = heads
        .narrow(2, 0, positions.min(heads.dim(D::Minus1)?))?
        .contiguous()?;
    let mean = heads.mean_keepdim(1)?;
    let apart = heads.broadcast_sub(&mean)?;
    let spread = (apart.sqr()?.mean_keepdim(1)? + 1e-12)?.sqrt()?;
    let normal = apart.broadcast_div(&spread)?.to_vec3::<f32>()?;
    let (tokens, positions) = (heads.dim(1)?, heads.dim(2)?);
    let mut costs = vec![vec![0.0; positions]; tokens];
    #[expect(clippy::cast_precision_loss, reason = "there are few heads")]
    let count = normal.len() as f32;
    for head in &normal {
        for (row, of_token) in head.iter().zip(&mut costs) {
            for (at, cost) in of_token.iter_mut().enumerate() {
                *cost -= median(row, at) / count;
            }
        }
    }
    Ok(costs)
}

/// Returns the median of a place and its neighbours. Beyond the ends, the row is mirrored.
fn median(row: &[f32], at: usize) -> f32 {
    let last = row.len() - 1;
    let mut near = [0.0; 2 * MEDIAN_SIDE + 1];
    for (offset, value) in near.iter_mut().enumerate() {
        let place = (at + offset).abs_diff(MEDIAN_SIDE);
        let place = if place > last {
            (2 * last).saturating_sub(place)
        } else {
            place
        };
        *value = row[place.min(last)];
    }
    near.sort_unstable_by(f32::total_cmp);
    near[MEDIAN_SIDE]
}

/// Returns when each row begins, in seconds, on the cheapest way from the first row and position to the
/// last ones. A step goes to the next row, the next position, or both.
fn begins(costs: &[Vec<f32>]) -> Vec<f64> {
    let (rows, columns) = (costs.len(), costs.first().map_or(0, Vec::len));
    if rows == 0 || columns == 0 {
        return vec![0.0; rows];
    }
    let mut sums = vec![vec![f32::INFINITY; columns + 1]; rows + 1];
    sums[0][0] = 0.0;
    for row in 1..=rows {
        for column in 1..=columns {
            let least = sums[row - 1][column - 1]
                .min(sums[row - 1][column])
                .min(sums[row][column - 1]);
            sums[row][column] = least + costs[row - 1][column - 1];
        }
    }
    let mut begins = vec![0.0; rows];
    let (mut row, mut column) = (rows, columns);
    while row > 0 && column > 0 {
        #[expect(clippy::cast_precision_loss, reason = "there are 1,500 positions")]
        let time = (column - 1) as f64 / POSITIONS_A_SECOND;
        begins[row - 1] = time;
        let (both, up, left) = (
            sums[row - 1][column - 1],
            sums[row - 1][column],
            sums[row][column - 1],
        );
        if both <= up && both <= left {
            (row, column) = (row - 1, column - 1);
        } else if up < left {
            row -= 1;
        } else {
            column -= 1;
        }
    }
    begins
}

/// Joins tokens to words. `begins` are the times at which the tokens begin, and the end of the last
/// one.
fn joined(tokens: &[u32], begins: &[f64], vocabulary: &Tokens, has_spaces: bool) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::new();
    let mut from = 0;
    let mut bytes = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        bytes.extend_from_slice(vocabulary.bytes(*token));
        // A character may need several tokens.
        if at + 1 < tokens.len() && std::str::from_utf8(&bytes).is_err() {
            continue;
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        bytes.clear();
        let (start, end) = (begins[from], begins[at + 1]);
        from = at + 1;
        let is_sign =
            !text.trim().is_empty() && text.trim().chars().all(|sign| sign.is_ascii_punctuation());
        let begins_word = !has_spaces || text.starts_with(' ') || is_sign;
        match words.last_mut() {
            Some(last) if !begins_word => {
                last.text.push_str(&text);
                last.end = end;
            }
            _ => words.push(Word { text, start, end }),
        }
    }
    let words = with_closing(with_opening(words));
    let trimmed = words.into_iter().map(|word| Word {
        text: word.text.trim().to_owned(),
        ..word
    });
    trimmed.filter(|word| !word.text.is_empty()).collect()
}

/// Joins signs such as `(` to the word after them.
fn with_opening(words: Vec<Word>) -> Vec<Word> {
    let mut joined: Vec<Word> = Vec::new();
    for word in words.into_iter().rev() {
        let is_opening = word.text.starts_with(' ') && is_one_of(word.text.trim(), OPENING);
        match joined.last_mut() {
            Some(next) if is_opening => {
                next.text.insert_str(0, &word.text);
                next.start = word.start;
            }
            _ => joined.push(word),
        }
    }
    joined.reverse();
    joined
}

/// Joins signs such as `.` to the word before them, which ends where it ended.
fn with_closing(words: Vec<Word>) -> Vec<Word> {
    let mut joined: Vec<Word> = Vec::new();
    for word in words {
        match joined.last_mut() {
            Some(last) if !last.text.ends_with(' ') && is_one_of(&word.text, CLOSING) => {
                last.text.push_str(&word.text);
            }
            _ => joined.push(word),
        }
    }
    joined
}

fn is_one_of(text: &str, signs: &str) -> bool {
    !text.is_empty() && text.chars().all(|sign| signs.contains(sign))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::tests::english;

    #[test]
    fn the_cheapest_way_gives_each_row_its_begin() {
        // Row 0 is cheap at positions 0 to 3, row 1 at 4 to 5, row 2 from 6 on.
        let row = |cheap: std::ops::Range<usize>| {
            (0..9)
                .map(|at| if cheap.contains(&at) { -1.0 } else { 1.0 })
                .collect()
        };
        let begins = begins(&[row(0..4), row(4..6), row(6..9)]);
        assert_eq!(begins, [0.0, 0.08, 0.12]);
        assert!(super::begins(&[]).is_empty());
    }

    #[test]
    fn a_median_ignores_one_that_stands_out() {
        let row = [0.0, 0.0, 9.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0];
        let is = |row: &[f32], at: usize, expected: f32| {
            assert!((median(row, at) - expected).abs() < 1e-6, "{at}");
        };
        is(&row, 0, 0.0);
        is(&row, 2, 0.0);
        is(&row, 8, 1.0);
        is(&[3.0], 0, 3.0);
    }

    #[test]
    fn tokens_become_words_with_their_signs() {
        let vocabulary = english(&[" Ask", " not", " ("]);
        let tokens = [
            256,
            u32::from(b','),
            258,
            u32::from(b'm'),
            u32::from(b'y'),
            u32::from(b')'),
            257,
            u32::from(b'.'),
        ];
        let begins = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
        let words = joined(&tokens, &begins, &vocabulary, true);
        let words: Vec<_> = words
            .iter()
            .map(|word| (&*word.text, word.start, word.end))
            .collect();
        assert_eq!(
            words,
            [("Ask,", 0.0, 1.0), ("(my)", 2.0, 5.0), ("not.", 6.0, 7.0)]
        );
        // A character of two tokens, in a language without spaces.
        let split = "é".bytes().map(u32::from);
        let split: Vec<u32> = split.chain([u32::from(b'x')]).collect();
        let words = joined(&split, &begins[..4], &vocabulary, false);
        let words: Vec<_> = words
            .iter()
            .map(|word| (&*word.text, word.start, word.end))
            .collect();
        assert_eq!(words, [("é", 0.0, 2.0), ("x", 2.0, 3.0)]);
    }
}
