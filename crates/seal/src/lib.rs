//! A ring of keys that seals texts, so that only a server with one of the keys can read or change
//! them: the reasoning that a client carries for Loggia, and the texts in a store.
//!
//! Reading order: [`Keys`] (`keys.rs`), `file.rs` (the file with the keys), `error.rs`. What is
//! sealed, and for which purpose, is up to the callers.
#![forbid(unsafe_code)]

mod error;
mod file;
mod keys;

pub use error::{KeysError, NotOpened};
pub use keys::Keys;
