//! Numbers of a loaded model that `llama-cpp-2` does not read.

use std::ptr::NonNull;

use llama_cpp_2::model::LlamaModel;
use llama_cpp_sys_2 as sys;

use super::address::address;

/// The number of coordinates of a position in models with positions inside an image (M-RoPE): time,
/// row, column, and one that is unused.
pub(super) const PLANES: usize = 4;

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
