//! The tables, as numbered migrations. Opening a database applies the missing ones.

use sqlx::postgres::PgConnection;
use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection as _, Executor as _, Row as _};

/// The migrations of a kind of database in their order; the first is number 1. One that was
/// released is never changed.
pub(crate) struct Migrations(&'static [&'static str]);

pub(crate) static SQLITE: Migrations = Migrations(&[
    include_str!("../migrations/sqlite/0001.sql"),
    include_str!("../migrations/sqlite/0002.sql"),
    include_str!("../migrations/sqlite/0003.sql"),
    include_str!("../migrations/sqlite/0004.sql"),
    include_str!("../migrations/sqlite/0005.sql"),
    include_str!("../migrations/sqlite/0006.sql"),
    include_str!("../migrations/sqlite/0007.sql"),
    include_str!("../migrations/sqlite/0008.sql"),
    include_str!("../migrations/sqlite/0009.sql"),
    include_str!("../migrations/sqlite/0010.sql"),
    include_str!("../migrations/sqlite/0011.sql"),
    include_str!("../migrations/sqlite/0012.sql"),
    include_str!("../migrations/sqlite/0013.sql"),
]);

pub(crate) static POSTGRES: Migrations = Migrations(&[
    include_str!("../migrations/postgres/0001.sql"),
    include_str!("../migrations/postgres/0002.sql"),
    include_str!("../migrations/postgres/0003.sql"),
    include_str!("../migrations/postgres/0004.sql"),
    include_str!("../migrations/postgres/0005.sql"),
    include_str!("../migrations/postgres/0006.sql"),
    include_str!("../migrations/postgres/0007.sql"),
    include_str!("../migrations/postgres/0008.sql"),
    include_str!("../migrations/postgres/0009.sql"),
]);

const VERSION: &str = "SELECT COALESCE(MAX(version), 0) FROM loggia_schema";
const TABLE: &str = "CREATE TABLE IF NOT EXISTS loggia_schema (version BIGINT NOT NULL)";
const SET_VERSION: &str = "INSERT INTO loggia_schema (version) VALUES ($1)";

/// A number that is Loggia's among the locks of a database.
const LOCK: &str = "SELECT pg_advisory_xact_lock(5500124512)";

impl Migrations {
    /// The newest schema that is known.
    pub(crate) fn known(&self) -> i64 {
        i64::try_from(self.0.len()).unwrap_or(i64::MAX)
    }

    /// The migrations that a database with this schema lacks.
    fn after(&self, found: i64) -> &'static [&'static str] {
        let found = usize::try_from(found).unwrap_or(0);
        self.0.get(found..).unwrap_or_default()
    }
}

/// Migrates a file to the newest schema, in one transaction. If the file has a newer schema than
/// this program knows, nothing is changed, and its version is returned.
pub(crate) async fn migrate_sqlite(
    connection: &mut SqliteConnection,
) -> Result<Option<i64>, sqlx::Error> {
    // Two programs that open a new file at once take turns.
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    transaction.execute(TABLE).await?;
    let found: i64 = transaction.fetch_one(VERSION).await?.try_get(0)?;
    let known = SQLITE.known();
    if found > known {
        return Ok(Some(found));
    }
    for migration in SQLITE.after(found) {
        transaction.execute(*migration).await?;
    }
    if found < known {
        transaction.execute("DELETE FROM loggia_schema").await?;
        let version = sqlx::query(SET_VERSION).bind(known);
        transaction.execute(version).await?;
    }
    transaction.commit().await?;
    Ok(None)
}

/// Migrates a PostgreSQL database to the newest schema, like [`migrate_sqlite`].
pub(crate) async fn migrate_postgres(
    connection: &mut PgConnection,
) -> Result<Option<i64>, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    transaction.execute(LOCK).await?;
    transaction.execute(TABLE).await?;
    let found: i64 = transaction.fetch_one(VERSION).await?.try_get(0)?;
    let known = POSTGRES.known();
    if found > known {
        return Ok(Some(found));
    }
    for migration in POSTGRES.after(found) {
        transaction.execute(*migration).await?;
    }
    if found < known {
        transaction.execute("DELETE FROM loggia_schema").await?;
        let version = sqlx::query(SET_VERSION).bind(known);
        transaction.execute(version).await?;
    }
    transaction.commit().await?;
    Ok(None)
}

/// The version of a file's schema. `None` if it has none.
pub(crate) async fn version_of_sqlite(
    connection: &mut SqliteConnection,
) -> Result<Option<i64>, sqlx::Error> {
    let table = "SELECT 1 FROM sqlite_master WHERE name = 'loggia_schema'";
    if connection.fetch_optional(table).await?.is_none() {
        return Ok(None);
    }
    connection.fetch_one(VERSION).await?.try_get(0).map(Some)
}

/// The version of a PostgreSQL database's schema. `None` if it has none.
pub(crate) async fn version_of_postgres(
    connection: &mut PgConnection,
) -> Result<Option<i64>, sqlx::Error> {
    let table = "SELECT 1 WHERE to_regclass('loggia_schema') IS NOT NULL";
    if connection.fetch_optional(table).await?.is_none() {
        return Ok(None);
    }
    connection.fetch_one(VERSION).await?.try_get(0).map(Some)
}
