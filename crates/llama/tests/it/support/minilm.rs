//! The file of all-MiniLM-L6-v2, with another pooling and with more tensors.

use std::path::PathBuf;

use super::gguf::{position, put_text};

/// The model, which `scripts/embedding-model` downloads.
pub(crate) fn path() -> PathBuf {
    let beside = || {
        PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("../../.loggia/models/all-MiniLM-L6-v2.F16.gguf")
    };
    let path = std::env::var_os("LOGGIA_TEST_EMBEDDING_MODEL").map_or_else(beside, PathBuf::from);
    assert!(
        path.is_file(),
        "there is no model at {}: run `scripts/embedding-model`, or name one in LOGGIA_TEST_EMBEDDING_MODEL",
        path.display()
    );
    path
}

/// A part of the header: the tensors, each with its name, the number of its weights, and the
/// position of its data.
pub(crate) struct Minilm {
    file: Vec<u8>,
    tensors: Vec<(String, usize, usize)>,
    /// The positions of the end of their descriptions, and of the data.
    end: usize,
    data: usize,
}

impl Minilm {
    pub(crate) fn read() -> Self {
        let file = std::fs::read(path()).unwrap();
        let mut name = Vec::new();
        put_text(&mut name, "blk.0.attn_k.bias");
        let mut at = position(&file, &name);
        let mut tensors = Vec::new();
        for _ in 0..number(&file, 8) {
            let length = take(&file, &mut at);
            let name = String::from_utf8(file[at..at + length].to_vec()).unwrap();
            at += length;
            let dimensions = u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
            at += 4;
            let count = (0..dimensions).map(|_| take(&file, &mut at)).product();
            at += 4;
            tensors.push((name, count, take(&file, &mut at)));
        }
        Self {
            data: at.next_multiple_of(32),
            end: at,
            file,
            tensors,
        }
    }

    /// The weights of a tensor of 32-bit floats.
    pub(crate) fn weights(&self, name: &str) -> Vec<f32> {
        let found = self.tensors.iter().find(|(its, ..)| its == name);
        let (_, count, offset) = found.unwrap();
        let data = &self.file[self.data + offset..][..4 * count];
        let weights = data.chunks(4);
        weights
            .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
            .collect()
    }

    /// The file with this type of pooling, and with more tensors of 32-bit floats.
    pub(crate) fn with(&self, pooling: u32, more: &[(&str, &[u64], &[f32])]) -> Vec<u8> {
        let mut head = self.file[..self.end].to_vec();
        let key = b"bert.pooling_type";
        let at = position(&head, key) + key.len() + 4;
        head[at..at + 4].copy_from_slice(&pooling.to_le_bytes());
        let count = self.tensors.len() + more.len();
        head[8..16].copy_from_slice(&(count as u64).to_le_bytes());
        let mut data = self.file[self.data..].to_vec();
        for (name, shape, weights) in more {
            data.resize(data.len().next_multiple_of(32), 0);
            put_text(&mut head, name);
            head.extend(u32::try_from(shape.len()).unwrap().to_le_bytes());
            head.extend(shape.iter().flat_map(|length| length.to_le_bytes()));
            head.extend(0_u32.to_le_bytes());
            head.extend((data.len() as u64).to_le_bytes());
            data.extend(weights.iter().flat_map(|weight| weight.to_le_bytes()));
        }
        head.resize(head.len().next_multiple_of(32), 0);
        [head, data].concat()
    }
}

fn number(file: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(file[at..at + 8].try_into().unwrap())
}

/// Reads a number, and moves behind it.
fn take(file: &[u8], at: &mut usize) -> usize {
    *at += 8;
    usize::try_from(number(file, *at - 8)).unwrap()
}
