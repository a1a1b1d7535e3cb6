//! The number of threads of the next steps.

use std::ptr::NonNull;

use llama_cpp_2::context::LlamaContext;
use llama_cpp_sys_2 as sys;

use super::address::address;

/// Sets the number of threads that compute the next steps. Returns `false` if the bindings are of
/// another version.
pub(crate) fn use_threads(context: &mut LlamaContext<'_>, threads: i32) -> bool {
    let found: Option<NonNull<sys::llama_context>> = address(context, "LlamaContext { context: ");
    let Some(found) = found.filter(|_| threads > 0) else {
        return false;
    };
    // SAFETY: rules 1 and 5 of `raw`: `context` is borrowed as `&mut`. llama.cpp stores the numbers.
    unsafe { sys::llama_set_n_threads(found.as_ptr(), threads, threads) };
    true
}
