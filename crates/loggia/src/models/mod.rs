//! The model files on this machine, and how they get here.
//!
//! Reading order: `source` (what a person may ask for), `store` (what is here, and under which
//! name), `pull` (the one way in), then what `pull` stands on: `hub` (Hugging Face's HTTP API),
//! `choose` (which file of a repository), `download` (one file, whole or not at all), `local` (a
//! file that is on this machine already), `contents` and `folder` (what a file is, which of a
//! folder is meant), `projector` (what a model sees or hears with). Nothing here loads a model;
//! that is the engine's.

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
