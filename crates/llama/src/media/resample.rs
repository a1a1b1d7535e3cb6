//! Changes the sample rate of a sound with a windowed sinc filter, which cuts off below half of the
//! lower rate. Pure.

use std::f32::consts::PI;

/// The number of zero crossings of the sinc filter on each side. With this number, frequencies
/// above the limit are attenuated by 60 dB.
const CROSSINGS: f32 = 16.0;

/// Converts samples from the rate `from` to the rate `to`, in samples per second.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rates are positive and far below 2^24, and so are lengths below 2^53"
)]
pub(super) fn resample(samples: &[f32], from: u32, to: u32) -> Vec<f32> {
    if from == to || samples.is_empty() {
        return samples.to_vec();
    }
    let shared = gcd(from, to);
    let (step, phases) = (u64::from(from / shared), u64::from(to / shared));
    let cut = (phases as f32 / step as f32).min(1.0);
    let reach = CROSSINGS / cut;
    let side = reach as usize + 1;
    // There are only a few positions that a new sample can have relative to the old ones, so the
    // filter weights of each position are computed once.
    let weights: Vec<Vec<f32>> = (0..phases)
        .map(|phase| {
            let part = phase as f32 / phases as f32;
            (0..=2 * side)
                .map(|tap| kernel(tap as f32 - side as f32 - part, cut, reach))
                .collect()
        })
        .collect();
    let length = (samples.len() as u64 * phases).div_ceil(step);
    let value = |at: u64| {
        let (whole, phase) = ((at * step / phases) as usize, (at * step % phases) as usize);
        let first = whole.saturating_sub(side);
        let heard = &samples[first..(whole + side + 1).min(samples.len())];
        let weights = &weights[phase][first + side - whole..];
        heard
            .iter()
            .zip(weights)
            .map(|(sample, weight)| sample * weight)
            .sum()
    };
    (0..length).map(value).collect()
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// A sinc with a Hann window.
fn kernel(distance: f32, cut: f32, reach: f32) -> f32 {
    if distance.abs() >= reach {
        return 0.0;
    }
    let window = 0.5 + 0.5 * (PI * distance / reach).cos();
    let x = PI * cut * distance;
    let sinc = if x.abs() < 1e-4 { 1.0 } else { x.sin() / x };
    cut * sinc * window
}

#[cfg(test)]
#[expect(
    clippy::cast_precision_loss,
    reason = "rates and lengths are small here"
)]
mod tests {
    use super::*;

    fn tone(hertz: f32, rate: u32, length: usize) -> Vec<f32> {
        (0..length)
            .map(|at| (2.0 * PI * hertz * at as f32 / rate as f32).sin())
            .collect()
    }

    /// The loudness of a sound, without its ends.
    fn loudness(samples: &[f32]) -> f32 {
        let middle = &samples[samples.len() / 4..samples.len() * 3 / 4];
        (middle.iter().map(|sample| sample * sample).sum::<f32>() / middle.len() as f32).sqrt()
    }

    #[test]
    fn a_tone_is_the_same_tone_at_another_rate() {
        for (from, to) in [(44_100, 16_000), (8_000, 16_000), (48_000, 16_000)] {
            let heard = resample(&tone(440.0, from, from as usize / 4), from, to);
            let wanted = tone(440.0, to, heard.len());
            assert_eq!(heard.len(), to as usize / 4);
            let middle = heard.len() / 4..heard.len() * 3 / 4;
            let far = heard[middle.clone()]
                .iter()
                .zip(&wanted[middle])
                .map(|(a, b)| (a - b).abs())
                .fold(0.0, f32::max);
            assert!(far < 0.01, "{from} to {to}: off by {far}");
        }
    }

    #[test]
    fn what_the_lower_rate_cannot_hold_is_left_out() {
        let heard = resample(&tone(12_000.0, 48_000, 12_000), 48_000, 16_000);
        assert!(loudness(&heard) < 0.01, "{}", loudness(&heard));
    }

    #[test]
    fn the_same_rate_is_the_same_sound() {
        assert_eq!(resample(&[0.5, -0.5], 16_000, 16_000), [0.5, -0.5]);
    }
}
