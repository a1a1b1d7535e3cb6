//! `loggia pull`, `loggia models` and `loggia rm`: the models on this machine.

use std::process::ExitCode;

use bytesize::ByteSize;

use super::{print, runtime};
use crate::config::{Config, StoreFlags};
use crate::models::{self, Model, Progress, Source, Store};
use crate::{backends, logs};

pub(super) fn pull(source: &str, place: &StoreFlags) -> anyhow::Result<ExitCode> {
    logs::start("warn");
    let source = Source::parse(source)?;
    let store = store(place)?;
    let model = runtime()?.block_on(models::pull(&source, &store, Progress::on_stderr()))?;
    print(&format!(
        "{}  {}  {}\n",
        model.name,
        ByteSize(model.bytes),
        model.file.display()
    ))
}

pub(super) fn list(place: &StoreFlags) -> anyhow::Result<ExitCode> {
    let store = store(place)?;
    let models = store.models()?;
    if models.is_empty() {
        eprintln!(
            "there is no model in {} yet; to download one: loggia pull {}",
            store.root().display(),
            models::DEFAULT
        );
    }
    print(&table(&models))
}

pub(super) fn remove(name: &str, place: &StoreFlags) -> anyhow::Result<ExitCode> {
    let store = store(place)?;
    let model = store.find(name)?;
    store.remove(&model)?;
    print(&format!(
        "removed {}, {} freed\n",
        model.name,
        ByteSize(model.bytes)
    ))
}

/// The advice for a word on the command line that is not a command, but may be a model.
pub(crate) fn about_model(name: &str) -> String {
    match store(&StoreFlags::default()) {
        Ok(store) => backends::about_model(name, &store),
        Err(error) => format!("{error:#}"),
    }
}

fn store(place: &StoreFlags) -> anyhow::Result<Store> {
    let data_dir = Config::data_dir_of_this_process(&place.clone().into())?;
    Ok(Store::new(&data_dir))
}

fn table(models: &[Model]) -> String {
    let width = models
        .iter()
        .map(|model| model.name.len())
        .max()
        .unwrap_or_default();
    let row = |model: &Model| {
        let size = ByteSize(model.bytes).to_string();
        let rest = if model.complete {
            String::new()
        } else {
            "  (incomplete: pull it again)".to_owned()
        };
        format!(
            "{:width$}  {size:>10}  {}{rest}\n",
            model.name,
            model.file.display()
        )
    };
    models.iter().map(row).collect()
}
