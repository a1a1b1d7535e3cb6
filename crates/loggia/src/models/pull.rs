//! `loggia pull`: adds a model to the model folder.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::add_file::{self, AddFileError};
use super::catalogue::CatalogueEntry;
use super::choose::{self, ChooseError};
use super::digest::Digest;
use super::download::{DownloadError, ExpectedFile};
use super::hub::{Hub, HubError, HubFile};
use super::partial_file::{Lock, WriteError};
use super::progress::Progress;
use super::projector;
use super::source::{Repo, Source, SourceError};
use super::store::{Model, Store, StoreError};

/// Why a model could not be added.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PullError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Hub(#[from] HubError),
    #[error("{repo}: {cause}")]
    Choose { repo: String, cause: ChooseError },
    #[error(transparent)]
    Download(#[from] DownloadError),
    #[error(transparent)]
    Local(#[from] AddFileError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "the hub's file for {name} is not the one this version knows (sha256 {wanted}); \
         to use it anyway, pull hf:{repo}:{pick}"
    )]
    Pinned {
        name: &'static str,
        repo: &'static str,
        pick: &'static str,
        wanted: &'static str,
    },
    #[error("{0} was removed while it was being pulled")]
    Vanished(String),
}

/// Adds a model to the model folder, and returns it with its name there.
pub(crate) async fn pull(
    source: &Source,
    store: &Store,
    progress: Progress,
) -> Result<Model, PullError> {
    match source {
        Source::File(file) => from_file(file, store, progress),
        Source::Catalogue(known) => match here_already(known, store) {
            Some(model) => Ok(model),
            None => {
                from_hub(
                    &Repo::parse(known.repo)?,
                    Some(known.pick),
                    Some(known),
                    store,
                    progress,
                )
                .await
            }
        },
        Source::Hub { repo, pick } => from_hub(repo, pick.as_deref(), None, store, progress).await,
    }
}

/// A model with a known sha256 that is on this machine already.
fn here_already(known: &CatalogueEntry, store: &Store) -> Option<Model> {
    let model = store.find(known.name).ok().filter(|model| model.complete)?;
    let digest = digest_of(&model.file).ok()?;
    (known.sha256 == Some(&*digest)).then_some(model)
}

async fn from_hub(
    repo: &Repo,
    pick: Option<&str>,
    known: Option<&CatalogueEntry>,
    store: &Store,
    progress: Progress,
) -> Result<Model, PullError> {
    let hub = Hub::from_environment()?;
    let listing = hub.files(repo).await?;
    let files = choose::choose(&listing, pick).map_err(|cause| PullError::Choose {
        repo: repo.to_string(),
        cause,
    })?;
    if let Some(known) = known {
        pinned(known, &files)?;
    }
    let files: Vec<&HubFile> = files
        .into_iter()
        .chain(projector::of_listing(&listing))
        .collect();
    let first = store.repo_file(repo, &files[0].path);
    if let Err(error) = fetch(&hub, repo, &files, store, progress).await {
        store.tidy(&first);
        return Err(error);
    }
    store
        .of_file(&first)?
        .ok_or_else(|| PullError::Vanished(repo.to_string()))
}

async fn fetch(
    hub: &Hub,
    repo: &Repo,
    files: &[&HubFile],
    store: &Store,
    progress: Progress,
) -> Result<(), PullError> {
    let _lock = Lock::take(&store.repo_file(repo, &files[0].path))?;
    for file in files {
        let target = store.repo_file(repo, &file.path);
        if is_the_same(&target, file) {
            eprintln!("{} is already on this machine", file.path);
            continue;
        }
        let sha256 = ExpectedFile { hub, repo, file }
            .download(&target, progress)
            .await?;
        match file.sha256 {
            Some(_) => eprintln!("{}: sha256 {sha256}, verified", file.path),
            None => eprintln!(
                "{}: sha256 {sha256}, not verified: the hub has no checksum",
                file.path
            ),
        }
    }
    Ok(())
}

/// A short name with a sha256 means exactly that file, even if the hub has a newer one.
fn pinned(known: &CatalogueEntry, files: &[&HubFile]) -> Result<(), PullError> {
    let Some(wanted) = known.sha256 else {
        return Ok(());
    };
    if files
        .iter()
        .all(|file| file.sha256.as_deref() == Some(wanted))
    {
        return Ok(());
    }
    Err(PullError::Pinned {
        name: known.name,
        repo: known.repo,
        pick: known.pick,
        wanted,
    })
}

fn is_the_same(target: &Path, file: &HubFile) -> bool {
    let size = fs::metadata(target).ok().map(|metadata| metadata.len());
    size == Some(file.size)
        && file
            .sha256
            .as_ref()
            .is_none_or(|sha256| digest_of(target).ok().as_ref() == Some(sha256))
}

fn digest_of(file: &Path) -> io::Result<String> {
    let mut digest = Digest::default();
    digest.read(File::open(file)?, |_| ())?;
    Ok(digest.hex())
}

fn from_file(file: &Path, store: &Store, progress: Progress) -> Result<Model, PullError> {
    let parts = add_file::parts(file)?;
    let first = store.own_file(&parts[0].name);
    let lock = Lock::take(&first)?;
    for part in &parts {
        add_file::add(&part.file, &store.own_file(&part.name), progress)?;
    }
    drop(lock);
    store
        .of_file(&first)?
        .ok_or_else(|| PullError::Vanished(file.display().to_string()))
}
