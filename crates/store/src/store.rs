//! [`SqliteStore`]: the file, opened when it is first needed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use loggia_api::store::StoreError;
use tokio::sync::Mutex;

use crate::error::{OpenError, unopened};
use crate::file::Database;
use crate::retention::Retention;

/// Stored objects in one SQLite file.
///
/// The file is made when something is first stored or looked for. One that cannot be opened is
/// tried again by the next call.
///
/// ```
/// # use std::sync::Arc;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use loggia_api::store::Store;
/// use loggia_store::{Retention, SqliteStore};
///
/// let folder = std::env::temp_dir();
/// let file = folder.join(format!("loggia-example-{}.db", std::process::id()));
/// let store: Arc<dyn Store> = Arc::new(SqliteStore::new(&file, Retention::default()));
/// assert!(store.ready().await.is_ok());
/// # drop(store);
/// # let _ = std::fs::remove_file(file);
/// # }
/// ```
#[derive(Debug)]
pub struct SqliteStore {
    path: PathBuf,
    retention: Retention,
    database: Mutex<Option<Arc<Database>>>,
    /// Since the size was last looked at.
    bytes_written: AtomicU64,
}

impl SqliteStore {
    /// A store in this file. Nothing is opened yet.
    pub fn new(path: impl Into<PathBuf>, retention: Retention) -> Self {
        Self {
            path: path.into(),
            retention,
            database: Mutex::default(),
            bytes_written: AtomicU64::new(0),
        }
    }

    /// Where the file is, or will be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the file, and makes it where there is none.
    pub async fn open(&self) -> Result<(), OpenError> {
        self.opened().await.map(|_| ())
    }

    /// Deletes what is too old and what is too much, and gives the room back to the disk. To be
    /// called now and then: between two calls only the size is looked after.
    pub async fn clean(&self) -> Result<(), StoreError> {
        let database = self.database().await?;
        let mut turn = database.turn().await?;
        self.retention.expire(&mut turn.connection).await?;
        self.retention.shrink(&mut turn.connection).await?;
        turn.run("PRAGMA incremental_vacuum").await?;
        // The log still has what was deleted.
        turn.run("PRAGMA wal_checkpoint(TRUNCATE)").await?;
        turn.release();
        Ok(())
    }

    pub(crate) async fn database(&self) -> Result<Arc<Database>, StoreError> {
        self.opened().await.map_err(|error| unopened(&error))
    }

    /// Looks after the size, once so much was written that it may have passed the limit. A failure
    /// is no failure of the write, which is done.
    pub(crate) async fn wrote(&self, bytes: usize, database: &Database) {
        let written = self
            .bytes_written
            .fetch_add(bytes as u64, Ordering::Relaxed)
            + bytes as u64;
        if written < self.retention.step() {
            return;
        }
        self.bytes_written.store(0, Ordering::Relaxed);
        if let Err(error) = self.make_room(database).await {
            tracing::warn!(%error, "stored objects could not be deleted to make room");
        }
    }

    async fn make_room(&self, database: &Database) -> Result<(), StoreError> {
        let mut turn = database.turn().await?;
        self.retention.shrink(&mut turn.connection).await?;
        turn.release();
        Ok(())
    }

    async fn opened(&self) -> Result<Arc<Database>, OpenError> {
        let mut database = self.database.lock().await;
        if let Some(database) = &*database {
            return Ok(Arc::clone(database));
        }
        let opened = Arc::new(Database::open(&self.path, &self.retention).await?);
        *database = Some(Arc::clone(&opened));
        Ok(opened)
    }
}
