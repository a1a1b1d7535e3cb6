//! SQLite's errors as those of the trait, and the errors of opening a file.

use std::io;
use std::path::PathBuf;

use loggia_api::store::StoreError;
use thiserror::Error;

/// SQLite's code for a database or a disk that is full.
const SQLITE_FULL: &str = "13";

/// Why a file cannot be used as a store.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The folder of the file cannot be made, or the file in it.
    #[error("{} cannot be created", path.display())]
    Create {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is no database, or it is damaged, or another program holds it.
    #[error("{} cannot be opened as a database", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: sqlx::Error,
    },
    /// A later version of this program wrote it.
    #[error(
        "{} has the schema {found}, and this version of loggia knows the schemas up to {known}; use the version that wrote it, or a later one",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The version of its schema.
        found: i64,
        /// The newest that is known here.
        known: i64,
    },
}

/// The fact behind an error of SQLite's.
pub(crate) fn fact(error: &sqlx::Error) -> StoreError {
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code);
    // Extended codes have the primary one in their lowest byte.
    match code.as_deref() {
        Some(SQLITE_FULL) => StoreError::Full,
        _ => StoreError::Unavailable {
            cause: cause(error),
        },
    }
}

/// What is wrong, without a value that a client sent: SQLite's messages name tables and columns.
fn cause(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => error.message().to_owned(),
        other => other.to_string(),
    }
}

/// The fact behind a file that cannot be opened.
pub(crate) fn unopened(error: &OpenError) -> StoreError {
    let mut cause = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        cause = format!("{cause}: {error}");
        source = error.source();
    }
    StoreError::Unavailable { cause }
}
