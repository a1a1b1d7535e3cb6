#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod mixer;
mod resample;
mod wav;

pub use mixer::Mixer;
pub use resample::Resampler;
pub use wav::wav_samples;

use std::convert::Infallible;

/// What takes the samples of a sound, one after the other.
pub trait Sink {
    /// Why it takes no more.
    type Error;

    /// Takes the next sample, from -1 to 1.
    ///
    /// # Errors
    /// Fails if the sound ends here.
    fn push(&mut self, sample: f32) -> Result<(), Self::Error>;
}

impl Sink for Vec<f32> {
    type Error = Infallible;

    fn push(&mut self, sample: f32) -> Result<(), Infallible> {
        self.push(sample);
        Ok(())
    }
}
