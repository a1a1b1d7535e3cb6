//! Files that are added to a vector store together.

use http::Response;
use loggia_wire::openai::{AddVectorStoreFile, CreateFileBatch, VectorStoreFileBatch};
use serde::{Deserialize, Serialize};

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

/// A batch as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct StoredFileBatch {
    id: String,
    created_at: u64,
    vector_store_id: String,
    is_cancelled: bool,
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
        let id = id::item("vsfb_");
        let asked: Vec<(String, AddVectorStoreFile)> = match (file_ids, files) {
            (Some(_), Some(_)) => {
                let message = "Send either 'file_ids' or 'files', not both.";
                return Err(ApiError::invalid("files", "invalid_value", message));
            }
            (None, None) => return Err(missing("file_ids".to_owned())),
            (Some(ids), None) => {
                let file = |(index, file_id)| {
                    let file = AddVectorStoreFile {
                        file_id,
                        attributes: attributes.clone(),
                        chunking_strategy: chunking_strategy.clone(),
                        extra: loggia_wire::Extra::new(),
                    };
                    (format!("file_ids[{index}]"), file)
                };
                ids.into_iter().enumerate().map(file).collect()
            }
            (None, Some(files)) => {
                let file = |(index, file)| (format!("files[{index}]."), file);
                files.into_iter().enumerate().map(file).collect()
            }
        };
        if asked.is_empty() {
            return Err(missing("file_ids".to_owned()));
        }
        if asked.len() > MOST_FILES {
            return Err(too_long("file_ids", MOST_FILES, asked.len()));
        }
        let mut new = Vec::with_capacity(asked.len());
        for (place, file) in asked {
            let (prefix, of_ids) = match place.strip_suffix('.') {
                Some(_) => (place.as_str(), None),
                None => ("", Some(&place)),
            };
            let found = self.new_file(prefix, file, Some(id.clone())).await;
            new.push(found.map_err(|error| match of_ids {
                Some(place) if error.error.param.as_deref() == Some("file_id") => {
                    error.about(place.clone())
                }
                _ => error,
            })?);
        }
        let stored = StoredFileBatch {
            id: id.clone(),
            created_at: id::now(),
            vector_store_id: to.id.clone(),
            is_cancelled: false,
        };
        let object = Object {
            kind: Kind::VectorStoreFileBatch,
            id: id.clone(),
            created: stored.created_at,
            model: None,
            metadata: Metadata::from([(labels::VECTOR_STORE.to_owned(), to.id.clone())]),
            body: serde_json::to_string(&stored).map_err(|_| damaged())?,
            previous: None,
            is_held: false,
        };
        let content = Change::Schedule {
            kind: Kind::VectorStoreFileBatch,
            id,
            due: None,
            content: FileLimits::OVERHEAD,
        };
        let create = Change::Create {
            object,
            items: Vec::new(),
        };
        // The batch comes first, so that no file names one that does not exist.
        let written = self
            .files
            .store
            .write(&self.files.owner, vec![create, content]);
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

/// Returns the changes that cancel a file. Whoever reads it at the moment stops.
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
