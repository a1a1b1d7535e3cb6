//! The measurements of a benchmark, with as many tokens as the time allows at the model's speed.
//! Pure.

use std::fmt;
use std::time::Duration;

/// The numbers of requests at the same time.
const AT_ONCE: [usize; 3] = [1, 4, 8];

/// How often each step should be possible in the time. The first estimate may be too high.
const ROUNDS: f64 = 3.0;

/// The bounds of a prompt's length. Longer ones are not faster per token on any hardware that is
/// measured in minutes.
const PROMPT: (f64, f64) = (32.0, 512.0);

/// The bounds of an answer's length.
const ANSWER: (f64, f64) = (8.0, 128.0);

/// The maximum number of tokens of the structured answer. It usually has about 60.
const STRUCTURED: u64 = 300;

/// The context of a server that does not report one.
const UNKNOWN_CONTEXT: u64 = 2048;

/// The speed of a model with one request, as a first estimate.
#[derive(Debug, Clone, Copy)]
pub(super) struct Speed {
    /// Prompt tokens per second.
    pub(super) prompt: f64,
    /// Answer tokens per second.
    pub(super) answer: f64,
    /// The number of tokens of a word of the prompts.
    pub(super) tokens_per_word: f64,
}

/// One measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// The model reads prompts.
    Prompt {
        /// The number of requests at the same time.
        at_once: usize,
        /// The number of words of each prompt.
        words: u64,
    },
    /// The model writes answers to short prompts.
    Answer {
        /// The number of requests at the same time.
        at_once: usize,
        /// The maximum number of tokens of each answer.
        tokens: u64,
    },
    /// The model writes an answer that a JSON schema describes.
    Structured {
        /// The maximum number of tokens of the answer.
        tokens: u64,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prompt { at_once, words } => {
                write!(f, "reading {at_once} × {words} words")
            }
            Self::Answer { at_once, tokens } => {
                write!(f, "writing {at_once} × {tokens} tokens")
            }
            Self::Structured { .. } => write!(f, "writing JSON"),
        }
    }
}

/// The steps of a round.
#[derive(Debug)]
pub(super) struct Plan(Vec<Step>);

impl Plan {
    /// Chooses the lengths so that three rounds with this number of servers fit the time. The
    /// steps with many requests come last, so that they are missing if the time is too short.
    pub(super) fn of(speed: Speed, time: Duration, servers: usize, context: Option<u64>) -> Self {
        let context = context.unwrap_or(UNKNOWN_CONTEXT);
        let steps = (2 * AT_ONCE.len() + 1) as f64;
        let slice = time.as_secs_f64() / (ROUNDS * steps * servers.max(1) as f64);
        let length = |per_second: f64, at_once: usize, (least, most): (f64, f64), part: u64| {
            let tokens = (per_second * slice / at_once as f64).clamp(least, most);
            (tokens as u64).min(context / part).max(1)
        };
        let words = |tokens: u64| (tokens as f64 / speed.tokens_per_word.max(0.1)) as u64;
        let structured = Step::Structured {
            tokens: STRUCTURED.min(context / 2),
        };
        let both = |at_once| {
            let prompt = Step::Prompt {
                at_once,
                words: words(length(speed.prompt, at_once, PROMPT, 2)).max(1),
            };
            let answer = Step::Answer {
                at_once,
                tokens: length(speed.answer, at_once, ANSWER, 4),
            };
            [prompt, answer]
        };
        let of_requests = AT_ONCE.into_iter().flat_map(both);
        Self([structured].into_iter().chain(of_requests).collect())
    }

    pub(super) fn steps(&self) -> impl Iterator<Item = Step> {
        self.0.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(prompt: f64, answer: f64, seconds: u64, servers: usize, context: u64) -> Vec<Step> {
        let speed = Speed {
            prompt,
            answer,
            tokens_per_word: 2.0,
        };
        let time = Duration::from_secs(seconds);
        Plan::of(speed, time, servers, Some(context))
            .steps()
            .collect()
    }

    fn tokens(step: &Step) -> u64 {
        match *step {
            Step::Prompt { words, .. } => 2 * words,
            Step::Answer { tokens, .. } | Step::Structured { tokens } => tokens,
        }
    }

    #[test]
    fn a_slow_model_gets_short_texts_and_a_fast_one_long_ones() {
        let lengths = |steps: Vec<Step>| steps.iter().map(tokens).collect::<Vec<_>>();
        // A slice has 60 s ÷ 3 rounds ÷ 7 steps = 2.9 s.
        assert_eq!(
            lengths(plan(20.0, 4.0, 60, 1, 4096)),
            [300, 56, 11, 32, 8, 32, 8]
        );
        assert_eq!(
            lengths(plan(5000.0, 500.0, 60, 1, 4096)),
            [300, 512, 128, 512, 128, 512, 128]
        );
        // With a second server, a step has half the time.
        assert_eq!(lengths(plan(200.0, 4.0, 60, 2, 4096))[1], 284);
    }

    #[test]
    fn no_text_is_longer_than_a_small_context_allows() {
        let steps = plan(5000.0, 500.0, 60, 1, 128);
        assert!(steps.iter().all(|step| tokens(step) <= 64), "{steps:?}");
    }
}
