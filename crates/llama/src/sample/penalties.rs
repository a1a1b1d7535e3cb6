//! Penalties for repeated tokens: OpenAI's two, which count the tokens of the answer, and
//! llama.cpp's, which looks at the last tokens of prompt and answer (a window).

use std::collections::{HashMap, VecDeque};

use super::Sampling;
use crate::Token;

/// Counts the tokens of the answer and of the window, as far as the settings need them.
pub(super) struct Penalties {
    presence: f32,
    frequency: f32,
    repeat: f32,
    /// The number of tokens in the window of the repeat penalty; 0 without that penalty.
    window_size: usize,
    window: VecDeque<Token>,
    in_window: HashMap<Token, u32>,
    in_answer: HashMap<Token, u32>,
}

impl Penalties {
    pub(super) fn new(settings: &Sampling, prompt: &[Token]) -> Self {
        let repeats = (settings.repeat_penalty - 1.0).abs() > f32::EPSILON;
        let mut new = Self {
            presence: settings.presence_penalty,
            frequency: settings.frequency_penalty,
            repeat: settings.repeat_penalty,
            window_size: if repeats { settings.repeat_last_n } else { 0 },
            window: VecDeque::new(),
            in_window: HashMap::new(),
            in_answer: HashMap::new(),
        };
        for &token in &prompt[prompt.len().saturating_sub(new.window_size)..] {
            new.enter_window(token);
        }
        new
    }

    pub(super) fn have_effect(&self) -> bool {
        !self.in_window.is_empty() || !self.in_answer.is_empty()
    }

    pub(super) fn apply(&self, row: &mut [f32]) {
        for &token in self.in_window.keys() {
            if let Some(logit) = row.get_mut(token as usize) {
                *logit = if *logit > 0.0 {
                    *logit / self.repeat
                } else {
                    *logit * self.repeat
                };
            }
        }
        for (&token, &count) in &self.in_answer {
            if let Some(logit) = row.get_mut(token as usize) {
                #[expect(
                    clippy::cast_precision_loss,
                    reason = "an answer has far fewer than 2^24 tokens"
                )]
                let times = count as f32;
                *logit -= self.presence + self.frequency * times;
            }
        }
    }

    pub(super) fn accept(&mut self, token: Token) {
        if self.presence.abs() > 0.0 || self.frequency.abs() > 0.0 {
            *self.in_answer.entry(token).or_insert(0) += 1;
        }
        self.enter_window(token);
    }

    fn enter_window(&mut self, token: Token) {
        if self.window_size == 0 {
            return;
        }
        if self.window.len() == self.window_size
            && let Some(oldest) = self.window.pop_front()
            && let Some(count) = self.in_window.get_mut(&oldest)
        {
            *count -= 1;
            if *count == 0 {
                self.in_window.remove(&oldest);
            }
        }
        self.window.push_back(token);
        *self.in_window.entry(token).or_insert(0) += 1;
    }
}
