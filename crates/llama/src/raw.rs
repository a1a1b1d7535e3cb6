//! The few calls into llama.cpp that `llama-cpp-2` has no safe wrapper for: what a projector has
//! made of a picture or a sound, and a step of the model over that instead of over tokens. The one
//! module of Loggia with `unsafe` in it; nothing unsafe leaves it.
//!
//! # What holds here
//! 1. **Pointers.** The bindings keep theirs to themselves; the one thing they say of them is their
//!    `Debug` output, which names the address (and exposes its provenance, as `{:p}` does).
//!    [`address`] takes it from there, for as long as the borrow that it is called with, and gives
//!    nothing where the output reads otherwise: another version of the bindings is an error, never
//!    a wrong pointer.
//! 2. **Ownership.** The bindings' own values free what they own. What is taken here is borrowed,
//!    and never kept.
//! 3. **The model outlives its projector**, which holds on to its vocabulary: [`Projector`] has
//!    both, and drops the model last.
//! 4. **Lengths.** llama.cpp says that what was encoded has `llama_model_n_embd_inp` numbers for
//!    each token of the chunk, and checks when a projector is loaded that its width is the model's.
//!    It is read directly after the encoding, of the same chunk, and copied.
//! 5. **Threads.** Encoding takes `&mut`; a context is used by one thread, that has it as `&mut`.
//! 6. **Batches.** Every list of a batch is as long as the batch says and lives until the call
//!    returns; llama.cpp copies what it needs. No more rows than `n_batch` (`n_ubatch` where
//!    attention is not causal): llama.cpp would assert. Sequences and positions it checks itself.
#![expect(
    unsafe_code,
    reason = "these calls have no safe wrapper; what they rely on stands above"
)]

use std::fmt::Debug;
use std::path::Path;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::mtmd::{
    MtmdBitmap, MtmdContext, MtmdContextParams, MtmdInputChunk, MtmdInputChunkType,
    MtmdInputChunks, MtmdInputText,
};
use llama_cpp_sys_2 as sys;

use crate::model::Model;

/// How many numbers a position is in models that know places in a picture (M-RoPE): in time, from
/// above, from the left, and one unused.
const PLANES: usize = 4;

/// A projector: what makes a picture or a sound into rows that the model reads like tokens.
pub(crate) struct Projector {
    context: MtmdContext,
    // After the context: fields are dropped in this order.
    model: Arc<Model>,
}

/// What a projector made of one picture or sound, or of a part of one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rows {
    /// One after the other.
    pub(crate) values: Vec<f32>,
    /// Numbers of one row.
    pub(crate) width: usize,
    /// Where each row stands, counted from the first.
    pub(crate) places: Vec<[i32; PLANES]>,
    /// How many positions they take in the text: as many as there are rows, but for models that
    /// know places in a picture.
    pub(crate) positions: usize,
    /// Whether a row sees only those before it. Where it sees all, they are computed in one step.
    pub(crate) causal: bool,
    /// Stands for what was seen or heard, and which part of it this is.
    pub(crate) identity: [u8; 32],
}

/// A row of a step: whose, and which one.
#[derive(Clone, Copy)]
pub(crate) struct Row<'a> {
    pub(crate) sequence: i32,
    /// The position of the first row of its kind.
    pub(crate) base: i32,
    pub(crate) rows: &'a Rows,
    pub(crate) index: usize,
}

impl Projector {
    /// Loads one for a model; `None` where llama.cpp does not take the file, which its log
    /// explains.
    pub(crate) fn load(
        path: &Path,
        model: Arc<Model>,
        threads: i32,
        use_gpu: bool,
    ) -> Option<Self> {
        let params = MtmdContextParams {
            use_gpu,
            print_timings: false,
            n_threads: threads,
            ..Default::default()
        };
        let context = MtmdContext::init_from_file(path.to_str()?, &model.llama, &params).ok()?;
        Some(Self { context, model })
    }

    /// Whether it takes pictures.
    pub(crate) fn sees(&self) -> bool {
        self.context.support_vision()
    }

    /// The samples a second that it takes of sounds, where it takes them.
    pub(crate) fn hears(&self) -> Option<u32> {
        self.context
            .get_audio_sample_rate()
            .filter(|_| self.context.support_audio())
    }

    /// What a picture or a sound becomes: chunks of tokens that go around it, and of its own that
    /// are still to be encoded.
    pub(crate) fn chunks(&self, bitmap: &MtmdBitmap) -> Option<MtmdInputChunks> {
        let marker = llama_cpp_2::mtmd::mtmd_default_marker().to_owned();
        let text = MtmdInputText {
            text: marker,
            add_special: false,
            parse_special: true,
        };
        self.context.tokenize(text, &[bitmap]).ok()
    }

    /// Encodes a chunk of a picture or a sound. Takes as long as the projector is large.
    pub(crate) fn encode(
        &mut self,
        chunk: &MtmdInputChunk<'_>,
        identity: [u8; 32],
    ) -> Option<Rows> {
        let (count, width) = (chunk.n_tokens(), self.width()?);
        let places = self.places(chunk, count)?;
        self.context.encode_chunk(chunk).ok()?;
        let context: NonNull<sys::mtmd_context> =
            address(&self.context, "MtmdContext { context: ")?;
        // SAFETY: 1, 4 and 5 above: the context is alive and borrowed as `&mut`, and has just
        // encoded this chunk.
        let values = unsafe {
            let rows = sys::mtmd_get_output_embd(context.as_ptr());
            if rows.is_null() {
                return None;
            }
            std::slice::from_raw_parts(rows, count.checked_mul(width)?).to_vec()
        };
        let positions = usize::try_from(chunk.n_positions()).ok()?;
        // Of those projectors that are asked for the other kind, all make pictures of what they
        // encode.
        let is_picture = chunk.chunk_type() == MtmdInputChunkType::Image;
        let causal = !(is_picture && self.context.decode_use_non_causal());
        Some(Rows {
            values,
            width,
            places,
            positions,
            causal,
            identity,
        })
    }

    /// Whether the parts of a picture are to be computed in one step each.
    pub(crate) fn sees_all_at_once(&self) -> bool {
        self.sees() && self.context.decode_use_non_causal()
    }

    fn width(&self) -> Option<usize> {
        let model: NonNull<sys::llama_model> = address(&self.model.llama, "LlamaModel { model: ")?;
        // SAFETY: 1 and 3 above: the model is alive, and the call reads one number of it.
        usize::try_from(unsafe { sys::llama_model_n_embd_inp(model.as_ptr()) })
            .ok()
            .filter(|&width| width > 0)
    }

    /// Where the rows of a chunk stand, counted from the first.
    fn places(&self, chunk: &MtmdInputChunk<'_>, count: usize) -> Option<Vec<[i32; PLANES]>> {
        let line = |at: usize| i32::try_from(at).ok().map(|at| [at, at, at, 0]);
        if !self.context.decode_use_mrope() {
            return (0..count).map(line).collect();
        }
        let chunk: NonNull<sys::mtmd_input_chunk> = address(chunk, "MtmdInputChunk { chunk: ")?;
        // SAFETY: 1 above; for what is no picture, the answer is null.
        let tokens = unsafe { sys::mtmd_input_chunk_get_tokens_image(chunk.as_ptr()) };
        if tokens.is_null() {
            return (0..count).map(line).collect();
        }
        let place = |at: usize| {
            // SAFETY: the tokens are the chunk's, which is borrowed, and it has `count` of them.
            let place = unsafe { sys::mtmd_image_tokens_get_decoder_pos(tokens, 0, at) };
            let number = |number| i32::try_from(number).ok();
            Some([
                number(place.t)?,
                number(place.y)?,
                number(place.x)?,
                number(place.z)?,
            ])
        };
        (0..count).map(place).collect()
    }
}

/// Computes a step over rows in place of tokens: they enter the cache, and no logits are had of
/// them.
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
    // SAFETY: 1, 5 and 6 above: `context` is borrowed as `&mut` for all of this function, `lists`
    // lives to its end.
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

/// How many numbers a position is for this model.
pub(crate) fn planes(llama: &LlamaModel) -> Option<usize> {
    let pointer: NonNull<sys::llama_model> = address(llama, "LlamaModel { model: ")?;
    // SAFETY: 1 above: the model is alive, and the call reads one number of it.
    let rope = unsafe { sys::llama_model_rope_type(pointer.as_ptr()) };
    let in_pictures = [sys::LLAMA_ROPE_TYPE_MROPE, sys::LLAMA_ROPE_TYPE_IMROPE].contains(&rope);
    Some(if in_pictures { PLANES } else { 1 })
}

/// What a batch points at.
struct Lists {
    values: Vec<f32>,
    positions: Vec<i32>,
    sequence_counts: Vec<i32>,
    sequences: Vec<i32>,
    sequence_pointers: Vec<*mut i32>,
    wanted: Vec<i8>,
}

impl Lists {
    /// All of the same width, each with a position for each of the planes.
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
                // The last plane is unused, and 0 for all.
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

/// The pointer that the bindings' value shows after `before` in its debugging output.
fn address<T>(of: &impl Debug, before: &str) -> Option<NonNull<T>> {
    let shown = format!("{of:?}");
    let digits = shown.strip_prefix(before)?.strip_prefix("0x")?;
    let end = digits
        .find(|digit: char| !digit.is_ascii_hexdigit())
        .unwrap_or(digits.len());
    let address = usize::from_str_radix(&digits[..end], 16).ok()?;
    NonNull::new(ptr::with_exposed_provenance_mut(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Shown(String);

    impl Debug for Shown {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(&self.0)
        }
    }

    #[test]
    fn a_pointer_is_taken_from_what_names_it_and_from_nothing_else() {
        let number = 7_u32;
        let pointer = &raw const number;
        let shown = |before: &str| format!("{before}{pointer:?}, owned: false }}");
        let found: Option<NonNull<u32>> = address(&Shown(shown("It { it: ")), "It { it: ");
        assert_eq!(
            found.map(|found| found.as_ptr().cast_const()),
            Some(pointer)
        );
        for other in ["It { that: ", "It { it: Some(", ""] {
            assert_eq!(
                address::<u32>(&Shown(shown(other)), "It { it: "),
                None,
                "{other}"
            );
        }
        assert_eq!(
            address::<u32>(&Shown("It { it: 0x0 }".to_owned()), "It { it: "),
            None
        );
    }
}
