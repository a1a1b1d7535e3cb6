//! The model files that the embedded engine is to have: found in the store, or where the
//! configuration says.

use std::path::{Path, PathBuf};

use loggia_backend::nearest;
use serde::{Deserialize, Serialize};

use crate::config::{Config, Lora, Mmproj, ModelName, PerModel};
use crate::models::{self, Contents, FolderError, Model, Source, Store, StoreError};

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
    #[error("there is no file {path}{}", .nearest.as_ref().map(|file| format!("; did you mean {}?", file.display())).unwrap_or_default())]
    NoFile {
        path: PathBuf,
        nearest: Option<PathBuf>,
    },
    #[error("{path} is not a GGUF file: {contents}")]
    NotGguf { path: PathBuf, contents: Contents },
    #[error("cannot read {path}: {cause}")]
    Read {
        path: PathBuf,
        cause: std::io::Error,
    },
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// It can be fetched, by this name.
    #[error("`{0}` is not here yet; fetch it with: loggia pull {1}")]
    NotHere(String, String),
    /// Nobody knows it.
    #[error("there is no model `{name}`{}", hint(.nearest.as_ref(), .here))]
    Unknown {
        name: String,
        nearest: Option<Nearest>,
        here: Vec<String>,
    },
    #[error("`{0}` is here in part only; fetch the rest with: loggia pull {0}")]
    Incomplete(String),
    #[error("two models would be called `{0}`; name only one of them")]
    TwoAlike(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The model that was probably meant.
#[derive(Debug)]
pub(crate) enum Nearest {
    /// It is in the store.
    Here(String),
    /// It has a short name, and is not here yet.
    ToPull(&'static str),
}

/// What to do about a model that nobody knows.
fn hint(nearest: Option<&Nearest>, here: &[String]) -> String {
    let meant = match nearest {
        Some(Nearest::Here(name)) => format!(". Did you mean `{name}`?"),
        Some(Nearest::ToPull(name)) => {
            format!(". Did you mean `{name}`? Fetch it with `loggia pull {name}`.")
        }
        None => String::new(),
    };
    let here = if here.is_empty() {
        String::new()
    } else {
        format!(" On this machine: {}.", here.join(", "))
    };
    let short: Vec<&str> = models::short_names().collect();
    format!(
        "{meant}{}{here} Short names: {}. A file is named by its path, a repository on Hugging Face as hf:OWNER/REPO.",
        if nearest.is_none() { "." } else { "" },
        short.join(", ")
    )
}

/// What to do with a model of this name: for somebody who named it alone.
pub(crate) fn about_model(name: &str, store: &Store) -> String {
    match find(&ModelName(name.to_owned()), store) {
        Ok(_) => format!(
            "`loggia serve {name}` serves the model of this name, `loggia run {name}` chats with it"
        ),
        Err(error) => error.to_string(),
    }
}

/// The models that are here, and those that are not, as they were asked for. The default one is
/// meant where no backend is named.
pub(super) fn find_all(config: &Config) -> (Vec<Local>, Vec<(String, LocalError)>) {
    let store = Store::new(&config.data_dir);
    let default = config
        .names_no_backend()
        .then(|| ModelName(models::DEFAULT.to_owned()));
    let (mut here, mut missing) = (Vec::<Local>::new(), Vec::new());
    let plain = config
        .models
        .iter()
        .chain(&default)
        .map(|asked| (&asked.0, find(asked, &store)));
    let adapted = config
        .lora
        .iter()
        .map(|lora| (&lora.name, find_adapted(lora, &store)));
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
    let adapter = Adapter {
        base: base.name,
        file,
        scale: lora.scale,
    };
    Ok(Local {
        name: lora.name.clone(),
        adapter: Some(adapter),
        ..base
    })
}

/// With the projector that the configuration names for it, if it does.
fn with_projector(mut model: Local, asked: &str, config: &Config) -> Local {
    let base = model.adapter.as_ref().map(|adapter| adapter.base.as_str());
    let is_meant = |name: &str| name == model.name || name == asked || Some(name) == base;
    let named = config
        .mmproj
        .iter()
        .rfind(|mmproj| mmproj.model.as_deref().is_none_or(is_meant));
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
                if !here.iter().any(is_meant)
                    && !is_asked(name)
                    && missing.iter().all(|(other, _)| other != name) =>
            {
                return Err(format!(
                    "mmproj: no model of the built-in engine is called `{name}`"
                ));
            }
            _ => {}
        }
        if let Some(file) = file.as_ref().filter(|file| !file.is_file()) {
            return Err(format!("mmproj: there is no file {}", file.display()));
        }
    }
    Ok(())
}

/// Gives the models the drafts that are set for them. Says what is wrong with the first that cannot
/// be had, or that is nobody's.
pub(super) fn give_drafts(
    here: &mut [Local],
    missing: &[(String, LocalError)],
    config: &Config,
) -> Result<(), String> {
    let store = Store::new(&config.data_dir);
    // Of a model that is not here that is said, and no more.
    let to_be_had = config
        .per_model
        .0
        .iter()
        .filter(|(name, _)| missing.iter().all(|(other, _)| other != *name));
    for (name, its) in to_be_had {
        let of_its = |what: &dyn std::fmt::Display| format!("per_model.{name}: {what}");
        let Some(draft) = draft(its, &store).map_err(|what| of_its(&what))? else {
            continue;
        };
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
    let file = find(asked, store)
        .map_err(|error| format!("draft: {error}"))?
        .file;
    let (tokens, always) = (
        its.draft_tokens.unwrap_or(DRAFT_TOKENS),
        its.draft_always.unwrap_or(false),
    );
    Ok(Some(Draft {
        file,
        tokens,
        always,
    }))
}

/// A file or folder that exists is that one, where it is named as one; else the store is asked
/// first.
fn find(asked: &ModelName, store: &Store) -> Result<Local, LocalError> {
    if cfg!(not(feature = "embedded")) {
        return Err(LocalError::NoEngine);
    }
    let path = Path::new(&asked.0);
    let (model, stored) = match asked.file().filter(|file| file.is_file()) {
        Some(file) => (loose(file)?, false),
        None => match store.find(&asked.0) {
            Ok(model) => (model, true),
            Err(StoreError::NotHere { .. }) if path.is_file() => (loose(path)?, false),
            Err(StoreError::NotHere { .. }) if path.is_dir() => {
                (loose(&models::the_model_in(path)?)?, false)
            }
            Err(StoreError::NotHere { here, .. }) => return Err(not_here(asked, here)),
            Err(error) => return Err(error.into()),
        },
    };
    if !model.complete {
        return Err(LocalError::Incomplete(asked.0.clone()));
    }
    let mmproj = models::projector_beside(&model.file);
    Ok(Local {
        name: model.name,
        file: model.file,
        stored,
        adapter: None,
        mmproj,
        draft: None,
    })
}

/// A file, which has to be a GGUF file by its first bytes. What it is called says nothing.
fn loose(file: &Path) -> Result<Model, LocalError> {
    match Contents::of(file) {
        Ok(Contents::Gguf) => Ok(models::of_loose_file(file)),
        Ok(contents) => Err(LocalError::NotGguf {
            path: file.to_owned(),
            contents,
        }),
        Err(cause) => Err(LocalError::Read {
            path: file.to_owned(),
            cause,
        }),
    }
}

/// What to do about a model that is not here: a command that fetches it, where there is one, or
/// what was probably meant.
fn not_here(asked: &ModelName, here: Vec<String>) -> LocalError {
    let path = Path::new(&asked.0);
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let is_path = asked.file().is_some() || path.is_absolute() || folder.is_some_and(Path::is_dir);
    if is_path {
        return LocalError::NoFile {
            path: path.to_owned(),
            nearest: beside(path),
        };
    }
    if let Ok(source @ (Source::Known(_) | Source::Hub { .. })) = Source::parse(&asked.0) {
        return LocalError::NotHere(asked.0.clone(), source.to_string());
    }
    let nearest = nearest_of(&asked.0, &here);
    LocalError::Unknown {
        name: asked.0.clone(),
        nearest,
        here,
    }
}

/// The model that was probably meant, among those of the store and the short names.
fn nearest_of(asked: &str, here: &[String]) -> Option<Nearest> {
    let mut candidates: Vec<&str> = here.iter().map(String::as_str).collect();
    models::short_names().for_each(|name| candidates.push(name));
    let found = nearest(asked, candidates)?;
    let to_pull = models::short_names()
        .find(|short| *short == found && here.iter().all(|model| model != short));
    Some(to_pull.map_or_else(|| Nearest::Here(found.to_owned()), Nearest::ToPull))
}

/// The file in the same folder that was probably meant.
fn beside(path: &Path) -> Option<PathBuf> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let entries = std::fs::read_dir(folder).ok()?.take(1_000).flatten();
    let files: Vec<String> = entries
        .filter(|entry| {
            Contents::of(&entry.path()).is_ok_and(|contents| contents == Contents::Gguf)
        })
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    let name = path.file_name()?.to_str()?;
    nearest(name, files.iter().map(String::as_str)).map(|file| path.with_file_name(file))
}
