//! The prompt cache: conversations that no slot holds any more. When a slot is taken for another
//! conversation, the state of its sequence is kept here, and restored when the conversation goes
//! on.
//!
//! Reading order: [`Snapshot`] (what is kept), `pool` (a bounded number of snapshots in memory),
//! `disk` (snapshots in files), `identity` (what a state on disk depends on).
//! `worker/conversations.rs` decides what is kept and restored.

mod disk;
mod identity;
mod pool;

use super::generation::Scope;
use crate::Token;
use crate::state_bytes::StateBytes;
pub(crate) use disk::MOST_WAITING;
pub(super) use disk::{Disk, FoundFile};
pub(super) use identity::identity;
pub(super) use pool::{Found, Importance, Pool};

/// The content of a slot: its tokens, and the state of its sequence.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Snapshot {
    pub(super) tokens: Vec<Token>,
    /// The scope of the requests that the tokens are from.
    pub(super) scope: Scope,
    /// The minimum number of tokens that must stay when the restored sequence is truncated. It is
    /// the number of all tokens if the model keeps one state for all of them, or only the last
    /// tokens of its windows.
    pub(super) cut_from: usize,
    /// The bytes that llama.cpp wrote.
    pub(super) state: StateBytes,
}

impl Snapshot {
    /// The memory that the snapshot takes.
    fn bytes(&self) -> usize {
        self.state.len() + size_of_val(&self.tokens[..])
    }

    /// Whether everything that this snapshot is good for can be restored from the other one.
    fn is_part_of(&self, other: &Self) -> bool {
        self.scope == other.scope
            && self.cut_from >= other.cut_from
            && other.tokens.starts_with(&self.tokens)
            && (other.cut_from <= self.tokens.len())
    }
}
