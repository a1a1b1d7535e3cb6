//! Draws a token from logits: computes weights relative to the most probable token, and draws at
//! random.
//!
//! The loops over the whole vocabulary are written so that the compiler vectorizes them (SIMD);
//! they have no branches.

use crate::Token;

/// The number of tokens in a block. The weights are summed block by block, so that a draw reads
/// only a few values.
const BLOCK: usize = 256;

/// Limits which tokens may be drawn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keep {
    pub(super) top_k: usize,
    pub(super) top_p: f32,
    pub(super) min_p: f32,
}

impl Keep {
    pub(super) fn everything(&self) -> bool {
        self.top_k == 0 && self.top_p >= 1.0 && self.min_p <= 0.0
    }
}

/// Scratch memory for one row of logits, used for all requests in turn.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    row: Vec<f32>,
    weights: Vec<f32>,
    sums: Vec<f32>,
    candidates: Vec<(f32, Token)>,
}

/// The token with the highest logit. If several are equal, it is the first.
pub(crate) fn likeliest(logits: &[f32]) -> Token {
    let highest = maximum(logits);
    to_token(
        logits
            .iter()
            .position(|&logit| logit >= highest)
            .unwrap_or(0),
    )
}

/// The highest of the values, ignoring NaN.
pub(super) fn maximum(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; 16];
    let mut chunks = values.chunks_exact(16);
    for chunk in &mut chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane = if value > *lane { value } else { *lane };
        }
    }
    lanes
        .iter()
        .chain(chunks.remainder())
        .copied()
        .fold(f32::NEG_INFINITY, f32::max)
}

/// e to the power of `x`, for `x` of at most 0, with an error of at most 2 parts in ten million.
/// Below -87, the result is 0. Unlike `f32::exp`, it has no branches and no calls.
pub(super) fn exp(x: f32) -> f32 {
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // Adding and subtracting 1.5 · 2^23 rounds to a whole number, and leaves it in the low bits of
    // the intermediate sum.
    const ROUND: f32 = 12_582_912.0;
    let clamped = if x > -87.0 { x } else { -87.0 };
    let rounded = clamped * std::f32::consts::LOG2_E + ROUND;
    let whole = rounded - ROUND;
    let rest = (clamped - whole * LN_2_HIGH) - whole * LN_2_LOW;
    let mut sum = 1.987_569_1e-4;
    sum = sum * rest + 1.398_199_9e-3;
    sum = sum * rest + 8.333_452e-3;
    sum = sum * rest + 4.166_579_6e-2;
    sum = sum * rest + 1.666_666_5e-1;
    sum = sum * rest + 0.5;
    let mantissa = sum * rest * rest + rest + 1.0;
    let power = f32::from_bits(rounded.to_bits().wrapping_add(127) << 23);
    let result = mantissa * power;
    if x > -87.0 { result } else { 0.0 }
}

impl Scratch {
    /// Returns a copy of the row that the caller may change. `give_row` returns its memory.
    pub(super) fn take_row(&mut self, logits: &[f32]) -> Vec<f32> {
        let mut row = std::mem::take(&mut self.row);
        row.clear();
        row.extend_from_slice(logits);
        row
    }

    pub(super) fn give_row(&mut self, row: Vec<f32>) {
        self.row = row;
    }

    /// Computes each token's weight, 1 for the most probable one, and the sum of each block.
    pub(super) fn weigh(&mut self, logits: &[f32], temperature: f32) {
        let highest = maximum(logits);
        // If all values are negative infinity or NaN, the model is broken, and any token will do.
        let highest = if highest.is_finite() { highest } else { 0.0 };
        let scale = temperature.recip();
        self.weights.clear();
        self.sums.clear();
        for block in logits.chunks(BLOCK) {
            let start = self.weights.len();
            self.weights
                .extend(block.iter().map(|&logit| exp((logit - highest) * scale)));
            self.sums.push(sum(&self.weights[start..]));
        }
    }

    /// Draws from all tokens. `unit` is a random number from 0 up to 1.
    pub(super) fn draw(&self, unit: f64) -> Token {
        let total: f64 = self.sums.iter().copied().map(f64::from).sum();
        let mut rest = unit * total;
        for (block, &sum) in self
            .weights
            .chunks(BLOCK)
            .zip(&self.sums)
            .enumerate()
            .map(|(i, (w, s))| ((i, w), s))
        {
            if rest >= f64::from(sum) {
                rest -= f64::from(sum);
                continue;
            }
            let mut last = 0;
            for (offset, &weight) in block
                .1
                .iter()
                .enumerate()
                .filter(|(_, weight)| **weight > 0.0)
            {
                last = offset;
                rest -= f64::from(weight);
                if rest < 0.0 {
                    break;
                }
            }
            return to_token(block.0 * BLOCK + last);
        }
        likeliest(&self.weights)
    }

    /// Draws from the tokens that `keep` allows: first `top_k` applies, then `top_p` to the
    /// remaining tokens, then `min_p`.
    pub(super) fn draw_from(&mut self, keep: &Keep, unit: f64) -> Token {
        self.gather(keep);
        let all: f32 = if keep.top_k == 0 {
            self.sums.iter().sum()
        } else {
            self.candidates.iter().map(|c| c.0).sum()
        };
        let mut kept = 0;
        let mut mass = 0.0;
        for &(weight, _) in &self.candidates {
            if kept > 0 && (mass >= keep.top_p * all || weight < keep.min_p) {
                break;
            }
            mass += weight;
            kept += 1;
        }
        let mut rest = unit * f64::from(mass);
        let mut chosen = likeliest(&self.weights);
        for &(weight, token) in &self.candidates[..kept] {
            chosen = token;
            rest -= f64::from(weight);
            if rest < 0.0 {
                break;
            }
        }
        chosen
    }

    /// Collects the tokens that might be kept, most probable first. The threshold is lowered until
    /// enough tokens exceed it: sorting the whole vocabulary would be slower than scanning it three
    /// times.
    fn gather(&mut self, keep: &Keep) {
        let total: f32 = self.sums.iter().sum();
        let mut bar = 1.0 / 64.0;
        loop {
            // A weight below `min_p` is never kept, so the threshold need not be lower than that.
            let bar_now = f32::max(bar, keep.min_p);
            self.candidates.clear();
            let over = self
                .weights
                .iter()
                .enumerate()
                .filter(|(_, weight)| **weight >= bar_now && **weight > 0.0);
            self.candidates
                .extend(over.map(|(i, &weight)| (weight, to_token(i))));
            let mass: f32 = self.candidates.iter().map(|candidate| candidate.0).sum();
            let enough = match keep.top_k {
                0 => mass >= keep.top_p * total,
                k => self.candidates.len() >= k,
            };
            if enough || bar <= keep.min_p || bar <= 0.0 {
                break;
            }
            bar = if bar > 1e-12 { bar / 64.0 } else { 0.0 };
        }
        // Equal weights are sorted by token, so that the same seed gives the same choice
        // everywhere.
        let order = |a: &(f32, Token), b: &(f32, Token)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        if keep.top_k > 0 && keep.top_k < self.candidates.len() {
            self.candidates
                .select_nth_unstable_by(keep.top_k - 1, order);
            self.candidates.truncate(keep.top_k);
        }
        self.candidates.sort_unstable_by(order);
    }
}

#[cfg(test)]
impl Scratch {
    /// The addresses and capacities of the buffers. They change if a buffer is reallocated.
    pub(super) fn places(&self) -> [(usize, usize); 4] {
        [
            (self.row.as_ptr().addr(), self.row.capacity()),
            (self.weights.as_ptr().addr(), self.weights.capacity()),
            (self.sums.as_ptr().addr(), self.sums.capacity()),
            (self.candidates.as_ptr().addr(), self.candidates.capacity()),
        ]
    }
}

/// The sum of the values, computed in sixteen lanes. This is faster than adding one after the
/// other, and the order of the additions is always the same.
pub(super) fn sum(values: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; 16];
    let mut chunks = values.chunks_exact(16);
    for chunk in &mut chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane += value;
        }
    }
    lanes.iter().sum::<f32>() + chunks.remainder().iter().sum::<f32>()
}

/// Converts an index in the vocabulary to a token. llama.cpp's tokens have 32 bits.
pub(super) fn to_token(position: usize) -> Token {
    Token::try_from(position).unwrap_or(Token::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weighed(logits: &[f32]) -> Scratch {
        let mut scratch = Scratch::default();
        scratch.weigh(logits, 1.0);
        scratch
    }

    /// The tokens that can be drawn, over many evenly distributed draws.
    fn drawn(scratch: &mut Scratch, keep: Keep) -> Vec<Token> {
        let mut tokens: Vec<Token> = (0..1000)
            .map(|i| scratch.draw_from(&keep, f64::from(i) / 1000.0))
            .collect();
        tokens.sort_unstable();
        tokens.dedup();
        tokens
    }

    const ALL: Keep = Keep {
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
    };

    #[test]
    fn exp_is_close_to_the_real_one_and_zero_far_below() {
        for step in 0..8700_u16 {
            let x = -f32::from(step) / 100.0;
            let (mine, real) = (exp(x), x.exp());
            assert!(
                (mine - real).abs() <= real * 3e-7,
                "exp({x}) is {mine}, should be {real}"
            );
        }
        assert!(exp(-87.5).abs() < f32::MIN_POSITIVE);
        assert!(exp(f32::NEG_INFINITY).abs() < f32::MIN_POSITIVE);
    }

    #[test]
    fn a_draw_falls_on_tokens_as_often_as_they_are_likely() {
        let scratch = weighed(&[0.0, 2.0_f32.ln(), f32::NEG_INFINITY, 0.0]);
        let mut counts = [0; 4];
        for i in 0..4000 {
            counts[scratch.draw(f64::from(i) / 4000.0) as usize] += 1;
        }
        assert_eq!(counts, [1000, 2000, 0, 1000]);
    }

    #[test]
    fn a_draw_reaches_every_block_of_a_large_vocabulary() {
        let mut logits = vec![-200.0; 5 * BLOCK + 7];
        logits[5 * BLOCK + 3] = 1.0;
        assert_eq!(weighed(&logits).draw(0.999_999) as usize, 5 * BLOCK + 3);
    }

    #[test]
    fn top_k_keeps_that_many() {
        let mut scratch = weighed(&[1.0, 4.0, 3.0, 2.0]);
        assert_eq!(drawn(&mut scratch, Keep { top_k: 2, ..ALL }), [1, 2]);
        assert_eq!(drawn(&mut scratch, Keep { top_k: 9, ..ALL }), [0, 1, 2, 3]);
    }

    #[test]
    fn top_p_keeps_the_likeliest_that_reach_it() {
        let mut scratch = weighed(&[0.5_f32.ln(), 0.3_f32.ln(), 0.15_f32.ln(), 0.05_f32.ln()]);
        assert_eq!(drawn(&mut scratch, Keep { top_p: 0.1, ..ALL }), [0]);
        assert_eq!(drawn(&mut scratch, Keep { top_p: 0.7, ..ALL }), [0, 1]);
        assert_eq!(drawn(&mut scratch, Keep { top_p: 0.94, ..ALL }), [0, 1, 2]);
    }

    #[test]
    fn min_p_keeps_what_is_not_much_less_likely_than_the_likeliest() {
        let mut scratch = weighed(&[0.5_f32.ln(), 0.3_f32.ln(), 0.15_f32.ln(), 0.05_f32.ln()]);
        assert_eq!(drawn(&mut scratch, Keep { min_p: 0.25, ..ALL }), [0, 1, 2]);
    }

    #[test]
    fn the_likeliest_of_a_row_of_any_length_is_found() {
        for length in 1..70 {
            let mut logits = vec![-1.0; length];
            logits[length / 2] = 7.0;
            assert_eq!(likeliest(&logits) as usize, length / 2);
        }
    }

    #[test]
    fn a_row_of_nothing_but_nan_still_gives_a_token() {
        let mut scratch = weighed(&[f32::NAN; 20]);
        assert!(scratch.draw(0.5) < 20);
        assert!(scratch.draw_from(&Keep { top_p: 0.5, ..ALL }, 0.5) < 20);
        assert!(likeliest(&[f32::NAN; 20]) < 20);
    }
}
