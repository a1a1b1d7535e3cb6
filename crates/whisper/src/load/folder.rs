//! Reads a folder in the format of Hugging Face.

use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use candle_core::Device;
use candle_core::quantized::gguf_file;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{Loaded, Sizes, Weights, bytes, open, safetensors};
use crate::error::LoadError;
use crate::tokens::{Tokens, bytes_of_written};

/// The largest JSON file that is read.
const LARGEST_JSON: u64 = 64 << 20;

/// `config.json`.
#[derive(Debug, Deserialize)]
struct Config {
    model_type: String,
    vocab_size: usize,
    num_mel_bins: usize,
    d_model: usize,
    encoder_attention_heads: usize,
    encoder_layers: usize,
    decoder_attention_heads: usize,
    decoder_layers: usize,
    max_source_positions: usize,
    max_target_positions: usize,
}

#[derive(Deserialize)]
struct ModelType {
    model_type: String,
}

/// `generation_config.json`, as far as it matters.
#[derive(Default, Deserialize)]
struct Generation {
    alignment_heads: Option<Vec<(usize, usize)>>,
}

/// `tokenizer.json`, as far as it matters.
#[derive(Deserialize)]
struct Tokenizer {
    model: Vocabulary,
}

#[derive(Deserialize)]
struct Vocabulary {
    vocab: HashMap<String, usize>,
}

/// Returns whether the `config.json` of a folder is that of a Whisper model.
pub(super) fn is_whisper(folder: &Path) -> bool {
    let config = json::<ModelType>(&folder.join("config.json"));
    config.is_ok_and(|config| config.model_type == "whisper")
}

/// Returns the sizes of the network, and how many numbers its weights have.
pub(super) fn sizes(folder: &Path) -> Result<(Sizes, u64), LoadError> {
    let sizes = config(folder)?;
    let numbers = match weights_of(folder)? {
        WeightsFile::Safetensors(file) => safetensors::numbers(&file)?,
        WeightsFile::Gguf(file) => {
            let content = gguf_content(&file)?.1;
            let numbers = content
                .tensor_infos
                .values()
                .map(|info| info.shape.elem_count() as u64);
            numbers.fold(0, u64::saturating_add)
        }
    };
    Ok((sizes, numbers))
}

pub(super) fn load(folder: &Path) -> Result<Loaded, LoadError> {
    let sizes = config(folder)?;
    let tokens = tokens(folder, sizes.vocabulary)?;
    let weights = match weights_of(folder)? {
        WeightsFile::Safetensors(file) => safetensors::load(&file)?,
        WeightsFile::Gguf(file) => gguf(&file)?,
    };
    let generation = json::<Generation>(&folder.join("generation_config.json"));
    Ok(Loaded {
        sizes,
        tokens,
        weights,
        alignment_heads: generation.unwrap_or_default().alignment_heads,
    })
}

fn config(folder: &Path) -> Result<Sizes, LoadError> {
    let file = folder.join("config.json");
    let config: Config = json(&file)?;
    if config.model_type != "whisper" {
        return Err(LoadError::invalid(
            &file,
            "it is not the configuration of a Whisper model",
        ));
    }
    let sizes = Sizes {
        vocabulary: config.vocab_size,
        bands: config.num_mel_bins,
        width: config.d_model,
        heads: config.encoder_attention_heads,
        encoder_layers: config.encoder_layers,
        decoder_heads: config.decoder_attention_heads,
        decoder_layers: config.decoder_layers,
        context: config.max_target_positions,
    };
    let checked = sizes.check(config.max_source_positions);
    checked.map_err(|why| LoadError::invalid(&file, why))
}

fn tokens(folder: &Path, size: usize) -> Result<Tokens, LoadError> {
    let (whole, plain) = (folder.join("tokenizer.json"), folder.join("vocab.json"));
    let (file, words) = if whole.is_file() {
        let tokenizer: Tokenizer = json(&whole)?;
        (whole, tokenizer.model.vocab)
    } else if plain.is_file() {
        let words = json(&plain)?;
        (plain, words)
    } else {
        return Err(LoadError::Missing {
            folder: folder.to_owned(),
            what: "tokenizer.json or vocab.json",
        });
    };
    let mut all = vec![Vec::new(); size];
    for (word, at) in words {
        if let (Some(place), Some(bytes)) = (all.get_mut(at), bytes_of_written(&word)) {
            *place = bytes;
        }
    }
    Tokens::new(size, all).map_err(|why| LoadError::invalid(&file, why))
}

enum WeightsFile {
    Safetensors(PathBuf),
    Gguf(PathBuf),
}

/// Finds the weights of a folder.
fn weights_of(folder: &Path) -> Result<WeightsFile, LoadError> {
    let file = folder.join("model.safetensors");
    if file.is_file() {
        return Ok(WeightsFile::Safetensors(file));
    }
    let entries = folder
        .read_dir()
        .map_err(|why| LoadError::read(folder, why))?;
    let files = entries.take(1000).flatten().map(|entry| entry.path());
    let mut ggufs = files.filter(|file| file.extension().is_some_and(|end| end == "gguf"));
    match (ggufs.next(), ggufs.next()) {
        (Some(file), None) => Ok(WeightsFile::Gguf(file)),
        (Some(_), Some(_)) => {
            let why = "it has several GGUF files; keep one of them in the folder";
            Err(LoadError::invalid(folder, why))
        }
        (None, _) => Err(LoadError::Missing {
            folder: folder.to_owned(),
            what: "model.safetensors, nor a GGUF file",
        }),
    }
}

fn gguf_content(file: &Path) -> Result<(BufReader<File>, gguf_file::Content), LoadError> {
    let mut input = BufReader::with_capacity(1 << 20, open(file)?.0);
    let content = gguf_file::Content::read(&mut input);
    let content = content.map_err(|why| LoadError::invalid(file, why.to_string()))?;
    Ok((input, content))
}

fn gguf(file: &Path) -> Result<Weights, LoadError> {
    let (mut input, content) = gguf_content(file)?;
    let mut weights = Weights::new(file);
    for name in content.tensor_infos.keys() {
        let tensor = content.tensor(&mut input, name, &Device::Cpu);
        let tensor = tensor.and_then(|tensor| tensor.dequantize(&Device::Cpu));
        let tensor = tensor.map_err(|why| LoadError::invalid(file, why.to_string()))?;
        weights.insert(name.clone(), tensor);
    }
    Ok(weights)
}

fn json<T: DeserializeOwned>(file: &Path) -> Result<T, LoadError> {
    let (mut input, length) = open(file)?;
    if length > LARGEST_JSON {
        return Err(LoadError::invalid(file, "it is too large"));
    }
    let text = bytes(&mut input, length).map_err(|why| LoadError::read(file, why))?;
    serde_json::from_slice(&text).map_err(|why| LoadError::invalid(file, why.to_string()))
}
