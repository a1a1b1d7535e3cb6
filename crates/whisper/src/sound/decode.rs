//! Decodes a recording: WAV and MP3. The decoders are written in Rust, because files from clients are
//! untrusted.

use std::io::{BufReader, Cursor, Read, Seek, SeekFrom};
use std::time::Duration;

use loggia_sound::{Mixer, Resampler, Sink, wav_samples};

use super::samples::{RATE, Samples, Writer};
use crate::error::Stopped;

/// The sample rates that are read.
const RATES: std::ops::RangeInclusive<u32> = 1_000..=192_000;

/// The bytes by which a format is recognized.
const BEGINNING: u64 = 12;

/// The part of a WAV file in which its sound begins.
const LONGEST_HEAD: u64 = 64 << 10;

/// Decodes a recording. `goes_on` is asked now and then.
pub(crate) fn decode(
    mut file: impl Read + Seek,
    longest: Duration,
    goes_on: &dyn Fn() -> bool,
) -> Result<Samples, Stopped> {
    let mut beginning = Vec::new();
    (&mut file).take(BEGINNING).read_to_end(&mut beginning)?;
    file.seek(SeekFrom::Start(0))?;
    let most = longest.as_secs().saturating_mul(u64::from(RATE));
    let sink = Writer::new(most)?;
    let samples = match &beginning[..] {
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'A', b'V', b'E'] => wav(file, sink, goes_on)?,
        [b'I', b'D', b'3', ..] => mp3(file, sink, goes_on)?,
        // Fifteen set bits, and the layer: two bits that are not both clear, as they are in AAC.
        [0xFF, second, ..] if second & 0xE0 == 0xE0 && second & 0x06 != 0 => {
            mp3(file, sink, goes_on)?
        }
        other => return Err(Stopped::Format(unsupported(other))),
    };
    if samples.count() < u64::from(RATE) / 10 {
        return Err(Stopped::Recording(
            "it is shorter than 0.1 seconds".to_owned(),
        ));
    }
    Ok(samples)
}

/// Names the format of a file that is not read.
fn unsupported(beginning: &[u8]) -> String {
    let name = match beginning {
        [b'O', b'g', b'g', b'S', ..] => "Ogg (Opus or Vorbis)",
        [b'f', b'L', b'a', b'C', ..] => "FLAC",
        [0x1A, 0x45, 0xDF, 0xA3, ..] => "WebM or Matroska",
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => "MP4 or M4A",
        [0xFF, second, ..] if second & 0xF6 == 0xF0 => "AAC",
        [b'F', b'O', b'R', b'M', ..] => "AIFF",
        _ => "unknown",
    };
    format!(
        "its format is {name}; Whisper models on this server hear WAV (PCM of 8 to 32 bits, or floats) and MP3. Convert \
         it first, for example with `ffmpeg -i recording.webm -ac 1 -ar 16000 recording.wav`"
    )
}

fn wav(
    mut file: impl Read + Seek,
    sink: Writer,
    goes_on: &dyn Fn() -> bool,
) -> Result<Samples, Stopped> {
    let broken = |_| {
        let message =
            "it is not a valid WAV file, or it uses an encoding other than PCM and floats";
        Stopped::Recording(message.to_owned())
    };
    let length = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(0))?;
    let mut head = Vec::new();
    (&mut file).take(LONGEST_HEAD).read_to_end(&mut head)?;
    correct_length(&mut head, length);
    let file = Cursor::new(head).chain(BufReader::with_capacity(64 << 10, file));
    let reader = hound::WavReader::new(file).map_err(broken)?;
    let spec = reader.spec();
    let mut mixer = mixer(spec.sample_rate, spec.channels.into(), sink, goes_on)?;
    wav_samples(reader, &mut mixer)?;
    finish(mixer)
}

/// Corrects the length of the sound in the head of a WAV file: what records to a pipe does not know it.
fn correct_length(head: &mut [u8], length: u64) {
    let (mut at, mut block) = (12, 1);
    while let Some(chunk) = head.get(at..at + 8) {
        let [kind, size] = [&chunk[..4], &chunk[4..]];
        let size = size.try_into().map_or(0, u32::from_le_bytes);
        let begin = at + 8;
        if kind == b"data" {
            let there = length.saturating_sub(begin as u64);
            if size == 0 || u64::from(size) > there {
                // Whole samples of all channels.
                let there = u32::try_from(there).unwrap_or(u32::MAX);
                let size = there - there % block;
                head[at + 4..begin].copy_from_slice(&size.to_le_bytes());
            }
            return;
        }
        if kind == b"fmt "
            && let Some(bytes) = head.get(begin + 12..begin + 14)
        {
            block = u32::from(u16::from_le_bytes([bytes[0], bytes[1]])).max(1);
        }
        // A chunk is padded to an even size.
        let padded = u64::from(size) + u64::from(size % 2);
        at = usize::try_from(padded).map_or(usize::MAX, |padded| begin.saturating_add(padded));
        if at > head.len() {
            return;
        }
    }
}

fn mp3(
    file: impl Read + Seek,
    sink: Writer,
    goes_on: &dyn Fn() -> bool,
) -> Result<Samples, Stopped> {
    let broken = || Stopped::Recording("it is not a valid MP3 file".to_owned());
    let mut reader = nanomp3::Reader::<_, f32>::new(file).map_err(|_| broken())?;
    let channels = reader.channels().ok_or_else(broken)?;
    let mut mixer = mixer(reader.sample_rate(), channels.num().into(), sink, goes_on)?;
    // If the sample rate changes within a sound, the sound ends there, as in players.
    while let Ok(Some(frame)) = reader.read_frame() {
        for sample in frame {
            mixer.push(*sample)?;
        }
    }
    finish(mixer)
}

/// Makes one channel of 16 kHz of a sound.
fn mixer(
    rate: u32,
    channels: usize,
    sink: Writer,
    goes_on: &dyn Fn() -> bool,
) -> Result<Mixer<Interruptible<'_>>, Stopped> {
    if !RATES.contains(&rate) || channels == 0 {
        return Err(Stopped::Recording(format!(
            "its sample rate is {rate} and it has {channels} channels; the rate must be from {} to {}, and there must be a channel",
            RATES.start(),
            RATES.end()
        )));
    }
    let sink = Interruptible {
        pushed: 0,
        sink: Resampler::new(rate, RATE, sink),
        goes_on,
    };
    Ok(Mixer::new(channels, sink))
}

fn finish(mixer: Mixer<Interruptible<'_>>) -> Result<Samples, Stopped> {
    Ok(mixer.into_sink().sink.finish()?.finish()?)
}

/// Stops when nobody waits for the sound any more.
struct Interruptible<'a> {
    pushed: u64,
    sink: Resampler<Writer>,
    goes_on: &'a dyn Fn() -> bool,
}

impl Sink for Interruptible<'_> {
    type Error = Stopped;

    fn push(&mut self, sample: f32) -> Result<(), Stopped> {
        self.pushed += 1;
        if self.pushed.is_multiple_of(1 << 16) && !(self.goes_on)() {
            return Err(Stopped::Left);
        }
        self.sink.push(sample)
    }
}
