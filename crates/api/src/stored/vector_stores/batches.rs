//! Files that are added to a vector store together.

use std::collections::BTreeMap;

use http::Response;
use loggia_wire::Extra;
use loggia_wire::openai::{
    AddVectorStoreFile, ChunkingStrategy, CreateFileBatch, VectorStoreFileBatch,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::files::NewFile;
use super::{CANCELLED, COMPLETED, FAILED, IN_PROGRESS, MOST_FILES, VectorStores, labels};
use crate::admit::checks::{missing, too_long};
use crate::admit::parse::tracked;
use crate::answer::id;
use crate::door::policy::FileLimits;
use crate::store::{Change, Filter, Kind, Metadata, Object, Order, Page, StoreError};
use crate::stored::damaged;
use crate::stored::files::{Head, answered};
use crate::{ApiError, Body};

/// How many files of a batch are read at once.
const AT_ONCE: usize = 100;

/// The stored form of a batch of files.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct StoredFileBatch {
    id: String,
    created_at: u64,
    vector_store_id: String,
    is_cancelled: bool,
}

impl StoredFileBatch {
    /// Returns the changes that store a new batch.
    fn creation(&self) -> Result<Vec<Change>, ApiError> {
        let of = (
            labels::VECTOR_STORE.to_owned(),
            self.vector_store_id.clone(),
        );
        let object = Object {
            kind: Kind::VectorStoreFileBatch,
            id: self.id.clone(),
            created: self.created_at,
            model: None,
            metadata: Metadata::from([of]),
            body: serde_json::to_string(self).map_err(|_| damaged())?,
            previous: None,
            is_held: false,
        };
        let create = Change::Create {
            object,
            items: Vec::new(),
        };
        let content = Change::Schedule {
            kind: Kind::VectorStoreFileBatch,
            id: self.id.clone(),
            due: None,
            content: FileLimits::OVERHEAD,
        };
        Ok(vec![create, content])
    }
}

/// A file that a request for a batch lists.
struct RequestedFile {
    file: AddVectorStoreFile,
    /// The path before the names of the fields, such as `files[0].`. Empty if the fields are those
    /// of the batch.
    prefix: String,
    /// The path of the file's id, such as `file_ids[0]`, if the request lists only ids.
    id_param: Option<String>,
}

impl RequestedFile {
    /// Returns the files of a request: those of `file_ids`, which share the attributes and the
    /// strategy of the request, or those of `files`.
    fn all(
        file_ids: Option<Vec<String>>,
        files: Option<Vec<AddVectorStoreFile>>,
        attributes: Option<&BTreeMap<String, Value>>,
        chunking_strategy: Option<&ChunkingStrategy>,
    ) -> Result<Vec<Self>, ApiError> {
        let requested: Vec<Self> = match (file_ids, files) {
            (Some(_), Some(_)) => {
                let message = "Send either 'file_ids' or 'files', not both.";
                return Err(ApiError::invalid("files", "invalid_value", message));
            }
            (None, None) => return Err(missing("file_ids".to_owned())),
            (Some(ids), None) => {
                let file = |(index, file_id)| Self {
                    file: AddVectorStoreFile {
                        file_id,
                        attributes: attributes.cloned(),
                        chunking_strategy: chunking_strategy.cloned(),
                        extra: Extra::new(),
                    },
                    prefix: String::new(),
                    id_param: Some(format!("file_ids[{index}]")),
                };
                ids.into_iter().enumerate().map(file).collect()
            }
            (None, Some(files)) => {
                let file = |(index, file)| Self {
                    file,
                    prefix: format!("files[{index}]."),
                    id_param: None,
                };
                files.into_iter().enumerate().map(file).collect()
            }
        };
        if requested.is_empty() {
            return Err(missing("file_ids".to_owned()));
        }
        if requested.len() > MOST_FILES {
            return Err(too_long("file_ids", MOST_FILES, requested.len()));
        }
        Ok(requested)
    }
}

impl VectorStores {
    /// `POST /v1/vector_stores/{vector_store_id}/file_batches`.
    pub(super) async fn create_batch(
        &self,
        head: &Head<'_>,
        body: &[u8],
    ) -> Result<Response<Body>, ApiError> {
        let CreateFileBatch {
            file_ids,
            files,
            attributes,
            chunking_strategy,
            extra,
        } = tracked(body)?;
        let ignored = head.unknown(&extra)?;
        let to = self.find_usable(head.route.id()).await?;
        let requested = RequestedFile::all(
            file_ids,
            files,
            attributes.as_ref(),
            chunking_strategy.as_ref(),
        )?;
        let id = id::item("vsfb_");
        let mut new = Vec::with_capacity(requested.len());
        for file in requested {
            new.push(self.new_file_of_batch(file, &id).await?);
        }
        let stored = StoredFileBatch {
            id,
            created_at: id::now(),
            vector_store_id: to.id.clone(),
            is_cancelled: false,
        };
        // The batch is created first, so that no file refers to a batch that does not exist.
        let changes = stored.creation()?;
        let written = self.files.store.write(&self.files.owner, changes);
        written.await.map_err(|error| self.files.failed(&error))?;
        self.add(&to, &new).await?;
        answered(&self.shown_batch(stored).await?, &ignored)
    }

    /// `GET /v1/vector_stores/{vector_store_id}/file_batches/{batch_id}`.
    pub(super) async fn retrieve_batch(&self, head: &Head<'_>) -> Result<Response<Body>, ApiError> {
        let batch = self.find_batch(head).await?;
        answered(&self.shown_batch(batch).await?, "")
    }

    /// `POST /v1/vector_stores/{vector_store_id}/file_batches/{batch_id}/cancel`: files that are not
    /// read yet are given up.
    pub(super) async fn cancel_batch(&self, head: &Head<'_>) -> Result<Response<Body>, ApiError> {
        let mut batch = self.find_batch(head).await?;
        batch.is_cancelled = true;
        let replace = Change::Replace {
            kind: Kind::VectorStoreFileBatch,
            id: batch.id.clone(),
            body: serde_json::to_string(&batch).map_err(|_| damaged())?,
            items: Vec::new(),
            needs: None,
        };
        let written = self.files.store.write(&self.files.owner, vec![replace]);
        written
            .await
            .map_err(|error| self.worded_batch(&error, &batch.id))?;
        let waiting = [
            (labels::BATCH.to_owned(), batch.id.clone()),
            (labels::STATUS.to_owned(), IN_PROGRESS.to_owned()),
        ];
        let filter = Filter {
            model: None,
            metadata: waiting.into_iter().collect(),
        };
        let first = Page {
            after: None,
            limit: AT_ONCE,
            order: Order::Ascending,
        };
        let files = &self.files;
        loop {
            let found = files
                .store
                .objects(&files.owner, Kind::VectorStoreFile, &filter, &first);
            let found = found.await.map_err(|error| files.failed(&error))?.data;
            if found.is_empty() {
                break;
            }
            for object in found {
                let cancelled = files.store.write(&files.owner, cancellation(object)).await;
                match cancelled {
                    Ok(()) | Err(StoreError::NotFound) => {}
                    Err(error) => return Err(files.failed(&error)),
                }
            }
        }
        answered(&self.shown_batch(batch).await?, "")
    }

    /// `GET /v1/vector_stores/{vector_store_id}/file_batches/{batch_id}/files`.
    pub(super) async fn batch_files(&self, head: &Head<'_>) -> Result<Response<Body>, ApiError> {
        let batch = self.find_batch(head).await?;
        self.list_files(head, Some(&batch.id)).await
    }

    /// Checks a file of a new batch.
    async fn new_file_of_batch(
        &self,
        requested: RequestedFile,
        batch: &str,
    ) -> Result<NewFile, ApiError> {
        let RequestedFile {
            file,
            prefix,
            id_param,
        } = requested;
        let new = self.new_file(&prefix, file, Some(batch.to_owned())).await;
        new.map_err(|error| match id_param {
            Some(param) if error.error.param.as_deref() == Some("file_id") => error.about(param),
            _ => error,
        })
    }

    async fn find_batch(&self, head: &Head<'_>) -> Result<StoredFileBatch, ApiError> {
        let (_, of) = self.find(head.route.id()).await?;
        let id = head.route.item();
        let object = self
            .files
            .store
            .object(self.files.at(Kind::VectorStoreFileBatch, id));
        let object = object
            .await
            .map_err(|error| self.worded_batch(&error, id))?;
        let batch: StoredFileBatch = serde_json::from_str(&object.body).map_err(|_| damaged())?;
        if batch.vector_store_id != of.id {
            return Err(self.worded_batch(&StoreError::NotFound, id));
        }
        Ok(batch)
    }

    fn worded_batch(&self, error: &StoreError, id: &str) -> ApiError {
        self.files.worded(error, Kind::VectorStoreFileBatch, id)
    }

    async fn shown_batch(&self, batch: StoredFileBatch) -> Result<VectorStoreFileBatch, ApiError> {
        let (file_counts, _) = self.counts(labels::BATCH, &batch.id).await?;
        let status = match file_counts.in_progress {
            _ if batch.is_cancelled => CANCELLED,
            0 if file_counts.total > 0 && file_counts.failed == file_counts.total => FAILED,
            0 => COMPLETED,
            _ => IN_PROGRESS,
        };
        Ok(VectorStoreFileBatch {
            id: batch.id,
            object: Kind::VectorStoreFileBatch.as_str(),
            created_at: batch.created_at,
            vector_store_id: batch.vector_store_id,
            status,
            file_counts,
        })
    }
}

/// Returns the changes that cancel a file. A worker that reads the file at the moment stops.
fn cancellation(object: Object) -> Vec<Change> {
    let Object {
        kind,
        id,
        mut metadata,
        ..
    } = object;
    metadata.insert(labels::STATUS.to_owned(), CANCELLED.to_owned());
    vec![
        Change::Release {
            kind,
            id: id.clone(),
            holder: None,
        },
        Change::Label {
            kind,
            id: id.clone(),
            metadata,
        },
        Change::Schedule {
            kind,
            id,
            due: None,
            content: FileLimits::OVERHEAD,
        },
    ]
}
