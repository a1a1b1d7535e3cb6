//! Samples the next token from a row of logits: applies penalties and biases, temperature, `top_k`,
//! `top_p` and `min_p`, and draws at random.
//!
//! A greedy request reads the row once. Other requests read it twice, and sort only the tokens that
//! `top_k` or `top_p` could keep. Nothing is allocated per token: the engine owns one scratch space
//! for all requests. The seed is the only source of randomness, and no clock is used.

mod logprobs;
mod penalties;
mod rng;
mod weights;

pub(crate) use logprobs::{Ranked, rank};
pub(crate) use weights::{Scratch, likeliest};

use crate::Token;
use penalties::Penalties;
use rng::Rng;
pub(crate) use rng::any_seed;

/// The settings of sampling. The defaults are OpenAI's: the model's unmodified distribution.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sampling {
    /// The temperature. 0 always takes the most probable token; above 0, the logits are divided by
    /// it.
    pub(crate) temperature: f32,
    /// Keeps the most probable tokens whose probabilities add up to this value; 1 keeps all.
    pub(crate) top_p: f32,
    /// Keeps this number of the most probable tokens; 0 keeps all.
    pub(crate) top_k: u32,
    /// Keeps the tokens whose probability is at least this fraction of the highest one; 0 keeps
    /// all.
    pub(crate) min_p: f32,
    /// With the same seed, a request that is alone on the engine gives the same text. Without one,
    /// each request draws its own seed.
    pub(crate) seed: Option<u64>,
    /// Subtracted once from each token that is already in the answer (OpenAI's `presence_penalty`).
    pub(crate) presence_penalty: f32,
    /// Subtracted from a token for each of its occurrences in the answer (OpenAI's
    /// `frequency_penalty`).
    pub(crate) frequency_penalty: f32,
    /// Divides the positive logits (multiplies the negative ones) of tokens among the last
    /// `repeat_last_n`; 1 has no effect.
    pub(crate) repeat_penalty: f32,
    /// The number of tokens that `repeat_penalty` looks back over, in prompt and answer.
    pub(crate) repeat_last_n: usize,
    /// The numbers that are added to the logits of single tokens.
    pub(crate) logit_bias: Vec<(Token, f32)>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            seed: None,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            repeat_penalty: 1.0,
            repeat_last_n: 64,
            logit_bias: Vec::new(),
        }
    }
}

/// Restricts the tokens that may come next, for structured output and grammars.
pub(crate) trait Constraint: Send {
    /// Sets the logit of every token that may not come next to negative infinity. At least one
    /// token remains.
    fn mask(&mut self, logits: &mut [f32]) -> Result<(), Stuck>;
    /// The tokens that must come next, as far as there is only one way to continue. No logits are
    /// needed to choose them.
    fn forced(&mut self) -> &[Token];
    /// Records the token that was chosen.
    fn accept(&mut self, token: Token) -> Result<(), Stuck>;
    /// Whether the answer is complete, so that nothing may follow.
    fn is_over(&self) -> bool;
}

/// The error of a constraint that allows no further token, so the answer cannot satisfy it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stuck(pub(crate) String);

/// The sampling state of one request.
pub(crate) struct Sampler {
    temperature: f32,
    keep: weights::Keep,
    rng: Rng,
    penalties: Penalties,
    bias: Vec<(Token, f32)>,
    constraint: Option<Box<dyn Constraint>>,
}

impl Sampler {
    pub(crate) fn new(
        settings: &Sampling,
        prompt: &[Token],
        constraint: Option<Box<dyn Constraint>>,
    ) -> Self {
        Self {
            temperature: settings.temperature,
            keep: weights::Keep {
                top_k: settings.top_k as usize,
                top_p: settings.top_p,
                min_p: settings.min_p,
            },
            rng: Rng::new(settings.seed.unwrap_or_else(any_seed)),
            penalties: Penalties::new(settings, prompt),
            bias: settings.logit_bias.clone(),
            constraint,
        }
    }

    /// Samples a token from a row of logits. If a token is forced, the logits are not read.
    pub(crate) fn choose(&mut self, logits: &[f32], scratch: &mut Scratch) -> Result<Token, Stuck> {
        let token = if let Some(&forced) = self.forced().first() {
            forced
        } else if self.changes_logits() {
            let mut row = scratch.take_row(logits);
            let changed = self.change(&mut row);
            let token = self.draw(&row, scratch);
            scratch.give_row(row);
            changed.map(|()| token)?
        } else {
            self.draw(logits, scratch)
        };
        self.penalties.accept(token);
        if let Some(constraint) = &mut self.constraint {
            constraint.accept(token)?;
        }
        Ok(token)
    }

    /// The tokens that must come next, whatever the logits are.
    pub(crate) fn forced(&mut self) -> &[Token] {
        match &mut self.constraint {
            Some(constraint) => constraint.forced(),
            None => &[],
        }
    }

    /// Whether the answer so far is complete, and nothing may follow.
    pub(crate) fn is_over(&self) -> bool {
        self.constraint
            .as_ref()
            .is_some_and(|constraint| constraint.is_over())
    }

    fn changes_logits(&self) -> bool {
        self.constraint.is_some() || !self.bias.is_empty() || self.penalties.have_effect()
    }

    /// Applies penalties and biases, each only to the logits of the tokens concerned, and the
    /// constraint.
    fn change(&mut self, row: &mut [f32]) -> Result<(), Stuck> {
        self.penalties.apply(row);
        for &(token, bias) in &self.bias {
            if let Some(logit) = row.get_mut(token as usize) {
                *logit += bias;
            }
        }
        match &mut self.constraint {
            Some(constraint) => constraint.mask(row),
            None => Ok(()),
        }
    }

    fn draw(&mut self, logits: &[f32], scratch: &mut Scratch) -> Token {
        if self.temperature <= 0.0 {
            return weights::likeliest(logits);
        }
        scratch.weigh(logits, self.temperature);
        let unit = self.rng.unit();
        if self.keep.everything() {
            scratch.draw(unit)
        } else {
            scratch.draw_from(&self.keep, unit)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(settings: &Sampling, logits: &[f32], times: usize) -> Vec<Token> {
        let mut scratch = Scratch::default();
        let mut sampler = Sampler::new(settings, &[], None);
        (0..times)
            .map(|_| sampler.choose(logits, &mut scratch).unwrap())
            .collect()
    }

    #[test]
    fn temperature_zero_takes_the_likeliest_token() {
        let settings = Sampling {
            temperature: 0.0,
            ..Sampling::default()
        };
        assert_eq!(
            choose(&settings, &[0.0, 3.0, 2.9, f32::NEG_INFINITY], 3),
            [1, 1, 1]
        );
    }

    #[test]
    fn the_same_seed_chooses_the_same_tokens_and_another_seed_others() {
        let logits: Vec<f32> = (0..1000u16).map(|i| f32::from(i % 17) / 4.0).collect();
        let with = |seed| {
            choose(
                &Sampling {
                    seed: Some(seed),
                    ..Sampling::default()
                },
                &logits,
                50,
            )
        };
        assert_eq!(with(1), with(1));
        assert_ne!(with(1), with(2));
    }

    #[test]
    fn a_bias_of_minus_a_hundred_bans_a_token_and_of_a_hundred_forces_it() {
        let settings = Sampling {
            seed: Some(3),
            logit_bias: vec![(0, -100.0)],
            ..Sampling::default()
        };
        assert!(
            choose(&settings, &[5.0, 0.0, 0.0], 200)
                .iter()
                .all(|&token| token != 0)
        );
        let settings = Sampling {
            seed: Some(3),
            logit_bias: vec![(2, 100.0)],
            ..Sampling::default()
        };
        assert!(
            choose(&settings, &[5.0, 0.0, 0.0], 200)
                .iter()
                .all(|&token| token == 2)
        );
    }

    #[test]
    fn the_frequency_penalty_grows_with_each_repetition_and_the_presence_penalty_does_not() {
        let greedy = Sampling {
            temperature: 0.0,
            ..Sampling::default()
        };
        let frequency = Sampling {
            frequency_penalty: 1.0,
            ..greedy.clone()
        };
        assert_eq!(choose(&frequency, &[2.5, 0.0], 4), [0, 0, 0, 1]);
        let presence = Sampling {
            presence_penalty: 1.0,
            ..greedy
        };
        assert_eq!(choose(&presence, &[2.5, 0.0], 4), [0, 0, 0, 0]);
    }

    #[test]
    fn the_repeat_penalty_counts_a_token_once_and_forgets_what_is_too_far_back() {
        let settings = Sampling {
            temperature: 0.0,
            repeat_penalty: 2.0,
            repeat_last_n: 2,
            ..Sampling::default()
        };
        assert_eq!(choose(&settings, &[3.0, 2.0, 1.6], 6), [0, 1, 2, 0, 1, 2]);
        assert_eq!(choose(&settings, &[5.0, 2.0], 3), [0, 0, 0]);
    }

    #[test]
    fn after_the_first_row_the_scratch_space_is_neither_moved_nor_grown() {
        let settings = Sampling {
            top_k: 40,
            top_p: 0.9,
            logit_bias: vec![(3, 1.0)],
            seed: Some(1),
            ..Sampling::default()
        };
        let row = |shift: u16| -> Vec<f32> {
            (0..5000u16)
                .map(|i| f32::from((i + shift) % 97) / 8.0)
                .collect()
        };
        let mut scratch = Scratch::default();
        let mut sampler = Sampler::new(&settings, &[], None);
        sampler.choose(&row(0), &mut scratch).unwrap();
        let before = scratch.places();
        for shift in 1..50 {
            sampler.choose(&row(shift), &mut scratch).unwrap();
        }
        assert_eq!(scratch.places(), before);
    }
}
