//! [`SqlStore`]: where the objects are, and the calls of the trait.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_core::future::BoxFuture;
use loggia_api::Store;
use loggia_api::store::{
    Change, ChunkSearch, Claimed, Count, Filter, FoundChunk, Item, Kind, Listed, Metadata, Object,
    ObjectRef, Owner, Page, Side, StoreError,
};
use loggia_seal::Keys;
use sqlx::pool::PoolConnection;
use sqlx::{Postgres, Transaction};
use tokio::sync::Mutex;

use crate::batches::Batches;
use crate::error::{OpenError, fact};
use crate::file::{Database, ReadConnection, Turn};
use crate::postgres::Server;
use crate::read::Access;
use crate::retention::Retention;
use crate::sealing::Sealing;
use crate::sql::Sql;
use crate::vectors::Vectors;
use crate::write::length;

/// Stored objects in an SQLite file, or in a PostgreSQL database that several servers may share.
///
/// The file is made, or the database reached, when something is first stored or looked for. If that
/// fails, the next call tries again.
///
/// ```
/// # use std::sync::Arc;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use loggia_api::store::Store;
/// use loggia_store::{Retention, SqlStore};
///
/// let folder = tempfile::tempdir().expect("a folder can be made");
/// let file = folder.path().join("state.db");
/// let store: Arc<dyn Store> = Arc::new(SqlStore::in_file(&file, Retention::default()));
/// assert!(store.ready().await.is_ok());
/// # }
/// ```
#[derive(Debug)]
pub struct SqlStore {
    pub(crate) place: Place,
    pub(crate) retention: Retention,
    pub(crate) sealing: Sealing,
}

/// The place of the objects.
#[derive(Debug)]
pub(crate) enum Place {
    File(File),
    Server(Server),
}

/// A file. It is opened when it is first needed.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) path: PathBuf,
    opened: Mutex<Option<Arc<Opened>>>,
    /// Since the size was last looked at.
    bytes_written: AtomicU64,
}

/// The open file, and the writes to it that share a transaction.
#[derive(Debug)]
struct Opened {
    database: Arc<Database>,
    batches: Batches,
    vectors: Vectors,
}

impl SqlStore {
    /// A store in this SQLite file. Nothing is opened yet.
    pub fn in_file(path: impl Into<PathBuf>, retention: Retention) -> Self {
        let file = File {
            path: path.into(),
            opened: Mutex::default(),
            bytes_written: AtomicU64::new(0),
        };
        Self::at(Place::File(file), retention)
    }

    /// A store in this PostgreSQL database, `postgres://user:password@host/database`. It is not
    /// reached yet.
    ///
    /// # Errors
    /// [`OpenError::Address`] if it is not the address of a database.
    pub fn in_database(url: &str, retention: Retention) -> Result<Self, OpenError> {
        Ok(Self::at(Place::Server(Server::new(url)?), retention))
    }

    /// Adds the keys that open encrypted texts. With `encrypts`, new texts are encrypted with the
    /// first of them.
    #[must_use]
    pub fn with_keys(self, keys: Arc<Keys>, encrypts: bool) -> Self {
        Self {
            sealing: Sealing::new(keys, encrypts),
            ..self
        }
    }

    fn at(place: Place, retention: Retention) -> Self {
        Self {
            place,
            retention,
            sealing: Sealing::default(),
        }
    }

    /// The SQLite file, if the objects are in one.
    pub fn path(&self) -> Option<&Path> {
        match &self.place {
            Place::File(file) => Some(&file.path),
            Place::Server(_) => None,
        }
    }

    /// Opens the file, and creates it if it does not exist; or connects to the database.
    pub async fn open(&self) -> Result<(), OpenError> {
        match &self.place {
            Place::File(file) => file.opened(&self.retention).await.map(|_| ()),
            Place::Server(server) => server.pool().await.map(|_| ()),
        }
    }

    /// Deletes objects beyond the limits of age and size, and shrinks the file. Call it regularly:
    /// between two calls, only the size is limited.
    pub async fn clean(&self) -> Result<(), StoreError> {
        match &self.place {
            Place::File(file) => {
                let database = file.database(&self.retention).await?;
                let mut turn = database.turn().await?;
                let sql = &mut Sql::Sqlite(&mut turn.connection);
                self.retention.expire(sql).await?;
                turn.release();
                database.make_room().await?;
                let mut turn = database.turn().await?;
                turn.run("PRAGMA incremental_vacuum").await?;
                // The log still has the deleted rows.
                turn.run("PRAGMA wal_checkpoint(TRUNCATE)").await?;
                turn.release();
                Ok(())
            }
            Place::Server(server) => server.clean(&self.retention).await,
        }
    }

    /// A connection that reads.
    pub(crate) async fn reader(&self) -> Result<Reader, StoreError> {
        match &self.place {
            Place::File(file) => {
                let database = file.database(&self.retention).await?;
                Ok(Reader::Sqlite(database.readers.acquire().await?))
            }
            Place::Server(server) => Ok(Reader::Postgres(server.connection().await?)),
        }
    }

    /// A transaction that writes.
    pub(crate) async fn writer(&self) -> Result<Writer, StoreError> {
        match &self.place {
            Place::File(file) => {
                let database = file.database(&self.retention).await?;
                Ok(Writer::Sqlite(database.begin().await?))
            }
            Place::Server(server) => Ok(Writer::Postgres(server.begin().await?)),
        }
    }
}

pub(crate) enum Reader {
    Sqlite(ReadConnection),
    Postgres(PoolConnection<Postgres>),
}

impl Reader {
    pub(crate) fn sql(&mut self) -> Sql<'_> {
        match self {
            Self::Sqlite(reader) => Sql::Sqlite(reader.get()),
            Self::Postgres(connection) => Sql::Postgres(connection),
        }
    }

    fn access<'c>(&'c mut self, sealing: &'c Sealing) -> Access<'c> {
        let sql = self.sql();
        Access { sql, sealing }
    }
}

pub(crate) enum Writer {
    Sqlite(Turn),
    Postgres(Transaction<'static, Postgres>),
}

impl Writer {
    pub(crate) fn sql(&mut self) -> Sql<'_> {
        match self {
            Self::Sqlite(turn) => Sql::Sqlite(&mut turn.connection),
            Self::Postgres(transaction) => Sql::Postgres(transaction),
        }
    }

    fn access<'c>(&'c mut self, sealing: &'c Sealing) -> Access<'c> {
        let sql = self.sql();
        Access { sql, sealing }
    }

    /// Commits if all went well.
    pub(crate) async fn end<T>(self, done: Result<T, StoreError>) -> Result<T, StoreError> {
        match self {
            Self::Sqlite(turn) => turn.end(done).await,
            Self::Postgres(transaction) => {
                let done = done?;
                transaction.commit().await.map_err(|error| fact(&error))?;
                Ok(done)
            }
        }
    }
}

impl File {
    async fn ready(&self, retention: &Retention) -> Result<Arc<Opened>, StoreError> {
        let opened = self.opened(retention).await;
        opened.map_err(|error| error.fact())
    }

    async fn database(&self, retention: &Retention) -> Result<Arc<Database>, StoreError> {
        let opened = self.ready(retention).await?;
        Ok(Arc::clone(&opened.database))
    }

    /// Returns the open file. If the file was deleted or replaced, it is opened again, because
    /// writes to the old one would be lost.
    async fn opened(&self, retention: &Retention) -> Result<Arc<Opened>, OpenError> {
        let mut open = self.opened.lock().await;
        if let Some(opened) = &*open
            && opened.database.is_in_place()
        {
            return Ok(Arc::clone(opened));
        }
        if open.take().is_some() {
            tracing::warn!(path = %self.path.display(), "the file of the store was deleted or replaced; opening it anew");
        }
        let database = Arc::new(Database::open(&self.path, retention).await?);
        let batches = Batches::default();
        let opened = Arc::new(Opened {
            database,
            batches,
            vectors: Vectors::default(),
        });
        *open = Some(Arc::clone(&opened));
        Ok(opened)
    }

    /// Enforces the limit of size, once enough was written to exceed it, or nothing could be written
    /// any more. A failure is only logged, because it is not that of the write.
    async fn wrote(&self, bytes: usize, done: &Result<(), StoreError>, opened: &Opened, step: u64) {
        let bytes = match done {
            Ok(()) => bytes as u64,
            Err(StoreError::Full) => step,
            Err(_) => return,
        };
        let written = self.bytes_written.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if written < step {
            return;
        }
        self.bytes_written.store(0, Ordering::Relaxed);
        if let Err(error) = opened.database.make_room().await {
            tracing::warn!(%error, "stored objects could not be deleted to make room");
        }
    }
}

impl Store for SqlStore {
    fn ready(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async {
            match &self.place {
                Place::File(file) => file.database(&self.retention).await.map(|_| ()),
                Place::Server(server) => server.connection().await.map(|_| ()),
            }
        })
    }

    fn write<'a>(
        &'a self,
        owner: &'a Owner,
        changes: Vec<Change>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let sealing = &self.sealing;
            let bytes = length(&changes);
            let file = match &self.place {
                Place::File(file) => file,
                Place::Server(server) => {
                    server.write(sealing, owner, &changes).await?;
                    server.wrote(bytes, &self.retention).await;
                    return Ok(());
                }
            };
            let opened = file.ready(&self.retention).await?;
            let Opened {
                database, batches, ..
            } = &*opened;
            let done = batches.write(database, sealing, owner, changes).await;
            let step = self.retention.step();
            file.wrote(bytes, &done, &opened, step).await;
            done
        })
    }

    fn object<'a>(&'a self, at: ObjectRef<'a>) -> BoxFuture<'a, Result<Object, StoreError>> {
        Box::pin(async move {
            let mut reader = self.reader().await?;
            Ok(reader.access(&self.sealing).find(at).await?.1)
        })
    }

    fn object_with_items<'a>(
        &'a self,
        at: ObjectRef<'a>,
        side: Side,
    ) -> BoxFuture<'a, Result<(Object, Vec<Item>), StoreError>> {
        Box::pin(async move {
            let mut reader = self.reader().await?;
            let mut access = reader.access(&self.sealing);
            access.find_with_items(at, side).await
        })
    }

    fn objects<'a>(
        &'a self,
        owner: &'a Owner,
        kind: Kind,
        filter: &'a Filter,
        page: &'a Page,
    ) -> BoxFuture<'a, Result<Listed<Object>, StoreError>> {
        Box::pin(async move {
            let mut reader = self.reader().await?;
            let mut access = reader.access(&self.sealing);
            access.objects(owner, kind, filter, page).await
        })
    }

    fn set_metadata<'a>(
        &'a self,
        at: ObjectRef<'a>,
        metadata: Metadata,
    ) -> BoxFuture<'a, Result<Object, StoreError>> {
        Box::pin(async move {
            let mut writer = self.writer().await?;
            let mut access = writer.access(&self.sealing);
            let done = access.set_metadata(at, metadata).await;
            writer.end(done).await
        })
    }

    fn delete<'a>(&'a self, at: ObjectRef<'a>) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let mut writer = self.writer().await?;
            let done = writer.access(&self.sealing).delete(at).await;
            writer.end(done).await
        })
    }

    fn items<'a>(
        &'a self,
        at: ObjectRef<'a>,
        side: Side,
        page: &'a Page,
    ) -> BoxFuture<'a, Result<Listed<Item>, StoreError>> {
        Box::pin(async move {
            let mut reader = self.reader().await?;
            reader.access(&self.sealing).items(at, side, page).await
        })
    }

    fn chain<'a>(&'a self, at: ObjectRef<'a>) -> BoxFuture<'a, Result<Vec<Item>, StoreError>> {
        Box::pin(async move {
            let mut reader = self.reader().await?;
            reader.access(&self.sealing).chain(at).await
        })
    }

    fn oldest<'a>(&'a self, at: ObjectRef<'a>) -> BoxFuture<'a, Result<Object, StoreError>> {
        Box::pin(async move {
            let mut reader = self.reader().await?;
            reader.access(&self.sealing).oldest(at).await
        })
    }

    fn find_items<'a>(
        &'a self,
        owner: &'a Owner,
        ids: &'a [String],
    ) -> BoxFuture<'a, Result<Vec<Item>, StoreError>> {
        Box::pin(async move {
            let mut reader = self.reader().await?;
            reader.access(&self.sealing).find_items(owner, ids).await
        })
    }

    fn item<'a>(
        &'a self,
        at: ObjectRef<'a>,
        item: &'a str,
    ) -> BoxFuture<'a, Result<Item, StoreError>> {
        Box::pin(async move {
            let mut reader = self.reader().await?;
            reader.access(&self.sealing).item(at, item).await
        })
    }

    fn delete_item<'a>(
        &'a self,
        at: ObjectRef<'a>,
        item: &'a str,
    ) -> BoxFuture<'a, Result<Object, StoreError>> {
        Box::pin(async move {
            let mut writer = self.writer().await?;
            let done = writer.access(&self.sealing).delete_item(at, item).await;
            writer.end(done).await
        })
    }

    fn claim<'a>(
        &'a self,
        kind: Kind,
        holder: &'a str,
        time: Duration,
    ) -> BoxFuture<'a, Result<Option<Claimed>, StoreError>> {
        Box::pin(async move {
            if !self.may_have_rows() {
                return Ok(None);
            }
            let mut reader = self.reader().await?;
            if !reader.access(&self.sealing).is_due(kind).await? {
                return Ok(None);
            }
            drop(reader);
            let mut writer = self.writer().await?;
            let done = writer.access(&self.sealing).claim(kind, holder, time).await;
            writer.end(done).await
        })
    }

    fn content_bytes<'a>(&'a self, owner: &'a Owner) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(async move {
            let mut reader = self.reader().await?;
            reader.access(&self.sealing).content_bytes(owner).await
        })
    }

    fn counts<'a>(
        &'a self,
        owner: &'a Owner,
        kind: Kind,
        filter: &'a Filter,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Vec<Count>, StoreError>> {
        Box::pin(async move {
            let mut reader = self.reader().await?;
            let mut access = reader.access(&self.sealing);
            access.counts(owner, kind, filter, name).await
        })
    }

    fn search<'a>(
        &'a self,
        at: ObjectRef<'a>,
        search: &'a ChunkSearch,
    ) -> BoxFuture<'a, Result<Vec<FoundChunk>, StoreError>> {
        Box::pin(async move {
            let mut reader = self.reader().await?;
            let mut access = reader.access(&self.sealing);
            match &self.place {
                Place::File(file) => {
                    let opened = file.ready(&self.retention).await?;
                    access.search(&opened.vectors, at, search).await
                }
                Place::Server(server) => access.search(&server.vectors, at, search).await,
            }
        })
    }

    fn existing<'a>(&'a self, ids: &'a [String]) -> BoxFuture<'a, Result<Vec<String>, StoreError>> {
        Box::pin(async move {
            let mut reader = self.reader().await?;
            reader.access(&self.sealing).existing(ids).await
        })
    }
}
