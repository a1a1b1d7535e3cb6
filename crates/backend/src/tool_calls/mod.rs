//! Tool calls for every kind of engine.
//!
//! - `regular/` normalises the calls of an engine: the result is the same however it sends them.
//! - `described_tools.rs` describes tools to a model whose chat template does not support them,
//!   `marked.rs` parses the calls in its text, and `earlier.rs` shows it earlier calls.
//! - `forced_call.rs` converts an answer with a schema to a forced call; `call_or_answer.rs` does
//!   the same if the model may also answer.
//! - `calling.rs` chooses between these for engines without tool support.

mod call_or_answer;
pub(crate) mod calling;
mod described_tools;
mod earlier;
pub(crate) mod forced_call;
mod marked;
pub(crate) mod regular;

use loggia_wire::openai::Delta;

pub use described_tools::{call_as_text, with_described_tools};
pub use earlier::{Shows, has_calls, spelled_out};

/// Keeps only the pieces of the first call in a delta, for `parallel_tool_calls: false` on any
/// engine.
pub fn keep_first_call(delta: &mut Delta) {
    if let Some(calls) = &mut delta.tool_calls {
        calls.retain(|call| call.index == 0);
        delta.tool_calls.take_if(|calls| calls.is_empty());
    }
}
