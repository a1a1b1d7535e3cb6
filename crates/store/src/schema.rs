//! The tables, as numbered migrations. A file gets those that it lacks when it is opened.

use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection as _, Executor as _, Row as _};

/// The migrations in their order; the first is number 1. One that was released is never changed.
static MIGRATIONS: &[&str] = &[
    include_str!("../migrations/0001.sql"),
    include_str!("../migrations/0002.sql"),
];

/// The newest schema that is known.
pub(crate) fn known() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

/// Brings a file to the newest schema, all or nothing. Returns the version that it had where that
/// is newer than what is known; nothing is changed then.
pub(crate) async fn migrate(connection: &mut SqliteConnection) -> Result<Option<i64>, sqlx::Error> {
    // Two programs that open a new file at once take turns.
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    transaction
        .execute("CREATE TABLE IF NOT EXISTS loggia_schema (version BIGINT NOT NULL)")
        .await?;
    let found = version(&mut transaction).await?;
    if found > known() {
        return Ok(Some(found));
    }
    let missing = usize::try_from(found).unwrap_or(0);
    for migration in &MIGRATIONS[missing..] {
        transaction.execute(*migration).await?;
    }
    if found < known() {
        transaction.execute("DELETE FROM loggia_schema").await?;
        sqlx::query("INSERT INTO loggia_schema (version) VALUES ($1)")
            .bind(known())
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await?;
    Ok(None)
}

/// The version of a file's schema; 0 for a new file.
async fn version(connection: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
    sqlx::query("SELECT COALESCE(MAX(version), 0) FROM loggia_schema")
        .fetch_one(connection)
        .await?
        .try_get(0)
}
