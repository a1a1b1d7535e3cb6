//! Vector stores, `/v1/vector_stores…`: files that are divided into chunks and searched.
//!
//! `files.rs` and `batches.rs` add files, `ingest.rs` reads them in the background (`text.rs` finds
//! their text, `chunking.rs` divides it, `embed.rs` computes the vectors), `search.rs` searches;
//! `filter.rs` and `attributes.rs` are about the attributes of files. A vector store, each file of it
//! and each batch of files are objects of the store, and so every key sees only its own.
//!
//! The worker writes its findings about a file (status, error, size) to the labels of the object, and
//! the changes of clients are in its body. So neither overwrites the other.

mod attributes;
mod batches;
mod chunking;
pub(crate) mod embed;
mod files;
pub(crate) mod filter;
mod ingest;
pub(crate) mod search;
mod text;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::{Response, StatusCode};
use loggia_wire::openai::{
    ChunkSizes, CreateVectorStore, Deleted, FileCounts, Page, UpdateVectorStore, VectorStore,
    VectorStoreExpiry,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::change_held::{Changed, ToHold, change_held};
use super::files::{Files, Head, answered};
use super::{damaged, metadata, page};
use crate::admit::checks::{between, one_of, too_long};
use crate::admit::parse::tracked;
use crate::answer::id;
use crate::door::policy::FileLimits;
use crate::door::query::Query;
use crate::door::routes::VectorStoresHandler;
use crate::store::{
    Change, Filter, Kind, Listed, Metadata, Object, Order, Page as Part, StoreError,
};
use crate::{ApiError, Body, Documents};

use embed::Embedder;

/// The names of the labels of a file of a vector store.
mod labels {
    /// The id of the vector store.
    pub(super) const VECTOR_STORE: &str = "vector_store";
    /// The id of the file.
    pub(super) const FILE: &str = "file";
    /// The id of the batch with which a file was added.
    pub(super) const BATCH: &str = "batch";
    pub(super) const STATUS: &str = "status";
    /// The reason why a file failed.
    pub(super) const ERROR_CODE: &str = "error_code";
    pub(super) const ERROR_MESSAGE: &str = "error_message";
    /// The bytes that the chunks of a file take.
    pub(super) const USAGE: &str = "usage_bytes";
    /// The number of attempts to read a file.
    pub(super) const TRIES: &str = "tries";
}

/// The statuses of a file.
const IN_PROGRESS: &str = "in_progress";
const COMPLETED: &str = "completed";
const FAILED: &str = "failed";
const CANCELLED: &str = "cancelled";

const SECONDS_OF_A_DAY: u64 = 24 * 3600;

/// The maximum number of files that one request adds: OpenAI's own limit for a batch.
const MOST_FILES: usize = 2000;

/// The longest name, in characters.
const LONGEST_NAME: usize = 256;

/// How old `last_active_at` may be before a search renews it, so that few searches write.
const ACTIVE_SECONDS: u64 = 60;

/// How long a change holds a vector store at most, and how long another change waits for it.
const HELD_FOR: Duration = Duration::from_secs(10);
const WAIT: Duration = Duration::from_secs(5);

/// The stored form of a vector store.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StoredVectorStore {
    id: String,
    created_at: u64,
    name: String,
    description: Option<String>,
    last_active_at: u64,
    expires_after: Option<VectorStoreExpiry>,
    /// The embedding model, by the name in the configuration. All vectors are of one model.
    pub(crate) model: String,
    /// Whether the vector store was deleted. A background task deletes its files, and then the
    /// object.
    is_deleted: bool,
}

/// A request about vector stores, or work on them that no request asked for.
#[derive(Clone)]
pub(crate) struct VectorStores {
    pub(crate) files: Files,
    pub(crate) embedder: Embedder,
    /// Reads PDFs.
    pub(crate) documents: Option<Arc<dyn Documents>>,
}

impl VectorStores {
    /// Answers a request. The body is empty if its method has none.
    pub(super) async fn answer(
        &self,
        handler: VectorStoresHandler,
        head: &Head<'_>,
        body: &[u8],
    ) -> Result<Response<Body>, ApiError> {
        match handler {
            VectorStoresHandler::Create => self.create(head, body).await,
            VectorStoresHandler::List => self.list(head).await,
            VectorStoresHandler::Retrieve => self.retrieve(head).await,
            VectorStoresHandler::Update => self.update(head, body).await,
            VectorStoresHandler::Delete => self.delete(head).await,
            VectorStoresHandler::Search => self.search(head, body).await,
            VectorStoresHandler::AddFile => self.add_file(head, body).await,
            VectorStoresHandler::Files => self.list_files(head, None).await,
            VectorStoresHandler::File => self.retrieve_file(head).await,
            VectorStoresHandler::UpdateFile => self.update_file(head, body).await,
            VectorStoresHandler::DeleteFile => self.delete_file(head).await,
            VectorStoresHandler::FileContent => self.file_content(head).await,
            VectorStoresHandler::CreateBatch => self.create_batch(head, body).await,
            VectorStoresHandler::Batch => self.retrieve_batch(head).await,
            VectorStoresHandler::CancelBatch => self.cancel_batch(head).await,
            VectorStoresHandler::BatchFiles => self.batch_files(head).await,
        }
    }

    /// `POST /v1/vector_stores`.
    async fn create(&self, head: &Head<'_>, body: &[u8]) -> Result<Response<Body>, ApiError> {
        let body = if body.is_empty() { b"{}" } else { body };
        let CreateVectorStore {
            name,
            description,
            file_ids,
            chunking_strategy,
            expires_after,
            metadata,
            extra,
        } = tracked(body)?;
        let ignored = head.unknown(&extra)?;
        check_name(name.as_deref())?;
        check_expiry(expires_after.as_ref())?;
        let metadata = metadata::checked(metadata)?;
        let sizes = chunking::sizes("chunking_strategy", chunking_strategy.as_ref())?;
        let file_ids = file_ids.unwrap_or_default();
        if file_ids.len() > MOST_FILES {
            return Err(too_long("file_ids", MOST_FILES, file_ids.len()));
        }
        let now = id::now();
        let stored = StoredVectorStore {
            id: id::item("vs_"),
            created_at: now,
            name: name.unwrap_or_default(),
            description,
            last_active_at: now,
            expires_after,
            model: self.embedder.model()?,
            is_deleted: false,
        };
        let object = stored.object(metadata)?;
        let mut changes = vec![
            Change::Limit {
                more: FileLimits::OVERHEAD * (1 + file_ids.len() as u64),
                most: self.files.limits.key_bytes,
            },
            Change::Create {
                object: object.clone(),
                items: Vec::new(),
            },
            stored.schedule(),
        ];
        changes.extend(self.first_files(&stored, &file_ids, sizes).await?);
        let written = self.files.store.write(&self.files.owner, changes).await;
        written.map_err(|error| self.files.failed(&error))?;
        answered(&self.shown(&object).await?, &ignored)
    }

    /// Returns the changes that add files to a new vector store.
    async fn first_files(
        &self,
        to: &StoredVectorStore,
        file_ids: &[String],
        sizes: ChunkSizes,
    ) -> Result<Vec<Change>, ApiError> {
        let mut changes = Vec::new();
        for (index, file_id) in file_ids.iter().enumerate() {
            let file = self.files.find(file_id).await;
            let file = file.map_err(|error| error.about(format!("file_ids[{index}]")))?;
            let new = files::NewFile {
                file: file.file,
                attributes: Map::new(),
                sizes,
                batch: None,
            };
            // The same file twice is one file.
            if !file_ids[..index].contains(file_id) {
                changes.extend(new.creation(to)?);
            }
        }
        Ok(changes)
    }

    /// `GET /v1/vector_stores`.
    async fn list(&self, head: &Head<'_>) -> Result<Response<Body>, ApiError> {
        let found = self
            .page(&head.query, Kind::VectorStore, &Filter::default(), "")
            .await?;
        let mut shown = Vec::with_capacity(found.data.len());
        for object in &found.data {
            if !stored(object)?.is_deleted {
                shown.push((object.id.clone(), self.shown(object).await?));
            }
        }
        answered(&Page::new(shown, found.has_more), "")
    }

    /// `GET /v1/vector_stores/{vector_store_id}`.
    async fn retrieve(&self, head: &Head<'_>) -> Result<Response<Body>, ApiError> {
        let (object, _) = self.find(head.route.id()).await?;
        answered(&self.shown(&object).await?, "")
    }

    /// `POST /v1/vector_stores/{vector_store_id}`.
    async fn update(&self, head: &Head<'_>, body: &[u8]) -> Result<Response<Body>, ApiError> {
        let body = if body.is_empty() { b"{}" } else { body };
        let UpdateVectorStore {
            name,
            expires_after,
            metadata,
            extra,
        } = tracked(body)?;
        let ignored = head.unknown(&extra)?;
        check_name(name.as_deref())?;
        check_expiry(expires_after.as_ref())?;
        let labels = metadata.is_some().then(|| metadata::checked(metadata));
        let id = head.route.id();
        let relabel = labels.transpose()?.map(|metadata| Change::Label {
            kind: Kind::VectorStore,
            id: id.to_owned(),
            metadata,
        });
        let removes_expiry = is_null(body, "expires_after");
        let change = |stored: &mut StoredVectorStore| {
            if let Some(name) = name {
                stored.name = name;
            }
            if expires_after.is_some() || removes_expiry {
                stored.expires_after = expires_after;
            }
            stored.last_active_at = id::now();
        };
        self.change(id, WAIT, relabel, change).await?;
        let (object, _) = self.find(id).await?;
        answered(&self.shown(&object).await?, &ignored)
    }

    /// Changes a vector store, and writes another change with it. Nothing else changes it between its
    /// reading and its writing: another request waits, but not longer than `wait`.
    async fn change(
        &self,
        id: &str,
        wait: Duration,
        with: Option<Change>,
        change: impl FnOnce(&mut StoredVectorStore) + Send,
    ) -> Result<(), ApiError> {
        let to_hold = ToHold {
            store: &*self.files.store,
            object: self.files.at(Kind::VectorStore, id),
            time: HELD_FOR,
            wait,
        };
        let worded = |error| self.files.worded(&error, Kind::VectorStore, id);
        let changed = async {
            let (_, mut stored) = self.find(id).await?;
            change(&mut stored);
            Ok(Changed {
                body: stored.json()?,
                with: [stored.schedule()].into_iter().chain(with).collect(),
                value: (),
            })
        };
        change_held(to_hold, worded, changed).await
    }

    /// `DELETE /v1/vector_stores/{vector_store_id}`. The vector store is no longer shown; the
    /// worker deletes it with its files.
    async fn delete(&self, head: &Head<'_>) -> Result<Response<Body>, ApiError> {
        let id = head.route.id();
        let delete = |stored: &mut StoredVectorStore| stored.is_deleted = true;
        self.change(id, WAIT, None, delete).await?;
        let deleted = Deleted {
            object: "vector_store.deleted".to_owned(),
            id: id.to_owned(),
            deleted: true,
        };
        answered(&deleted, "")
    }

    /// Returns a vector store that was not deleted.
    pub(crate) async fn find(&self, id: &str) -> Result<(Object, StoredVectorStore), ApiError> {
        let object = self
            .files
            .store
            .object(self.files.at(Kind::VectorStore, id))
            .await;
        let worded = |error: &StoreError| self.files.worded(error, Kind::VectorStore, id);
        let object = object.map_err(|error| worded(&error))?;
        let stored = stored(&object)?;
        if stored.is_deleted {
            return Err(worded(&StoreError::NotFound));
        }
        Ok((object, stored))
    }

    /// Returns a vector store that can be searched and added to.
    pub(crate) async fn find_usable(&self, id: &str) -> Result<StoredVectorStore, ApiError> {
        let (_, stored) = self.find(id).await?;
        if stored.has_expired() {
            let message = format!(
                "The vector store {id} has expired: it was not used for the days of its 'expires_after'. Create a new one."
            );
            return Err(ApiError::invalid("vector_store_id", "expired", message));
        }
        Ok(stored)
    }

    /// Notes that a vector store is used.
    pub(crate) async fn touch(&self, stored: &StoredVectorStore) {
        if stored.last_active_at + ACTIVE_SECONDS > id::now() {
            return;
        }
        let touch = |stored: &mut StoredVectorStore| stored.last_active_at = id::now();
        // A request that changes it at the moment notes the time itself, or deletes it.
        if let Err(error) = self.change(&stored.id, Duration::ZERO, None, touch).await {
            tracing::debug!(?error, "the use of a vector store could not be noted");
        }
    }

    /// Returns how many files with these labels there are, and the bytes of their chunks.
    async fn counts(&self, name: &str, id: &str) -> Result<(FileCounts, u64), ApiError> {
        let filter = Filter {
            model: None,
            metadata: Metadata::from([(name.to_owned(), id.to_owned())]),
        };
        let Files { store, owner, .. } = &self.files;
        let counted = store.counts(owner, Kind::VectorStoreFile, &filter, labels::STATUS);
        let counted = counted.await.map_err(|error| self.files.failed(&error))?;
        let mut counts = FileCounts::default();
        let mut bytes = 0;
        for one in counted {
            let status = match one.value.as_str() {
                COMPLETED => &mut counts.completed,
                FAILED => &mut counts.failed,
                CANCELLED => &mut counts.cancelled,
                _ => &mut counts.in_progress,
            };
            *status += one.objects;
            counts.total += one.objects;
            bytes += one
                .content
                .saturating_sub(one.objects * FileLimits::OVERHEAD);
        }
        Ok((counts, bytes))
    }

    /// Returns a vector store as it is answered.
    async fn shown(&self, object: &Object) -> Result<Map<String, Value>, ApiError> {
        let stored = stored(object)?;
        let (file_counts, usage_bytes) = self.counts(labels::VECTOR_STORE, &stored.id).await?;
        let status = match file_counts.in_progress {
            _ if stored.has_expired() => "expired",
            0 => COMPLETED,
            _ => IN_PROGRESS,
        };
        let shown = VectorStore {
            object: Kind::VectorStore.as_str(),
            usage_bytes,
            file_counts,
            status,
            expires_at: stored.expires_at(),
            id: stored.id,
            created_at: stored.created_at,
            name: stored.name,
            description: stored.description,
            expires_after: stored.expires_after,
            last_active_at: stored.last_active_at,
        };
        let Ok(Value::Object(mut shown)) = serde_json::to_value(shown) else {
            return Err(damaged());
        };
        let metadata = object.metadata.clone().into_iter();
        let metadata: Map<_, _> = metadata.map(|(name, value)| (name, value.into())).collect();
        shown.insert("metadata".to_owned(), metadata.into());
        Ok(shown)
    }

    /// Returns a part of a list: `after` or `before` an entry. The ids in the query lack this prefix
    /// of the ids of objects.
    async fn page(
        &self,
        query: &Query,
        kind: Kind,
        filter: &Filter,
        prefix: &str,
    ) -> Result<Listed<Object>, ApiError> {
        let limit = page::limit(query, 20, 0, 100)?;
        let mut part: Part = page::of_limit(query, limit, Order::Descending)?;
        let before = query.get("before").filter(|_| part.after.is_none());
        let edge = part.after.take().or_else(|| before.map(str::to_owned));
        part.after = edge.as_ref().map(|id| format!("{prefix}{id}"));
        if before.is_some() {
            part.order = match part.order {
                Order::Ascending => Order::Descending,
                Order::Descending => Order::Ascending,
            };
        }
        let Files { store, owner, .. } = &self.files;
        let found = store.objects(owner, kind, filter, &part).await;
        let mut found = found.map_err(|error| match error {
            StoreError::AfterNotFound => {
                let name = if before.is_some() { "before" } else { "after" };
                let id = edge.as_deref().unwrap_or_default();
                self.files
                    .worded(&StoreError::NotFound, kind, id)
                    .about(name)
            }
            error => self.files.failed(&error),
        })?;
        if before.is_some() {
            found.data.reverse();
        }
        Ok(found)
    }
}

impl StoredVectorStore {
    fn expires_at(&self) -> Option<u64> {
        let days = self.expires_after.as_ref()?.days;
        let days = u64::try_from(days).unwrap_or_default();
        Some(self.last_active_at + days * SECONDS_OF_A_DAY)
    }

    fn has_expired(&self) -> bool {
        self.expires_at().is_some_and(|at| at <= id::now())
    }

    fn json(&self) -> Result<String, ApiError> {
        serde_json::to_string(self).map_err(|_| damaged())
    }

    /// Returns the vector store as a new object.
    fn object(&self, metadata: Metadata) -> Result<Object, ApiError> {
        Ok(Object {
            kind: Kind::VectorStore,
            id: self.id.clone(),
            created: self.created_at,
            model: None,
            metadata,
            body: self.json()?,
            previous: None,
            is_held: false,
        })
    }

    /// Returns the change that sets when the worker looks at the vector store next: when it
    /// expires, or at once if it was deleted.
    fn schedule(&self) -> Change {
        let deleted = self.is_deleted.then_some(0);
        Change::Schedule {
            kind: Kind::VectorStore,
            id: self.id.clone(),
            due: deleted.or_else(|| self.expires_at()),
            content: FileLimits::OVERHEAD,
        }
    }
}

fn stored(object: &Object) -> Result<StoredVectorStore, ApiError> {
    serde_json::from_str(&object.body).map_err(|_| damaged())
}

/// Whether a field of a request is there, and `null`.
fn is_null(body: &[u8], field: &str) -> bool {
    let fields = serde_json::from_slice::<BTreeMap<String, Value>>(body);
    fields.is_ok_and(|fields| fields.get(field) == Some(&Value::Null))
}

fn check_name(name: Option<&str>) -> Result<(), ApiError> {
    match name {
        Some(name) if name.chars().count() > LONGEST_NAME => {
            let message = format!(
                "Invalid 'name': string too long. Expected a string with maximum length {LONGEST_NAME}."
            );
            Err(ApiError::invalid(
                "name",
                "string_above_max_length",
                message,
            ))
        }
        _ => Ok(()),
    }
}

fn check_expiry(expires: Option<&VectorStoreExpiry>) -> Result<(), ApiError> {
    let Some(expires) = expires else {
        return Ok(());
    };
    let anchors = ["last_active_at"];
    one_of("expires_after.anchor", Some(&expires.anchor), &anchors)?;
    between("expires_after.days", Some(expires.days), 1, 365)
}

/// Returns the error for a request that needs a model which computes embeddings.
fn no_model() -> ApiError {
    let message = "This server has no embedding model for vector stores. Its operator names one in the setting `embedding_model`.";
    ApiError::new(StatusCode::BAD_REQUEST, message).coded("embedding_model_missing")
}
