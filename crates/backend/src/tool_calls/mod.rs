//! Tool calls, whatever the engine makes of them.
//!
//! - `regular/` makes the calls that an engine sends regular: the same calls come out however it
//!   sends them.
//! - `told.rs` describes the tools to a model whose chat template knows nothing of tools,
//!   `marked.rs` reads the calls that it then writes into its text, and `earlier.rs` shows it those
//!   that were made.
//! - `forced_call.rs` makes an answer held to a schema into the call that must be made;
//!   `call_or_answer.rs` does it where the model may also answer.
//! - `calling.rs` chooses between these for engines that cannot call by themselves.

mod call_or_answer;
pub(crate) mod calling;
mod earlier;
pub(crate) mod forced_call;
mod marked;
pub(crate) mod regular;
mod told;

pub use earlier::{Shows, has_calls, spelled_out};
pub use told::{told, written};
