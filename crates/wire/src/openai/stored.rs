//! Stored objects: bodies that create and change conversations and the metadata of chat
//! completions, and the answers that lists and deletions give.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::object::object;

object! {
    /// `CreateConversationBody`.
    pub struct CreateConversation {
        /// The first items: an array of input items.
        free items: Value = "items",
        /// Labels of the client's own.
        free metadata: BTreeMap<String, Value> = "metadata",
    }
}

object! {
    /// The body that changes the metadata of a stored object.
    pub struct UpdateMetadata {
        /// Labels of the client's own, in place of those that there are.
        free metadata: BTreeMap<String, Value> = "metadata",
    }
}

object! {
    /// The body that adds items to a conversation.
    pub struct CreateItems {
        /// An array of input items.
        free items: Value = "items",
    }
}

/// A part of a list of objects that have ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Page<T> {
    /// `list`.
    pub object: &'static str,
    /// The entries.
    pub data: Vec<T>,
    /// The id of the first entry; empty where there is none.
    pub first_id: String,
    /// The id of the last entry; empty where there is none.
    pub last_id: String,
    /// Whether there are more entries after these.
    pub has_more: bool,
}

impl<T> Page<T> {
    /// A part of a list: ids and entries.
    pub fn new(entries: Vec<(String, T)>, has_more: bool) -> Self {
        let id = |entry: Option<&(String, T)>| entry.map(|(id, _)| id.clone());
        Self {
            object: "list",
            first_id: id(entries.first()).unwrap_or_default(),
            last_id: id(entries.last()).unwrap_or_default(),
            data: entries.into_iter().map(|(_, entry)| entry).collect(),
            has_more,
        }
    }
}

/// The answer to a deletion of a stored object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Deleted {
    /// `chat.completion.deleted`, `conversation.deleted`.
    pub object: String,
    /// The id that the client named.
    pub id: String,
    /// `true`.
    pub deleted: bool,
}
