//! Loggia's HTTP server as a value: an axum app around the door of `loggia-api`, and the loop that
//! serves it.
//!
//! Reading order: [`app`] (the routes, and every layer around them), [`run`] (connections, and how
//! they end), [`ServerOptions`] (each limit and its default), [`Keys`] (whom it lets in). What
//! OpenAI's routes answer is `loggia-api`; who answers is `loggia-backend`; arguments and
//! configuration files are the program's.
#![forbid(unsafe_code)]

mod account;
mod app;
mod body;
mod connection;
mod cors;
mod crew;
mod health;
mod keys;
mod options;
mod panic;
mod request_id;
mod run;

pub use account::InFlight;
pub use app::{AppState, app};
pub use cors::{BadOrigin, Origins};
pub use keys::{KeyDigest, Keys};
pub use options::ServerOptions;
pub use panic::log_panics_without_their_words;
pub use run::run;
