//! Mixes several channels to one.

use crate::Sink;

/// Mixes several channels to one, and passes it on.
pub struct Mixer<S> {
    channels: usize,
    sum: f32,
    seen: usize,
    sink: S,
}

impl<S: Sink> Mixer<S> {
    /// `channels` is the number of channels, whose samples come in turns. 0 is as 1.
    pub fn new(channels: usize, sink: S) -> Self {
        Self {
            channels,
            sum: 0.0,
            seen: 0,
            sink,
        }
    }

    /// Returns what the sound was passed to. Samples of some channels only, at the end, are left out.
    pub fn into_sink(self) -> S {
        self.sink
    }
}

impl<S: Sink> Sink for Mixer<S> {
    type Error = S::Error;

    /// Takes a sample of the next channel. Values outside of the range are cut, and those that are no
    /// numbers are silence.
    fn push(&mut self, sample: f32) -> Result<(), S::Error> {
        self.sum += if sample.is_finite() {
            sample.clamp(-1.0, 1.0)
        } else {
            0.0
        };
        self.seen += 1;
        if self.seen < self.channels {
            return Ok(());
        }
        #[expect(clippy::cast_precision_loss, reason = "there are few channels")]
        let mixed = self.sum / self.seen as f32;
        (self.sum, self.seen) = (0.0, 0);
        self.sink.push(mixed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_become_one_and_no_sample_is_out_of_range() {
        let mut mixer = Mixer::new(2, Vec::new());
        for sample in [0.5, 0.0, 3.0, 1.0, f32::NAN, -1.0, 0.25] {
            let Ok(()) = mixer.push(sample);
        }
        assert_eq!(mixer.into_sink(), [0.25, 1.0, -0.5]);
    }
}
