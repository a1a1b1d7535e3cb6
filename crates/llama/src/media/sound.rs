//! Decodes a sound to samples: one channel, with the projector's sample rate. The decoders are
//! written in Rust, because files from clients are untrusted.

use std::io::Cursor;

use loggia_sound::{Mixer, Resampler, Sink, wav_samples};

/// The maximum length of a sound in minutes.
const MOST_MINUTES: usize = 10;
/// The maximum sample rate of a sound.
const FINEST: u32 = 192_000;

/// Decodes WAV (integers of 8 to 32 bits, or floats) or MP3. `format` is the request's field: `wav`
/// or `mp3`. The error is a part of an error message.
pub(crate) fn decode(bytes: &[u8], format: &str, rate: u32) -> Result<Vec<f32>, String> {
    let mixer = match format {
        "wav" => wav(bytes, rate)?,
        "mp3" => mp3(bytes, rate)?,
        _ => return Err("its format is neither wav nor mp3".to_owned()),
    };
    mixer.into_sink().sound()
}

fn wav(bytes: &[u8], to: u32) -> Result<Mixer<Limited>, String> {
    let broken = |_| "it is not a WAV file, or it uses an unsupported feature".to_owned();
    let reader = hound::WavReader::new(Cursor::new(bytes)).map_err(broken)?;
    let spec = reader.spec();
    let mut mixer = mixer(spec.sample_rate, spec.channels.into(), to)?;
    wav_samples(reader, &mut mixer)?;
    Ok(mixer)
}

fn mp3(bytes: &[u8], to: u32) -> Result<Mixer<Limited>, String> {
    let mut reader = nanomp3::SliceReader::<f32>::new(bytes);
    let Some(channels) = reader.channels() else {
        return Err("it is not an MP3 file".to_owned());
    };
    let mut mixer = mixer(reader.sample_rate(), channels.num().into(), to)?;
    // If the sample rate changes within a sound, the sound ends there, as in players.
    while let Ok(Some(frame)) = reader.read_frame() {
        frame.iter().try_for_each(|&sample| mixer.push(sample))?;
    }
    Ok(mixer)
}

fn mixer(rate: u32, channels: usize, to: u32) -> Result<Mixer<Limited>, String> {
    if rate == 0 || rate > FINEST || channels == 0 {
        return Err(format!(
            "its sample rate is {rate} and it has {channels} channels; the sample rate must be from 1 to {FINEST}, and there must be a channel"
        ));
    }
    let sink = Limited {
        rate: rate as usize,
        heard: 0,
        resampler: Resampler::new(rate, to, Vec::new()),
    };
    Ok(Mixer::new(channels, sink))
}

/// Changes the sample rate of a sound that is neither too long nor too short.
struct Limited {
    rate: usize,
    /// The number of samples before the change.
    heard: usize,
    resampler: Resampler<Vec<f32>>,
}

impl Limited {
    fn sound(self) -> Result<Vec<f32>, String> {
        // The minimum length is a tenth of a second, as with OpenAI. Projectors assume that a sound
        // is not empty.
        if self.heard < self.rate / 10 {
            return Err("it is shorter than 0.1 seconds".to_owned());
        }
        let Ok(samples) = self.resampler.finish();
        Ok(samples)
    }
}

impl Sink for Limited {
    type Error = String;

    fn push(&mut self, sample: f32) -> Result<(), String> {
        if self.heard == MOST_MINUTES * 60 * self.rate {
            return Err(format!("it is longer than {MOST_MINUTES} minutes"));
        }
        self.heard += 1;
        let Ok(()) = self.resampler.push(sample);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A WAV file of integers.
    fn whole_numbers(channels: u16, bits: u16, samples: &[i32]) -> Vec<u8> {
        let sample_format = hound::SampleFormat::Int;
        let spec = hound::WavSpec {
            channels,
            sample_rate: 8000,
            bits_per_sample: bits,
            sample_format,
        };
        let mut bytes = Cursor::new(Vec::new());
        let mut writer = hound::WavWriter::new(&mut bytes, spec).unwrap();
        for &sample in samples {
            writer.write_sample(sample).unwrap();
        }
        writer.finalize().unwrap();
        bytes.into_inner()
    }

    #[test]
    fn channels_become_one_and_numbers_of_any_width_the_same() {
        for bits in [8_u16, 16, 24] {
            let half = 1 << (bits - 2);
            let sound = decode(
                &whole_numbers(2, bits, &[half, 0, 0, -half].repeat(400)),
                "wav",
                8000,
            )
            .unwrap();
            assert_eq!(sound[..2], [0.25, -0.25], "{bits}");
            assert_eq!(sound.len(), 800, "{bits}");
        }
    }

    #[test]
    fn fractions_are_kept_within_their_bounds() {
        let sample_format = hound::SampleFormat::Float;
        let spec = hound::WavSpec {
            channels: 1,
            sample_rate: 8000,
            bits_per_sample: 32,
            sample_format,
        };
        let mut bytes = Cursor::new(Vec::new());
        let mut writer = hound::WavWriter::new(&mut bytes, spec).unwrap();
        for sample in [0.5_f32, f32::NAN, 7.0].repeat(300) {
            writer.write_sample(sample).unwrap();
        }
        writer.finalize().unwrap();
        assert_eq!(
            decode(&bytes.into_inner(), "wav", 8000).unwrap()[..3],
            [0.5, 0.0, 1.0]
        );
    }

    #[test]
    fn a_wav_that_is_cut_anywhere_is_an_error_or_what_is_there_of_it() {
        let whole = whole_numbers(1, 16, &(0..1000).collect::<Vec<_>>());
        for length in 0..whole.len() {
            if let Ok(samples) = decode(&whole[..length], "wav", 8000) {
                assert!(samples.len() <= 1000);
            }
        }
        assert_eq!(decode(&whole, "wav", 16_000).unwrap().len(), 2000);
    }

    #[test]
    fn what_is_no_sound_is_refused_and_so_is_what_is_too_long() {
        assert_eq!(
            decode(b"no sound at all", "mp3", 16_000).unwrap_err(),
            "it is not an MP3 file"
        );
        assert_eq!(
            decode(&whole_numbers(1, 16, &[0; 799]), "wav", 8000).unwrap_err(),
            "it is shorter than 0.1 seconds"
        );
        assert_eq!(
            decode(b"no sound", "wav", 16_000).unwrap_err(),
            "it is not a WAV file, or it uses an unsupported feature"
        );
        assert!(
            decode(b"", "ogg", 16_000)
                .unwrap_err()
                .contains("neither wav nor mp3")
        );
        let mut mixer = mixer(1, 1, 16_000).unwrap();
        for _ in 0..600 {
            mixer.push(0.0).unwrap();
        }
        assert_eq!(mixer.push(0.0).unwrap_err(), "it is longer than 10 minutes");
    }

    #[test]
    fn noise_that_begins_like_an_mp3_ends_nothing() {
        let mut seed = 1_u64;
        let mut noise: Vec<u8> = std::iter::repeat_with(|| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            seed.to_be_bytes()[0]
        })
        .take(20_000)
        .collect();
        for start in (0..noise.len() - 4).step_by(417) {
            noise[start..start + 4].copy_from_slice(&[0xff, 0xfb, 0x90, 0x00]);
        }
        if let Ok(samples) = decode(&noise, "mp3", 16_000) {
            assert!(samples.iter().all(|sample| sample.is_finite()));
        }
    }
}
