//! The model files that the embedded engine is to have: found in the store, or where the configuration says.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::{Config, Lora, Mmproj, ModelName};
use crate::models::{self, Store, StoreError};

/// A model file, under the name that clients use.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Local {
    pub(crate) name: String,
    pub(crate) file: PathBuf,
    /// What is laid over it.
    pub(crate) adapter: Option<Adapter>,
    /// What it sees or hears with.
    pub(crate) mmproj: Option<PathBuf>,
}

/// A LoRA adapter of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Adapter {
    /// The name that the model has without it.
    pub(crate) base: String,
    pub(crate) file: PathBuf,
    pub(crate) scale: f32,
}

/// Why a model cannot be given to the embedded engine.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LocalError {
    #[error("this build has no embedded engine; name a backend with --ollama or --openai")]
    NoEngine,
    #[error("there is no file {0}")]
    NoFile(PathBuf),
    #[error("`{0}` is not here yet; fetch it with: loggia pull {0}")]
    NotHere(String),
    #[error("`{0}` is here in part only; fetch the rest with: loggia pull {0}")]
    Incomplete(String),
    #[error("two models would be called `{0}`; name only one of them")]
    TwoAlike(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The models that are here, and those that are not, as they were asked for. The default one is meant where no backend is named.
pub(super) fn find_all(config: &Config) -> (Vec<Local>, Vec<(String, LocalError)>) {
    let store = Store::new(&config.data_dir);
    let default = config.names_no_backend().then(|| ModelName(models::DEFAULT.to_owned()));
    let (mut here, mut missing) = (Vec::<Local>::new(), Vec::new());
    let plain = config.models.iter().chain(&default).map(|asked| (&asked.0, find(asked, &store)));
    let adapted = config.lora.iter().map(|lora| (&lora.name, find_adapted(lora, &store)));
    for (asked, found) in plain.chain(adapted) {
        match found {
            Ok(model) if here.iter().any(|other| other.name == model.name) => {
                missing.push((asked.clone(), LocalError::TwoAlike(model.name)));
            }
            Ok(model) => here.push(with_projector(model, asked, config)),
            Err(error) => missing.push((asked.clone(), error)),
        }
    }
    (here, missing)
}

/// The base, under the name that it has with its adapter.
fn find_adapted(lora: &Lora, store: &Store) -> Result<Local, LocalError> {
    let base = find(&lora.base, store)?;
    let file = find(&lora.file, store)?.file;
    let adapter = Adapter { base: base.name, file, scale: lora.scale };
    Ok(Local { name: lora.name.clone(), adapter: Some(adapter), ..base })
}

/// With the projector that the configuration names for it, if it does.
fn with_projector(mut model: Local, asked: &str, config: &Config) -> Local {
    let base = model.adapter.as_ref().map(|adapter| adapter.base.as_str());
    let is_meant = |name: &str| name == model.name || name == asked || Some(name) == base;
    let named = config.mmproj.iter().rfind(|mmproj| mmproj.model.as_deref().is_none_or(is_meant));
    if let Some(mmproj) = named {
        model.mmproj.clone_from(&mmproj.file);
    }
    model
}

/// Says what is wrong with the first projector that the configuration names.
pub(super) fn check_projectors(
    here: &[Local],
    missing: &[(String, LocalError)],
    config: &Config,
) -> Result<(), String> {
    for Mmproj { model, file } in &*config.mmproj {
        let is_meant = |local: &Local| {
            let base = local.adapter.as_ref().map(|adapter| &adapter.base);
            model.as_ref() == Some(&local.name) || model.as_ref() == base
        };
        let is_asked = |name: &String| config.models.iter().any(|asked| asked.0 == *name);
        match model {
            None if here.len() + missing.len() != 1 => {
                return Err(
                    "--mmproj: there are several models, or none; say which is meant: --mmproj NAME=FILE".to_owned()
                );
            }
            Some(name)
                if !here.iter().any(is_meant) && !is_asked(name) && missing.iter().all(|(other, _)| other != name) =>
            {
                return Err(format!("mmproj: no model of the built-in engine is called `{name}`"));
            }
            _ => {}
        }
        if let Some(file) = file.as_ref().filter(|file| !file.is_file()) {
            return Err(format!("mmproj: there is no file {}", file.display()));
        }
    }
    Ok(())
}

/// A file that exists is that file; anything else is looked up in the store.
fn find(asked: &ModelName, store: &Store) -> Result<Local, LocalError> {
    if cfg!(not(feature = "embedded")) {
        return Err(LocalError::NoEngine);
    }
    let model = match asked.file().filter(|file| file.is_file()) {
        Some(file) => models::of_loose_file(file),
        None => match (store.find(&asked.0), asked.file()) {
            (Err(StoreError::NotHere { .. }), Some(file)) => return Err(LocalError::NoFile(file.to_owned())),
            (Err(StoreError::NotHere { .. }), None) => return Err(LocalError::NotHere(asked.0.clone())),
            (found, _) => found?,
        },
    };
    if !model.complete {
        return Err(LocalError::Incomplete(asked.0.clone()));
    }
    let mmproj = models::projector_beside(&model.file);
    Ok(Local { name: model.name, file: model.file, adapter: None, mmproj })
}
