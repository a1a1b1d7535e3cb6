//! The state of a sequence as bytes.

use std::ptr::NonNull;

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::session::LlamaStateSeqFlags;
use llama_cpp_sys_2 as sys;

use super::address::address;
use crate::state_bytes::StateBytes;

/// The state of a sequence (keys and values, or the state of a recurrent model) as bytes. `None` if
/// it is larger than `most` bytes, or cannot be read.
pub(crate) fn save_sequence(
    context: &LlamaContext<'_>,
    sequence: i32,
    most: usize,
) -> Option<StateBytes> {
    let whole = LlamaStateSeqFlags::empty();
    let size = context.state_seq_get_size_ext(sequence, whole);
    if size == 0 || size > most {
        return None;
    }
    let mut state = StateBytes::zeroed(size).ok()?;
    // SAFETY: rule 7 above: the memory has the size that llama.cpp states.
    let written = unsafe { context.state_seq_get_data_ext(state.as_mut_ptr(), sequence, whole) };
    (written == size).then_some(state)
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
