//! The samples of a WAV file.

use std::io::Read;

use hound::{SampleFormat, WavReader};

use crate::Sink;

/// Passes the samples of a WAV file on, the channels in turns. A truncated file is accepted: clients
/// that send while they record do not know the length.
///
/// # Errors
/// Fails if the sink takes no more.
pub fn wav_samples<R: Read, S: Sink>(mut file: WavReader<R>, sink: &mut S) -> Result<(), S::Error> {
    let spec = file.spec();
    if spec.sample_format == SampleFormat::Float {
        for sample in file.samples::<f32>().map_while(Result::ok) {
            sink.push(sample)?;
        }
    } else {
        let most = 2_f32.powi(i32::from(spec.bits_per_sample) - 1);
        for sample in file.samples::<i32>().map_while(Result::ok) {
            #[expect(
                clippy::cast_precision_loss,
                reason = "an f32 is precise enough for a sample"
            )]
            sink.push(sample as f32 / most)?;
        }
    }
    Ok(())
}
