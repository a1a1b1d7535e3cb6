//! The backend with a real model, tiny.en, and a real recording: eleven seconds of Kennedy's inaugural
//! address.
#![expect(clippy::unwrap_used, reason = "a failure here fails the test")]

mod files;
mod formats;
mod leaving;
mod recordings;

use std::io::Cursor;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use loggia_backend::{
    Audio, AudioCall, AudioPiece, AudioTask, Backend as _, BackendError, CallHead, Recording,
};
use loggia_whisper::{Files, Whisper, WhisperOptions};
use serde_json::Value;

const WORDS: &str = "And so my fellow Americans ask not what your country can do for you ask what you can do for your country.";

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The folder of the model, which `scripts/whisper-model` fetches.
fn folder() -> PathBuf {
    let folder = std::env::var_os("LOGGIA_TEST_WHISPER_MODEL").map(PathBuf::from);
    folder.unwrap_or_else(|| repository().join(".loggia/models/whisper-tiny.en"))
}

fn open(files: Files) -> Whisper {
    let options = WhisperOptions {
        name: "tiny".to_owned(),
        files,
        longest: Duration::from_mins(2),
    };
    Whisper::open(&options).unwrap()
}

/// The model, loaded once for all tests.
static WHISPER: LazyLock<Arc<Whisper>> = LazyLock::new(|| {
    let files = Files::recognize(&folder()).expect("scripts/whisper-model fetches the model");
    Arc::new(open(files))
});

fn speech() -> Vec<u8> {
    std::fs::read(repository().join("fixtures/speech/jfk.wav")).unwrap()
}

/// The samples of the speech, 16 kHz.
fn samples() -> Vec<i16> {
    let mut reader = hound::WavReader::new(Cursor::new(speech())).unwrap();
    reader.samples().map(Result::unwrap).collect()
}

/// A WAV file with these samples, in as many channels.
fn wav(rate: u32, channels: u16, samples: &[i16]) -> Vec<u8> {
    let spec = hound::WavSpec {
        channels,
        sample_rate: rate,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut file = Cursor::new(Vec::new());
    let mut writer = hound::WavWriter::new(&mut file, spec).unwrap();
    for sample in samples {
        for _ in 0..channels {
            writer.write_sample(*sample).unwrap();
        }
    }
    writer.finalize().unwrap();
    file.into_inner()
}

/// A WAV file of silence.
fn silence(samples: usize) -> Vec<u8> {
    wav(16_000, 1, &vec![0; samples])
}

fn call(file: Vec<u8>, fields: &[(&str, &str)]) -> AudioCall {
    let fields = fields
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let fields: Vec<(String, String)> = fields.collect();
    let stream = fields
        .iter()
        .any(|(name, value)| name == "stream" && value == "true");
    AudioCall {
        head: CallHead::new("audio-1"),
        work: Audio {
            model: "tiny".to_owned(),
            task: AudioTask::Transcribe(Recording {
                name: "speech.wav".to_owned(),
                media_type: None,
                content: Bytes::from(file).into(),
                fields,
                stream,
            }),
        },
    }
}

/// Returns an answer as a whole.
async fn answer(whisper: &Whisper, call: AudioCall) -> Result<String, BackendError> {
    let mut reply = whisper.audio(call).await?.expect("a Whisper model hears");
    let mut whole = String::new();
    while let Some(piece) = reply.pieces.next().await {
        if let AudioPiece::Bytes(bytes) = piece? {
            whole.push_str(std::str::from_utf8(&bytes).unwrap());
        }
    }
    Ok(whole)
}

async fn text(file: Vec<u8>) -> Result<String, BackendError> {
    let json = answer(&WHISPER, call(file, &[])).await?;
    let json: Value = serde_json::from_str(&json).unwrap();
    Ok(json["text"].as_str().unwrap().to_owned())
}
