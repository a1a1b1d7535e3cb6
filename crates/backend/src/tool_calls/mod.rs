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

use loggia_wire::openai::Delta;

pub use earlier::{Shows, has_calls, spelled_out};
pub use told::{told, written};

/// Leaves a delta the pieces of the first call alone: what `parallel_tool_calls: false` asks for,
/// whatever the engine makes of it.
pub fn keep_first_call(delta: &mut Delta) {
    if let Some(calls) = &mut delta.tool_calls {
        calls.retain(|call| call.index == 0);
        delta.tool_calls.take_if(|calls| calls.is_empty());
    }
}
