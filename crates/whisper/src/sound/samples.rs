//! [`Samples`]: a sound of one channel and 16 kHz, in a temporary file without a name.

use std::fs::File;
use std::io::{self, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};

use loggia_sound::Sink;

use crate::error::Stopped;

/// Samples in a second.
pub(crate) const RATE: u32 = 16_000;

/// The samples of a recording.
pub(crate) struct Samples {
    file: File,
    count: u64,
}

impl Samples {
    /// Returns the number of samples.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Returns the length in seconds.
    #[expect(
        clippy::cast_precision_loss,
        reason = "recordings have hours, not years"
    )]
    pub(crate) fn seconds(&self) -> f64 {
        self.count as f64 / f64::from(RATE)
    }

    /// Reads samples from a place on. Beyond the end there is silence.
    pub(crate) fn read(&mut self, from: u64, samples: &mut [f32]) -> io::Result<()> {
        samples.fill(0.0);
        let there = self.count.saturating_sub(from).min(samples.len() as u64);
        let Ok(there) = usize::try_from(there) else {
            return Ok(());
        };
        if there == 0 {
            return Ok(());
        }
        let mut bytes = vec![0; there * 4];
        self.file.seek(SeekFrom::Start(from * 4))?;
        self.file.read_exact(&mut bytes)?;
        for (sample, bytes) in samples.iter_mut().zip(bytes.as_chunks().0) {
            *sample = f32::from_le_bytes(*bytes);
        }
        Ok(())
    }
}

/// Writes samples to a temporary file.
pub(super) struct Writer {
    file: BufWriter<File>,
    count: u64,
    most: u64,
}

impl Writer {
    /// `most` is the largest number of samples.
    pub(super) fn new(most: u64) -> io::Result<Self> {
        Ok(Self {
            file: BufWriter::with_capacity(256 << 10, tempfile::tempfile()?),
            count: 0,
            most,
        })
    }

    pub(super) fn finish(self) -> io::Result<Samples> {
        Ok(Samples {
            file: self
                .file
                .into_inner()
                .map_err(io::IntoInnerError::into_error)?,
            count: self.count,
        })
    }
}

impl Sink for Writer {
    type Error = Stopped;

    fn push(&mut self, sample: f32) -> Result<(), Stopped> {
        if self.count == self.most {
            let minutes = self.most / u64::from(RATE) / 60;
            return Err(Stopped::Recording(format!(
                "it is longer than {minutes} minutes, the longest recording that this server transcribes"
            )));
        }
        self.count += 1;
        self.file.write_all(&sample.to_le_bytes())?;
        Ok(())
    }
}
