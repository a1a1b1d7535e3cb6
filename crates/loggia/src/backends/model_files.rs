//! Finds the files of the embedded models: in the model folder, or at the configured path.

use std::path::{Path, PathBuf};

use loggia_backend::nearest;
use serde::{Deserialize, Serialize};

use super::whisper::Files;
use crate::config::{Config, Lora, Mmproj, ModelName, PerModel};
use crate::models::{self, FileFormat, FolderError, Model, Source, Store, StoreError};

/// A model of the embedded engine, with its files.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct EmbeddedModel {
    pub(crate) name: String,
    pub(crate) file: PathBuf,
    /// Whether the model was found by its name in the model folder, not by its path.
    pub(crate) stored: bool,
    /// The files, if it is a Whisper model.
    pub(crate) whisper: Option<Files>,
    /// The model's LoRA adapter.
    pub(crate) adapter: Option<Adapter>,
    /// The model's projector, for pictures and sounds.
    pub(crate) mmproj: Option<PathBuf>,
    /// The model's draft model, for speculative decoding.
    pub(crate) draft: Option<Draft>,
}

/// A draft model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Draft {
    pub(crate) file: PathBuf,
    pub(crate) tokens: u32,
    pub(crate) always: bool,
}

/// The default number of tokens that a draft model proposes in a step.
const DRAFT_TOKENS: u32 = 4;

/// A LoRA adapter of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Adapter {
    /// The name of the model without the adapter.
    pub(crate) base: String,
    pub(crate) file: PathBuf,
    pub(crate) scale: f32,
}

/// Why a model cannot be loaded by the embedded engine.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ModelError {
    #[error("this build has no embedded engine; configure a backend with --ollama or --openai")]
    NoEngine,
    #[error("there is no file {path}{}", .nearest.as_ref().map(|file| format!("; did you mean {}?", file.display())).unwrap_or_default())]
    NoFile {
        path: PathBuf,
        nearest: Option<PathBuf>,
    },
    #[error("{path} is not a GGUF file: {contents}")]
    NotGguf { path: PathBuf, contents: FileFormat },
    #[error("cannot read {path}: {cause}")]
    Read {
        path: PathBuf,
        cause: std::io::Error,
    },
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The model can be downloaded, by this name.
    #[error("the model `{0}` is not on this machine; download it with: loggia pull {1}")]
    NotHere(String, String),
    /// No model has this name.
    #[error("there is no model `{name}`{}", hint(.nearest.as_ref(), .here))]
    Unknown {
        name: String,
        nearest: Option<Nearest>,
        here: Vec<String>,
    },
    #[error("the download of `{0}` is incomplete; continue it with: loggia pull {0}")]
    Incomplete(String),
    #[error("two configured models have the name `{0}`; remove one of them")]
    TwoAlike(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The most similar model.
#[derive(Debug)]
pub(crate) enum Nearest {
    /// The model is on this machine.
    Here(String),
    /// The model has a short name and can be downloaded.
    ToPull(&'static str),
}

/// The rest of the message about an unknown model: the most similar name, and the available models.
fn hint(nearest: Option<&Nearest>, here: &[String]) -> String {
    let meant = match nearest {
        Some(Nearest::Here(name)) => format!(". Did you mean `{name}`?"),
        Some(Nearest::ToPull(name)) => {
            format!(". Did you mean `{name}`? Download it with `loggia pull {name}`.")
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
        "{meant}{}{here} Short names: {}. Other models: the path of a GGUF file, or hf:OWNER/REPO for a repository on Hugging Face.",
        if nearest.is_none() { "." } else { "" },
        short.join(", ")
    )
}

/// The advice for someone who typed only the name of a model.
pub(crate) fn about_model(name: &str, store: &Store) -> String {
    match find(&ModelName(name.to_owned()), store) {
        Ok(_) => format!(
            "for the model with this name: `loggia serve {name}` serves it, `loggia run {name}` chats with it"
        ),
        Err(error) => error.to_string(),
    }
}

/// Finds the configured models: those that are on this machine, and those that are missing, with
/// the reason. Without a configured backend, the default model counts as configured.
pub(super) fn find_all(config: &Config) -> (Vec<EmbeddedModel>, Vec<(String, ModelError)>) {
    let store = Store::new(&config.data_dir);
    let default = config
        .names_no_backend()
        .then(|| ModelName(models::DEFAULT.to_owned()));
    let (mut here, mut missing) = (Vec::<EmbeddedModel>::new(), Vec::new());
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
                missing.push((asked.clone(), ModelError::TwoAlike(model.name)));
            }
            Ok(model) => here.push(with_projector(model, asked, config)),
            Err(error) => missing.push((asked.clone(), error)),
        }
    }
    (here, missing)
}

/// The base model with its adapter, under the adapter's name.
fn find_adapted(lora: &Lora, store: &Store) -> Result<EmbeddedModel, ModelError> {
    let base = find(&lora.base, store)?;
    let file = find(&lora.file, store)?.file;
    let adapter = Adapter {
        base: base.name,
        file,
        scale: lora.scale,
    };
    Ok(EmbeddedModel {
        name: lora.name.clone(),
        adapter: Some(adapter),
        ..base
    })
}

/// Sets the configured projector, if there is one.
fn with_projector(mut model: EmbeddedModel, asked: &str, config: &Config) -> EmbeddedModel {
    if model.whisper.is_some() {
        return model;
    }
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

/// Checks the configured projectors.
///
/// # Errors
///
/// The message about the first wrong one.
pub(super) fn check_projectors(
    here: &[EmbeddedModel],
    missing: &[(String, ModelError)],
    config: &Config,
) -> Result<(), String> {
    for Mmproj { model, file } in &*config.mmproj {
        let is_meant = |local: &EmbeddedModel| {
            let base = local.adapter.as_ref().map(|adapter| &adapter.base);
            model.as_ref() == Some(&local.name) || model.as_ref() == base
        };
        let is_asked = |name: &String| config.models.iter().any(|asked| asked.0 == *name);
        match model {
            None if here.len() + missing.len() != 1 => {
                return Err(
                    "--mmproj: there is not exactly one model; write the name of the model, too: --mmproj NAME=FILE".to_owned()
                );
            }
            Some(name)
                if !here.iter().any(is_meant)
                    && !is_asked(name)
                    && missing.iter().all(|(other, _)| other != name) =>
            {
                return Err(format!("mmproj: there is no embedded model `{name}`"));
            }
            _ => {}
        }
        if let Some(file) = file.as_ref().filter(|file| !file.is_file()) {
            return Err(format!("mmproj: there is no file {}", file.display()));
        }
    }
    Ok(())
}

/// Sets the configured draft models.
///
/// # Errors
///
/// The message about the first one that is missing or belongs to no embedded model.
pub(super) fn give_drafts(
    here: &mut [EmbeddedModel],
    missing: &[(String, ModelError)],
    config: &Config,
) -> Result<(), String> {
    let store = Store::new(&config.data_dir);
    // A missing model is reported by `find_all`.
    let to_be_had = config
        .per_model
        .0
        .iter()
        .filter(|(name, _)| missing.iter().all(|(other, _)| other != *name));
    for (name, its) in to_be_had {
        let of_its = |what: &dyn std::fmt::Display| format!("per_model.{name}: {what}");
        let draft = draft(its, &store).map_err(|what| of_its(&what))?;
        let of_embedded = [
            (draft.is_some(), "draft"),
            (its.cache_type_k.is_some(), "cache_type_k"),
            (its.cache_type_v.is_some(), "cache_type_v"),
        ];
        let Some((_, setting)) = of_embedded.into_iter().find(|(is_set, _)| *is_set) else {
            continue;
        };
        let model = here.iter_mut().find(|model| model.name == *name);
        let model = model.ok_or_else(|| {
            of_its(&format!("it has a `{setting}`, but there is no embedded model with this name (aliases cannot have one)"))
        })?;
        if draft.is_some() {
            model.draft = draft;
        }
    }
    Ok(())
}

fn draft(its: &PerModel, store: &Store) -> Result<Option<Draft>, String> {
    let Some(asked) = &its.draft else {
        let is_named = its.draft_tokens.is_none() && its.draft_always.is_none();
        return if is_named {
            Ok(None)
        } else {
            Err(
                "`draft_tokens` and `draft_always` need `draft`, the name of the draft model"
                    .to_owned(),
            )
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

/// Finds a model: at its path, if the name looks like one and it exists; else in the model folder.
fn find(asked: &ModelName, store: &Store) -> Result<EmbeddedModel, ModelError> {
    if cfg!(not(feature = "embedded")) {
        return Err(ModelError::NoEngine);
    }
    let path = Path::new(&asked.0);
    if let Some(model) = find_whisper(asked, store) {
        return Ok(model);
    }
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
        return Err(ModelError::Incomplete(asked.0.clone()));
    }
    let mmproj = models::projector_beside(&model.file);
    Ok(EmbeddedModel {
        name: model.name,
        file: model.file,
        stored,
        whisper: None,
        adapter: None,
        mmproj,
        draft: None,
    })
}

/// Finds a Whisper model: at its path, or by its name in the model folder.
fn find_whisper(asked: &ModelName, store: &Store) -> Option<EmbeddedModel> {
    let named = [asked.0.clone(), format!("{}.bin", asked.0)].map(|name| store.root().join(name));
    let [folder, file] = named;
    let places = [PathBuf::from(&asked.0), folder, file];
    let mut found = places
        .iter()
        .filter_map(|place| Some((place, Files::recognize(place)?)));
    found
        .next()
        .map(|(place, files)| whisper_model(place, files))
}

/// A Whisper model, named by its folder, or by its file without the ending.
fn whisper_model(path: &Path, whisper: Files) -> EmbeddedModel {
    // A folder may be written as `.` or with a slash at the end.
    let whole = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let name = if whole.is_dir() {
        whole.file_name()
    } else {
        whole.file_stem()
    };
    let name = name.unwrap_or_default().to_string_lossy().into_owned();
    EmbeddedModel {
        name,
        file: path.to_owned(),
        stored: false,
        whisper: Some(whisper),
        adapter: None,
        mmproj: None,
        draft: None,
    }
}

/// A model outside of the model folder. It must be a GGUF file by its first bytes; its name does
/// not matter.
fn loose(file: &Path) -> Result<Model, ModelError> {
    match FileFormat::of(file) {
        Ok(FileFormat::Gguf) => Ok(models::of_loose_file(file)),
        Ok(contents) => Err(ModelError::NotGguf {
            path: file.to_owned(),
            contents,
        }),
        Err(cause) => Err(ModelError::Read {
            path: file.to_owned(),
            cause,
        }),
    }
}

/// The error for a missing model: how to download it, or the most similar name.
fn not_here(asked: &ModelName, here: Vec<String>) -> ModelError {
    let path = Path::new(&asked.0);
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let is_path = asked.file().is_some() || path.is_absolute() || folder.is_some_and(Path::is_dir);
    if is_path {
        return ModelError::NoFile {
            path: path.to_owned(),
            nearest: beside(path),
        };
    }
    if let Ok(source @ (Source::Catalogue(_) | Source::Hub { .. })) = Source::parse(&asked.0) {
        return ModelError::NotHere(asked.0.clone(), source.to_string());
    }
    let nearest = nearest_of(&asked.0, &here);
    ModelError::Unknown {
        name: asked.0.clone(),
        nearest,
        here,
    }
}

/// The most similar model among those on this machine and the short names.
fn nearest_of(asked: &str, here: &[String]) -> Option<Nearest> {
    let mut candidates: Vec<&str> = here.iter().map(String::as_str).collect();
    models::short_names().for_each(|name| candidates.push(name));
    let found = nearest(asked, candidates)?;
    let to_pull = models::short_names()
        .find(|short| *short == found && here.iter().all(|model| model != short));
    Some(to_pull.map_or_else(|| Nearest::Here(found.to_owned()), Nearest::ToPull))
}

/// The most similar GGUF file in the same folder.
fn beside(path: &Path) -> Option<PathBuf> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let entries = std::fs::read_dir(folder).ok()?.take(1_000).flatten();
    let files: Vec<String> = entries
        .filter(|entry| {
            FileFormat::of(&entry.path()).is_ok_and(|contents| contents == FileFormat::Gguf)
        })
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    let name = path.file_name()?.to_str()?;
    nearest(name, files.iter().map(String::as_str)).map(|file| path.with_file_name(file))
}

#[cfg(all(test, feature = "whisper"))]
mod tests {
    use super::*;

    #[test]
    fn a_whisper_model_is_found_by_its_path_and_by_its_name_in_the_model_folder() {
        let data = tempfile::tempdir().unwrap();
        let folder = data.path().join("models").join("whisper-x");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("config.json"), r#"{"model_type": "whisper"}"#).unwrap();
        let store = Store::new(data.path());
        for asked in [folder.display().to_string(), "whisper-x".to_owned()] {
            let model = find(&ModelName(asked), &store).unwrap();
            assert_eq!((&*model.name, &model.file), ("whisper-x", &folder));
            assert!(model.whisper.is_some() && !model.stored);
        }
        assert!(find(&ModelName("whisper-y".to_owned()), &store).is_err());
    }
}
