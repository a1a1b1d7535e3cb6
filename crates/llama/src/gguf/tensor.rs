//! Checks where a tensor's data is in the file, and whether that is valid.

use std::collections::HashSet;

/// A tensor as the header describes it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tensor {
    pub(super) name: String,
    pub(super) shape: [u64; 4],
    pub(super) kind: u32,
    /// The offset of the tensor's data from the beginning of all tensor data, in bytes.
    pub(super) offset: u64,
}

impl Tensor {
    /// The size of the tensor's data in bytes. The error says why the tensor is invalid.
    pub(super) fn size(&self) -> Result<u64, String> {
        let name = &self.name;
        let (per_block, bytes) = layout(self.kind)
            .ok_or_else(|| format!("the tensor {name:?} has the unknown type {}", self.kind))?;
        // ggml stores a dimension in 63 bits, and divides by it.
        if self
            .shape
            .iter()
            .any(|&length| length == 0 || length > i64::MAX as u64)
        {
            return Err(format!(
                "the tensor {name:?} has the invalid shape {:?}",
                self.shape
            ));
        }
        if !self.shape[0].is_multiple_of(per_block) {
            return Err(format!(
                "the row length of the tensor {name:?} is not a multiple of {per_block}"
            ));
        }
        let rows = self.shape[1..]
            .iter()
            .try_fold(1_u64, |product, &length| product.checked_mul(length));
        rows.and_then(|rows| rows.checked_mul(self.shape[0] / per_block))
            .and_then(|blocks| blocks.checked_mul(bytes))
            .ok_or_else(|| format!("the tensor {name:?} has the invalid shape {:?}", self.shape))
    }
}

/// Checks that all tensors are within `data` bytes, are aligned, and have different names.
pub(super) fn check(tensors: &[Tensor], alignment: u64, data: u64) -> Result<(), String> {
    let mut names = HashSet::new();
    for tensor in tensors {
        let name = &tensor.name;
        if !names.insert(name) {
            return Err(format!("it has two tensors with the name {name:?}"));
        }
        if !tensor.offset.is_multiple_of(alignment) {
            return Err(format!(
                "the tensor {name:?} begins at {}, which is not a multiple of {alignment}",
                tensor.offset
            ));
        }
        let end = tensor.size()?.checked_add(tensor.offset);
        if end.is_none_or(|end| end > data) {
            return Err(format!(
                "it is truncated: the data of the tensor {name:?} would end after the end of the file"
            ));
        }
    }
    Ok(())
}

/// The type to whose tensors llama.cpp cannot apply an adapter.
pub(super) const NVFP4: u32 = 40;

/// The type of 32-bit floats.
pub(super) const F32: u32 = 0;

/// Whether llama.cpp can multiply vectors by tensors of this type on a processor. It ends the
/// process for integers, 64-bit floats, and the types for intermediate results (`Q8_1`, `Q8_K`).
pub(super) fn is_matrix(kind: u32) -> bool {
    layout(kind).is_some() && !matches!(kind, 9 | 15 | 24..=28)
}

/// Whether tensors of this type can be factors of an adapter: llama.cpp multiplies vectors by them
/// on every device.
pub(super) fn is_factor(kind: u32) -> bool {
    // F32, F16, Q4_0, Q4_1; Q5_0, Q5_1, Q8_0; Q2_K to Q6_K; BF16.
    matches!(kind, 0..=3 | 6..=8 | 10..=14 | 30)
}

/// Whether tensors of this type are used directly from the mapped file, in memory that all
/// processes share. On some processors, llama.cpp rearranges the other types in each process:
/// mostly those with four bits (ggml's `repack`).
pub(super) fn stays_in_file(kind: u32) -> bool {
    // Q4_0, Q8_0, Q2_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS, MXFP4, Q1_0.
    !matches!(kind, 2 | 8 | 10 | 12 | 13 | 14 | 20 | 23 | 39 | 41)
}

/// The number of values in a block of this type, and its size in bytes, from ggml's own table.
fn layout(kind: u32) -> Option<(u64, u64)> {
    Some(match kind {
        0 | 26 => (1, 4),      // F32, I32
        1 | 25 | 30 => (1, 2), // F16, I16, BF16
        24 => (1, 1),          // I8
        27 | 28 => (1, 8),     // I64, F64
        2 | 20 => (32, 18),    // Q4_0, IQ4_NL
        3 => (32, 20),         // Q4_1
        6 => (32, 22),         // Q5_0
        7 => (32, 24),         // Q5_1
        8 => (32, 34),         // Q8_0
        9 => (32, 36),         // Q8_1
        10 => (256, 84),       // Q2_K
        11 | 21 => (256, 110), // Q3_K, IQ3_S
        12 => (256, 144),      // Q4_K
        13 => (256, 176),      // Q5_K
        14 => (256, 210),      // Q6_K
        15 => (256, 292),      // Q8_K
        16 | 35 => (256, 66),  // IQ2_XXS, TQ2_0
        17 => (256, 74),       // IQ2_XS
        18 => (256, 98),       // IQ3_XXS
        19 => (256, 50),       // IQ1_S
        22 => (256, 82),       // IQ2_S
        23 => (256, 136),      // IQ4_XS
        29 => (256, 56),       // IQ1_M
        34 => (256, 54),       // TQ1_0
        39 => (32, 17),        // MXFP4
        40 => (64, 36),        // NVFP4
        41 => (128, 18),       // Q1_0
        42 => (64, 18),        // Q2_0
        _ => return None,
    })
}
