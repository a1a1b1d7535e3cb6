//! Log-probabilities of tokens. They are computed from the model's unmodified logits, before any
//! penalty, bias or temperature, and only if they are requested.

use super::weights::{exp, maximum, sum, to_token};
use crate::Token;

/// A token with its log-probability.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Ranked {
    pub(crate) token: Token,
    pub(crate) logprob: f32,
}

/// The log-probability of the chosen token, and the `top` most probable tokens in descending order.
pub(crate) fn rank(logits: &[f32], chosen: Token, top: usize) -> (Ranked, Vec<Ranked>) {
    let norm = log_of_sum(logits);
    let with = |token: Token| Ranked {
        token,
        logprob: logits
            .get(token as usize)
            .map_or(f32::NEG_INFINITY, |logit| logit - norm),
    };
    let likeliest = highest(logits, top).into_iter().map(with).collect();
    (with(chosen), likeliest)
}

/// The logarithm of the sum of the exponentials of the logits.
fn log_of_sum(logits: &[f32]) -> f32 {
    let most = maximum(logits);
    let mut weights = [0.0_f32; 256];
    let mut total = 0.0_f64;
    for block in logits.chunks(weights.len()) {
        for (weight, &logit) in weights.iter_mut().zip(block) {
            *weight = exp(logit - most);
        }
        total += f64::from(sum(&weights[..block.len()]));
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "an f32 is precise enough for a logarithm"
    )]
    let log = total.ln() as f32;
    most + log
}

/// The tokens with the `count` highest logits, in descending order. `count` is small (OpenAI allows
/// 20), so a sorted list is fast enough.
fn highest(logits: &[f32], count: usize) -> Vec<Token> {
    let mut best: Vec<(f32, Token)> = Vec::with_capacity(count + 1);
    let mut bar = f32::NEG_INFINITY;
    for (position, &logit) in logits.iter().enumerate() {
        if count == 0 || (best.len() == count && logit <= bar) {
            continue;
        }
        let at = best.partition_point(|&(better, _)| better >= logit);
        best.insert(at, (logit, to_token(position)));
        best.truncate(count);
        bar = best.last().map_or(f32::NEG_INFINITY, |last| last.0);
    }
    best.into_iter().map(|(_, token)| token).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_of_all_tokens_add_up_to_one() {
        let logits: Vec<f32> = (0..600_u16)
            .map(|i| f32::from(i % 31) * 0.3 - 4.0)
            .collect();
        let total: f64 = (0..600)
            .map(|token| f64::from(rank(&logits, token, 0).0.logprob).exp())
            .sum();
        assert!((total - 1.0).abs() < 1e-4, "they add up to {total}");
    }

    #[test]
    fn the_likeliest_come_first_and_equals_in_the_order_of_their_tokens() {
        let (_, top) = rank(&[1.0, 3.0, 2.0, 3.0], 0, 3);
        assert_eq!(
            top.iter().map(|ranked| ranked.token).collect::<Vec<_>>(),
            [1, 3, 2]
        );
    }

    #[test]
    fn asking_for_more_than_there_are_gives_all() {
        assert_eq!(rank(&[1.0, 2.0], 0, 20).1.len(), 2);
    }
}
