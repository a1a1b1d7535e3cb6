//! Stored objects: the requests that create and change conversations and the metadata of chat
//! completions, and the answers to lists and deletions.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::object::object;

object! {
    /// `CreateConversationBody`: the request of `POST /v1/conversations`.
    pub struct CreateConversation {
        /// The first items: an array of input items.
        free items: Value = "items",
        /// Labels of the client.
        free metadata: BTreeMap<String, Value> = "metadata",
    }
}

object! {
    /// The request that changes the metadata of a stored object.
    pub struct UpdateMetadata {
        /// Labels of the client, which replace the existing ones.
        free metadata: BTreeMap<String, Value> = "metadata",
    }
}

object! {
    /// The request that adds items to a conversation.
    pub struct CreateItems {
        /// An array of input items.
        free items: Value = "items",
    }
}

/// A page of a list of stored objects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Page<T> {
    /// Always `list`.
    pub object: &'static str,
    /// The objects.
    pub data: Vec<T>,
    /// The id of the first object; empty if there is none.
    pub first_id: String,
    /// The id of the last object; empty if there is none.
    pub last_id: String,
    /// Whether more objects follow after these.
    pub has_more: bool,
}

impl<T> Page<T> {
    /// Creates a page from objects with their ids.
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

/// The answer to the deletion of a stored object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Deleted {
    /// `chat.completion.deleted` or `conversation.deleted`.
    pub object: String,
    /// The id that the client sent.
    pub id: String,
    /// Always `true`.
    pub deleted: bool,
}
