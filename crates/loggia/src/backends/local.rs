//! The model files that the embedded engine is to have: found in the store, or where the configuration says.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::{Config, Lora, Mmproj, ModelName, PerModel};
use crate::models::{self, Store, StoreError};

/// A model file, under the name that clients use.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Local {
    pub(crate) name: String,
    pub(crate) file: PathBuf,
    /// Whether it was found in the store by its name, and not given by its path.
    pub(crate) stored: bool,
    /// What is laid over it.
    pub(crate) adapter: Option<Adapter>,
    /// What it sees or hears with.
    pub(crate) mmproj: Option<PathBuf>,
    /// What guesses ahead for it.
    pub(crate) draft: Option<Draft>,
}

/// A draft model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Draft {
    pub(crate) file: PathBuf,
    pub(crate) tokens: u32,
    pub(crate) always: bool,
}

/// How many tokens a draft guesses where nobody says.
const DRAFT_TOKENS: u32 = 4;

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

/// Gives the models the drafts that are set for them. Says what is wrong with the first that cannot be had, or that is nobody's.
pub(super) fn give_drafts(here: &mut [Local], missing: &[(String, LocalError)], config: &Config) -> Result<(), String> {
    let store = Store::new(&config.data_dir);
    // Of a model that is not here that is said, and no more.
    let to_be_had = config.per_model.iter().filter(|(name, _)| missing.iter().all(|(other, _)| other != *name));
    for (name, its) in to_be_had {
        let of_its = |what: &dyn std::fmt::Display| format!("per_model.{name}: {what}");
        let Some(draft) = draft(its, &store).map_err(|what| of_its(&what))? else { continue };
        let model = here.iter_mut().find(|model| model.name == *name);
        let model = model.ok_or_else(|| {
            of_its(&"it has a `draft`, and no embedded model is called so: an alias has none of its own")
        })?;
        model.draft = Some(draft);
    }
    Ok(())
}

fn draft(its: &PerModel, store: &Store) -> Result<Option<Draft>, String> {
    let Some(asked) = &its.draft else {
        let is_named = its.draft_tokens.is_none() && its.draft_always.is_none();
        return if is_named {
            Ok(None)
        } else {
            Err("it says how to draft, and not with which model: `draft` names it".to_owned())
        };
    };
    let file = find(asked, store).map_err(|error| format!("draft: {error}"))?.file;
    let (tokens, always) = (its.draft_tokens.unwrap_or(DRAFT_TOKENS), its.draft_always.unwrap_or(false));
    Ok(Some(Draft { file, tokens, always }))
}

/// A file that exists is that file; anything else is looked up in the store.
fn find(asked: &ModelName, store: &Store) -> Result<Local, LocalError> {
    if cfg!(not(feature = "embedded")) {
        return Err(LocalError::NoEngine);
    }
    let (model, stored) = match asked.file().filter(|file| file.is_file()) {
        Some(file) => (models::of_loose_file(file), false),
        None => match (store.find(&asked.0), asked.file()) {
            (Err(StoreError::NotHere { .. }), Some(file)) => return Err(LocalError::NoFile(file.to_owned())),
            (Err(StoreError::NotHere { .. }), None) => return Err(LocalError::NotHere(asked.0.clone())),
            (found, _) => (found?, true),
        },
    };
    if !model.complete {
        return Err(LocalError::Incomplete(asked.0.clone()));
    }
    let mmproj = models::projector_beside(&model.file);
    Ok(Local { name: model.name, file: model.file, stored, adapter: None, mmproj, draft: None })
}
