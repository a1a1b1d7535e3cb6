//! A PostgreSQL database, which several servers may share.

use std::str::FromStr as _;
use std::time::Duration;

use loggia_api::store::{Change, Owner, StoreError};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions as _, Postgres, Transaction};
use tokio::sync::OnceCell;

use crate::error::{DEADLOCK, OpenError, fact};
use crate::read::Access;
use crate::retention::{Retention, ages, keep_continued, leaves, now};
use crate::schema;
use crate::sealing::Sealing;
use crate::sql::{Sql, Statement};

/// How many connections a server has at most, and how long a call waits for one. That is also how
/// long it waits for a database that is away.
const CONNECTIONS: u32 = 8;
const CONNECT_WITHIN: Duration = Duration::from_secs(3);

/// How often a write is tried if it and another one wait for each other, and how much longer it waits
/// before each try, so that the other one has ended.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(20);

/// The bytes of the objects.
const SIZES: &str = concat!(
    "WITH sizes AS ( \
        SELECT seq, changed, octet_length(body) + COALESCE(octet_length(sealed), 0) + \
            COALESCE((SELECT SUM(octet_length(items.body) + COALESCE(octet_length(items.sealed), 0)) \
                FROM items WHERE items.object = objects.seq), 0) AS bytes \
        FROM objects WHERE ",
    leaves!(),
    ")"
);

/// A database, reached when it is first needed.
#[derive(Debug)]
pub(crate) struct Server {
    pool: PgPool,
    /// Set when the tables are there.
    migrated: OnceCell<()>,
    /// The address without its password.
    shown: String,
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

impl Retention {
    /// Deletes what is too old, and the oldest objects until the texts of the rest fit.
    pub(crate) async fn clean_database(&self, sql: &mut Sql<'_>) -> Result<(), StoreError> {
        if let Some(age) = self.age {
            let age = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
            let oldest = now().saturating_sub(age);
            keep_continued(sql, oldest).await?;
            let mut expire = Statement::new("DELETE FROM objects WHERE changed <= ");
            expire.bind(oldest).push(concat!(" AND ", leaves!()));
            sql.run(&expire).await?;
        }
        let limit = i64::try_from(self.bytes).unwrap_or(i64::MAX);
        let sum =
            format!("{SIZES} SELECT CAST(COALESCE(SUM(bytes), 0) AS BIGINT) AS bytes FROM sizes");
        let all = sql.row(&Statement::new(&sum)).await?;
        if all.map_or(Ok(0), |row| row.number("bytes"))? <= limit {
            return Ok(());
        }
        if let Some((_, old)) = ages(sql).await? {
            keep_continued(sql, old).await?;
        }
        // From the newest to the oldest, the sizes add up to the limit.
        let mut shrink = Statement::new(SIZES);
        shrink.push(
            ", sums AS (SELECT seq, SUM(bytes) OVER (ORDER BY changed DESC, seq DESC) AS bytes FROM sizes) \
            DELETE FROM objects WHERE seq IN (SELECT seq FROM sums WHERE bytes > ",
        );
        shrink.bind(limit);
        shrink.push(")");
        sql.run(&shrink).await.map(|_| ())
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
