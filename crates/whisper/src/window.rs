//! 30 seconds of sound become tokens: one after the other, with the rules of timestamps, and again at a
//! higher temperature if the text is not good.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::error::Stopped;
use crate::model::{Model, State};
use crate::tokens::Tokens;

/// The latest first timestamp, in steps of 0.02 s.
const LATEST_START: u32 = 50;
/// A text that is compressed better than this repeats itself.
const MOST_COMPRESSED: f32 = 2.4;
/// A text with a lower mean of the log-probabilities is not good.
const LEAST_LOGPROB: f32 = -1.0;
/// A window with a higher probability of silence is silent, unless its text is good.
const MOST_SILENT: f32 = 0.6;
/// The temperatures of the attempts.
const LADDER: [f32; 6] = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0];

/// How a window is decoded.
pub(crate) struct Prompt {
    /// The tokens before the text: the earlier text, and the marks for language and task.
    pub(crate) tokens: Vec<u32>,
    /// The place of the start of the transcript among them.
    pub(crate) start: usize,
    /// The only temperature. `None` for the ladder.
    pub(crate) temperature: Option<f32>,
}

/// The text of a window.
#[derive(Clone, Debug, Default)]
pub(crate) struct Text {
    /// The tokens, timestamps included, without the end.
    pub(crate) tokens: Vec<u32>,
    /// The log-probability of each.
    pub(crate) logprobs: Vec<f32>,
    /// The mean of them and of the end's.
    pub(crate) mean_logprob: f32,
    pub(crate) no_speech: f32,
    pub(crate) compression: f32,
    pub(crate) temperature: f32,
}

/// Decodes a window.
pub(crate) fn decode(
    model: &Model,
    tokens: &Tokens,
    heard: &State,
    prompt: &Prompt,
    goes_on: &dyn Fn() -> bool,
) -> Result<Text, Stopped> {
    let mut state = heard.clone();
    let decoded = model.decode(&prompt.tokens, &mut state, &[])?;
    let at_start = softmax(&model.logits(&decoded, prompt.start)?);
    let begun = Begun {
        logits: model.logits(&decoded, prompt.tokens.len() - 1)?,
        state,
        no_speech: at_start[tokens.no_speech as usize],
        most: (model.sizes.context / 2).min(model.sizes.context - prompt.tokens.len()),
    };
    let one = prompt.temperature.map(|one| [one]);
    let ladder = one.as_ref().map_or(&LADDER[..], |one| &one[..]);
    let mut text = Text::default();
    for temperature in ladder {
        text = attempt(model, tokens, begun.clone(), *temperature, goes_on)?;
        let is_bad = text.compression > MOST_COMPRESSED || text.mean_logprob < LEAST_LOGPROB;
        if !is_bad || is_silent(&text) {
            break;
        }
    }
    Ok(text)
}

/// Returns whether nobody speaks in a window.
pub(crate) fn is_silent(text: &Text) -> bool {
    text.no_speech > MOST_SILENT && text.mean_logprob < LEAST_LOGPROB
}

/// A window whose prompt was decoded, which is the same for all temperatures.
#[derive(Clone)]
struct Begun {
    /// The logits of the first token.
    logits: Vec<f32>,
    state: State,
    no_speech: f32,
    /// The largest number of tokens.
    most: usize,
}

fn attempt(
    model: &Model,
    tokens: &Tokens,
    begun: Begun,
    temperature: f32,
    goes_on: &dyn Fn() -> bool,
) -> Result<Text, Stopped> {
    let Begun {
        mut logits,
        mut state,
        no_speech,
        most,
    } = begun;
    // The same recording gives the same text each time, as in whisper.cpp.
    let mut chance = StdRng::seed_from_u64(0);
    let mut text = Text {
        no_speech,
        temperature,
        ..Text::default()
    };
    let mut sum = 0.0;
    while text.tokens.len() < most {
        if !goes_on() {
            return Err(Stopped::Left);
        }
        forbid(&mut logits, &text.tokens, tokens);
        let next = choose(&logits, temperature, &mut chance);
        let logprob = logits[next as usize] - log_sum(&logits);
        sum += logprob;
        if next == tokens.end_of_text {
            break;
        }
        text.tokens.push(next);
        text.logprobs.push(logprob);
        if text.tokens.len() < most {
            logits = model.logits(&model.decode(&[next], &mut state, &[])?, 0)?;
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "there are a few hundred tokens")]
    let count = (text.tokens.len() + 1) as f32;
    text.mean_logprob = sum / count;
    text.compression = compression(tokens.text(&text.tokens).trim());
    Ok(text)
}

/// Forbids the tokens that cannot follow, by setting their logits to minus infinity.
fn forbid(logits: &mut [f32], written: &[u32], tokens: &Tokens) {
    let first_timestamp = tokens.first_timestamp as usize;
    let end = tokens.end_of_text as usize;
    for token in tokens.suppressed.iter().chain([&tokens.no_timestamps]) {
        logits[*token as usize] = f32::NEG_INFINITY;
    }
    let forbid = |logits: &mut [f32], range: std::ops::Range<usize>| {
        if let Some(range) = logits.get_mut(range) {
            range.fill(f32::NEG_INFINITY);
        }
    };
    let is_timestamp = |from_the_end: usize| {
        let token = written
            .len()
            .checked_sub(from_the_end)
            .map(|at| written[at]);
        token.map(|token| tokens.is_timestamp(token))
    };
    match (is_timestamp(1), is_timestamp(2)) {
        // A text begins with a timestamp, not too late.
        (None, _) => {
            forbid(logits, 0..first_timestamp);
            let late = first_timestamp + LATEST_START as usize + 1;
            let most = logits.len();
            forbid(logits, late..most);
        }
        // After a segment's end comes the next one's start, or the end.
        (Some(true), Some(false)) => forbid(logits, 0..end),
        // After a segment's start comes text.
        (Some(true), _) => {
            let most = logits.len();
            forbid(logits, first_timestamp..most);
        }
        (Some(false), _) => {}
    }
    if let Some(at) = written
        .iter()
        .rposition(|token| tokens.is_timestamp(*token))
    {
        // Time does not go back, and a segment is not empty.
        let is_end_alone = is_timestamp(1) == Some(true) && is_timestamp(2) == Some(false);
        let next = written[at] as usize + usize::from(!is_end_alone);
        let most = logits.len();
        forbid(logits, first_timestamp..next.min(most));
    }
    if written.is_empty() {
        return;
    }
    // If a timestamp is likelier than every text, it comes.
    let (texts, timestamps) = logits.split_at(first_timestamp);
    let likeliest = texts.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if log_sum(timestamps) > likeliest {
        forbid(logits, 0..first_timestamp);
    }
}

/// Chooses a token: the likeliest one, or by chance at a temperature above 0.
fn choose(logits: &[f32], temperature: f32, chance: &mut StdRng) -> u32 {
    let likeliest = || {
        let all = logits.iter().zip(0..);
        all.max_by(|a, b| a.0.total_cmp(b.0))
            .map_or(0, |(_, token)| token)
    };
    if temperature <= 0.0 {
        return likeliest();
    }
    let scaled: Vec<f32> = logits.iter().map(|logit| logit / temperature).collect();
    let mut left: f32 = chance.random();
    for (probability, token) in softmax(&scaled).into_iter().zip(0..) {
        left -= probability;
        if left <= 0.0 && probability > 0.0 {
            return token;
        }
    }
    // Rounding has left a little.
    likeliest()
}

/// Returns the logarithm of the sum of exponentials.
fn log_sum(logits: &[f32]) -> f32 {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if most == f32::NEG_INFINITY {
        return most;
    }
    let sum: f32 = logits.iter().map(|logit| (logit - most).exp()).sum();
    most + sum.ln()
}

fn softmax(logits: &[f32]) -> Vec<f32> {
    let sum = log_sum(logits);
    logits.iter().map(|logit| (logit - sum).exp()).collect()
}

/// Returns how much shorter a text becomes.
fn compression(text: &str) -> f32 {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    // Writing to memory does not fail.
    let compressed = encoder
        .write_all(text.as_bytes())
        .and_then(|()| encoder.finish());
    let compressed = compressed.map_or(1, |compressed| compressed.len().max(1));
    #[expect(clippy::cast_precision_loss, reason = "texts are short")]
    let ratio = text.len() as f32 / compressed as f32;
    ratio
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::tests::english;

    /// Returns what may follow some tokens: text, the end, and the first and last timestamp.
    fn allowed(written: &[u32], tokens: &Tokens) -> (bool, bool, Option<(u32, u32)>) {
        let mut logits = vec![0.0; 51_864];
        // One text is much likelier than all timestamps.
        logits[300] = 20.0;
        logits[tokens.end_of_text as usize] = 10.0;
        forbid(&mut logits, written, tokens);
        let is_open = |token: u32| logits[token as usize] > f32::NEG_INFINITY;
        let of_time: Vec<u32> = (tokens.first_timestamp..51_864)
            .filter(|token| is_open(*token))
            .collect();
        let of_time = of_time.first().zip(of_time.last()).map(|(first, last)| {
            (
                first - tokens.first_timestamp,
                last - tokens.first_timestamp,
            )
        });
        (is_open(300), is_open(tokens.end_of_text), of_time)
    }

    #[test]
    fn timestamps_come_in_pairs_and_do_not_go_back() {
        let tokens = english(&[]);
        let time = |at: u32| tokens.first_timestamp + at;
        for (written, expected) in [
            (&[][..], (false, false, Some((0, 50)))),
            (&[time(3)], (true, true, None)),
            (&[time(3), 300], (true, true, Some((4, 1500)))),
            (&[time(3), 300, time(20)], (false, true, Some((20, 1500)))),
            (&[time(3), 300, time(20), time(20)], (true, true, None)),
        ] {
            assert_eq!(allowed(written, &tokens), expected, "{written:?}");
        }
        let mut logits = vec![0.0; 51_864];
        forbid(&mut logits, &[time(0), 300], &tokens);
        assert!(
            logits[300] == f32::NEG_INFINITY,
            "all timestamps together are likelier"
        );
    }

    #[test]
    fn marks_of_music_and_special_tokens_are_never_written() {
        let tokens = english(&["♪", " ♪", "[["]);
        let mut logits = vec![0.0; 51_864];
        forbid(&mut logits, &[tokens.first_timestamp], &tokens);
        for token in [
            256,
            257,
            258,
            tokens.no_speech,
            tokens.start,
            tokens.no_timestamps,
        ] {
            assert!(logits[token as usize] == f32::NEG_INFINITY, "{token}");
        }
    }

    #[test]
    fn chance_follows_the_temperature_and_never_what_is_forbidden() {
        let logits = [f32::NEG_INFINITY, 1.0, 2.0, f32::NEG_INFINITY];
        let mut chance = StdRng::seed_from_u64(7);
        assert_eq!(choose(&logits, 0.0, &mut chance), 2);
        let chosen: Vec<u32> = (0..200)
            .map(|_| choose(&logits, 1.0, &mut chance))
            .collect();
        assert!(chosen.contains(&1) && chosen.contains(&2));
        assert!(chosen.iter().all(|token| matches!(token, 1 | 2)));
    }

    #[test]
    fn a_text_that_repeats_itself_is_compressed_well() {
        assert!(compression(&"again and again, ".repeat(20)) > MOST_COMPRESSED);
        assert!(compression("Ask not what your country can do for you.") < 1.2);
        assert!(compression("").abs() < 1e-9);
    }
}
