//! The model files on this machine, and downloading them.
//!
//! Reading order: `source` (what `loggia pull` accepts), `store` (the model folder and the names of
//! models), `pull`, and its parts: `hub` (Hugging Face's HTTP API), `choose` (which files of a
//! repository), `download` (one file), `add_file` (a file of this machine), `file_format` and `folder`
//! (formats of files, models in folders), `projector`. Nothing here loads a model; the engine does.

mod add_file;
mod catalogue;
mod choose;
mod digest;
mod download;
mod file_format;
mod filename;
mod folder;
mod hub;
mod partial_file;
mod progress;
mod projector;
mod pull;
mod source;
mod store;

pub(crate) use catalogue::{DEFAULT, family, is_short_name, short_names};
pub(crate) use file_format::FileFormat;
pub(crate) use folder::{FolderError, the_model_in};
#[cfg(feature = "embedded")]
pub(crate) use partial_file::WriteError;
pub(crate) use progress::Progress;
pub(crate) use projector::beside as projector_beside;
pub(crate) use pull::pull;
pub(crate) use source::{Source, SourceError};
pub(crate) use store::{Model, Store, StoreError, of_loose_file};
