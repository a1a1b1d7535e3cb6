//! The [`Store`](loggia_api::Store) of `loggia-api` in an SQLite file or a PostgreSQL database.
//!
//! Reading order: [`SqlStore`] (`store.rs`, each call of the trait), `read.rs` and `write.rs` (the
//! calls as SQL), `keys.rs`, `usage.rs` and `nodes.rs` (tables of their own, which share
//! `tables.rs`), `chunks.rs` and `vectors.rs` (vector stores), `sql.rs` (both databases as one),
//! `packed.rs` (items in one row), `sealing.rs` (encryption), `clock.rs` (the time). Then the two places: `file.rs` (how
//! the file is opened), `batches.rs` (several writes in one transaction), and `postgres.rs`.
//! `schema.rs` has the tables, and how an older database gets them, `retention.rs` what is deleted
//! when, `error.rs` the databases' errors as the trait's. `blobs/` keeps the contents of files, in a
//! folder or in a bucket. What is stored when, and how an answer looks, is `loggia-api`.
#![forbid(unsafe_code)]

mod batches;
mod blobs;
mod chunks;
mod clock;
mod due;
mod error;
mod file;
mod identity;
mod keys;
mod nodes;
mod packed;
mod postgres;
mod read;
mod retention;
mod schema;
mod sealing;
mod sql;
mod store;
mod survey;
mod tables;
mod usage;
mod vectors;
mod write;

pub use blobs::{BucketError, FileBlobs, NotS3Address, S3Address, S3Blobs, S3Options};
pub use error::OpenError;
pub use retention::Retention;
pub use store::SqlStore;
pub use survey::Survey;
