//! The configuration: flags override the environment, which overrides the file, which overrides the
//! defaults.
//!
//! Reading order: `settings` (the table of all settings), `table` (what is generated from it),
//! `flags`, `read` (the environment and the file), `sources` (which source wins), `load` (all of it
//! together), `value` and the files beside it (the types), `written` and `show` (printing a
//! configuration, for `loggia check`), `file_errors` and `names` (error messages). Nothing here
//! connects to a backend or opens a model.

mod aliases;
mod bounds;
mod database;
mod entries;
mod environment;
mod error;
mod file_errors;
mod files_url;
mod flags;
mod keep_alive;
mod key_limits;
mod keys;
mod list;
mod listen;
mod load;
mod lora;
mod mmproj;
mod names;
mod number;
mod origin;
mod per_model;
mod read;
mod serde_message;
mod settings;
mod show;
mod sources;
mod table;
mod tokens;
mod value;
mod written;

pub(crate) use loggia_backend::roster::Alias;

pub(crate) use environment::{Environment, environment};
pub(crate) use flags::{DatabaseFlags, Flags, StoreFlags};
#[cfg(feature = "embedded")]
pub(crate) use keep_alive::KeepAlive;
pub(crate) use key_limits::LimitsTable;
pub(crate) use keys::keys;
pub(crate) use listen::Listen;
pub(crate) use lora::Lora;
pub(crate) use mmproj::Mmproj;
pub(crate) use names::example_of_flag;
#[cfg(feature = "embedded")]
pub(crate) use number::{Count, Size};
pub(crate) use per_model::PerModel;
pub(crate) use settings::{Config, find};
pub(crate) use show::Shown;
#[cfg(feature = "embedded")]
pub(crate) use tokens::Tokens;
#[cfg(feature = "embedded")]
pub(crate) use value::{CacheScope, CacheType};
pub(crate) use value::{LogFormat, ModelName, Secret, Span, Url};

#[cfg(test)]
mod tests;
