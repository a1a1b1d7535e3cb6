//! Files and uploads, `/v1/files…` and `/v1/uploads…`. The objects are in the store, the contents
//! in [`Blobs`].
//!
//! `create.rs` receives a file, `content.rs` sends it, `uploads.rs` makes a file of parts,
//! `form.rs` reads forms, `anthropic.rs` shows files as Anthropic's API does. `attach.rs` gives models the files that a chat names. `cleanup.rs`
//! deletes what has expired, and what a killed server left behind.
//!
//! A content is whole and on the disk before its object is stored, and an object is deleted before
//! its content. So no object ever lacks its content.

mod anthropic;
pub(crate) mod attach;
mod cleanup;
mod content;
mod create;
mod uploads;

use std::sync::Arc;

use bytes::Buf;
use http::request::Parts;
use http::{Request, Response, StatusCode};
use loggia_wire::Extra;
use loggia_wire::openai::{Deleted, ExpiresAfter, FileObject, Page};
use serde::{Deserialize, Serialize};

use super::{damaged, log, may_see_stored, noun, owner, page};
use crate::admit::checks::{between, listed_unless_strict, one_of};
use crate::answer::headers::{self, name_ignored};
use crate::answer::id;
use crate::answer::ignored::listed;
use crate::door::policy::FileLimits;
use crate::door::query::Query;
use crate::door::read;
use crate::door::routes::{FilesHandler, VectorStoresHandler};
use crate::door::speaks::speaks_anthropic;
use crate::store::blobs::BlobWriter;
use crate::store::{
    Blobs, Change, Filter, Kind, Metadata, Object, ObjectRef, Order, Owner, StoreError,
};
use crate::{ApiError, Body, Door, RequestId, Route, Store, Strictness};

/// The purposes of files.
const PURPOSES: &[&str] = &[
    "assistants",
    "batch",
    "fine-tune",
    "vision",
    "user_data",
    "evals",
];

/// How long files for batches are kept if the client does not say: 30 days, as at OpenAI. Other
/// files stay until they are deleted.
const BATCH_SECONDS: u64 = 30 * 24 * 3600;

/// The name of the label by which lists are filtered.
const PURPOSE: &str = "purpose";

/// The maximum limit of a list of files, which is also the usual one.
const MOST_LISTED: i64 = 10_000;

/// The longest name of a file, in characters.
const LONGEST_NAME: usize = 255;

/// The stored form of a file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StoredFile {
    #[serde(flatten)]
    pub(crate) file: FileObject,
    /// The place of the file's content in [`Blobs`](crate::store::Blobs).
    pub(crate) place: String,
    /// The media type that the client sent with the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) media_type: Option<String>,
}

/// A request about files, or work on files that no request asked for.
#[derive(Clone)]
pub(crate) struct Files {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) blobs: Arc<dyn Blobs>,
    pub(crate) owner: Owner,
    pub(crate) limits: FileLimits,
    request_id: Option<Arc<str>>,
}

/// The parts of a request that are not its body.
pub(in crate::stored) struct Head<'a> {
    pub(in crate::stored) route: &'a Route,
    pub(in crate::stored) parts: &'a Parts,
    pub(in crate::stored) query: Query,
    strictness: Strictness,
    /// Whether the client uses Anthropic's API.
    is_anthropic: bool,
}

impl Door {
    /// Answers a request about files.
    pub(crate) async fn files<B>(
        &self,
        handler: FilesHandler,
        route: &Route,
        request: Request<B>,
    ) -> Response<Body>
    where
        B: http_body::Body<Data: Buf, Error: std::fmt::Display> + Send,
    {
        let answered = self.answer_files(handler, route, request).await;
        answered.unwrap_or_else(|error| self.refuse(error))
    }

    async fn answer_files<B>(
        &self,
        handler: FilesHandler,
        route: &Route,
        request: Request<B>,
    ) -> Result<Response<Body>, ApiError>
    where
        B: http_body::Body<Data: Buf, Error: std::fmt::Display> + Send,
    {
        let (parts, body) = request.into_parts();
        let (files, head) = self.files_and_head(route, &parts)?;
        let pause = self.policy.body_within;
        match handler {
            FilesHandler::CreateFile => files.create(&head, body, pause).await,
            FilesHandler::Files if head.is_anthropic => files.list_for_anthropic(&head).await,
            FilesHandler::Files => files.list(&head).await,
            FilesHandler::File => files.retrieve(&head).await,
            FilesHandler::DeleteFile => files.delete(&head).await,
            FilesHandler::FileContent => files.content(&head).await,
            FilesHandler::CreateUpload => {
                let body = read::json_body(&parts.headers, body, &self.policy).await?;
                files.create_upload(&head, &body).await
            }
            FilesHandler::AddPart => files.add_part(&head, body, pause).await,
            FilesHandler::CompleteUpload => {
                let body = read::json_body(&parts.headers, body, &self.policy).await?;
                files.complete_upload(&head, &body).await
            }
            FilesHandler::CancelUpload => files.cancel_upload(&head).await,
            FilesHandler::CreateBatch => {
                let body = read::json_body(&parts.headers, body, &self.policy).await?;
                files.create_batch(&head, &body).await
            }
            FilesHandler::Batches => files.batches(&head).await,
            FilesHandler::Batch => files.batch(&head).await,
            FilesHandler::CancelBatch => files.cancel_batch(&head).await,
            FilesHandler::CreateMessageBatch => {
                files.create_message_batch(&head, body, &self.policy).await
            }
            FilesHandler::MessageBatches => files.message_batches(&head).await,
            FilesHandler::MessageBatch => files.message_batch(&head).await,
            FilesHandler::CancelMessageBatch => files.cancel_message_batch(&head).await,
            FilesHandler::DeleteMessageBatch => files.delete_message_batch(&head).await,
            FilesHandler::MessageBatchResults => files.message_batch_results(&head).await,
        }
    }

    /// Answers a request about vector stores.
    pub(crate) async fn of_vector_stores<B>(
        &self,
        handler: VectorStoresHandler,
        route: &Route,
        request: Request<B>,
    ) -> Response<Body>
    where
        B: http_body::Body<Data: Buf, Error: std::fmt::Display> + Send,
    {
        let answered = self.answer_vector_stores(handler, route, request).await;
        answered.unwrap_or_else(|error| self.refuse(error))
    }

    async fn answer_vector_stores<B>(
        &self,
        handler: VectorStoresHandler,
        route: &Route,
        request: Request<B>,
    ) -> Result<Response<Body>, ApiError>
    where
        B: http_body::Body<Data: Buf, Error: std::fmt::Display> + Send,
    {
        let (parts, body) = request.into_parts();
        let (files, head) = self.files_and_head(route, &parts)?;
        let has_body = parts.method == http::Method::POST && !handler.takes_no_body();
        let body = if has_body {
            read::json_body(&parts.headers, body, &self.policy).await?
        } else {
            bytes::Bytes::new()
        };
        self.vector_stores(files)
            .answer(handler, &head, &body)
            .await
    }

    /// Returns access to the files of the caller, and the head of its request.
    fn files_and_head<'a>(
        &self,
        route: &'a Route,
        parts: &'a Parts,
    ) -> Result<(Files, Head<'a>), ApiError> {
        if !may_see_stored(parts) {
            return Err(ApiError::stored_for_keys_only());
        }
        let files = self.files_of(owner(parts)).ok_or_else(damaged)?;
        let files = Files {
            request_id: RequestId::of(parts),
            ..files
        };
        let head = Head {
            route,
            parts,
            query: Query::of(&parts.uri),
            strictness: self.strictness_for(parts, ""),
            is_anthropic: speaks_anthropic(parts.uri.path(), &parts.headers),
        };
        Ok((files, head))
    }

    /// Returns access to the files of an owner, if the door has files.
    pub(crate) fn files_of(&self, owner: Owner) -> Option<Files> {
        Some(Files {
            store: self.store.clone()?,
            blobs: self.blobs.clone()?,
            owner,
            limits: self.policy.files.clone(),
            request_id: None,
        })
    }
}

impl Head<'_> {
    /// Returns the names of unknown fields, or refuses them in strict mode.
    pub(in crate::stored) fn unknown(&self, extra: &Extra) -> Result<String, ApiError> {
        let names = listed_unless_strict(extra.keys().cloned().collect(), self.strictness)?;
        Ok(listed(&names))
    }
}

impl Files {
    /// `GET /v1/files`.
    async fn list(&self, head: &Head<'_>) -> Result<Response<Body>, ApiError> {
        let limit = page::limit(&head.query, MOST_LISTED, 0, MOST_LISTED)?;
        let part = page::of_limit(&head.query, limit, Order::Descending)?;
        let purpose = head.query.get(PURPOSE);
        let purpose = purpose.map(|purpose| (PURPOSE.to_owned(), purpose.to_owned()));
        let filter = Filter {
            model: None,
            metadata: purpose.into_iter().collect(),
        };
        let found = self.store.objects(&self.owner, Kind::File, &filter, &part);
        let after = head.query.get("after").unwrap_or_default();
        let found = found.await.map_err(|error| match error {
            StoreError::AfterNotFound => no_such(Kind::File, after).about("after"),
            error => self.failed(&error),
        })?;
        let mut files = Vec::with_capacity(found.data.len());
        for object in &found.data {
            let StoredFile { file, .. } = stored(object)?;
            if !has_expired(&file) {
                files.push((file.id.clone(), file));
            }
        }
        answered(&Page::new(files, found.has_more), "")
    }

    /// `GET /v1/files/{file_id}`.
    async fn retrieve(&self, head: &Head<'_>) -> Result<Response<Body>, ApiError> {
        shown(&self.find(head.route.id()).await?, head, "")
    }

    /// `DELETE /v1/files/{file_id}`.
    async fn delete(&self, head: &Head<'_>) -> Result<Response<Body>, ApiError> {
        let StoredFile { file, place, .. } = self.find(head.route.id()).await?;
        let left = self.leave_vector_stores(&file.id).await;
        left.map_err(|error| self.failed(&error))?;
        let deleted = self.store.delete(self.at(Kind::File, &file.id)).await;
        deleted.map_err(|error| self.worded(&error, Kind::File, &file.id))?;
        self.discard(&place).await;
        if head.is_anthropic {
            return answered(&anthropic::deleted(file.id), "");
        }
        let deleted = Deleted {
            object: Kind::File.as_str().to_owned(),
            id: file.id,
            deleted: true,
        };
        answered(&deleted, "")
    }

    /// Returns access to the files of another owner.
    pub(in crate::stored) fn of(&self, owner: Owner) -> Self {
        Self {
            owner,
            ..self.clone()
        }
    }

    /// Returns a file that has not expired.
    pub(crate) async fn find(&self, id: &str) -> Result<StoredFile, ApiError> {
        self.find_of(Kind::File, id).await
    }

    /// Returns a file, or a content of a batch, that has not expired.
    pub(in crate::stored) async fn find_of(
        &self,
        kind: Kind,
        id: &str,
    ) -> Result<StoredFile, ApiError> {
        let object = self.store.object(self.at(kind, id)).await;
        let object = object.map_err(|error| self.worded(&error, kind, id))?;
        let stored = stored(&object)?;
        if has_expired(&stored.file) {
            return Err(no_such(kind, id));
        }
        Ok(stored)
    }

    pub(in crate::stored) fn at<'a>(&'a self, kind: Kind, id: &'a str) -> ObjectRef<'a> {
        ObjectRef {
            owner: &self.owner,
            kind,
            id,
        }
    }

    /// Begins to write a content.
    pub(in crate::stored) async fn begin(
        &self,
        name: &str,
    ) -> Result<(String, Box<dyn BlobWriter>), ApiError> {
        let begun = self.blobs.create(name).await;
        begun.map_err(|error| self.failed(&error))
    }

    /// Finishes a content, and makes the changes that refer to it. If a change fails, the content
    /// is deleted. A client that leaves does not interrupt this.
    pub(in crate::stored) async fn store(
        &self,
        writer: Box<dyn BlobWriter>,
        place: String,
        changes: Vec<Change>,
    ) -> Result<(), StoreError> {
        let files = self.clone();
        let storing = tokio::spawn(async move {
            writer.finish().await?;
            let stored = files.store.write(&files.owner, changes).await;
            if stored.is_err() {
                files.discard(&place).await;
            }
            stored
        });
        storing.await.unwrap_or_else(|error| {
            Err(StoreError::Unavailable {
                cause: error.to_string(),
            })
        })
    }

    /// Deletes a content to which nothing refers any more. If that fails, the next start deletes
    /// it.
    pub(crate) async fn discard(&self, place: &str) {
        if let Err(error) = self.blobs.delete(place).await {
            let request_id = self.request_id.as_deref();
            tracing::warn!(request_id, %error, "the content of a deleted file could not be deleted");
        }
    }

    /// Returns an error of the store or of the contents in OpenAI's words.
    pub(in crate::stored) fn worded(&self, error: &StoreError, kind: Kind, id: &str) -> ApiError {
        match error {
            StoreError::NotFound => no_such(kind, id),
            StoreError::InUse => {
                let message = format!("{} is in use. Try again later.", named(kind, id));
                ApiError::new(StatusCode::CONFLICT, message)
            }
            error => self.failed(error),
        }
    }

    pub(in crate::stored) fn failed(&self, error: &StoreError) -> ApiError {
        log(error, self.request_id.as_deref());
        match error {
            StoreError::OverLimit => over_limit(self.limits.key_bytes),
            StoreError::Full => {
                let message = "There is no room on this server to store the file; nothing was stored. Delete other files, or ask the operator for more room.";
                ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message).coded("store_full")
            }
            _ => {
                let message = "Files on this server cannot be read or stored at the moment; nothing was changed. Try again later.";
                ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message).coded("store_unavailable")
            }
        }
    }
}

/// Makes the changes that store a file, or a content of a batch.
pub(in crate::stored) fn creation(
    kind: Kind,
    stored: &StoredFile,
    limit: Option<u64>,
) -> Result<Vec<Change>, ApiError> {
    let file = &stored.file;
    let content = file.bytes + FileLimits::OVERHEAD;
    let object = Object {
        kind,
        id: file.id.clone(),
        created: file.created_at,
        model: None,
        metadata: Metadata::from([(PURPOSE.to_owned(), file.purpose.clone())]),
        body: serde_json::to_string(stored).map_err(|_| damaged())?,
        previous: None,
        is_held: false,
    };
    let limit = limit.map(|most| Change::Limit {
        more: content,
        most,
    });
    let schedule = Change::Schedule {
        kind,
        id: file.id.clone(),
        due: file.expires_at,
        content,
    };
    let create = Change::Create {
        object,
        items: Vec::new(),
    };
    Ok(limit.into_iter().chain([create, schedule]).collect())
}

/// Returns a new file as it will be stored.
pub(in crate::stored) fn new_file(
    id: String,
    bytes: u64,
    name: String,
    purpose: String,
    lasts: Option<u64>,
) -> FileObject {
    let created_at = id::now();
    let usual = (purpose == "batch").then_some(BATCH_SECONDS);
    FileObject {
        id,
        object: Kind::File.as_str().to_owned(),
        bytes,
        created_at,
        expires_at: lasts.or(usual).map(|seconds| created_at + seconds),
        filename: name,
        purpose,
        status: "processed".to_owned(),
        status_details: None,
    }
}

/// Returns a stored file.
fn stored(object: &Object) -> Result<StoredFile, ApiError> {
    serde_json::from_str(&object.body).map_err(|_| damaged())
}

fn has_expired(file: &FileObject) -> bool {
    file.expires_at.is_some_and(|at| at <= id::now())
}

/// Refuses an unknown purpose.
fn check_purpose(purpose: &str) -> Result<(), ApiError> {
    one_of(PURPOSE, Some(purpose), PURPOSES)
}

/// Returns the seconds of `expires_after`.
pub(crate) fn seconds(expires: &ExpiresAfter, param: &str) -> Result<u64, ApiError> {
    one_of(
        format_args!("{param}.anchor"),
        Some(&expires.anchor),
        &["created_at"],
    )?;
    between(
        &format!("{param}.seconds"),
        Some(expires.seconds),
        3600,
        30 * 24 * 3600,
    )?;
    Ok(u64::try_from(expires.seconds).unwrap_or_default())
}

/// The name of a file for which the client gave no name.
const UNNAMED: &str = "file";

/// Returns a file in the form of the API that the client uses.
fn shown(stored: &StoredFile, head: &Head<'_>, ignored: &str) -> Result<Response<Body>, ApiError> {
    if head.is_anthropic {
        answered(&anthropic::shown(stored), ignored)
    } else {
        answered(&stored.file, ignored)
    }
}

/// Returns the client's name for a file without folders and control characters, or `None` if
/// nothing is left. The name is only shown.
fn name(sent: &str) -> Option<String> {
    let last = sent.rsplit(['/', '\\']).next().unwrap_or_default();
    let shown = last.chars().filter(|one| !one.is_control());
    let name: String = shown.take(LONGEST_NAME).collect();
    (!name.is_empty()).then_some(name)
}

/// The name of an object in errors, as OpenAI's API of files words it.
fn named(kind: Kind, id: &str) -> String {
    match kind {
        Kind::MessageBatch => format!("Message Batch object: {id}"),
        Kind::VectorStore => format!("vector store: {id}"),
        Kind::VectorStoreFile => format!("file found with id '{id}' in vector store"),
        Kind::VectorStoreFileBatch => format!("file batch: {id}"),
        _ => format!("{} object: {id}", noun(kind)),
    }
}

fn no_such(kind: Kind, id: &str) -> ApiError {
    let message = format!("No such {}", named(kind, id));
    ApiError::new(StatusCode::NOT_FOUND, message).about("id")
}

/// Returns the error for files that together would pass the limit of an API key.
fn over_limit(limit: u64) -> ApiError {
    let message = format!(
        "Your files would take more than {limit} bytes together, the limit of this server; nothing was stored. Delete other files first."
    );
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message)
        .about("file")
        .coded("file_storage_full")
}

/// Returns a JSON answer, and the names of fields that have no effect.
pub(in crate::stored) fn answered(
    answer: &impl Serialize,
    ignored: &str,
) -> Result<Response<Body>, ApiError> {
    let json = serde_json::to_vec(answer).map_err(|_| damaged())?;
    let mut response = headers::json(Body::whole(json));
    name_ignored(&mut response, ignored);
    Ok(response)
}
