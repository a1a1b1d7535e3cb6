//! The errors of the databases as those of the trait, and the errors of opening one.

use std::io;
use std::path::PathBuf;

use loggia_api::store::StoreError;
use thiserror::Error;

/// The codes of SQLite and of PostgreSQL for a database or a disk that is full.
const FULL: [&str; 2] = ["13", "53100"];

/// PostgreSQL's code for two transactions that wait for each other.
pub(crate) const DEADLOCK: &str = "40P01";

/// Why a file or a database cannot be used as a store.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The folder of the file cannot be made, or the file in it.
    #[error("{} cannot be created", path.display())]
    Create {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file is not a database, or it is damaged, or another program holds it.
    #[error("{} cannot be opened as a database", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: sqlx::Error,
    },
    /// A later version of this program wrote the file.
    #[error(
        "{} has the schema {found}, and this version of loggia knows the schemas up to {known}; use the version that wrote it, or a later one",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The version of the file's schema.
        found: i64,
        /// The newest that is known here.
        known: i64,
    },
    /// The setting is not the address of a PostgreSQL database.
    #[error(
        "this is not the address of a PostgreSQL database, which is written postgres://user:password@host/database"
    )]
    Address {
        /// The cause. It may contain the password.
        source: sqlx::Error,
    },
    /// The database cannot be reached, or does not work.
    #[error("the database {database} cannot be used")]
    Reach {
        /// The database, without its password.
        database: String,
        /// The cause.
        source: sqlx::Error,
    },
    /// A later version of this program made the tables.
    #[error(
        "the database {database} has the schema {found}, and this version of loggia knows the schemas up to {known}; use the version that made it, or a later one"
    )]
    NewerDatabase {
        /// The database, without its password.
        database: String,
        /// The version of the database's schema.
        found: i64,
        /// The newest that is known here.
        known: i64,
    },
}

/// The fact behind an error of a database.
pub(crate) fn fact(error: &sqlx::Error) -> StoreError {
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code);
    // Extended codes of SQLite have the primary one in their lowest byte.
    let is_taken = error
        .as_database_error()
        .is_some_and(sqlx::error::DatabaseError::is_unique_violation);
    match code.as_deref() {
        // The error does not say which id is taken.
        _ if is_taken => StoreError::Duplicate { id: String::new() },
        Some(code) if FULL.contains(&code) => StoreError::Full,
        _ => StoreError::Unavailable {
            cause: cause(error),
        },
    }
}

/// The cause, without a value that a client sent: messages name tables and columns only.
fn cause(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => match error.code() {
            Some(code) => format!("{} ({code})", error.message()),
            None => error.message().to_owned(),
        },
        other => other.to_string(),
    }
}

impl OpenError {
    /// The fact behind a file or a database that cannot be opened.
    pub(crate) fn fact(&self) -> StoreError {
        let mut cause = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            cause = format!("{cause}: {error}");
            source = error.source();
        }
        StoreError::Unavailable { cause }
    }
}
