//! Reads `model.safetensors`: a JSON object with the place of each tensor, and the numbers. Each tensor
//! is read and converted alone, so that the file is never in memory as a whole.

use std::collections::BTreeMap;
use std::io::{BufReader, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use serde::Deserialize;
use serde_json::Value;

use super::{Weights, bytes, open};
use crate::error::LoadError;

/// The longest head that the format allows.
const LONGEST_HEAD: u64 = 100_000_000;

/// A tensor in the file.
#[derive(Debug, Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (u64, u64),
}

impl Entry {
    fn numbers(&self) -> Option<usize> {
        let mut sizes = self.shape.iter();
        sizes.try_fold(1_usize, |all, size| all.checked_mul(*size))
    }

    fn dtype(&self) -> Result<DType, String> {
        match &*self.dtype {
            "F32" => Ok(DType::F32),
            "F16" => Ok(DType::F16),
            "BF16" => Ok(DType::BF16),
            other => Err(format!(
                "its numbers are {other}; F32, F16 and BF16 can be read"
            )),
        }
    }
}

/// Reads the places of all tensors, and where their numbers begin.
fn head(file: &Path) -> Result<(BTreeMap<String, Entry>, u64), LoadError> {
    let (mut input, length) = open(file)?;
    let read = |why| LoadError::read(file, why);
    let invalid = |why: &str| LoadError::invalid(file, why);
    let mut first = [0; 8];
    input.read_exact(&mut first).map_err(read)?;
    let of_head = u64::from_le_bytes(first);
    if of_head > LONGEST_HEAD.min(length) {
        return Err(invalid("it is not a safetensors file"));
    }
    let head = bytes(&mut input, of_head).map_err(read)?;
    let mut head: BTreeMap<String, Value> = serde_json::from_slice(&head)
        .map_err(|_| invalid("it is not a safetensors file, or its head is damaged"))?;
    head.remove("__metadata__");
    let begin = 8 + of_head;
    let mut entries = BTreeMap::new();
    for (name, entry) in head {
        let entry: Entry =
            serde_json::from_value(entry).map_err(|_| invalid("its head is damaged"))?;
        let dtype = entry.dtype().map_err(|why| invalid(&why))?;
        let (from, to) = entry.data_offsets;
        let needed = entry
            .numbers()
            .and_then(|numbers| numbers.checked_mul(dtype.size_in_bytes()));
        let is_there = to.checked_sub(from) == needed.map(|needed| needed as u64)
            && to.checked_add(begin).is_some_and(|end| end <= length);
        if !is_there {
            return Err(invalid(
                "a tensor is not within the file; the file may be cut short",
            ));
        }
        entries.insert(name, entry);
    }
    Ok((entries, begin))
}

/// Returns how many numbers the file has.
pub(super) fn numbers(file: &Path) -> Result<u64, LoadError> {
    let (entries, _) = head(file)?;
    let numbers = entries.values().filter_map(Entry::numbers);
    Ok(numbers.fold(0, |all, of_one| all.saturating_add(of_one as u64)))
}

/// Reads all tensors.
pub(super) fn load(file: &Path) -> Result<Weights, LoadError> {
    let (entries, begin) = head(file)?;
    let (input, _) = open(file)?;
    let mut input = BufReader::with_capacity(1 << 20, input);
    let mut weights = Weights::new(file);
    for (name, entry) in entries {
        let (from, to) = entry.data_offsets;
        let numbers = input
            .seek(SeekFrom::Start(begin + from))
            .and_then(|_| bytes(&mut input, to - from));
        let numbers = numbers.map_err(|why| LoadError::read(file, why))?;
        let dtype = entry.dtype().map_err(|why| LoadError::invalid(file, why))?;
        let tensor = Tensor::from_raw_buffer(&numbers, dtype, &entry.shape, &Device::Cpu);
        let tensor = tensor.and_then(|tensor| tensor.to_dtype(DType::F32));
        let tensor = tensor.map_err(|why| LoadError::invalid(file, why.to_string()))?;
        weights.insert(name, tensor);
    }
    Ok(weights)
}
