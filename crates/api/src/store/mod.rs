//! The trait [`Store`]: what a server keeps between requests, in OpenAI's nouns. Stored chat
//! completions have messages, conversations have items; both are an [`Object`] with [`Item`]s.
//!
//! Here are the facts only. How an answer looks is in `stored/`, and where the objects lie is up to
//! the implementation: [`MemoryStore`] keeps them in this process, the crate `loggia-store` in an
//! SQLite file.

mod memory;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_core::future::BoxFuture;
use thiserror::Error;

pub use memory::MemoryStore;

/// Keeps objects for their owners.
///
/// Every call names the owner of the object; to everybody else the object does not exist. A call
/// that writes has written when it resolves to `Ok`, and has changed nothing otherwise. That holds
/// for a call that is dropped halfway, too.
pub trait Store: Send + Sync {
    /// Whether an object could be stored now, as far as that can be known before: asked before a
    /// model does its work, so that the work is not lost.
    fn ready(&self) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Stores a new object with its items.
    fn create<'a>(
        &'a self,
        owner: &'a Owner,
        object: Object,
        items: Vec<Item>,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// One object.
    fn object<'a>(&'a self, at: ObjectRef<'a>) -> BoxFuture<'a, Result<Object, StoreError>>;

    /// The owner's objects of one kind, in the order of their creation.
    fn objects<'a>(
        &'a self,
        owner: &'a Owner,
        kind: Kind,
        filter: &'a Filter,
        page: &'a Page,
    ) -> BoxFuture<'a, Result<Listed<Object>, StoreError>>;

    /// Replaces the metadata of an object. Returns the object as it is then.
    fn set_metadata<'a>(
        &'a self,
        at: ObjectRef<'a>,
        metadata: Metadata,
    ) -> BoxFuture<'a, Result<Object, StoreError>>;

    /// Deletes an object and its items.
    fn delete<'a>(&'a self, at: ObjectRef<'a>) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Adds items at the end of an object's, all or none.
    fn append<'a>(
        &'a self,
        at: ObjectRef<'a>,
        items: Vec<Item>,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// The items of an object, in their order.
    fn items<'a>(
        &'a self,
        at: ObjectRef<'a>,
        page: &'a Page,
    ) -> BoxFuture<'a, Result<Listed<Item>, StoreError>>;

    /// One item of an object.
    fn item<'a>(
        &'a self,
        at: ObjectRef<'a>,
        item: &'a str,
    ) -> BoxFuture<'a, Result<Item, StoreError>>;

    /// Deletes one item of an object. Returns the object.
    fn delete_item<'a>(
        &'a self,
        at: ObjectRef<'a>,
        item: &'a str,
    ) -> BoxFuture<'a, Result<Object, StoreError>>;
}

/// Whose an object is: an API key's, by its name, or nobody's on a server without keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner(Option<Arc<str>>);

impl Owner {
    /// The owner of everything on a server without API keys.
    pub const NOBODY: Self = Self(None);

    /// The API key of this name, or nobody.
    pub fn new(key: Option<Arc<str>>) -> Self {
        Self(key)
    }

    /// The name of the API key.
    pub fn key(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

/// The kinds of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A chat completion that was asked for with `store: true`. Its items are the messages of the
    /// request.
    ChatCompletion,
    /// A conversation.
    Conversation,
}

impl Kind {
    /// What OpenAI's API has as `object`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ChatCompletion => "chat.completion",
            Self::Conversation => "conversation",
        }
    }
}

/// Labels of the client's own.
pub type Metadata = BTreeMap<String, String>;

/// A stored object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// What it is.
    pub kind: Kind,
    /// Its id, which no other object has.
    pub id: String,
    /// When it was created, in Unix seconds.
    pub created: u64,
    /// The model of a chat completion, by the name that the client asked for.
    pub model: Option<String>,
    /// The client's labels.
    pub metadata: Metadata,
    /// The object as JSON, without its metadata.
    pub body: String,
}

/// One item of an object: a message of a chat completion, an item of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its id, which no other item of the object has.
    pub id: String,
    /// The item as JSON.
    pub body: String,
}

/// Where an object is: only its owner finds it.
#[derive(Clone, Copy, Debug)]
pub struct ObjectRef<'a> {
    /// Whose it is.
    pub owner: &'a Owner,
    /// What it is.
    pub kind: Kind,
    /// Its id.
    pub id: &'a str,
}

/// Which objects of a kind are wanted. The default: all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Those of this model.
    pub model: Option<String>,
    /// Those that have all these labels.
    pub metadata: Metadata,
}

/// The bytes of entries after which a part of a list ends early, with [`Listed::has_more`]. The
/// first entry is always there.
pub const MOST_BYTES_OF_A_PAGE: usize = 32 << 20;

/// Which part of a list is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The id that the part begins after.
    pub after: Option<String>,
    /// The most entries.
    pub limit: usize,
    /// The first or the last entries first.
    pub order: Order,
}

/// The direction of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The oldest first.
    Ascending,
    /// The newest first.
    Descending,
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed<T> {
    /// The entries.
    pub data: Vec<T>,
    /// Whether there are more after them.
    pub has_more: bool,
}

/// Why a store did not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StoreError {
    /// The owner has no such object.
    #[error("there is no such object")]
    NotFound,
    /// The object has no such item.
    #[error("there is no such item")]
    ItemNotFound,
    /// The list has no entry with the id in [`Page::after`].
    #[error("the list has no entry with the id in `after`")]
    AfterNotFound,
    /// There is an object or an item with this id already.
    #[error("the id {id} is taken")]
    Duplicate {
        /// The id.
        id: String,
    },
    /// There is no room: the disk is full, or the object is too large for the store.
    #[error("the store is full")]
    Full,
    /// The store cannot be reached, or does not work. The cause is for the operator's log.
    #[error("the store does not work: {cause}")]
    Unavailable {
        /// What is wrong. It has no text of a client's.
        cause: String,
    },
}
