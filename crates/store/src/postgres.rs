//! A PostgreSQL database, which several servers may share.

use std::str::FromStr as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use loggia_api::store::{Change, Owner, StoreError};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions as _, PgConnection, Postgres, Transaction};
use tokio::sync::OnceCell;

use crate::error::{DEADLOCK, OpenError, fact};
use crate::read::Access;
use crate::retention::{Eviction, ITEM_BYTES, OBJECT_BYTES, Retention};
use crate::schema;
use crate::sealing::Sealing;
use crate::sql::{Sql, Statement};
use crate::vectors::Vectors;
use crate::write::bytes;

/// How many connections a server has at most, and how long a call waits for one. That is also how
/// long it waits for a database that is unreachable.
const CONNECTIONS: u32 = 8;
const CONNECT_WITHIN: Duration = Duration::from_secs(3);

/// The number of attempts of a write that ends in a deadlock with another one, and how much longer
/// each attempt waits, so that the other write can end.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(20);

/// The bytes of all objects. The tables themselves do not shrink when rows are deleted.
const USED: &str = "SELECT CAST(COALESCE(SUM(bytes), 0) AS BIGINT) AS bytes FROM ( \
        SELECT pg_column_size(body) + COALESCE(pg_column_size(sealed), 0) + $1 AS bytes FROM objects \
        UNION ALL \
        SELECT pg_column_size(body) + COALESCE(pg_column_size(sealed), 0) + $2 FROM items \
    ) AS rows";

/// The bytes of the tables, including deleted rows, and of their indexes. This is more than the
/// bytes of all objects, and is found without reading them.
const SIZE_OF_TABLES: &str = "SELECT CAST(pg_total_relation_size('objects') + \
    pg_total_relation_size('items') AS BIGINT) AS bytes";

/// Loggia's number among the locks of a database, of the server that makes room.
const LOCK_OF_ROOM: &str = "SELECT pg_try_advisory_xact_lock(5500124513) AS is_locked";

/// A database. The connection is made when it is first needed.
#[derive(Debug)]
pub(crate) struct Server {
    pool: PgPool,
    /// Set when the tables are there.
    migrated: OnceCell<()>,
    /// The address without its password.
    shown: String,
    /// Since the size was last looked at.
    bytes_written: AtomicU64,
    pub(crate) vectors: Vectors,
}

impl Server {
    pub(crate) fn new(url: &str) -> Result<Self, OpenError> {
        let options =
            PgConnectOptions::from_str(url).map_err(|source| OpenError::Address { source })?;
        // Statements have text of clients.
        let options = options.disable_statement_logging();
        let pool = PgPoolOptions::new()
            .min_connections(0)
            .max_connections(CONNECTIONS)
            .acquire_timeout(CONNECT_WITHIN)
            .connect_lazy_with(options.clone());
        Ok(Self {
            pool,
            migrated: OnceCell::new(),
            shown: shown(&options),
            bytes_written: AtomicU64::new(0),
            vectors: Vectors::default(),
        })
    }

    /// The connections, once the tables are there. A database that cannot be reached is tried again
    /// by the next call.
    pub(crate) async fn pool(&self) -> Result<&PgPool, OpenError> {
        self.migrated
            .get_or_try_init(async || self.migrate().await)
            .await?;
        Ok(&self.pool)
    }

    async fn migrate(&self) -> Result<(), OpenError> {
        let mut connection = self.unprepared().await?;
        let found = schema::migrate_postgres(&mut connection).await;
        match found.map_err(|source| self.failed(source))? {
            Some(found) => self.check(found),
            None => Ok(()),
        }
    }

    /// Checks that a version of the schema is known.
    pub(crate) fn check(&self, found: i64) -> Result<(), OpenError> {
        let known = schema::POSTGRES.known();
        if found <= known {
            return Ok(());
        }
        let database = self.shown.clone();
        Err(OpenError::NewerDatabase {
            database,
            found,
            known,
        })
    }

    /// A connection to a database that may lack the tables.
    pub(crate) async fn unprepared(&self) -> Result<PoolConnection<Postgres>, OpenError> {
        let connection = self.pool.acquire().await;
        connection.map_err(|source| self.failed(source))
    }

    pub(crate) fn failed(&self, source: sqlx::Error) -> OpenError {
        let database = self.shown.clone();
        OpenError::Reach { database, source }
    }

    /// A connection that works.
    pub(crate) async fn connection(&self) -> Result<PoolConnection<Postgres>, StoreError> {
        let pool = self.pool().await.map_err(|error| error.fact())?;
        pool.acquire().await.map_err(|error| fact(&error))
    }

    pub(crate) async fn begin(&self) -> Result<Transaction<'static, Postgres>, StoreError> {
        let pool = self.pool().await.map_err(|error| error.fact())?;
        pool.begin().await.map_err(|error| fact(&error))
    }

    /// Makes the changes of a write in one transaction. Two writes that wait for each other are
    /// tried again.
    pub(crate) async fn write(
        &self,
        sealing: &Sealing,
        owner: &Owner,
        changes: &[Change],
    ) -> Result<(), StoreError> {
        let mut tries = 1;
        loop {
            let mut transaction = self.begin().await?;
            let sql = Sql::Postgres(&mut transaction);
            let done = Access { sql, sealing }.write(owner, changes).await;
            match done {
                Ok(()) => return transaction.commit().await.map_err(|error| fact(&error)),
                Err(error) if tries == TRIES || !is_deadlock(&error) => return Err(error),
                Err(_) => {
                    drop(transaction);
                    tokio::time::sleep(PAUSE * tries).await;
                    tries += 1;
                }
            }
        }
    }
}

/// Whether two transactions waited for each other. PostgreSQL ended this one.
fn is_deadlock(error: &StoreError) -> bool {
    matches!(error, StoreError::Unavailable { cause } if cause.contains(DEADLOCK))
}

impl Server {
    /// Deletes objects that are too old, and then the oldest until the rest fits.
    pub(crate) async fn clean(&self, retention: &Retention) -> Result<(), StoreError> {
        let mut connection = self.connection().await?;
        let sql = &mut Sql::Postgres(&mut connection);
        retention.expire(sql).await?;
        drop(connection);
        self.make_room(retention).await
    }

    /// Enforces the limit of size, once this server has written enough. Two servers keep the limit;
    /// each more may exceed it by one step. A failure is only logged, because it is not that of the
    /// write.
    pub(crate) async fn wrote(&self, bytes: usize, retention: &Retention) {
        let (bytes, step) = (bytes as u64, retention.shared_step());
        let written = self.bytes_written.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if written < step {
            return;
        }
        self.bytes_written.store(0, Ordering::Relaxed);
        if let Err(error) = self.make_room(retention).await {
            tracing::warn!(%error, "stored objects could not be deleted to make room");
        }
    }

    /// Deletes the oldest objects until the rest fits, unless another server is doing it.
    async fn make_room(&self, retention: &Retention) -> Result<(), StoreError> {
        // Locked until the end of this transaction, also if the connection is lost.
        let mut locked = self.begin().await?;
        let made = self.make_room_if_free(&mut locked, retention).await;
        // A transaction that is dropped ends some time later, and the next call would find the lock
        // taken.
        locked.rollback().await.map_err(|error| fact(&error))?;
        made
    }

    async fn make_room_if_free(
        &self,
        locked: &mut PgConnection,
        retention: &Retention,
    ) -> Result<(), StoreError> {
        let sql = &mut Sql::Postgres(locked);
        let lock = sql.row(&Statement::new(LOCK_OF_ROOM)).await?;
        if !lock.map_or(Ok(false), |row| row.truth("is_locked"))? {
            return Ok(());
        }
        let size = sql.row(&Statement::new(SIZE_OF_TABLES)).await?;
        let size = size.map_or(Ok(0), |row| row.number("bytes"))?;
        let step = retention.shared_step();
        if retention.excess(size.unsigned_abs(), step) == 0 {
            return Ok(());
        }
        let used = Statement::new(USED)
            .with(bytes(OBJECT_BYTES))
            .with(bytes(ITEM_BYTES));
        let used = sql.row(&used).await?;
        let used = used.map_or(Ok(0), |row| row.number("bytes"))?;
        let mut excess = retention.excess(used.unsigned_abs(), step);
        let mut eviction = Eviction::new();
        while excess > 0 {
            let mut transaction = self.begin().await?;
            let sql = &mut Sql::Postgres(&mut transaction);
            let deleted = eviction.step(sql, excess).await?;
            transaction.commit().await.map_err(|error| fact(&error))?;
            if deleted == 0 {
                break;
            }
            excess = excess.saturating_sub(deleted);
        }
        Ok(())
    }
}

/// The address without its password.
fn shown(options: &PgConnectOptions) -> String {
    let database = options.get_database().unwrap_or_default();
    match options.get_socket() {
        Some(folder) => format!("{} in {}", database, folder.display()),
        None => format!(
            "{database} at {}:{}",
            options.get_host(),
            options.get_port()
        ),
    }
}
