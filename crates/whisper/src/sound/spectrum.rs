//! [`Spectrum`]: what the encoder hears, the loudness of bands of frequencies in each hundredth of a
//! second, as OpenAI's program computes it.

use std::f64::consts::PI;

use candle_core::{Device, Tensor};

use super::samples::{RATE, Samples};
use crate::error::Stopped;

/// The samples from one frame to the next.
pub(crate) const HOP: usize = 160;
/// The samples that a frame is computed from.
const WINDOW: usize = 400;
/// The frames of 30 seconds.
pub(crate) const FRAMES: usize = 3000;
/// The frequencies of a frame.
const FREQUENCIES: usize = WINDOW / 2 + 1;
/// Samples below this loudness, -60 dB, are silence.
const SILENCE: f32 = 1e-3;

/// Computes spectra. A transformation of Fourier is a product of matrices here, which is as fast for
/// frames of this size.
pub(crate) struct Spectrum {
    bands: usize,
    /// Samples × (cosines, sines) of all frequencies, with Hann's window.
    waves: Tensor,
    /// Frequencies × bands.
    filters: Tensor,
}

impl Spectrum {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "sizes are small, and the network computes with 32 bits"
    )]
    pub(crate) fn new(bands: usize) -> candle_core::Result<Self> {
        let mut waves = Vec::with_capacity(WINDOW * FREQUENCIES * 2);
        for at in 0..WINDOW {
            let window = 0.5 - 0.5 * (2.0 * PI * at as f64 / WINDOW as f64).cos();
            let angle =
                |frequency: usize| 2.0 * PI * (at * frequency % WINDOW) as f64 / WINDOW as f64;
            waves.extend((0..FREQUENCIES).map(|one| (window * angle(one).cos()) as f32));
            waves.extend((0..FREQUENCIES).map(|one| (window * angle(one).sin()) as f32));
        }
        let filters: Vec<f32> = filters(bands)
            .into_iter()
            .map(|weight| weight as f32)
            .collect();
        Ok(Self {
            bands,
            waves: Tensor::from_vec(waves, (WINDOW, 2 * FREQUENCIES), &Device::Cpu)?,
            filters: Tensor::from_vec(filters, (FREQUENCIES, bands), &Device::Cpu)?,
        })
    }

    /// Returns the loudest value of a recording, from which the floor of all spectra follows, and for
    /// each second whether there is any sound.
    pub(crate) fn survey(
        &self,
        samples: &mut Samples,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<(f32, Vec<bool>), Stopped> {
        let (mut loudest, mut sounds) = (f32::NEG_INFINITY, Vec::new());
        let frames = samples.count().div_ceil(HOP as u64);
        let mut second = vec![0.0; RATE as usize];
        for from in (0..samples.count()).step_by(RATE as usize) {
            samples.read(from, &mut second)?;
            sounds.push(second.iter().any(|sample| sample.abs() > SILENCE));
        }
        let mut from = 0;
        while from < frames {
            if !goes_on() {
                return Err(Stopped::Left);
            }
            let logs = self.logs(samples, from)?;
            let of_piece = logs.max_all()?.to_scalar::<f32>()?;
            loudest = loudest.max(of_piece);
            from += FRAMES as u64;
        }
        Ok((loudest, sounds))
    }

    /// Returns the spectrum of 30 seconds from a frame on: bands × frames.
    pub(crate) fn window(
        &self,
        samples: &mut Samples,
        from: u64,
        loudest: f32,
    ) -> Result<Tensor, Stopped> {
        let logs = self.logs(samples, from)?.maximum(loudest - 8.0)?;
        let normal = ((logs + 4.0)? / 4.0)?;
        Ok(normal.t()?.contiguous()?)
    }

    /// Returns the logarithms of the bands: frames × bands.
    fn logs(&self, samples: &mut Samples, from: u64) -> Result<Tensor, Stopped> {
        let side = WINDOW / 2;
        let mut heard = vec![0.0; FRAMES * HOP + WINDOW];
        let begin = from * HOP as u64;
        if begin >= side as u64 {
            samples.read(begin - side as u64, &mut heard)?;
        } else {
            // Before the beginning is its mirror image.
            samples.read(0, &mut heard[side..])?;
            for at in 1..=side {
                heard[side - at] = heard[side + at];
            }
        }
        let frames = (0..FRAMES).flat_map(|frame| &heard[frame * HOP..frame * HOP + WINDOW]);
        let frames: Vec<f32> = frames.copied().collect();
        let frames = Tensor::from_vec(frames, (FRAMES, WINDOW), &Device::Cpu)?;
        let waves = frames.matmul(&self.waves)?.sqr()?;
        let power =
            (waves.narrow(1, 0, FREQUENCIES)? + waves.narrow(1, FREQUENCIES, FREQUENCIES)?)?;
        let bands = power.matmul(&self.filters)?.maximum(1e-10)?;
        debug_assert_eq!(bands.dims(), [FRAMES, self.bands]);
        Ok((bands.log()? / std::f64::consts::LN_10)?)
    }
}

/// Returns the weights of frequencies in bands, as Slaney defined them: triangles whose centres are
/// equally far from each other in the scale of mel. Frequencies × bands.
#[expect(clippy::cast_precision_loss, reason = "sizes are small")]
fn filters(bands: usize) -> Vec<f64> {
    // Below 1,000 Hz the scale is linear, above it logarithmic.
    let step = 6.4_f64.ln() / 27.0;
    let to_mel = |hertz: f64| {
        if hertz < 1000.0 {
            hertz * 3.0 / 200.0
        } else {
            15.0 + (hertz / 1000.0).ln() / step
        }
    };
    let to_hertz = |mel: f64| {
        if mel < 15.0 {
            mel * 200.0 / 3.0
        } else {
            1000.0 * ((mel - 15.0) * step).exp()
        }
    };
    let highest = to_mel(f64::from(RATE) / 2.0);
    let points: Vec<f64> = (0..bands + 2)
        .map(|at| to_hertz(highest * at as f64 / (bands + 1) as f64))
        .collect();
    let mut filters = Vec::with_capacity(FREQUENCIES * bands);
    for frequency in 0..FREQUENCIES {
        let hertz = frequency as f64 * f64::from(RATE) / WINDOW as f64;
        for band in 0..bands {
            let [low, centre, high] = [points[band], points[band + 1], points[band + 2]];
            let rising = (hertz - low) / (centre - low);
            let falling = (high - hertz) / (high - centre);
            filters.push(rising.min(falling).max(0.0) * 2.0 / (high - low));
        }
    }
    filters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_those_of_openai() {
        // Numbers of OpenAI's mel_filters.npz.
        let filters = filters(80);
        let at = |band: usize, frequency: usize| filters[frequency * 80 + band];
        assert!((at(0, 1) - 0.024_862_593).abs() < 1e-6, "{}", at(0, 1));
        assert!((at(1, 2) - 0.022_871_06).abs() < 1e-6, "{}", at(1, 2));
        assert!(at(0, 0).abs() < 1e-9 && at(79, 150).abs() < 1e-9);
    }
}
