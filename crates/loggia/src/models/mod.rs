//! The model files on this machine, and downloading them.
//!
//! Reading order: `source` (what `loggia pull` accepts), `store` (the model folder and the names of
//! models), `pull`, and its parts: `hub` (Hugging Face's HTTP API), `choose` (which files of a
//! repository), `download` (one file), `local` (a file of this machine), `contents` and `folder`
//! (formats of files, models in folders), `projector`. Nothing here loads a model; the engine does.

mod catalogue;
mod choose;
mod contents;
mod digest;
mod download;
mod filename;
mod folder;
mod hub;
mod local;
mod place;
mod progress;
mod projector;
mod pull;
mod source;
mod store;

pub(crate) use catalogue::{DEFAULT, family, is_short_name, short_names};
pub(crate) use contents::Contents;
pub(crate) use folder::{FolderError, the_model_in};
pub(crate) use place::PlaceError;
pub(crate) use progress::Progress;
pub(crate) use projector::beside as projector_beside;
pub(crate) use pull::pull;
pub(crate) use source::{Source, SourceError};
pub(crate) use store::{Model, Store, StoreError, of_loose_file};
