//! From a file to what the network hears: `decode.rs` reads WAV and MP3 at 16 kHz, `samples.rs` keeps
//! the samples on the disk, and `spectrum.rs` computes the spectrum of 30 seconds.
//!
//! Nothing here is in memory as a whole, however long the recording is.

mod decode;
mod samples;
mod spectrum;

pub(crate) use decode::decode;
pub(crate) use samples::{RATE, Samples};
pub(crate) use spectrum::{FRAMES, HOP, Spectrum};
