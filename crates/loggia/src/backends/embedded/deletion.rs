//! Deleting embedded models over the API: only files in the program's own model folder that no
//! other model needs.

use std::path::Path;

use loggia_backend::{BackendError, NotDeleted};

use super::super::model_files::EmbeddedModel;
use super::model_spec::ModelSpec;
use super::pool::Pool;
use crate::config::Config;
use crate::models::{Store, StoreError, WriteError};

/// The facts that decide whether a model may be deleted.
pub(super) struct Deletion {
    pub(super) store: Store,
    /// For each model of the pool, whether it was found by name in the model folder.
    stored: Vec<bool>,
}

impl Deletion {
    pub(super) fn of(models: &[EmbeddedModel], config: &Config) -> Self {
        let stored = models.iter().map(|model| model.stored).collect();
        Self {
            store: Store::new(&config.data_dir),
            stored,
        }
    }

    /// Fails if this model may not be deleted.
    pub(super) fn check(&self, at: usize, pool: &Pool) -> Result<(), BackendError> {
        let spec = &pool.specs()[at];
        let refused = |why| {
            Err(BackendError::NotDeleted {
                model: spec.name.clone(),
                why,
            })
        };
        if spec.adapter.is_some() {
            return refused(NotDeleted::Adapter);
        }
        if self.stored.get(at) != Some(&true) {
            return refused(NotDeleted::OwnFile);
        }
        let others = pool
            .specs()
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != at && pool.has(*other));
        match others
            .map(|(_, other)| other)
            .find(|other| uses(other, &spec.file))
        {
            Some(other) => refused(NotDeleted::NeededBy {
                other: other.name.clone(),
            }),
            None => Ok(()),
        }
    }
}

/// Whether a model needs this file.
fn uses(spec: &ModelSpec, file: &Path) -> bool {
    let ModelSpec {
        file: own,
        adapter,
        mmproj,
        draft,
        ..
    } = spec;
    let with = [
        adapter.as_ref().map(|adapter| &adapter.file),
        mmproj.as_ref(),
        draft.as_ref().map(|draft| &draft.file),
    ];
    own == file || with.into_iter().flatten().any(|other| other == file)
}

/// Removes a model's files like `loggia rm`, and nothing outside of the model folder.
pub(super) fn remove(store: &Store, file: &Path) -> Result<(), NotDeleted> {
    let Some(model) = store.of_file(file).map_err(|error| stays(&error))? else {
        return Ok(());
    };
    if !store.owns(&model) {
        return Err(NotDeleted::OwnFile);
    }
    store.remove(&model).map_err(|error| stays(&error))
}

fn stays(error: &StoreError) -> NotDeleted {
    if matches!(error, StoreError::Write(WriteError::Locked)) {
        return NotDeleted::InUse;
    }
    tracing::error!(%error, "cannot delete a model");
    NotDeleted::FileStays
}
