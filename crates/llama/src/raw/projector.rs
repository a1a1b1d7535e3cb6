//! [`Projector`]: encodes images and sounds.

use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;

use llama_cpp_2::mtmd::{
    MtmdBitmap, MtmdContext, MtmdContextParams, MtmdInputChunk, MtmdInputChunkType,
    MtmdInputChunks, MtmdInputText,
};
use llama_cpp_sys_2 as sys;

use super::address::address;
use super::numbers::PLANES;
use super::rows::Rows;
use crate::model::Model;

/// A projector: it encodes an image or a sound into rows that the model reads like tokens.
pub(crate) struct Projector {
    context: MtmdContext,
    // This field must stay after the context, because fields are dropped in this order.
    model: Arc<Model>,
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
