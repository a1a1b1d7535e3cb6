//! The few calls into llama.cpp that `llama-cpp-2` has no safe wrapper for: the rows that a
//! projector encodes from an image or a sound, a decoding step over these rows instead of tokens,
//! the number of threads, and the state of a sequence as bytes. This is the only module of Loggia
//! with `unsafe` code, and its interface is safe.
//!
//! `projector` encodes, `rows` decodes what was encoded, `sequence` has the states, `threads` sets
//! the number of threads, `numbers` reads numbers of a model, `version` the version of the library,
//! and `address` takes the pointers from the bindings.
//!
//! # Safety rules
//! 1. **Pointers.** The bindings keep their pointers private; only their `Debug` output shows the
//!    address (and exposes its provenance, as `{:p}` does). [`address`](address::address) reads it from there, for as
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

mod address;
pub(crate) mod numbers;
mod projector;
mod rows;
mod sequence;
mod threads;
mod version;

pub(crate) use projector::Projector;
pub(crate) use rows::{Row, Rows, decode};
pub(crate) use sequence::{restore_sequence, save_sequence};
pub(crate) use threads::use_threads;
pub use version::ggml_version;
