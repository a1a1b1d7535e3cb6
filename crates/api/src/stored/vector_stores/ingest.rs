//! The worker for vector stores. It reads added files, and deletes files and vector stores that are
//! marked as deleted.
//!
//! A file is due until it has been read. The worker claims it, adds its chunks in several writes,
//! and ends with a write that makes them visible together with the status. If a server is killed,
//! its hold expires, and another server reads the file from the beginning; after some attempts, the
//! file fails.

use std::time::Duration;

use futures_util::TryStreamExt as _;
use loggia_wire::openai::ChunkSizes;
use tokio::time::sleep;

use super::embed::{AT_ONCE, Embedder, Failure};
use super::files::stored_file;
use super::{COMPLETED, FAILED, IN_PROGRESS, VectorStores, chunking, labels, stored, text};
use crate::answer::id;
use crate::documents::DocumentError;
use crate::door::policy::FileLimits;
use crate::store::{
    Change, Chunk, Claimed, Filter, Kind, Metadata, Object, Order, Owner, Page, StoreError,
};
use crate::stored::files::{Files, StoredFile};
use crate::{ApiError, Door};

/// The interval between two searches for something to do.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long the worker rests after a failure of the store.
const REST: Duration = Duration::from_secs(5);

/// How long a file is held, and how often the hold is renewed.
const HELD_FOR: Duration = Duration::from_mins(1);
const RENEWED_EVERY: Duration = Duration::from_secs(20);

/// How often a file is begun before it fails: a model may be unavailable for a while, or a file may
/// be the reason why the server was killed.
const MOST_TRIES: u32 = 8;

/// The seconds until a file is tried again, for each time that it was tried.
const WAIT_SECONDS: u64 = 5;

/// The maximum number of tokens of a file: OpenAI's own limit.
const MOST_TOKENS: f64 = 5_000_000.0;

/// How many objects are deleted at once.
const DELETED_AT_ONCE: usize = 100;

/// Why the work on a file has stopped.
enum Stop {
    /// The file cannot be read, or not now.
    Failed(Failure),
    /// The file was deleted, cancelled or added again, or another server works on it.
    Lost,
    /// The store failed.
    Store(StoreError),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound | StoreError::InUse => Self::Lost,
            StoreError::Full => Self::Failed(Failure::server(
                "There is no room on this server to store the file's chunks.".to_owned(),
            )),
            error => Self::Store(error),
        }
    }
}

impl Door {
    /// Reads the files of vector stores, forever. It should run on a runtime that outlives the
    /// threads that answer requests. It may be dropped at any time.
    pub async fn work_on_vector_stores(self) {
        let Some(files) = self.files_of(Owner::NOBODY) else {
            return;
        };
        let holder = id::item("vectors_");
        let mut works = true;
        loop {
            let stores = self.current().vector_stores(files.clone());
            let worked = stores.work(&holder).await;
            if let Err(error) = &worked
                && works
            {
                tracing::warn!(%error, "the files of vector stores cannot be looked for");
            }
            works = worked.is_ok();
            match worked {
                Ok(true) => {}
                Ok(false) => sleep(LOOK_EVERY).await,
                Err(_) => sleep(REST).await,
            }
        }
    }

    /// Returns access to the vector stores of the owner of some files.
    pub(crate) fn vector_stores(&self, files: Files) -> VectorStores {
        VectorStores {
            files,
            embedder: Embedder {
                backend: std::sync::Arc::clone(&self.embeds),
                model: self.policy.embedding_model.clone(),
            },
            documents: self.documents.clone(),
        }
    }
}

impl VectorStores {
    /// Does one thing that is due. Returns whether there was something.
    async fn work(&self, holder: &str) -> Result<bool, StoreError> {
        let store = &self.files.store;
        if let Some(claimed) = store.claim(Kind::VectorStore, holder, HELD_FOR).await? {
            self.of(claimed.owner).clean(&claimed.object).await?;
            return Ok(true);
        }
        let claimed = store.claim(Kind::VectorStoreFile, holder, HELD_FOR).await?;
        let Some(Claimed { owner, object }) = claimed else {
            return Ok(false);
        };
        let stores = self.of(owner);
        let reading = Reading {
            stores: &stores,
            holder,
            object,
        };
        match reading.read_and_store().await {
            Ok(()) | Err(Stop::Lost) => {}
            Err(Stop::Failed(failure)) => reading.fail(failure).await?,
            Err(Stop::Store(error)) => return Err(error),
        }
        Ok(true)
    }

    fn of(&self, owner: Owner) -> Self {
        Self {
            files: self.files.of(owner),
            embedder: self.embedder.clone(),
            documents: self.documents.clone(),
        }
    }

    /// Returns the text of a file.
    pub(super) async fn text(&self, bytes: Vec<u8>, name: &str) -> Result<String, Failure> {
        match &self.documents {
            Some(documents) if text::is_pdf(&bytes) => {
                let found = documents.pdf_text(bytes.into()).await;
                let text = found.and_then(|text| {
                    let reason = "it has no text; its pages may be scans";
                    text.ok_or_else(|| DocumentError::new(reason))
                });
                text.map_err(|error| {
                    let reason = error.reason();
                    Failure::unsupported(format!("The PDF cannot be read: {reason}."))
                })
            }
            _ => text::of_file(&bytes, name),
        }
    }

    /// Deletes a vector store that was deleted, or the files of one that has expired.
    async fn clean(&self, object: &Object) -> Result<(), StoreError> {
        let Files { store, owner, .. } = &self.files;
        let Ok(stored) = stored(object) else {
            tracing::warn!(id = object.id, "a vector store cannot be read");
            return Ok(());
        };
        let release = Change::Release {
            kind: object.kind,
            id: object.id.clone(),
            holder: None,
        };
        if !stored.is_deleted && !stored.has_expired() {
            // The vector store was used in the meantime.
            return store.write(owner, vec![stored.schedule(), release]).await;
        }
        self.delete_all(Kind::VectorStoreFile, &object.id).await?;
        if stored.is_deleted {
            self.delete_all(Kind::VectorStoreFileBatch, &object.id)
                .await?;
            return match store.delete(self.files.at(object.kind, &object.id)).await {
                Ok(()) | Err(StoreError::NotFound) => Ok(()),
                Err(error) => Err(error),
            };
        }
        let never = Change::Schedule {
            kind: object.kind,
            id: object.id.clone(),
            due: None,
            content: FileLimits::OVERHEAD,
        };
        store.write(owner, vec![never, release]).await
    }

    /// Deletes all objects of a kind that belong to a vector store.
    async fn delete_all(&self, kind: Kind, of: &str) -> Result<(), StoreError> {
        self.files
            .delete_labelled(kind, labels::VECTOR_STORE, of)
            .await
    }
}

impl Files {
    /// Deletes the object of a file in each vector store.
    pub(in crate::stored) async fn leave_vector_stores(&self, id: &str) -> Result<(), StoreError> {
        let kind = Kind::VectorStoreFile;
        self.delete_labelled(kind, labels::FILE, id).await
    }

    async fn delete_labelled(&self, kind: Kind, name: &str, value: &str) -> Result<(), StoreError> {
        let filter = Filter {
            model: None,
            metadata: Metadata::from([(name.to_owned(), value.to_owned())]),
        };
        let first = Page {
            after: None,
            limit: DELETED_AT_ONCE,
            order: Order::Ascending,
        };
        loop {
            let found = self
                .store
                .objects(&self.owner, kind, &filter, &first)
                .await?;
            if found.data.is_empty() {
                return Ok(());
            }
            for object in found.data {
                match self.store.delete(self.at(kind, &object.id)).await {
                    Ok(()) | Err(StoreError::NotFound) => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }

    /// Reads the whole content of a file.
    pub(in crate::stored) async fn whole(
        &self,
        stored: &StoredFile,
    ) -> Result<Vec<u8>, StoreError> {
        let pieces = self.blobs.read(&stored.place, 0..stored.file.bytes).await?;
        let bytes = pieces.try_fold(Vec::new(), async |mut bytes, piece| {
            bytes.extend_from_slice(&piece);
            Ok(bytes)
        });
        bytes.await
    }
}

/// The chunks of a file that were stored.
struct Added {
    /// The number of chunks.
    chunks: u64,
    /// The bytes of the chunks' texts and vectors.
    usage: u64,
}

/// A file of a vector store that is being read.
struct Reading<'a> {
    stores: &'a VectorStores,
    holder: &'a str,
    object: Object,
}

impl Reading<'_> {
    /// Reads the file and stores its chunks, while the hold on it is renewed.
    async fn read_and_store(&self) -> Result<(), Stop> {
        let reading = std::pin::pin!(self.read());
        let renewing = async {
            loop {
                sleep(RENEWED_EVERY).await;
                if let Err(error) = self.write(Vec::new()).await {
                    return error;
                }
            }
        };
        tokio::select! {
            read = reading => read,
            error = renewing => Err(error.into()),
        }
    }

    async fn read(&self) -> Result<(), Stop> {
        let damaged = |_: ApiError| Failure::server("The entry of the file is damaged.".to_owned());
        let file = stored_file(&self.object).map_err(damaged)?;
        let tries = self.tries() + 1;
        if tries > MOST_TRIES {
            let message = "The file could not be read: the server was interrupted too often.";
            return Err(Failure::server(message.to_owned()).into());
        }
        // Before anything else, since this file may be the reason for an interruption.
        self.write(vec![self.label(&[(labels::TRIES, &tries.to_string())])])
            .await?;
        let stores = self.stores;
        let of = stores.files.at(Kind::VectorStore, &file.vector_store_id);
        let of = match stores.files.store.object(of).await {
            Err(StoreError::NotFound) => return self.delete().await,
            of => of?,
        };
        let of = stored(&of).map_err(damaged)?;
        if of.is_deleted {
            return Err(Stop::Lost);
        }
        let content = stores.files.find(&file.file_id).await;
        let content = content.map_err(|_| Failure::invalid("The file was deleted.".to_owned()))?;
        let bytes = stores.files.whole(&content).await?;
        let text = stores.text(bytes, &file.filename).await?;
        let added = self
            .add_chunks(&of.id, &of.model, &text, file.sizes)
            .await?;
        self.complete(&of.id, added).await
    }

    /// Deletes a file that was added while its vector store was deleted.
    async fn delete(&self) -> Result<(), Stop> {
        let files = &self.stores.files;
        let at = files.at(Kind::VectorStoreFile, &self.object.id);
        Ok(files.store.delete(at).await?)
    }

    /// Stores all chunks of a text. They are found once the work on the file is complete.
    async fn add_chunks(
        &self,
        store: &str,
        model: &str,
        text: &str,
        sizes: ChunkSizes,
    ) -> Result<Added, Stop> {
        let embedder = &self.stores.embedder;
        let token_bytes = embedder.token_bytes(model, text).await?;
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let tokens = text.len() as f64 / token_bytes;
        if tokens > MOST_TOKENS {
            let message = format!("The file has more than {MOST_TOKENS} tokens.");
            return Err(Failure::invalid(message).into());
        }
        let ranges = chunking::divided(text, sizes, token_bytes);
        let (mut usage, mut first) = (0, 0);
        for some in ranges.chunks(AT_ONCE) {
            let texts: Vec<&str> = some.iter().map(|range| &text[range.clone()]).collect();
            let vectors = embedder.vectors_of_file(model, &texts).await?;
            let chunks = texts.into_iter().zip(vectors);
            let chunks: Vec<Chunk> = chunks
                .map(|(text, vector)| Chunk {
                    text: text.to_owned(),
                    vector,
                })
                .collect();
            let bytes = |chunk: &Chunk| chunk.text.len() + size_of_val(&chunk.vector[..]);
            usage += chunks.iter().map(bytes).sum::<usize>() as u64;
            let next = first + chunks.len() as u64;
            let change = Change::Chunks {
                id: self.object.id.clone(),
                store: store.to_owned(),
                first,
                chunks,
                is_last: false,
            };
            self.write_limited(vec![self.limit(usage), change]).await?;
            first = next;
        }
        Ok(Added {
            chunks: first,
            usage,
        })
    }

    /// Ends the work on the file: its chunks are found from now on.
    async fn complete(&self, store: &str, added: Added) -> Result<(), Stop> {
        let Added { chunks, usage } = added;
        let status = (labels::STATUS, COMPLETED);
        let label = self.label(&[status, (labels::USAGE, &usage.to_string())]);
        let last = Change::Chunks {
            id: self.object.id.clone(),
            store: store.to_owned(),
            first: chunks,
            chunks: Vec::new(),
            is_last: true,
        };
        let changes = vec![
            self.limit(usage),
            last,
            label,
            self.schedule(None, usage),
            self.release(),
        ];
        self.write_limited(changes).await
    }

    /// Stores that the file has failed, or that it is tried again later.
    async fn fail(&self, failure: Failure) -> Result<(), StoreError> {
        let tries = self.tries() + 1;
        let changes = match failure {
            Failure::Passing { message } if tries < MOST_TRIES => {
                tracing::info!(id = self.object.id, message, "a file is read again later");
                let wait = WAIT_SECONDS * u64::from(tries);
                let label = self.label(&[(labels::TRIES, &tries.to_string())]);
                vec![
                    label,
                    self.schedule(Some(id::now() + wait), 0),
                    self.release(),
                ]
            }
            Failure::Passing { message } => self.failed("server_error", &message),
            Failure::Final { code, message } => self.failed(code, &message),
        };
        match self.write(changes).await {
            // The file was deleted, cancelled or added again.
            Ok(()) | Err(StoreError::NotFound | StoreError::InUse) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn failed(&self, code: &str, message: &str) -> Vec<Change> {
        let label = self.label(&[
            (labels::STATUS, FAILED),
            (labels::ERROR_CODE, code),
            (labels::ERROR_MESSAGE, message),
        ]);
        let forget = Change::Chunks {
            id: self.object.id.clone(),
            store: self.store_id(),
            first: 0,
            chunks: Vec::new(),
            is_last: false,
        };
        vec![forget, label, self.schedule(None, 0), self.release()]
    }

    /// Makes changes that may pass the limit of the owner.
    async fn write_limited(&self, changes: Vec<Change>) -> Result<(), Stop> {
        self.write(changes).await.map_err(|error| match error {
            StoreError::OverLimit => Stop::Failed(self.over_limit()),
            error => error.into(),
        })
    }

    /// Makes changes as the holder of the file, and renews the hold.
    async fn write(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        let renew = Change::Renew {
            kind: Kind::VectorStoreFile,
            id: self.object.id.clone(),
            holder: self.holder.to_owned(),
            time: HELD_FOR,
        };
        let changes = std::iter::once(renew).chain(changes).collect();
        let Files { store, owner, .. } = &self.stores.files;
        store.write(owner, changes).await
    }

    fn tries(&self) -> u32 {
        let tries = self.object.metadata.get(labels::TRIES);
        tries.and_then(|tries| tries.parse().ok()).unwrap_or(0)
    }

    fn store_id(&self) -> String {
        let store = self.object.metadata.get(labels::VECTOR_STORE);
        store.cloned().unwrap_or_default()
    }

    /// Returns the change that sets labels of the file.
    fn label(&self, changed: &[(&str, &str)]) -> Change {
        let mut metadata = self.object.metadata.clone();
        metadata.insert(labels::STATUS.to_owned(), IN_PROGRESS.to_owned());
        for (name, value) in changed {
            metadata.insert((*name).to_owned(), (*value).to_owned());
        }
        Change::Label {
            kind: Kind::VectorStoreFile,
            id: self.object.id.clone(),
            metadata,
        }
    }

    fn limit(&self, usage: u64) -> Change {
        Change::Limit {
            more: usage,
            most: self.stores.files.limits.key_bytes,
        }
    }

    fn over_limit(&self) -> Failure {
        let most = self.stores.files.limits.key_bytes;
        Failure::server(format!(
            "Your files and vector stores would take more than {most} bytes together, the limit of this server."
        ))
    }

    fn schedule(&self, due: Option<u64>, usage: u64) -> Change {
        Change::Schedule {
            kind: Kind::VectorStoreFile,
            id: self.object.id.clone(),
            due,
            content: FileLimits::OVERHEAD + usage,
        }
    }

    fn release(&self) -> Change {
        Change::Release {
            kind: Kind::VectorStoreFile,
            id: self.object.id.clone(),
            holder: Some(self.holder.to_owned()),
        }
    }
}
