//! The few calls into llama.cpp that `llama-cpp-2` has no safe wrapper for: the rows that a
//! projector encodes from an image or a sound, a decoding step over these rows instead of tokens,
//! and the state of a sequence as bytes. This is the only module of Loggia with `unsafe` code, and
//! its interface is safe.
//!
//! # Safety rules
//! 1. **Pointers.** The bindings keep their pointers private; only their `Debug` output shows the
//!    address (and exposes its provenance, as `{:p}` does). [`address`] reads it from there, for as
//!    long as the borrow that it is called with. It returns `None` if the output has a different
//!    form, so another version of the bindings leads to an error, never to a wrong pointer.
//! 2. **Ownership.** The bindings' own values free what they own. Pointers taken here are borrowed
//!    and never stored.
//! 3. **The model outlives its projector**, which keeps a pointer to the model's vocabulary:
//!    [`Projector`] owns both, and drops the model last.
//! 4. **Lengths.** llama.cpp documents that the encoded output has `llama_model_n_embd_inp` numbers
//!    for each token of the chunk, and checks when a projector is loaded that its width is the
//!    model's. The output is read directly after the encoding of the same chunk, and copied.
//! 5. **Threads.** Encoding takes `&mut`. A context is used by one thread, which has it as `&mut`.
//! 6. **Batches.** Every list of a batch has the length that the batch states, and lives until the
//!    call returns; llama.cpp copies what it needs. A batch has at most `n_batch` rows (`n_ubatch`
//!    if attention is not causal), because llama.cpp would abort otherwise. llama.cpp checks
//!    sequences and positions itself.
//! 7. **States.** A state is written into memory of the size that llama.cpp states for it, and is
//!    read within its length. llama.cpp compares it with the context (layers, types, sizes) and
//!    refuses what does not fit. The caller restores only bytes that came from [`save_sequence`] of
//!    the same model, adapter and sizes; those from a file have a checksum.
#![expect(
    unsafe_code,
    reason = "these calls have no safe wrapper; the safety rules are above"
)]

use std::fmt::Debug;
use std::path::Path;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::session::LlamaStateSeqFlags;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::mtmd::{
    MtmdBitmap, MtmdContext, MtmdContextParams, MtmdInputChunk, MtmdInputChunkType,
    MtmdInputChunks, MtmdInputText,
};
use llama_cpp_sys_2 as sys;

use crate::model::Model;

/// The number of coordinates of a position in models with positions inside an image (M-RoPE): time,
/// row, column, and one that is unused.
const PLANES: usize = 4;

/// A projector: it encodes an image or a sound into rows that the model reads like tokens.
pub(crate) struct Projector {
    context: MtmdContext,
    // This field must stay after the context, because fields are dropped in this order.
    model: Arc<Model>,
}

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

impl Projector {
    /// Loads the projector for a model. Returns `None` if llama.cpp cannot load the file; its log
    /// has the reason.
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

    /// Whether the projector takes images.
    pub(crate) fn supports_images(&self) -> bool {
        self.context.support_vision()
    }

    /// The sample rate (samples per second) of sound input, if the projector takes sounds.
    pub(crate) fn sample_rate(&self) -> Option<u32> {
        self.context
            .get_audio_sample_rate()
            .filter(|_| self.context.support_audio())
    }

    /// Splits an image or a sound into chunks: the text tokens around it, and its own tokens, which
    /// still have to be encoded.
    pub(crate) fn chunks(&self, bitmap: &MtmdBitmap) -> Option<MtmdInputChunks> {
        let marker = llama_cpp_2::mtmd::mtmd_default_marker().to_owned();
        let text = MtmdInputText {
            text: marker,
            add_special: false,
            parse_special: true,
        };
        self.context.tokenize(text, &[bitmap]).ok()
    }

    /// Encodes a chunk of an image or a sound. With a large projector, this takes seconds.
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
        // SAFETY: rules 1, 4 and 5 above: the context is alive and borrowed as `&mut`, and has just
        // encoded this chunk.
        let values = unsafe {
            let rows = sys::mtmd_get_output_embd(context.as_ptr());
            if rows.is_null() {
                return None;
            }
            std::slice::from_raw_parts(rows, count.checked_mul(width)?).to_vec()
        };
        let positions = usize::try_from(chunk.n_positions()).ok()?;
        // All projectors with non-causal attention encode images.
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

    /// Whether the rows of an image part must be computed in one step (attention is not causal).
    pub(crate) fn encodes_in_one_step(&self) -> bool {
        self.supports_images() && self.context.decode_use_non_causal()
    }

    fn width(&self) -> Option<usize> {
        let model: NonNull<sys::llama_model> = address(&self.model.llama, "LlamaModel { model: ")?;
        // SAFETY: rules 1 and 3 above: the model is alive, and the call reads one number of it.
        usize::try_from(unsafe { sys::llama_model_n_embd_inp(model.as_ptr()) })
            .ok()
            .filter(|&width| width > 0)
    }

    /// The positions of the rows of a chunk, relative to the first.
    fn places(&self, chunk: &MtmdInputChunk<'_>, count: usize) -> Option<Vec<[i32; PLANES]>> {
        let line = |at: usize| i32::try_from(at).ok().map(|at| [at, at, at, 0]);
        if !self.context.decode_use_mrope() {
            return (0..count).map(line).collect();
        }
        let chunk: NonNull<sys::mtmd_input_chunk> = address(chunk, "MtmdInputChunk { chunk: ")?;
        // SAFETY: rule 1 above; if the chunk is not an image, the result is null.
        let tokens = unsafe { sys::mtmd_input_chunk_get_tokens_image(chunk.as_ptr()) };
        if tokens.is_null() {
            return (0..count).map(line).collect();
        }
        let place = |at: usize| {
            // SAFETY: the tokens belong to the chunk, which is borrowed, and it has `count` of
            // them.
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

/// The state of a sequence (keys and values, or the state of a recurrent model) as bytes. `None` if
/// it is larger than `most` bytes, or cannot be read.
pub(crate) fn save_sequence(
    context: &LlamaContext<'_>,
    sequence: i32,
    most: usize,
) -> Option<Vec<u8>> {
    let whole = LlamaStateSeqFlags::empty();
    let size = context.state_seq_get_size_ext(sequence, whole);
    if size == 0 || size > most {
        return None;
    }
    let mut state = Vec::new();
    state.try_reserve_exact(size).ok()?;
    // SAFETY: rule 7 above: the memory has the size that llama.cpp states, and is initialized for
    // as many bytes as llama.cpp says that it wrote.
    unsafe {
        let written = context.state_seq_get_data_ext(state.as_mut_ptr(), sequence, whole);
        if written != size {
            return None;
        }
        state.set_len(written);
    }
    Some(state)
}

/// Replaces the content of a sequence by a state from [`save_sequence`]. Returns `false` if
/// llama.cpp refuses it; the content of the sequence is then undefined.
pub(crate) fn restore_sequence(
    context: &mut LlamaContext<'_>,
    sequence: i32,
    state: &[u8],
) -> bool {
    let Some(context): Option<NonNull<sys::llama_context>> =
        address(context, "LlamaContext { context: ")
    else {
        return false;
    };
    // SAFETY: rules 1, 5 and 7 above: `context` is borrowed as `&mut`, and the length is that of
    // the bytes.
    let read = unsafe {
        sys::llama_state_seq_set_data_ext(
            context.as_ptr(),
            state.as_ptr(),
            state.len(),
            sequence,
            0,
        )
    };
    read == state.len()
}

/// The number of tokens in the model's sliding windows; 0 for a model without them.
pub(crate) fn window(llama: &LlamaModel) -> usize {
    let Some(pointer): Option<NonNull<sys::llama_model>> = address(llama, "LlamaModel { model: ")
    else {
        return 0;
    };
    // SAFETY: rule 1 above: the model is alive, and the call reads one number of it.
    usize::try_from(unsafe { sys::llama_model_n_swa(pointer.as_ptr()) }).unwrap_or(0)
}

/// The number of coordinates that a position has in this model.
pub(crate) fn planes(llama: &LlamaModel) -> Option<usize> {
    let pointer: NonNull<sys::llama_model> = address(llama, "LlamaModel { model: ")?;
    // SAFETY: rule 1 above: the model is alive, and the call reads one number of it.
    let rope = unsafe { sys::llama_model_rope_type(pointer.as_ptr()) };
    let in_pictures = [sys::LLAMA_ROPE_TYPE_MROPE, sys::LLAMA_ROPE_TYPE_IMROPE].contains(&rope);
    Some(if in_pictures { PLANES } else { 1 })
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

/// Reads the pointer that follows `before` in the `Debug` output of a value of the bindings.
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
