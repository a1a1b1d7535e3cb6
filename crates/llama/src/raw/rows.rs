//! Rows that a projector encoded, and a decoding step over them.

use std::ptr::{self, NonNull};

use llama_cpp_2::context::LlamaContext;
use llama_cpp_sys_2 as sys;

use super::address::address;
use super::numbers::PLANES;

/// The rows that a projector encoded from one image or sound, or from a part of one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rows {
    /// The values of all rows, one row after the other.
    pub(crate) values: Vec<f32>,
    /// The number of values in one row.
    pub(crate) width: usize,
    /// The position of each row, relative to the first.
    pub(crate) places: Vec<[i32; PLANES]>,
    /// The number of positions that the rows take in the text. It equals the number of rows, except
    /// in models with positions inside an image.
    pub(crate) positions: usize,
    /// Whether attention is causal: a row attends only to the rows before it. If not, all rows are
    /// computed in one step.
    pub(crate) causal: bool,
    /// Identifies the image or sound, and the part of it.
    pub(crate) identity: [u8; 32],
}

/// One row of a step: a reference to encoded rows, and an index in them.
#[derive(Clone, Copy)]
pub(crate) struct Row<'a> {
    pub(crate) sequence: i32,
    /// The position of the first of these rows in the sequence.
    pub(crate) base: i32,
    pub(crate) rows: &'a Rows,
    pub(crate) index: usize,
}

/// Decodes a step that consists of rows instead of tokens. The rows enter the KV cache; no logits
/// are computed for them.
pub(crate) fn decode(
    context: &mut LlamaContext<'_>,
    step: &[Row<'_>],
    planes: usize,
) -> Result<(), String> {
    let causal = step.iter().all(|row| row.rows.causal);
    let most = if causal {
        context.n_batch()
    } else {
        context.n_ubatch()
    };
    if step.is_empty() || step.len() > most as usize {
        return Err(format!(
            "{} rows in a step that can have {most}",
            step.len()
        ));
    }
    let mut lists = Lists::of(step, planes)?;
    let count = i32::try_from(step.len()).map_err(|_| "too many rows")?;
    let context: NonNull<sys::llama_context> = address(context, "LlamaContext { context: ")
        .ok_or("the bindings are of another version")?;
    let batch = lists.batch(count);
    // SAFETY: rules 1, 5 and 6 above: `context` is borrowed as `&mut` for all of this function, and
    // `lists` lives to its end.
    let code = unsafe {
        if !causal {
            sys::llama_set_causal_attn(context.as_ptr(), false);
        }
        let code = sys::llama_decode(context.as_ptr(), batch);
        if !causal {
            sys::llama_set_causal_attn(context.as_ptr(), true);
        }
        code
    };
    if code == 0 {
        Ok(())
    } else {
        Err(format!("llama_decode answered {code} over rows"))
    }
}

/// The lists that a batch points to.
struct Lists {
    values: Vec<f32>,
    positions: Vec<i32>,
    sequence_counts: Vec<i32>,
    sequences: Vec<i32>,
    sequence_pointers: Vec<*mut i32>,
    wanted: Vec<i8>,
}

impl Lists {
    /// Builds the lists of a step. All rows must have the same width. Each row gets a position with
    /// `planes` coordinates.
    fn of(step: &[Row<'_>], planes: usize) -> Result<Self, String> {
        let width = step.first().map_or(0, |row| row.rows.width);
        let mut values = Vec::with_capacity(step.len() * width);
        for row in step {
            let row = row
                .rows
                .values
                .get(row.index * width..(row.index + 1) * width)
                .filter(|_| row.rows.width == width);
            values.extend_from_slice(row.ok_or("a row is not there")?);
        }
        let mut positions = Vec::with_capacity(step.len() * planes);
        for plane in 0..planes {
            for row in step {
                let place = row.rows.places.get(row.index).ok_or("a row has no place")?;
                // The last coordinate is unused, and 0 for all rows.
                let base = if plane + 1 == PLANES { 0 } else { row.base };
                positions.push(base.saturating_add(place[plane]));
            }
        }
        let mut sequences: Vec<i32> = step.iter().map(|row| row.sequence).collect();
        let first = sequences.as_mut_ptr();
        let sequence_pointers = (0..sequences.len())
            .map(|at| first.wrapping_add(at))
            .collect();
        let (sequence_counts, wanted) = (vec![1; step.len()], vec![0; step.len()]);
        Ok(Self {
            values,
            positions,
            sequence_counts,
            sequences,
            sequence_pointers,
            wanted,
        })
    }

    fn batch(&mut self, count: i32) -> sys::llama_batch {
        debug_assert_eq!(
            self.sequences.len(),
            self.sequence_pointers.len(),
            "one sequence a row"
        );
        sys::llama_batch {
            n_tokens: count,
            token: ptr::null_mut(),
            embd: self.values.as_mut_ptr(),
            pos: self.positions.as_mut_ptr(),
            n_seq_id: self.sequence_counts.as_mut_ptr(),
            seq_id: self.sequence_pointers.as_mut_ptr(),
            logits: self.wanted.as_mut_ptr(),
        }
    }
}
