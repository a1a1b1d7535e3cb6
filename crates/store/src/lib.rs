//! The [`Store`](loggia_api::Store) of `loggia-api` in one SQLite file.
//!
//! Reading order: [`SqliteStore`] (the store as its users see it), `objects.rs` (each call as SQL),
//! `file.rs` (how the file is opened), `schema.rs` (its tables, and how an older file gets them),
//! `retention.rs` (what is deleted when), `error.rs` (SQLite's errors as the trait's). What is
//! stored when, and how an answer looks, is `loggia-api`.
#![forbid(unsafe_code)]

mod error;
mod file;
mod objects;
mod retention;
mod schema;
mod store;
mod survey;

pub use error::OpenError;
pub use retention::Retention;
pub use store::SqliteStore;
pub use survey::{Survey, survey};
