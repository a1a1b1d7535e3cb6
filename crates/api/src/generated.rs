//! [`Generate`]: a request whose answer is generated.

use std::ops::Range;
use std::sync::Arc;

use loggia_backend::Work;
use loggia_wire::openai::Message;
use serde_json::Value;

use crate::ApiError;
use crate::admit::ask::Ask;
use crate::answer::interrupt::Interrupt;
use crate::answer::writer::Shape;
use crate::messages::edits::Edit;
use crate::responses::auto_compaction::AutoCompaction;
use crate::responses::server_tools::ServerTools;
use crate::stored::keep::ToStore;

/// A request whose answer is generated, complete or as a stream of events.
pub(crate) trait Generate: Ask {
    fn streams(&self) -> bool;

    /// Returns the kind of the answer.
    fn shape(&self) -> Shape;

    /// Returns the number of choices.
    fn choices(&self) -> usize;

    /// Returns whether the client requested a chunk with the usage.
    fn include_usage(&self) -> bool;

    fn work(request: Arc<Self>) -> Work;

    /// Returns the tools that the server runs for this request.
    fn server_tools(&self) -> Option<Arc<ServerTools>> {
        None
    }

    /// Returns how the conversation is compacted before the answer, if the client asks for that.
    fn compaction(&self) -> Option<&AutoCompaction> {
        None
    }

    /// Returns the edits of the conversation that the client asks for.
    fn edits(&self) -> &[Edit] {
        &[]
    }

    /// Replaces the messages of the conversation by edited ones, which have fewer tokens.
    /// `applied` describes the edit to the client.
    fn edit(&mut self, messages: Vec<Message>, applied: Value, tokens: u64) {
        let _ = (messages, applied, tokens);
    }

    /// Returns the messages that may be dropped to fit the context, the oldest first, if the client
    /// allows that.
    fn droppable(&self) -> Option<Vec<Range<usize>>> {
        None
    }

    /// Drops messages. Returns their names.
    fn drop_messages(&mut self, dropped: &[Range<usize>]) -> Vec<String> {
        let _ = dropped;
        Vec::new()
    }

    /// Returns the interrupt that can end the stream from outside, if there is one.
    fn interrupt(&self) -> Option<Arc<Interrupt>> {
        None
    }

    /// Takes out the fields that the door honours because it has a store. Returns `None` if nothing
    /// is to be stored.
    fn take_stored(&mut self, id: &str) -> Result<Option<ToStore>, ApiError> {
        let _ = id;
        Ok(None)
    }
}
