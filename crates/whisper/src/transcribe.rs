//! A recording becomes segments: window after window of 30 seconds, each beginning where the text of
//! the last one ended.

use candle_core::Tensor;

use crate::engine::Engine;
use crate::error::Stopped;
use crate::model::State;
use crate::request::{Request, Task};
use crate::sound::{FRAMES, HOP, RATE, Samples};
use crate::tokens::Tokens;
use crate::window::{self, Prompt, Text};
use crate::words::{self, Part, Word};

/// Frames in a second.
const FRAMES_A_SECOND: f64 = 100.0;
/// Frames between two timestamps.
const FRAMES_A_TIMESTAMP: u64 = 2;
/// A rest of the recording that is shorter than this, in frames, has no words.
const SHORTEST_REST: u64 = 10;
/// Text at a higher temperature is no example for the next window.
const HOTTEST_EXAMPLE: f32 = 0.5;

/// A part of the text, with its times in seconds.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    /// The first frame of its window.
    pub(crate) seek: u64,
    pub(crate) start: f64,
    pub(crate) end: f64,
    pub(crate) text: String,
    /// With timestamps.
    pub(crate) tokens: Vec<u32>,
    pub(crate) logprobs: Vec<f32>,
    pub(crate) temperature: f32,
    pub(crate) mean_logprob: f32,
    pub(crate) compression: f32,
    pub(crate) no_speech: f32,
    /// If they were asked for.
    pub(crate) words: Vec<Word>,
}

/// What is known after the last segment.
#[derive(Clone, Debug)]
pub(crate) struct Summary {
    /// The name of the language, in English.
    pub(crate) language: &'static str,
    /// The length of the recording in seconds.
    pub(crate) seconds: f64,
    /// The tokens that were read as examples, and those that were written.
    pub(crate) read: u64,
    pub(crate) written: u64,
}

impl Engine {
    /// Transcribes a recording. `take` gets each segment as soon as it is known. `goes_on` is asked
    /// often; as soon as it says no, nothing more is computed.
    pub(crate) fn transcribe(
        &self,
        samples: &mut Samples,
        request: &Request,
        goes_on: &dyn Fn() -> bool,
        take: &mut dyn FnMut(Segment),
    ) -> Result<Summary, Stopped> {
        let (loudest, sounds) = self.spectrum.survey(samples, goes_on)?;
        let frames = samples.count() / HOP as u64;
        let mut language = self.asked_language(request);
        let mut context = Context::new(self, request);
        let mut summary = Summary {
            language: "english",
            seconds: samples.seconds(),
            read: 0,
            written: 0,
        };
        let mut at = 0;
        while at + SHORTEST_REST < frames {
            let length = (frames - at).min(FRAMES as u64);
            if !has_sound(&sounds, at, length) {
                at += length;
                continue;
            }
            let heard = self.hear(samples, at, loudest, goes_on)?;
            let known = match language {
                Some(known) => known,
                None => *language.insert(self.detect(&heard, &request.languages)?),
            };
            let prompt = context.prompt(self, request, known);
            summary.read += prompt.tokens.len() as u64;
            let text = window::decode(&self.model, &self.tokens, &heard, &prompt, goes_on)?;
            summary.written += text.tokens.len() as u64;
            if window::is_silent(&text) {
                at += length;
                continue;
            }
            let Parted { mut parts, next } = parted(&text, &self.tokens, length);
            if request.words {
                let marks = self.marks(request.task, known);
                words::times(self, &heard, &marks, &mut parts, length, known)?;
            }
            context.remember(&text);
            for part in parts {
                if let Some(segment) = self.segment(part, &text, at) {
                    take(segment);
                }
            }
            at += next.clamp(1, length);
        }
        summary.language = Tokens::name_of_language(language.unwrap_or_default());
        Ok(summary)
    }

    fn hear(
        &self,
        samples: &mut Samples,
        at: u64,
        loudest: f32,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<State, Stopped> {
        let spectrum: Tensor = self.spectrum.window(samples, at, loudest)?;
        self.model.encode(&spectrum, goes_on)
    }

    /// Returns the language, if it need not be detected.
    fn asked_language(&self, request: &Request) -> Option<usize> {
        if self.tokens.is_multilingual() {
            request.language
        } else {
            Some(0)
        }
    }

    /// Detects the language, among these if there are any.
    fn detect(&self, heard: &State, among: &[usize]) -> Result<usize, Stopped> {
        let decoded = self
            .model
            .decode(&[self.tokens.start], &mut heard.clone(), &[])?;
        let logits = self.model.logits(&decoded, 0)?;
        let first = self.tokens.start as usize + 1;
        let of_languages = &logits[first..first + self.tokens.languages as usize];
        let all = of_languages.iter().enumerate();
        let possible = all.filter(|(at, _)| among.is_empty() || among.contains(at));
        Ok(possible
            .max_by(|a, b| a.1.total_cmp(b.1))
            .map_or(0, |(at, _)| at))
    }

    /// Returns the tokens that begin a transcript: its language and task.
    fn marks(&self, task: Task, language: usize) -> Vec<u32> {
        let mut marks = vec![self.tokens.start];
        if let Some(language) = self.tokens.language(language) {
            marks.push(language);
            marks.push(match task {
                Task::Transcribe => self.tokens.transcribe,
                Task::Translate => self.tokens.translate,
            });
        }
        marks
    }

    fn segment(&self, part: Part, text: &Text, at: u64) -> Option<Segment> {
        let words = self.tokens.text(&part.tokens);
        if words.trim().is_empty() {
            return None;
        }
        let start = seconds(at);
        let shifted = |mut word: Word| {
            word.start += start;
            word.end += start;
            word
        };
        Some(Segment {
            seek: at,
            start: start + part.start,
            end: start + part.end,
            text: words,
            tokens: part.tokens,
            logprobs: part.logprobs,
            temperature: text.temperature,
            mean_logprob: text.mean_logprob,
            compression: text.compression,
            no_speech: text.no_speech,
            words: part.words.into_iter().map(shifted).collect(),
        })
    }
}

/// The examples for the next window: the client's prompt, and the text so far.
struct Context {
    tokens: Vec<u32>,
    most: usize,
}

impl Context {
    fn new(engine: &Engine, request: &Request) -> Self {
        let prompt = request.prompt.trim();
        let tokens = if prompt.is_empty() {
            Vec::new()
        } else {
            engine.tokens.encode(&format!(" {prompt}"))
        };
        Self {
            tokens,
            most: engine.model.sizes.context / 2 - 1,
        }
    }

    fn prompt(&self, engine: &Engine, request: &Request, language: usize) -> Prompt {
        let mut tokens = Vec::new();
        if !self.tokens.is_empty() {
            tokens.push(engine.tokens.start_of_previous);
            tokens.extend(&self.tokens[self.tokens.len().saturating_sub(self.most)..]);
        }
        let start = tokens.len();
        tokens.extend(engine.marks(request.task, language));
        Prompt {
            tokens,
            start,
            temperature: request.temperature,
        }
    }

    fn remember(&mut self, text: &Text) {
        if text.temperature > HOTTEST_EXAMPLE {
            self.tokens.clear();
        } else {
            self.tokens.extend(&text.tokens);
        }
    }
}

/// The segments of a window, and at which of its frames the next window begins.
#[derive(Debug, PartialEq)]
struct Parted {
    parts: Vec<Part>,
    next: u64,
}

/// Divides the text of a window at its pairs of timestamps. `length` is the window's, in frames.
fn parted(text: &Text, tokens: &Tokens, length: u64) -> Parted {
    let all = &text.tokens;
    let is_time = |at: usize| all.get(at).is_some_and(|token| tokens.is_timestamp(*token));
    let time =
        |token: u32| u64::from(token.saturating_sub(tokens.first_timestamp)) * FRAMES_A_TIMESTAMP;
    let count = all.len();
    let ends_with_one_time = count >= 2 && !is_time(count - 2) && is_time(count - 1);
    let mut cuts: Vec<usize> = (1..count)
        .filter(|at| is_time(at - 1) && is_time(*at))
        .collect();
    let part = |from: usize, to: usize, start: u64, end: u64| Part {
        start: seconds(start),
        end: seconds(end.max(start)),
        tokens: all[from..to].to_vec(),
        logprobs: text.logprobs[from..to].to_vec(),
        words: Vec::new(),
    };
    if cuts.is_empty() {
        // One segment, as far as its last timestamp, if it has more than the first one.
        let last = all.iter().rfind(|token| tokens.is_timestamp(**token));
        let end = last.map(|token| time(*token)).filter(|end| *end > 0);
        let start = all.first().filter(|token| tokens.is_timestamp(**token));
        let start = start.map_or(0, |token| time(*token)).min(length);
        let end = end
            .filter(|end| *end > start)
            .unwrap_or(length)
            .min(length.max(start));
        let parts = if count == 0 {
            Vec::new()
        } else {
            vec![part(0, count, start, end)]
        };
        return Parted {
            parts,
            next: length,
        };
    }
    if ends_with_one_time {
        cuts.push(count);
    }
    let (mut parts, mut from) = (Vec::new(), 0);
    for to in cuts {
        parts.push(part(
            from,
            to,
            time(all[from]),
            time(all[to - 1]).min(length),
        ));
        from = to;
    }
    // After one time at the end there is no more speech; after a pair, the text goes on there.
    let next = if ends_with_one_time {
        length
    } else {
        time(all[from - 1])
    };
    Parted { parts, next }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "recordings have hours, not years"
)]
fn seconds(frames: u64) -> f64 {
    frames as f64 / FRAMES_A_SECOND
}

/// Returns whether there is any sound in a window. Without, a model may invent text.
fn has_sound(sounds: &[bool], at: u64, length: u64) -> bool {
    let a_second = u64::from(RATE) / HOP as u64;
    let index = |second: u64| {
        usize::try_from(second)
            .unwrap_or(usize::MAX)
            .min(sounds.len())
    };
    let (first, last) = (
        index(at / a_second),
        index((at + length).div_ceil(a_second)),
    );
    sounds[first..last].contains(&true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::tests::english;

    fn of(tokens: Vec<u32>) -> Text {
        Text {
            logprobs: vec![-0.5; tokens.len()],
            tokens,
            ..Text::default()
        }
    }

    /// Returns the times of the parts in seconds, their numbers of tokens, and the next frame.
    fn divided(written: &[i32], length: u64) -> (Vec<(f64, f64, usize)>, u64) {
        let tokens = english(&[]);
        // Numbers from 0 on are timestamps, others are text.
        let token =
            |number: &i32| u32::try_from(*number).map_or(300, |time| tokens.first_timestamp + time);
        let parted = parted(&of(written.iter().map(token).collect()), &tokens, length);
        let parts = parted
            .parts
            .iter()
            .map(|part| (part.start, part.end, part.tokens.len()));
        (parts.collect(), parted.next)
    }

    #[test]
    fn a_text_is_divided_at_its_pairs_of_timestamps() {
        // It ends with one time: nothing more is said.
        assert_eq!(divided(&[0, -1, -1, 50], 3000), (vec![(0.0, 1.0, 4)], 3000));
        let two = divided(&[0, -1, 50, 50, -1, -1, 100], 3000);
        assert_eq!(two, (vec![(0.0, 1.0, 3), (1.0, 2.0, 4)], 3000));
        // It ends with a pair: the next window begins there.
        assert_eq!(divided(&[0, -1, 50, 50], 3000), (vec![(0.0, 1.0, 3)], 100));
        // The last segment is not finished: the next window begins at it.
        let open = divided(&[0, -1, 50, 60, -1, -1], 3000);
        assert_eq!(open, (vec![(0.0, 1.0, 3)], 100));
        // There is no end.
        assert_eq!(divided(&[10, -1, -1], 2000), (vec![(0.2, 20.0, 3)], 2000));
        assert_eq!(divided(&[], 2000), (vec![], 2000));
        // A time behind the end of the recording.
        assert_eq!(divided(&[0, -1, 900], 1000), (vec![(0.0, 10.0, 3)], 1000));
    }

    #[test]
    fn silence_is_found_by_the_second() {
        let sounds = [false, false, true, false];
        assert!(!has_sound(&sounds, 0, 200));
        assert!(has_sound(&sounds, 0, 201));
        assert!(has_sound(&sounds, 150, 3000));
        assert!(!has_sound(&sounds, 300, 3000));
        assert!(!has_sound(&sounds, 4000, 3000));
    }
}
