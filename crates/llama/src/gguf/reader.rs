//! Reads the fields of a GGUF header in order. Each length is compared with the remaining bytes
//! before it is used.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};

use sha2::{Digest, Sha256};

use super::Gguf;
use super::tensor::Tensor;

/// The maximum length of metadata keys and tokens in bytes. ggml itself limits tensor names to 63
/// bytes.
const LONGEST_NAME: u64 = 65_535;
/// The maximum numbers of metadata keys and tensors: more than any model has. They limit the memory
/// for a header.
const MOST_KEYS: u64 = 65_536;
const MOST_TENSORS: u64 = 1_000_000;
/// The maximum size of a string in the metadata (chat templates have some kilobytes). A longer one
/// is an error.
const LONGEST_TEXT: u64 = 8 << 20;

#[derive(Debug)]
pub(super) enum Error {
    Io(std::io::Error),
    Broken(String),
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

/// A value of the metadata. 64-bit floats are skipped.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Number(u64),
    /// A 32-bit float.
    Single(f32),
    Text(String),
    Other,
}

/// The properties of an array of the metadata. Its elements are not stored.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Array {
    pub(super) length: u64,
    /// Whether two of its strings are equal; always `false` for other types.
    pub(super) repeats: bool,
}

pub(super) struct Reader {
    file: BufReader<File>,
    size: u64,
    position: u64,
    hash: Sha256,
}

impl Reader {
    pub(super) fn new(file: File, size: u64) -> Self {
        Self {
            file: BufReader::with_capacity(1 << 18, file),
            size,
            position: 0,
            hash: Sha256::new(),
        }
    }

    pub(super) fn header(&mut self) -> Result<Gguf, Error> {
        if &self.bytes::<4>()? != b"GGUF" {
            return broken("it does not begin with `GGUF`");
        }
        let version = self.u32()?;
        if !(2..=3).contains(&version) {
            return broken(format!(
                "its GGUF version is {version}; versions 2 and 3 are supported"
            ));
        }
        let tensor_count = self.count("tensors", MOST_TENSORS)?;
        let key_count = self.count("metadata keys", MOST_KEYS)?;
        let mut gguf = Gguf {
            values: HashMap::new(),
            arrays: HashMap::new(),
            tensors: Vec::new(),
            size: self.size,
            header: [0; 32],
        };
        for _ in 0..key_count {
            self.key_and_value(&mut gguf)?;
        }
        for _ in 0..tensor_count {
            let tensor = self.tensor()?;
            gguf.tensors.push(tensor);
        }
        let alignment = gguf.number("general.alignment").unwrap_or(32);
        if alignment == 0 || !alignment.is_power_of_two() || alignment > 1 << 20 {
            return broken(format!("its alignment is {alignment}"));
        }
        let data = self
            .size
            .saturating_sub(self.position.next_multiple_of(alignment));
        super::tensor::check(&gguf.tensors, alignment, data).map_err(Error::Broken)?;
        gguf.header = std::mem::take(&mut self.hash).finalize().into();
        Ok(gguf)
    }

    fn key_and_value(&mut self, gguf: &mut Gguf) -> Result<(), Error> {
        let key = self.text("a metadata key", LONGEST_NAME)?;
        let kind = self.u32()?;
        let seen_before = if kind == kind::ARRAY {
            let array = self.array(&key)?;
            gguf.arrays.insert(key.clone(), array).is_some()
        } else {
            let value = self.value(kind, &key)?;
            gguf.values.insert(key.clone(), value).is_some()
        };
        if seen_before {
            broken(format!("its metadata has the key {key:?} twice"))
        } else {
            Ok(())
        }
    }

    fn value(&mut self, kind: u32, key: &str) -> Result<Value, Error> {
        Ok(match kind {
            kind::U8 | kind::I8 => Value::Number(u64::from(self.bytes::<1>()?[0])),
            kind::BOOL => match self.bytes::<1>()? {
                [bit @ (0 | 1)] => Value::Number(u64::from(bit)),
                [other] => return broken(format!("the boolean {key:?} has the value {other}")),
            },
            kind::U16 | kind::I16 => Value::Number(u64::from(u16::from_le_bytes(self.bytes()?))),
            kind::U32 | kind::I32 => Value::Number(u64::from(self.u32()?)),
            kind::U64 | kind::I64 => Value::Number(self.u64()?),
            kind::F32 => Value::Single(f32::from_bits(self.u32()?)),
            kind::F64 => {
                self.u64()?;
                Value::Other
            }
            kind::TEXT => Value::Text(self.text(key, LONGEST_TEXT)?),
            other => return broken(format!("{key:?} has the unknown type {other}")),
        })
    }

    fn array(&mut self, key: &str) -> Result<Array, Error> {
        let kind = self.u32()?;
        let length = self.u64()?;
        if kind == kind::TEXT {
            return self.texts(key, length);
        }
        let width = match kind {
            kind::U8 | kind::I8 | kind::BOOL => 1,
            kind::U16 | kind::I16 => 2,
            kind::U32 | kind::I32 | kind::F32 => 4,
            kind::U64 | kind::I64 | kind::F64 => 8,
            other => return broken(format!("{key:?} is an array of the unknown type {other}")),
        };
        let bytes = self.fits(key, length.checked_mul(width))?;
        self.pass(bytes)?;
        Ok(Array {
            length,
            repeats: false,
        })
    }

    /// Skips an array of strings. For the vocabulary, it records whether two are equal, because
    /// llama.cpp ends the process if two tokens are.
    fn texts(&mut self, key: &str, length: u64) -> Result<Array, Error> {
        // Each string has at least the eight bytes of its length.
        self.fits(key, length.checked_mul(8))?;
        let mut seen = std::collections::HashSet::new();
        let mut repeats = false;
        let watch = key == "tokenizer.ggml.tokens";
        for _ in 0..length {
            let text = self.raw_text(key, LONGEST_NAME)?;
            if watch {
                repeats |= !seen.insert(text);
            }
        }
        Ok(Array { length, repeats })
    }

    fn tensor(&mut self) -> Result<Tensor, Error> {
        let name = self.text("a tensor's name", 63)?;
        let dimensions = self.u32()?;
        if !(1..=4).contains(&dimensions) {
            return broken(format!("the tensor {name:?} has {dimensions} dimensions"));
        }
        let mut shape = [1; 4];
        for length in shape.iter_mut().take(dimensions as usize) {
            *length = self.u64()?;
        }
        Ok(Tensor {
            name,
            shape,
            kind: self.u32()?,
            offset: self.u64()?,
        })
    }

    fn count(&mut self, what: &str, most: u64) -> Result<u64, Error> {
        let count = self.u64()?;
        if count > most {
            broken(format!("it claims to have {count} {what}"))
        } else {
            Ok(count)
        }
    }

    fn text(&mut self, what: &str, longest: u64) -> Result<String, Error> {
        let bytes = self.raw_text(what, longest)?;
        String::from_utf8(bytes).or_else(|_| broken(format!("{what} is not UTF-8")))
    }

    fn raw_text(&mut self, what: &str, longest: u64) -> Result<Vec<u8>, Error> {
        let length = self.u64()?;
        if length > longest {
            return broken(format!("{what} claims to be {length} bytes long"));
        }
        let length = self.fits(what, Some(length))?;
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// Returns the length if that many bytes remain.
    fn fits(&self, what: &str, length: Option<u64>) -> Result<u64, Error> {
        match length {
            Some(length) if length <= self.size.saturating_sub(self.position) => Ok(length),
            _ => broken(format!("it is truncated within {what}")),
        }
    }

    fn pass(&mut self, mut bytes: u64) -> Result<(), Error> {
        let mut chunk = [0; 4096];
        while bytes > 0 {
            let now = usize::try_from(bytes)
                .unwrap_or(usize::MAX)
                .min(chunk.len());
            self.fill(&mut chunk[..now])?;
            bytes -= now as u64;
        }
        Ok(())
    }

    fn u32(&mut self) -> Result<u32, Error> {
        Ok(u32::from_le_bytes(self.bytes()?))
    }

    fn u64(&mut self) -> Result<u64, Error> {
        Ok(u64::from_le_bytes(self.bytes()?))
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        match self.file.read_exact(bytes) {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                return broken("it is truncated within its header");
            }
            other => other?,
        }
        self.position += bytes.len() as u64;
        self.hash.update(bytes);
        Ok(())
    }
}

fn broken<T>(what: impl Into<String>) -> Result<T, Error> {
    Err(Error::Broken(what.into()))
}

/// The types of metadata values, as GGUF numbers them.
mod kind {
    pub(super) const U8: u32 = 0;
    pub(super) const I8: u32 = 1;
    pub(super) const U16: u32 = 2;
    pub(super) const I16: u32 = 3;
    pub(super) const U32: u32 = 4;
    pub(super) const I32: u32 = 5;
    pub(super) const F32: u32 = 6;
    pub(super) const BOOL: u32 = 7;
    pub(super) const TEXT: u32 = 8;
    pub(super) const ARRAY: u32 = 9;
    pub(super) const U64: u32 = 10;
    pub(super) const I64: u32 = 11;
    pub(super) const F64: u32 = 12;
}
