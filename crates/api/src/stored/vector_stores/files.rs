//! The files of a vector store.

use std::collections::BTreeMap;

use http::Response;
use loggia_wire::openai::{
    AddVectorStoreFile, ChunkSizes, Deleted, FileObject, Page, TextContent, UpdateVectorStoreFile,
    VectorStoreFile, VectorStoreFileError, VectorStorePage,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    CANCELLED, COMPLETED, FAILED, IN_PROGRESS, StoredVectorStore, VectorStores, attributes,
    chunking, labels,
};
use crate::admit::checks::{missing, one_of};
use crate::admit::parse::tracked;
use crate::answer::id;
use crate::door::policy::FileLimits;
use crate::store::{Change, Filter, Kind, Metadata, Object, StoreError};
use crate::stored::damaged;
use crate::stored::files::{Head, answered};
use crate::{ApiError, Body};

/// The stored form of a file of a vector store.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StoredStoreFile {
    pub(super) vector_store_id: String,
    pub(super) file_id: String,
    pub(crate) filename: String,
    pub(super) created_at: u64,
    pub(crate) attributes: Map<String, Value>,
    pub(super) sizes: ChunkSizes,
}

/// A file that is added to a vector store.
pub(super) struct NewFile {
    pub(super) file: FileObject,
    pub(super) attributes: Map<String, Value>,
    pub(super) sizes: ChunkSizes,
    /// The id of the batch with which the file was added.
    pub(super) batch: Option<String>,
}

impl NewFile {
    /// Returns the changes that add the file to a vector store which does not have it.
    pub(super) fn creation(&self, to: &StoredVectorStore) -> Result<Vec<Change>, ApiError> {
        let id = object_id(&to.id, &self.file.id);
        let object = Object {
            kind: Kind::VectorStoreFile,
            id: id.clone(),
            created: id::now(),
            model: None,
            metadata: self.labels(to),
            body: self.json(to)?,
            previous: None,
            is_held: false,
        };
        let create = Change::Create {
            object,
            items: Vec::new(),
        };
        Ok(vec![create, due_now(id)])
    }

    /// Returns the changes that add a file again to a vector store that already has it. The file is
    /// read again.
    pub(super) fn replacement(&self, to: &StoredVectorStore) -> Result<Vec<Change>, ApiError> {
        let id = object_id(&to.id, &self.file.id);
        let kind = Kind::VectorStoreFile;
        Ok(vec![
            // A worker that reads the file at the moment stops.
            Change::Release {
                kind,
                id: id.clone(),
                holder: None,
            },
            Change::Replace {
                kind,
                id: id.clone(),
                body: self.json(to)?,
                items: Vec::new(),
                needs: None,
            },
            Change::Label {
                kind,
                id: id.clone(),
                metadata: self.labels(to),
            },
            due_now(id),
        ])
    }

    fn labels(&self, to: &StoredVectorStore) -> Metadata {
        let labels = [
            (labels::VECTOR_STORE, to.id.clone()),
            (labels::FILE, self.file.id.clone()),
            (labels::STATUS, IN_PROGRESS.to_owned()),
        ];
        let batch = self.batch.clone().map(|batch| (labels::BATCH, batch));
        let labels = labels.into_iter().chain(batch);
        labels
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }

    fn json(&self, to: &StoredVectorStore) -> Result<String, ApiError> {
        let stored = StoredStoreFile {
            vector_store_id: to.id.clone(),
            file_id: self.file.id.clone(),
            filename: self.file.filename.clone(),
            created_at: id::now(),
            attributes: self.attributes.clone(),
            sizes: self.sizes,
        };
        serde_json::to_string(&stored).map_err(|_| damaged())
    }
}

impl VectorStores {
    /// `POST /v1/vector_stores/{vector_store_id}/files`.
    pub(super) async fn add_file(
        &self,
        head: &Head<'_>,
        body: &[u8],
    ) -> Result<Response<Body>, ApiError> {
        let asked: AddVectorStoreFile = tracked(body)?;
        let ignored = head.unknown(&asked.extra)?;
        let to = self.find_usable(head.route.id()).await?;
        let new = self.new_file("", asked, None).await?;
        let object_id = object_id(&to.id, &new.file.id);
        self.add(&to, &[new]).await?;
        let object = self.file_object(&object_id).await?;
        answered(&shown(&object)?, &ignored)
    }

    /// Checks a file that a request adds. `place` is the path of its fields, with a period, or empty.
    pub(super) async fn new_file(
        &self,
        place: &str,
        asked: AddVectorStoreFile,
        batch: Option<String>,
    ) -> Result<NewFile, ApiError> {
        let at = |field: &str| format!("{place}{field}");
        let attributes = attributes::checked(&at("attributes"), asked.attributes)?;
        let strategy = asked.chunking_strategy.as_ref();
        let sizes = chunking::sizes(&at("chunking_strategy"), strategy)?;
        let file = self.files.find(&asked.file_id).await;
        let file = file.map_err(|error| error.about(at("file_id")))?.file;
        Ok(NewFile {
            file,
            attributes,
            sizes,
            batch,
        })
    }

    /// Adds files to a vector store. Files that are already in it are read again.
    pub(super) async fn add(
        &self,
        to: &StoredVectorStore,
        new: &[NewFile],
    ) -> Result<(), ApiError> {
        let store = &self.files.store;
        let ids: Vec<String> = new
            .iter()
            .map(|new| object_id(&to.id, &new.file.id))
            .collect();
        let existing = store.existing(&ids).await;
        let existing = existing.map_err(|error| self.files.failed(&error))?;
        let mut changes = vec![Change::Limit {
            more: FileLimits::OVERHEAD * (new.len() as u64),
            most: self.files.limits.key_bytes,
        }];
        for (index, (new, id)) in new.iter().zip(&ids).enumerate() {
            // The same file twice in a request is one file.
            if existing.contains(id) || ids[..index].contains(id) {
                changes.extend(new.replacement(to)?);
            } else {
                changes.extend(new.creation(to)?);
            }
        }
        let written = store.write(&self.files.owner, changes).await;
        written.map_err(|error| self.files.worded(&error, Kind::VectorStoreFile, &to.id))?;
        self.touch(to).await;
        Ok(())
    }

    /// `GET /v1/vector_stores/{vector_store_id}/files`, or the files of a batch.
    pub(super) async fn list_files(
        &self,
        head: &Head<'_>,
        batch: Option<&str>,
    ) -> Result<Response<Body>, ApiError> {
        let (_, of) = self.find(head.route.id()).await?;
        let status = head.query.get("filter");
        let statuses = [IN_PROGRESS, COMPLETED, FAILED, CANCELLED];
        one_of("filter", status, &statuses)?;
        let wanted = [
            Some((labels::VECTOR_STORE, of.id.as_str())),
            batch.map(|batch| (labels::BATCH, batch)),
            status.map(|status| (labels::STATUS, status)),
        ];
        let wanted = wanted.into_iter().flatten();
        let filter = Filter {
            model: None,
            metadata: wanted
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        };
        let prefix = object_id(&of.id, "");
        let found = self.page(&head.query, Kind::VectorStoreFile, &filter, &prefix);
        let found = found.await?;
        let files = found.data.iter().map(|object| {
            let shown = shown(object)?;
            Ok((shown.id.clone(), shown))
        });
        let files: Vec<_> = files.collect::<Result<_, ApiError>>()?;
        answered(&Page::new(files, found.has_more), "")
    }

    /// `GET /v1/vector_stores/{vector_store_id}/files/{file_id}`.
    pub(super) async fn retrieve_file(&self, head: &Head<'_>) -> Result<Response<Body>, ApiError> {
        answered(&shown(&self.find_file(head).await?)?, "")
    }

    /// `POST /v1/vector_stores/{vector_store_id}/files/{file_id}`.
    pub(super) async fn update_file(
        &self,
        head: &Head<'_>,
        body: &[u8],
    ) -> Result<Response<Body>, ApiError> {
        let UpdateVectorStoreFile { attributes, extra } = tracked(body)?;
        let ignored = head.unknown(&extra)?;
        let has_field = serde_json::from_slice::<BTreeMap<String, Value>>(body)
            .is_ok_and(|fields| fields.contains_key("attributes"));
        if !has_field {
            return Err(missing("attributes".to_owned()));
        }
        let attributes = attributes::checked("attributes", attributes)?;
        let object = self.find_file(head).await?;
        let stored = StoredStoreFile {
            attributes,
            ..stored_file(&object)?
        };
        let replace = Change::Replace {
            kind: Kind::VectorStoreFile,
            id: object.id.clone(),
            body: serde_json::to_string(&stored).map_err(|_| damaged())?,
            items: Vec::new(),
            needs: None,
        };
        let written = self.files.store.write(&self.files.owner, vec![replace]);
        let worded = |error| self.worded_file(&error, head.route.item());
        written.await.map_err(worded)?;
        answered(&shown(&self.find_file(head).await?)?, &ignored)
    }

    /// `DELETE /v1/vector_stores/{vector_store_id}/files/{file_id}`. The file itself stays.
    pub(super) async fn delete_file(&self, head: &Head<'_>) -> Result<Response<Body>, ApiError> {
        let object = self.find_file(head).await?;
        let at = self.files.at(Kind::VectorStoreFile, &object.id);
        let deleted = self.files.store.delete(at).await;
        deleted.map_err(|error| self.worded_file(&error, head.route.item()))?;
        let deleted = Deleted {
            object: "vector_store.file.deleted".to_owned(),
            id: head.route.item().to_owned(),
            deleted: true,
        };
        answered(&deleted, "")
    }

    /// `GET /v1/vector_stores/{vector_store_id}/files/{file_id}/content`: the text that was found in
    /// the file.
    pub(super) async fn file_content(&self, head: &Head<'_>) -> Result<Response<Body>, ApiError> {
        let object = self.find_file(head).await?;
        let stored = stored_file(&object)?;
        let file = self.files.find(&stored.file_id).await?;
        let bytes = self.files.whole(&file).await;
        let bytes = bytes.map_err(|error| self.files.failed(&error))?;
        let found = self.text(bytes, &stored.filename).await;
        let data = match found {
            Ok(text) => vec![TextContent::new(text)],
            // A file that failed has no text.
            Err(_) => Vec::new(),
        };
        let page = VectorStorePage {
            object: "vector_store.file_content.page",
            search_query: None,
            data,
            has_more: false,
            next_page: None,
        };
        answered(&page, "")
    }

    /// Returns the file of a vector store that the path names.
    async fn find_file(&self, head: &Head<'_>) -> Result<Object, ApiError> {
        let (_, of) = self.find(head.route.id()).await?;
        self.file_object(&object_id(&of.id, head.route.item()))
            .await
    }

    pub(super) async fn file_object(&self, id: &str) -> Result<Object, ApiError> {
        let at = self.files.at(Kind::VectorStoreFile, id);
        let object = self.files.store.object(at).await;
        object.map_err(|error| self.worded_file(&error, file_of(id)))
    }

    fn worded_file(&self, error: &StoreError, file: &str) -> ApiError {
        self.files.worded(error, Kind::VectorStoreFile, file)
    }
}

/// Returns the id of the object for a file of a vector store.
pub(super) fn object_id(vector_store: &str, file: &str) -> String {
    format!("{vector_store}/{file}")
}

/// Returns the id of the file that an object stands for.
pub(super) fn file_of(object: &str) -> &str {
    object.split_once('/').map_or(object, |(_, file)| file)
}

/// Returns the change that makes the worker look at a file at once.
fn due_now(id: String) -> Change {
    Change::Schedule {
        kind: Kind::VectorStoreFile,
        id,
        due: Some(0),
        content: FileLimits::OVERHEAD,
    }
}

pub(super) fn stored_file(object: &Object) -> Result<StoredStoreFile, ApiError> {
    serde_json::from_str(&object.body).map_err(|_| damaged())
}

/// Returns a file as it is answered.
fn shown(object: &Object) -> Result<VectorStoreFile, ApiError> {
    let stored = stored_file(object)?;
    let label = |name: &str| object.metadata.get(name).cloned();
    let error = label(labels::ERROR_CODE).map(|code| VectorStoreFileError {
        code,
        message: label(labels::ERROR_MESSAGE).unwrap_or_default(),
    });
    Ok(VectorStoreFile {
        id: stored.file_id,
        object: Kind::VectorStoreFile.as_str(),
        usage_bytes: label(labels::USAGE)
            .and_then(|bytes| bytes.parse().ok())
            .unwrap_or(0),
        created_at: stored.created_at,
        vector_store_id: stored.vector_store_id,
        status: label(labels::STATUS).unwrap_or_default(),
        last_error: error,
        chunking_strategy: chunking::strategy(stored.sizes),
        attributes: stored.attributes,
    })
}
