//! Loggia's HTTP server as a value: an axum app around the door of `loggia-api`, and the loop that
//! serves it.
//!
//! Reading order: [`app`] (the routes, and every layer around them), [`run`] (accepting connections,
//! and stopping), [`ServerOptions`] (each limit and its default), [`Keys`] (the API keys). What
//! OpenAI's routes answer is in `loggia-api`, the backends are in `loggia-backend`; arguments and
//! configuration files belong to the program.
#![forbid(unsafe_code)]

mod account;
mod app;
mod body;
mod clock;
mod connection;
mod console;
mod cors;
mod first_bytes;
mod follow;
mod health;
mod http2;
mod json_answer;
mod keys;
mod last_reload;
mod limits;
mod linger;
mod live;
mod local;
mod metrics;
mod nodes;
mod options;
mod panic;
mod received;
mod request_id;
mod room;
mod routes;
mod run;
mod shutdown;
mod threads;
mod tls;
mod traces;
mod websocket;

pub use account::{InFlight, Ledger};
pub use app::{App, AppState, app};
pub use cors::{BadOrigin, Origins, Pages};
pub use follow::StoreFollower;
pub use keys::holder::{Holder, Scope, Scopes};
pub use keys::trusted::TrustedHeader;
pub use keys::{KeyDigest, KeyRules, KeySettings, Keys, NewKey, is_key_name, new_secret};
pub use last_reload::LastReload;
pub use limits::{BadLimitsUrl, KeyLimits, Limits, SharedLimits};
pub use live::Live;
pub use live::backends::ShownBackend;
pub use metrics::{Metrics, Reading, metrics_app};
pub use nodes::{Node, NodeChange, NodeChangeError, NodeStatus, Nodes, node_id};
pub use options::ServerOptions;
pub use panic::log_panics_without_messages;
pub use run::run;
pub use tls::{Tls, TlsError};
pub use traces::{BadSampler, Sampler, TracedServer, Traces};

pub(crate) use json_answer::json_answer;
