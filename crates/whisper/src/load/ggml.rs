//! Reads whisper.cpp's format: a head of numbers, the filters of the spectrum, the vocabulary, and the
//! tensors one after the other. All numbers are little-endian.

use std::fs::File;
use std::io::{self, BufReader, Read as _, Seek as _};
use std::path::Path;

use candle_core::Device;
use candle_core::quantized::GgmlDType;
use candle_core::quantized::ggml_file::qtensor_from_ggml;

use super::{Loaded, Sizes, Weights, bytes, open};
use crate::error::LoadError;
use crate::tokens::Tokens;

/// "ggml" as a little-endian number.
const MAGIC: u32 = 0x6767_6D6C;
/// The most bytes of a token.
const LONGEST_TOKEN: u32 = 1 << 16;

/// Returns whether a file is one of whisper.cpp. Old files of llama.cpp begin with the same word.
pub(super) fn is_whisper(file: &Path) -> bool {
    Reader::open(file).is_ok_and(|mut reader| reader.head().is_ok())
}

/// Returns the sizes of the network, and how many numbers its weights have.
pub(super) fn sizes(file: &Path) -> Result<(Sizes, u64), LoadError> {
    let mut reader = Reader::open(file)?;
    let sizes = reader.head()?;
    reader.vocabulary(sizes.vocabulary)?;
    let mut numbers = 0_u64;
    while let Some(tensor) = reader.tensor()? {
        numbers = numbers.saturating_add(tensor.dims.iter().product::<usize>() as u64);
        reader.skip(tensor.bytes)?;
    }
    Ok((sizes, numbers))
}

pub(super) fn load(file: &Path) -> Result<Loaded, LoadError> {
    let mut reader = Reader::open(file)?;
    let sizes = reader.head()?;
    let words = reader.vocabulary(sizes.vocabulary)?;
    let tokens = Tokens::new(sizes.vocabulary, words).map_err(|why| reader.invalid(&why))?;
    let mut weights = Weights::new(file);
    while let Some(TensorHead {
        name,
        dtype,
        dims,
        bytes: length,
    }) = reader.tensor()?
    {
        let numbers = bytes(&mut reader.input, length).map_err(|why| LoadError::read(file, why))?;
        let name = name_at_hugging_face(&name)
            .ok_or_else(|| reader.invalid(&format!("unknown tensor `{name}`")))?;
        // Biases of convolutions are columns here.
        let dims = if name.contains(".conv") && name.ends_with("bias") {
            vec![dims.iter().product()]
        } else {
            dims
        };
        let tensor = qtensor_from_ggml(dtype, &numbers, dims, &Device::Cpu);
        let tensor = tensor.and_then(|tensor| tensor.dequantize(&Device::Cpu));
        weights.insert(
            name,
            tensor.map_err(|why| reader.invalid(&why.to_string()))?,
        );
    }
    Ok(Loaded {
        sizes,
        tokens,
        weights,
        alignment_heads: None,
    })
}

struct TensorHead {
    name: String,
    dtype: GgmlDType,
    dims: Vec<usize>,
    bytes: u64,
}

struct Reader<'a> {
    file: &'a Path,
    input: BufReader<File>,
    length: u64,
}

impl<'a> Reader<'a> {
    fn open(file: &'a Path) -> Result<Self, LoadError> {
        let (input, length) = open(file)?;
        Ok(Self {
            file,
            input: BufReader::new(input),
            length,
        })
    }

    fn invalid(&self, why: &str) -> LoadError {
        LoadError::invalid(self.file, why)
    }

    fn number(&mut self) -> Result<u32, LoadError> {
        let mut bytes = [0; 4];
        let read = self.input.read_exact(&mut bytes);
        read.map_err(|why| LoadError::read(self.file, why))?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn skip(&mut self, length: u64) -> Result<(), LoadError> {
        let read = |why| LoadError::read(self.file, why);
        let at = self.input.stream_position().map_err(read)?;
        let end = at.checked_add(length).filter(|end| *end <= self.length);
        let length = end.and_then(|_| i64::try_from(length).ok());
        let length = length.ok_or_else(|| read(io::ErrorKind::UnexpectedEof.into()))?;
        // Within the buffer, it stays.
        self.input.seek_relative(length).map_err(read)
    }

    /// Reads the sizes, and skips the filters, which follow from them.
    fn head(&mut self) -> Result<Sizes, LoadError> {
        if self.number()? != MAGIC {
            return Err(self.invalid("it is not a file of whisper.cpp"));
        }
        let mut numbers = [0; 13];
        for number in &mut numbers {
            *number = self.number()? as usize;
        }
        let [
            vocabulary,
            positions,
            width,
            heads,
            encoder_layers,
            context,
            decoder_width,
            decoder_heads,
            decoder_layers,
            bands,
            _,
            rows,
            columns,
        ] = numbers;
        let sizes = Sizes {
            vocabulary,
            bands,
            width,
            heads,
            encoder_layers,
            decoder_heads,
            decoder_layers,
            context,
        };
        let sizes = sizes.check(positions).map_err(|why| self.invalid(&why))?;
        if decoder_width != width || rows != bands || columns != 201 {
            return Err(self.invalid("its head is damaged"));
        }
        self.skip((rows * columns * 4) as u64)?;
        Ok(sizes)
    }

    fn vocabulary(&mut self, most: usize) -> Result<Vec<Vec<u8>>, LoadError> {
        let count = self.number()? as usize;
        if count > most {
            return Err(self.invalid("its vocabulary is larger than its head says"));
        }
        let mut words = Vec::new();
        for _ in 0..count {
            let length = self.number()?;
            if length > LONGEST_TOKEN {
                return Err(self.invalid("its vocabulary is damaged"));
            }
            let word = bytes(&mut self.input, length.into());
            words.push(word.map_err(|why| LoadError::read(self.file, why))?);
        }
        Ok(words)
    }

    /// Reads the head of the next tensor. `None` at the end.
    fn tensor(&mut self) -> Result<Option<TensorHead>, LoadError> {
        let read = |why| LoadError::read(self.file, why);
        if self.input.stream_position().map_err(read)? >= self.length {
            return Ok(None);
        }
        let (count, of_name, kind) = (self.number()?, self.number()?, self.number()?);
        if !(1..=4).contains(&count) || of_name > 256 {
            return Err(self.invalid("a tensor is damaged"));
        }
        let mut dims = Vec::new();
        for _ in 0..count {
            dims.insert(0, self.number()? as usize);
        }
        let name = bytes(&mut self.input, of_name.into()).map_err(read)?;
        let name = String::from_utf8_lossy(&name).into_owned();
        let dtype = dtype(kind)
            .ok_or_else(|| self.invalid(&format!("its numbers of type {kind} cannot be read")))?;
        let numbers = dims
            .iter()
            .try_fold(1_usize, |all, size| all.checked_mul(*size));
        let length = numbers.and_then(|numbers| {
            let blocks = numbers / dtype.block_size();
            (numbers % dtype.block_size() == 0)
                .then_some(blocks)?
                .checked_mul(dtype.type_size())
        });
        let length = length.ok_or_else(|| self.invalid("a tensor is damaged"))?;
        if length as u64 > self.length {
            return Err(read(io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(Some(TensorHead {
            name,
            dtype,
            dims,
            bytes: length as u64,
        }))
    }
}

/// GGML's numbers for the types that whisper.cpp's quantizer writes.
fn dtype(kind: u32) -> Option<GgmlDType> {
    Some(match kind {
        0 => GgmlDType::F32,
        1 => GgmlDType::F16,
        2 => GgmlDType::Q4_0,
        3 => GgmlDType::Q4_1,
        6 => GgmlDType::Q5_0,
        7 => GgmlDType::Q5_1,
        8 => GgmlDType::Q8_0,
        10 => GgmlDType::Q2K,
        11 => GgmlDType::Q3K,
        12 => GgmlDType::Q4K,
        13 => GgmlDType::Q5K,
        14 => GgmlDType::Q6K,
        _ => return None,
    })
}

/// Returns the name of a tensor at Hugging Face for OpenAI's name.
fn name_at_hugging_face(name: &str) -> Option<String> {
    let whole = match name {
        "encoder.positional_embedding" => "encoder.embed_positions.weight",
        "decoder.positional_embedding" => "decoder.embed_positions.weight",
        "decoder.token_embedding.weight" => "decoder.embed_tokens.weight",
        _ => "",
    };
    if !whole.is_empty() {
        return Some(format!("model.{whole}"));
    }
    let (place, what) = name.rsplit_once('.')?;
    let place = match place {
        "encoder.ln_post" => "encoder.layer_norm".to_owned(),
        "decoder.ln" => "decoder.layer_norm".to_owned(),
        "encoder.conv1" | "encoder.conv2" => place.to_owned(),
        _ => {
            let (side, rest) = place.split_once(".blocks.")?;
            let (layer, part) = rest.split_once('.')?;
            let part = match part {
                "mlp.0" => "fc1",
                "mlp.2" => "fc2",
                "mlp_ln" => "final_layer_norm",
                "attn_ln" => "self_attn_layer_norm",
                "cross_attn_ln" => "encoder_attn_layer_norm",
                "attn.query" => "self_attn.q_proj",
                "attn.key" => "self_attn.k_proj",
                "attn.value" => "self_attn.v_proj",
                "attn.out" => "self_attn.out_proj",
                "cross_attn.query" => "encoder_attn.q_proj",
                "cross_attn.key" => "encoder_attn.k_proj",
                "cross_attn.value" => "encoder_attn.v_proj",
                "cross_attn.out" => "encoder_attn.out_proj",
                _ => return None,
            };
            format!("{side}.layers.{layer}.{part}")
        }
    };
    Some(format!("model.{place}.{what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_openai_become_those_of_hugging_face() {
        for (openai, hugging_face) in [
            ("encoder.conv1.weight", "model.encoder.conv1.weight"),
            ("encoder.ln_post.bias", "model.encoder.layer_norm.bias"),
            (
                "decoder.token_embedding.weight",
                "model.decoder.embed_tokens.weight",
            ),
            (
                "encoder.blocks.3.mlp.0.bias",
                "model.encoder.layers.3.fc1.bias",
            ),
            (
                "decoder.blocks.11.cross_attn.key.weight",
                "model.decoder.layers.11.encoder_attn.k_proj.weight",
            ),
        ] {
            assert_eq!(name_at_hugging_face(openai).unwrap(), hugging_face);
        }
        assert_eq!(name_at_hugging_face("blocks"), None);
    }
}
