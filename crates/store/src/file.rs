//! How the file is opened: readable by its owner only, in WAL mode, one connection that writes and
//! a few that read.

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use loggia_api::store::StoreError;
use sqlx::ConnectOptions as _;
use sqlx::sqlite::{
    SqliteAutoVacuum, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous,
};
use sqlx::{Executor as _, Row as _};
use tokio::sync::{Mutex, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

use crate::error::{OpenError, fact};
use crate::retention::{Eviction, Retention, chunk_bytes, used_by_objects};
use crate::schema;
use crate::sql::Sql;

/// How long a write waits for another program that has the same file open.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How many reads run at once, and how long one waits for its turn.
const READERS: usize = 4;
const READ_WITHIN: Duration = Duration::from_secs(5);

/// The pages that a connection keeps in memory, in KiB (negative, as SQLite has it). The kernel keeps
/// them too; SQLite's own default of 2 MB for each connection would only cost memory.
const WRITERS_CACHE: &str = "-1024";
const READERS_CACHE: &str = "-1024";

/// The size that the write-ahead log is cut to when it was larger.
const WAL_BYTES: &str = "4194304";

/// The open file.
#[derive(Debug)]
pub(crate) struct Database {
    path: PathBuf,
    retention: Retention,
    /// The connection of the only writer: SQLite allows one at a time, and writers wait here for
    /// their turn. `None` while one writes, and after one that failed.
    writer: Arc<Mutex<Option<SqliteConnection>>>,
    pub(crate) readers: Readers,
    identity: Option<Identity>,
}

impl Database {
    /// Opens the file. Creates it if it does not exist.
    pub(crate) async fn open(path: &Path, retention: &Retention) -> Result<Self, OpenError> {
        create(path).map_err(|source| OpenError::Create {
            path: path.to_owned(),
            source,
        })?;
        let failed = |source| OpenError::Open {
            path: path.to_owned(),
            source,
        };
        // The size limit is not set yet, because a migration may need more room for some time.
        let mut writer = writing(path).connect().await.map_err(failed)?;
        let newer = schema::migrate_sqlite(&mut writer).await.map_err(failed)?;
        if let Some(found) = newer {
            return Err(OpenError::Newer {
                path: path.to_owned(),
                found,
                known: schema::SQLITE.known(),
            });
        }
        limit(&mut writer, retention).await.map_err(failed)?;
        Ok(Self {
            path: path.to_owned(),
            retention: *retention,
            writer: Arc::new(Mutex::new(Some(writer))),
            readers: Readers::of(path),
            identity: identity(path),
        })
    }

    /// Whether the file is still the one that the path names: it may have been deleted or replaced.
    pub(crate) fn is_in_place(&self) -> bool {
        identity(&self.path) == self.identity
    }

    /// Waits for the turn to write.
    pub(crate) async fn turn(&self) -> Result<Turn, StoreError> {
        let mut place = Arc::clone(&self.writer).lock_owned().await;
        let connection = match place.take() {
            Some(connection) => connection,
            None => connect(&self.path, &self.retention)
                .await
                .map_err(|error| fact(&error))?,
        };
        Ok(Turn { place, connection })
    }

    /// Deletes the oldest objects until the rest fits. Between two steps, others may write.
    pub(crate) async fn make_room(&self) -> Result<(), StoreError> {
        let mut eviction = Eviction::new();
        loop {
            let mut turn = self.begin().await?;
            let used = used_by_objects(&mut turn.connection).await;
            let deleted = match used.map(|used| self.retention.excess(used, self.retention.step()))
            {
                Ok(0) => Ok(0),
                Ok(excess) => {
                    let sql = &mut Sql::Sqlite(&mut turn.connection);
                    eviction.step(sql, excess).await
                }
                Err(error) => Err(fact(&error)),
            };
            if turn.end(deleted).await? == 0 {
                return self.raise_limit().await;
            }
        }
    }

    /// Gives the chunks that were added since the last look their room.
    async fn raise_limit(&self) -> Result<(), StoreError> {
        let mut turn = self.turn().await?;
        let limited = limit(&mut turn.connection, &self.retention).await;
        limited.map_err(|error| fact(&error))?;
        turn.release();
        Ok(())
    }

    /// Waits for the turn to write, and begins a transaction.
    pub(crate) async fn begin(&self) -> Result<Turn, StoreError> {
        let mut turn = self.turn().await?;
        // The transaction takes the write lock at once, so that the data it reads cannot be
        // outdated when it writes.
        turn.run("BEGIN IMMEDIATE").await?;
        Ok(turn)
    }
}

/// The connections that read. sqlx has a pool, but it returns each connection by a task of its own,
/// which costs as much as a short read, and uses the connections in turn, so that none has the
/// pages that were read last.
#[derive(Debug)]
pub(crate) struct Readers {
    path: PathBuf,
    places: Arc<Semaphore>,
    idle: Arc<Idle>,
}

/// The idle connections. The last one is used next.
type Idle = std::sync::Mutex<Vec<SqliteConnection>>;

/// A connection that reads, for as long as it is not dropped.
pub(crate) struct ReadConnection {
    /// Always there until this is dropped.
    connection: Option<SqliteConnection>,
    idle: Arc<Idle>,
    /// Dropped after the connection was given back.
    _place: OwnedSemaphorePermit,
}

impl Readers {
    fn of(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            places: Arc::new(Semaphore::new(READERS)),
            idle: Arc::default(),
        }
    }

    /// Waits for a connection.
    pub(crate) async fn acquire(&self) -> Result<ReadConnection, StoreError> {
        let place = Arc::clone(&self.places).acquire_owned();
        let Ok(Ok(place)) = tokio::time::timeout(READ_WITHIN, place).await else {
            let cause = "no connection that reads was free in time".to_owned();
            return Err(StoreError::Unavailable { cause });
        };
        let idle = lock(&self.idle).pop();
        let connection = if let Some(connection) = idle {
            connection
        } else {
            let opened = reading(&self.path).connect().await;
            opened.map_err(|error| fact(&error))?
        };
        Ok(ReadConnection {
            connection: Some(connection),
            idle: Arc::clone(&self.idle),
            _place: place,
        })
    }
}

impl ReadConnection {
    pub(crate) fn get(&mut self) -> &mut SqliteConnection {
        let connection = self.connection.as_mut();
        connection.expect("only `drop` takes it out")
    }
}

impl Drop for ReadConnection {
    fn drop(&mut self) {
        // A statement that was not read to its end stops when the connection is used next.
        lock(&self.idle).extend(self.connection.take());
    }
}

/// Nothing panics while it holds the lock, so the lock is never poisoned.
fn lock(idle: &Idle) -> std::sync::MutexGuard<'_, Vec<SqliteConnection>> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Which file a path names.
type Identity = (u64, u64);

#[cfg(unix)]
fn identity(path: &Path) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt as _;
    let file = std::fs::metadata(path).ok()?;
    Some((file.dev(), file.ino()))
}

/// On other systems, an open file cannot be deleted.
#[cfg(not(unix))]
fn identity(_: &Path) -> Option<Identity> {
    None
}

/// The exclusive right to write. If this is dropped in the middle of a transaction, the connection
/// is closed and SQLite rolls the transaction back; the next writer opens a new connection.
pub(crate) struct Turn {
    place: OwnedMutexGuard<Option<SqliteConnection>>,
    pub(crate) connection: SqliteConnection,
}

impl Turn {
    /// Runs a statement that returns nothing.
    pub(crate) async fn run(&mut self, statement: &'static str) -> Result<(), StoreError> {
        let done = self.connection.execute(statement).await;
        done.map(|_| ()).map_err(|error| fact(&error))
    }

    /// Commits the transaction if all went well, and undoes it otherwise.
    pub(crate) async fn end<T>(mut self, done: Result<T, StoreError>) -> Result<T, StoreError> {
        match &done {
            Ok(_) => self.run("COMMIT").await?,
            // After these SQLite may have ended the transaction by itself.
            Err(StoreError::Full | StoreError::Unavailable { .. }) => return done,
            Err(_) => self.run("ROLLBACK").await?,
        }
        self.release();
        done
    }

    /// Ends the turn of a connection that has no transaction.
    pub(crate) fn release(self) {
        let Self {
            mut place,
            connection,
        } = self;
        *place = Some(connection);
    }
}

async fn connect(path: &Path, retention: &Retention) -> Result<SqliteConnection, sqlx::Error> {
    let mut connection = writing(path).connect().await?;
    limit(&mut connection, retention).await?;
    Ok(connection)
}

fn writing(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .foreign_keys(true)
        .journal_mode(SqliteJournalMode::Wal)
        // A committed transaction is on the disk, also if the machine loses its power.
        .synchronous(SqliteSynchronous::Full)
        .auto_vacuum(SqliteAutoVacuum::Incremental)
        .busy_timeout(BUSY_TIMEOUT)
        // Deleted text is overwritten, not only unlinked.
        .pragma("secure_delete", "ON")
        .pragma("journal_size_limit", WAL_BYTES)
        .pragma("cache_size", WRITERS_CACHE)
        // Sorted or gathered text stays out of temporary files.
        .pragma("temp_store", "MEMORY")
        // Statements hold text of clients.
        .disable_statement_logging()
}

fn reading(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .read_only(true)
        .pragma("cache_size", READERS_CACHE)
        .busy_timeout(BUSY_TIMEOUT)
        .disable_statement_logging()
}

/// SQLite itself refuses to grow past the hard limit, whatever happens between two looks at the
/// size.
async fn limit(
    connection: &mut SqliteConnection,
    retention: &Retention,
) -> Result<(), sqlx::Error> {
    let size: i64 = sqlx::query("PRAGMA page_size")
        .fetch_one(&mut *connection)
        .await?
        .try_get(0)?;
    let size = u64::try_from(size).unwrap_or(4096).max(1);
    // SQLite's own limit is 2^32 - 2 pages.
    // Not in a file whose tables are not made yet.
    let chunks = chunk_bytes(connection).await.unwrap_or(0);
    let bytes = retention.hard_limit().saturating_add(2 * chunks);
    let pages = (bytes / size).clamp(1, 0xffff_fffe);
    connection
        .execute(&*format!("PRAGMA max_page_count = {pages}"))
        .await?;
    Ok(())
}

/// Creates the file and its folder if they do not exist. Only the user may read them; SQLite gives
/// its second file, the log, the same mode.
fn create(path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(|_| ())
}

/// Opens a read-only connection, which creates no file and changes none.
pub(crate) async fn look(path: &Path) -> Result<SqliteConnection, OpenError> {
    let options = reading(path);
    options.connect().await.map_err(|source| OpenError::Open {
        path: path.to_owned(),
        source,
    })
}
