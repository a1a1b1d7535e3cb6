//! The trait [`Store`] keeps objects between requests. The objects are named as in OpenAI's API: a
//! stored chat completion has messages, a conversation has items, a response has an input and an
//! output. Each of them is an [`Object`] with [`Item`]s.
//!
//! This module has the data only. `stored/` turns them into answers. Where they are kept depends on
//! the implementation: [`MemoryStore`] keeps them in the process, the crate `loggia-store` in a
//! database.

pub mod blobs;
mod chunks;
pub mod keys;
mod kind;
mod memory;
pub mod nodes;
mod usage;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_core::future::BoxFuture;
use thiserror::Error;

pub use blobs::{BlobWriter, Blobs, MemoryBlobs};
pub use chunks::{Chunk, ChunkSearch, FoundChunk, similarity};
pub use keys::{EarlierSecret, KeyStore, MemoryKeyStore, StoredKey, StoredSecret};
pub use kind::Kind;
pub use memory::MemoryStore;
pub use nodes::{MemoryNodeStore, NodeStore, NodeWish, StoredNode};
pub use usage::{Usage, UsageAmount, UsageStore};

/// Keeps objects for their owners.
///
/// Every call names the owner of the object; to everybody else the object does not exist. A call
/// that writes has written when it resolves to `Ok`, and has changed nothing otherwise. That holds
/// for a call that is dropped halfway, too.
pub trait Store: Send + Sync {
    /// Checks whether an object could be stored now, as far as that can be known in advance. It is
    /// called before a model starts, so that its work is not lost.
    fn ready(&self) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Makes changes to objects of one owner, in their order: all of them, or none if one fails.
    fn write<'a>(
        &'a self,
        owner: &'a Owner,
        changes: Vec<Change>,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Stores a new object with its items.
    fn create<'a>(
        &'a self,
        owner: &'a Owner,
        object: Object,
        items: Vec<Item>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.write(owner, vec![Change::Create { object, items }])
    }

    /// Returns one object.
    fn object<'a>(&'a self, at: ObjectRef<'a>) -> BoxFuture<'a, Result<Object, StoreError>>;

    /// Returns one object and all its items of one side, in their order, both as they were at one
    /// moment.
    fn object_with_items<'a>(
        &'a self,
        at: ObjectRef<'a>,
        side: Side,
    ) -> BoxFuture<'a, Result<(Object, Vec<Item>), StoreError>>;

    /// Returns the owner's objects of one kind, in the order of their creation.
    fn objects<'a>(
        &'a self,
        owner: &'a Owner,
        kind: Kind,
        filter: &'a Filter,
        page: &'a Page,
    ) -> BoxFuture<'a, Result<Listed<Object>, StoreError>>;

    /// Replaces the metadata of an object. Returns the object after the change.
    fn set_metadata<'a>(
        &'a self,
        at: ObjectRef<'a>,
        metadata: Metadata,
    ) -> BoxFuture<'a, Result<Object, StoreError>>;

    /// Deletes an object and its items.
    fn delete<'a>(&'a self, at: ObjectRef<'a>) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Adds items at the end of an object's items. If one cannot be added, none is.
    fn append<'a>(
        &'a self,
        at: ObjectRef<'a>,
        items: Vec<Item>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let (kind, id) = (at.kind, at.id.to_owned());
        self.write(at.owner, vec![Change::Append { kind, id, items }])
    }

    /// Returns the items of one side of an object, in their order.
    fn items<'a>(
        &'a self,
        at: ObjectRef<'a>,
        side: Side,
        page: &'a Page,
    ) -> BoxFuture<'a, Result<Listed<Item>, StoreError>>;

    /// The input and output items of a response and of the responses that it continues. The oldest
    /// response comes first, and the input of each before its output.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if the response itself does not exist,
    /// [`StoreError::BrokenChain`] if one that it continues does not, and [`StoreError::TooLong`]
    /// for more than [`MOST_BYTES_OF_A_CHAIN`] or [`MOST_OBJECTS_OF_A_CHAIN`].
    fn chain<'a>(&'a self, at: ObjectRef<'a>) -> BoxFuture<'a, Result<Vec<Item>, StoreError>>;

    /// Returns the oldest response that exists in the chain of a response, or the response itself.
    fn oldest<'a>(&'a self, at: ObjectRef<'a>) -> BoxFuture<'a, Result<Object, StoreError>> {
        Box::pin(async move {
            let mut oldest = self.object(at).await?;
            for _ in 1..MOST_OBJECTS_OF_A_CHAIN {
                let Some(id) = &oldest.previous else { break };
                match self.object(ObjectRef { id, ..at }).await {
                    Ok(before) => oldest = before,
                    Err(StoreError::NotFound) => break,
                    Err(error) => return Err(error),
                }
            }
            Ok(oldest)
        })
    }

    /// The input and output items with these ids among the owner's conversations and responses, in
    /// the order of the ids. If several items have an id, the newest is returned; if none has it,
    /// the answer has no item for it.
    ///
    /// # Errors
    /// [`StoreError::TooLong`] for items of more than [`MOST_BYTES_OF_A_CHAIN`].
    fn find_items<'a>(
        &'a self,
        owner: &'a Owner,
        ids: &'a [String],
    ) -> BoxFuture<'a, Result<Vec<Item>, StoreError>>;

    /// Returns one input item of an object.
    fn item<'a>(
        &'a self,
        at: ObjectRef<'a>,
        item: &'a str,
    ) -> BoxFuture<'a, Result<Item, StoreError>>;

    /// Deletes one input item of an object. Returns the object.
    fn delete_item<'a>(
        &'a self,
        at: ObjectRef<'a>,
        item: &'a str,
    ) -> BoxFuture<'a, Result<Object, StoreError>>;

    /// Takes the object of a kind that has been due for the longest time, of any owner: it has a
    /// [time](Change::Schedule) that has come, and nobody holds it. The holder then has a hold on
    /// it, as after [`Change::Hold`]. Returns `None` if no object is due.
    fn claim<'a>(
        &'a self,
        kind: Kind,
        holder: &'a str,
        time: Duration,
    ) -> BoxFuture<'a, Result<Option<Claimed>, StoreError>>;

    /// Returns the bytes of the [content](Change::Schedule) of all objects of an owner.
    fn content_bytes<'a>(&'a self, owner: &'a Owner) -> BoxFuture<'a, Result<u64, StoreError>>;

    /// Counts the objects of a kind that pass a filter, by the value of one name of their metadata.
    /// An object without the name is not counted.
    fn counts<'a>(
        &'a self,
        owner: &'a Owner,
        kind: Kind,
        filter: &'a Filter,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Vec<Count>, StoreError>>;

    /// Finds the chunks of a vector store that are nearest to a vector, and those that have the words
    /// of a query. Chunks that were not [stored to the last](Change::Chunks) are not found.
    fn search<'a>(
        &'a self,
        at: ObjectRef<'a>,
        search: &'a ChunkSearch,
    ) -> BoxFuture<'a, Result<Vec<FoundChunk>, StoreError>>;

    /// Returns which of these ids objects have, of any owner.
    fn existing<'a>(&'a self, ids: &'a [String]) -> BoxFuture<'a, Result<Vec<String>, StoreError>>;
}

/// An object that a server has [claimed](Store::claim).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// The object's owner.
    pub owner: Owner,
    /// The object.
    pub object: Object,
}

/// Some objects that have the same value of a name of their metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// The value.
    pub value: String,
    /// How many objects there are.
    pub objects: u64,
    /// The bytes of the objects' [content](Change::Schedule).
    pub content: u64,
}

/// The owner of objects: an API key, by its name, or nobody if the server has no keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner(Option<Arc<str>>);

impl Owner {
    /// The owner of everything on a server without API keys.
    pub const NOBODY: Self = Self(None);

    /// Returns the owner with this API key, or nobody.
    pub fn new(key: Option<Arc<str>>) -> Self {
        Self(key)
    }

    /// Returns the name of the API key.
    pub fn key(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

/// The `metadata` of an object: the client's own names and values.
pub type Metadata = BTreeMap<String, String>;

/// A stored object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// The object's kind.
    pub kind: Kind,
    /// The object's id, which no other object has.
    pub id: String,
    /// When the object was created, in Unix seconds.
    pub created: u64,
    /// The model of a chat completion, by the name in the request.
    pub model: Option<String>,
    /// The client's `metadata`.
    pub metadata: Metadata,
    /// The object as JSON, without its metadata.
    pub body: String,
    /// The id of the response that this response continues.
    pub previous: Option<String>,
    /// Whether a server is working on the object, that is, whether there is a [hold](Change::Hold)
    /// that has not run out. [`Store::write`] ignores this field.
    pub is_held: bool,
}

/// One item of an object: a message of a chat completion, an item of a conversation or of a
/// response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The item's id, which no other item on this side of the object has.
    pub id: String,
    /// The item as JSON.
    pub body: String,
    /// The list of the object's items that the item belongs to.
    pub side: Side,
}

/// One of the lists of an object's items.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// The input of the client: the messages of a chat completion, the items of a conversation, the
    /// input of a response.
    Input,
    /// The items that the model wrote: the `output` of a response.
    Output,
    /// The events of a response's stream, as they were sent.
    Stream,
}

/// A change to an object of an owner.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Stores a new object with its items.
    Create {
        /// The object.
        object: Object,
        /// The object's items.
        items: Vec<Item>,
    },
    /// Replaces the body of an object and adds items at the end of its items.
    Replace {
        /// The kind of the object.
        kind: Kind,
        /// The object's id.
        id: String,
        /// The object's new body.
        body: String,
        /// The items to add.
        items: Vec<Item>,
        /// If given, the change fails with [`StoreError::InUse`] unless there is such a hold on the
        /// object.
        needs: Option<NeededHold>,
    },
    /// Adds items at the end of an object's items.
    Append {
        /// The kind of the object.
        kind: Kind,
        /// The object's id.
        id: String,
        /// The items to add.
        items: Vec<Item>,
    },
    /// Notes that a holder works on an object, for some time from now on. A second hold of the same
    /// holder renews the first. It fails with [`StoreError::InUse`] if another holder's hold has
    /// not run out.
    Hold {
        /// The kind of the object.
        kind: Kind,
        /// The object's id.
        id: String,
        /// The name of the holder, which no other task has.
        holder: String,
        /// When the hold runs out, counted from now.
        time: Duration,
    },
    /// Makes a hold of this holder last longer, even if it has run out. It fails with
    /// [`StoreError::InUse`] if the hold was ended or another holder has the object.
    Renew {
        /// The kind of the object.
        kind: Kind,
        /// The object's id.
        id: String,
        /// The name of the holder.
        holder: String,
        /// When the hold runs out, counted from now.
        time: Duration,
    },
    /// Ends a hold on an object. If a holder is given and has no hold, nothing happens.
    Release {
        /// The kind of the object.
        kind: Kind,
        /// The object's id.
        id: String,
        /// The holder whose hold ends. `None`: any holder's.
        holder: Option<String>,
    },
    /// Deletes all items of an object.
    Clear {
        /// The kind of the object.
        kind: Kind,
        /// The object's id.
        id: String,
    },
    /// Replaces the metadata of an object.
    Label {
        /// The kind of the object.
        kind: Kind,
        /// The object's id.
        id: String,
        /// The object's new metadata.
        metadata: Metadata,
    },
    /// Adds chunks to a file of a vector store. Chunks from number 0 on replace all chunks of the
    /// file.
    Chunks {
        /// The id of the object, which is a [`Kind::VectorStoreFile`].
        id: String,
        /// The id of the vector store.
        store: String,
        /// The number of the first of these chunks. The others follow it.
        first: u64,
        /// The chunks.
        chunks: Vec<Chunk>,
        /// Whether these are the file's last chunks. From then on a search finds them.
        is_last: bool,
    },
    /// Sets when an object is due, and how many bytes of content it has outside the store.
    Schedule {
        /// The kind of the object.
        kind: Kind,
        /// The object's id.
        id: String,
        /// When a server has to work on the object next, in Unix seconds. `None`: never.
        due: Option<u64>,
        /// The bytes of the object's content, which count against the limit of its owner.
        content: u64,
    },
    /// Changes nothing. It fails with [`StoreError::OverLimit`] if the content of all objects of
    /// the owner and `more` further bytes would exceed a limit.
    Limit {
        /// The bytes that are to be added.
        more: u64,
        /// The limit.
        most: u64,
    },
}

/// The hold that an object must have to be changed. A hold stays, even if it has run out, until it
/// is [ended](Change::Release) or another holder takes the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NeededHold {
    /// A hold of this holder.
    Of(String),
    /// A hold of any holder.
    Any,
    /// A hold of any holder that has run out.
    RunOut,
}

/// The address of an object. Only its owner can find it.
#[derive(Clone, Copy, Debug)]
pub struct ObjectRef<'a> {
    /// The owner.
    pub owner: &'a Owner,
    /// The kind.
    pub kind: Kind,
    /// The object's id.
    pub id: &'a str,
}

/// Which objects of a kind a list contains. The default is all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// If given, only objects of this model.
    pub model: Option<String>,
    /// Only objects whose metadata has all these names and values.
    pub metadata: Metadata,
}

/// The bytes of entries after which a part of a list ends early, with [`Listed::has_more`]. The
/// first entry is always there.
pub const MOST_BYTES_OF_A_PAGE: usize = 32 << 20;

/// The maximum number of bytes of items that [`Store::chain`] and [`Store::find_items`] return.
pub const MOST_BYTES_OF_A_CHAIN: usize = 64 << 20;

/// The maximum number of responses in a chain.
pub const MOST_OBJECTS_OF_A_CHAIN: usize = 10_000;

/// Which part of a list to return.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The id of the entry before the first.
    pub after: Option<String>,
    /// The maximum number of entries.
    pub limit: usize,
    /// The direction.
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
    /// Whether there are more objects after these.
    pub has_more: bool,
}

/// Why a call of a store failed.
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
    /// There is already an object or an item with this id.
    #[error("the id {id} is taken")]
    Duplicate {
        /// The id.
        id: String,
    },
    /// Another holder works on the object, or the holder of a change has no hold on it.
    #[error("the object is in use")]
    InUse,
    /// A response that another one continues does not exist.
    #[error("the response {id} of the chain does not exist")]
    BrokenChain {
        /// The id of the missing response.
        id: String,
    },
    /// The items have more bytes than one call may return.
    #[error("the items are too long to be read at once")]
    TooLong,
    /// The owner's objects would have more content than the [limit](Change::Limit).
    #[error("the objects of the owner have too much content")]
    OverLimit,
    /// There is no room: the disk is full, or the object is too large for the store.
    #[error("the store is full")]
    Full,
    /// The store cannot be reached or does not work. The cause is for the operator's log.
    #[error("the store does not work: {cause}")]
    Unavailable {
        /// The cause. It contains none of the client's text.
        cause: String,
    },
}
