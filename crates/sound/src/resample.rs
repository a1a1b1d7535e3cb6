//! Changes the sample rate of a sound, as it arrives, with a windowed sinc filter, which cuts off
//! below half of the lower rate.

use std::f32::consts::PI;

use crate::Sink;

/// The number of zero crossings of the sinc filter on each side. With this number, frequencies above
/// the limit are attenuated by 60 dB.
const CROSSINGS: f32 = 16.0;

/// Converts samples to another rate, and passes them on.
pub struct Resampler<S> {
    sink: S,
    /// The filter at each position that a new sample can have relative to the old ones. Empty if the
    /// rates are the same.
    weights: Vec<Vec<f32>>,
    step: u64,
    side: usize,
    /// The old samples that are still needed.
    heard: Vec<f32>,
    /// The place of the first of them.
    first: u64,
    written: u64,
}

impl<S: Sink> Resampler<S> {
    /// `from` and `to` are rates in samples per second, and not 0.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "rates are positive and far below 2^24"
    )]
    pub fn new(from: u32, to: u32, sink: S) -> Self {
        let shared = gcd(from, to);
        let (step, phases) = (u64::from(from / shared), u64::from(to / shared));
        let cut = (phases as f32 / step as f32).min(1.0);
        let reach = CROSSINGS / cut;
        let side = reach as usize + 1;
        let of_phase = |phase: u64| {
            let part = phase as f32 / phases as f32;
            let taps = 0..=2 * side;
            taps.map(|tap| kernel(tap as f32 - side as f32 - part, cut, reach))
                .collect()
        };
        let phases = if from == to { 0 } else { phases };
        Self {
            sink,
            weights: (0..phases).map(of_phase).collect(),
            step,
            side,
            heard: Vec::new(),
            first: 0,
            written: 0,
        }
    }

    /// Adds the samples that depend on the silence after the end, and returns what all were passed to.
    ///
    /// # Errors
    /// Fails if the sink takes no more.
    pub fn finish(mut self) -> Result<S, S::Error> {
        if !self.weights.is_empty() {
            let end = self.first + self.heard.len() as u64;
            let length = (end * self.weights.len() as u64).div_ceil(self.step);
            self.heard
                .extend(std::iter::repeat_n(0.0, 2 * self.side + 1));
            while self.written < length {
                self.write()?;
            }
        }
        Ok(self.sink)
    }

    /// Returns the old sample at which the next new one is, and the part of the way to its neighbour.
    fn place(&self) -> (u64, usize) {
        let (at, phases) = (self.written * self.step, self.weights.len() as u64);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "it is below the number of filters"
        )]
        let phase = (at % phases) as usize;
        (at / phases, phase)
    }

    fn write(&mut self) -> Result<(), S::Error> {
        let (whole, phase) = self.place();
        // Before the first sample there is silence.
        let missing = (self.side as u64 + self.first).saturating_sub(whole);
        let from = (whole + missing) - self.side as u64 - self.first;
        let index = |place: u64| usize::try_from(place).unwrap_or(usize::MAX);
        let heard = self.heard.get(index(from)..).unwrap_or_default();
        let weights = &self.weights[phase][index(missing).min(2 * self.side)..];
        let sample = heard
            .iter()
            .zip(weights)
            .map(|(sample, weight)| sample * weight)
            .sum();
        self.written += 1;
        self.sink.push(sample)
    }
}

impl<S: Sink> Sink for Resampler<S> {
    type Error = S::Error;

    fn push(&mut self, sample: f32) -> Result<(), S::Error> {
        if self.weights.is_empty() {
            return self.sink.push(sample);
        }
        self.heard.push(sample);
        let end = self.first + self.heard.len() as u64;
        while self.place().0 + (self.side as u64) < end {
            self.write()?;
        }
        // What lies behind the filter is not needed any more.
        let needed = self.place().0.saturating_sub(self.side as u64 + 1);
        if needed > self.first + (1 << 16) {
            let behind = usize::try_from(needed - self.first).unwrap_or(usize::MAX);
            self.heard.drain(..behind.min(self.heard.len()));
            self.first = needed;
        }
        Ok(())
    }
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

    fn resampled(samples: &[f32], from: u32, to: u32) -> Vec<f32> {
        let mut resampler = Resampler::new(from, to, Vec::new());
        for sample in samples {
            let Ok(()) = resampler.push(*sample);
        }
        let Ok(heard) = resampler.finish();
        heard
    }

    fn tone(hertz: f32, rate: u32, length: usize) -> Vec<f32> {
        let sample =
            |at: usize| (2.0 * PI * hertz * (at % rate as usize) as f32 / rate as f32).sin();
        (0..length).map(sample).collect()
    }

    #[test]
    fn a_tone_is_the_same_tone_at_another_rate_however_long_it_is() {
        for (from, quarters) in [
            (44_100, 32),
            (8_000, 4),
            (48_000, 12),
            (44_100, 1),
            (8_000, 1),
            (48_000, 1),
        ] {
            let heard = resampled(
                &tone(440.0, from, from as usize / 4 * quarters),
                from,
                16_000,
            );
            let wanted = tone(440.0, 16_000, heard.len());
            assert_eq!(heard.len(), 4_000 * quarters);
            let middle = 1000..heard.len() - 1000;
            let differences = heard[middle.clone()]
                .iter()
                .zip(&wanted[middle])
                .map(|(a, b)| (a - b).abs());
            let far = differences.fold(0.0, f32::max);
            assert!(far < 0.01, "{from}: off by {far}");
        }
        let heard = resampled(&tone(440.0, 11_025, 11_025), 11_025, 16_000);
        assert_eq!(heard.len(), 16_000);
        let wanted = tone(440.0, 16_000, 16_000);
        let pairs = heard[1000..15_000].iter().zip(&wanted[1000..15_000]);
        assert!(pairs.into_iter().all(|(a, b)| (a - b).abs() < 0.01));
    }

    #[test]
    fn what_the_lower_rate_cannot_hold_is_left_out() {
        let heard = resampled(&tone(12_000.0, 48_000, 12_000), 48_000, 16_000);
        let loudest = heard[1000..3000]
            .iter()
            .fold(0.0_f32, |most, sample| most.max(sample.abs()));
        assert!(loudest < 0.01, "{loudest}");
    }

    #[test]
    fn the_same_rate_is_the_same_sound_and_no_sound_is_none() {
        assert_eq!(resampled(&[0.5, -0.5], 16_000, 16_000), [0.5, -0.5]);
        assert!(resampled(&[], 8_000, 16_000).is_empty());
    }
}
