//! The store of chat completions, conversations and responses, and the keys that seal texts.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytesize::ByteSize;
use loggia_api::store::KeyStore as _;
use loggia_seal::{Keys, KeysError};
use loggia_store::{OpenError, Retention, SqlStore, Survey};

use crate::config::Config;
use crate::files;

/// The file's name in the data folder.
const FILE: &str = "state.db";

/// The file with the keys, in the data folder, unless a setting names another file.
const KEYS: &str = "keys";

/// How often objects that are too old are deleted.
const CLEAN_EVERY: Duration = Duration::from_hours(1);

/// The store, unless it is turned off. An existing file is opened at once, so that a file that
/// cannot be used is an error of the start and not of the first request. Without a file, the first
/// request creates one. A database that cannot be reached may come back later, so that is a
/// warning.
pub(crate) async fn open(
    config: &Config,
    keys: &Arc<Keys>,
) -> anyhow::Result<Option<Arc<SqlStore>>> {
    if !config.store.0 {
        return Ok(None);
    }
    let store = store(config)?.with_keys(Arc::clone(keys), config.store_encrypted.0);
    if config.store_encrypted.0 {
        // Texts encrypted with a key that is not on the disk are lost with the process.
        Keys::read_or_create(&keys_path(config))?;
    }
    if has_begun(&store) {
        match store.open().await {
            Err(error @ OpenError::Reach { .. }) => {
                let because = because(&error);
                tracing::warn!("{because}; requests that need the store get a 503 until it works");
            }
            opened => opened.context("stored chats and conversations cannot be read; --store=false serves without them, --data-dir names another folder")?,
        }
        warn_of_missing_keys(&store).await;
    }
    Ok(Some(Arc::new(store)))
}

/// The store, for commands that need it. `kept` says what for: "API keys are".
pub(crate) fn needed_store(config: &Config, kept: &str) -> anyhow::Result<SqlStore> {
    anyhow::ensure!(
        config.store.0,
        "{kept} kept in the store, and the setting `store` turns it off"
    );
    Ok(store(config)?)
}

fn store(config: &Config) -> Result<SqlStore, OpenError> {
    let retention = retention(config);
    match &config.store_url.value {
        Some(url) => SqlStore::in_database(url.with_password(), retention),
        None => Ok(SqlStore::in_file(path(config), retention)),
    }
}

/// Whether there may be something in the store.
fn has_begun(store: &SqlStore) -> bool {
    store.path().is_none_or(Path::exists)
}

async fn warn_of_missing_keys(store: &SqlStore) {
    if let Ok(Some(found)) = store.survey().await
        && found.unreadable > 0
    {
        tracing::warn!("{}", unreadable(&found));
    }
}

/// The keys that seal data which clients keep for the server. The file that `seal_keys` names is
/// created at once, so that a wrong path is an error of the start; the file in the data folder is
/// created when it is first needed.
pub(crate) fn keys(config: &Config) -> Result<Arc<Keys>, KeysError> {
    let path = keys_path(config);
    let keys = match config.seal_keys.value {
        Some(_) => Keys::read_or_create(&path)?,
        None => Keys::read_or_create_later(&path)?,
    };
    Ok(Arc::new(keys))
}

/// Deletes objects that are too old, every hour.
pub(crate) async fn clean(store: Arc<SqlStore>) {
    let mut hours = tokio::time::interval(CLEAN_EVERY);
    loop {
        hours.tick().await;
        if has_begun(&store)
            && let Err(error) = store.clean().await
        {
            tracing::warn!(%error, "old stored objects could not be deleted");
        }
    }
}

/// The lines of `loggia check` about the store and the keys, and whether both can be used.
pub(crate) async fn report(config: &Config) -> (String, bool) {
    let (store, store_is_well) = report_store(config).await;
    let (files, files_are_well) = files::report(config).await;
    let (keys, keys_are_well) = report_keys(&keys_path(config));
    let api_keys = report_api_keys(config).await;
    let is_well = store_is_well && files_are_well && keys_are_well;
    (store + &files + &keys + &api_keys, is_well)
}

/// The number of API keys. A store that cannot be read is reported elsewhere.
async fn report_api_keys(config: &Config) -> String {
    let stored = match needed_store(config, "API keys are") {
        Ok(store) => store.keys().await.unwrap_or_default(),
        Err(_) => Vec::new(),
    };
    let revoked = stored.iter().filter(|key| key.revoked.is_some()).count();
    let (configured, valid) = (config.key.len(), stored.len() - revoked);
    if configured + stored.len() == 0 {
        return "# API keys: none\n".to_owned();
    }
    format!("# API keys: {configured} in the configuration, {valid} stored, {revoked} revoked\n")
}

fn report_keys(path: &Path) -> (String, bool) {
    let found = path.exists().then(|| Keys::read(path));
    let is_well = !matches!(found, Some(Err(_)));
    let text = match found {
        None => "created when they are first needed".to_owned(),
        Some(Ok(_)) => "readable".to_owned(),
        Some(Err(error)) => format!("NOT USABLE: {}", because(&error)),
    };
    (format!("# keys at {}: {text}\n", path.display()), is_well)
}

async fn report_store(config: &Config) -> (String, bool) {
    if !config.store.0 {
        return ("# store: off\n".to_owned(), true);
    }
    let place = match &config.store_url.value {
        Some(url) => url.to_string(),
        None => path(config).display().to_string(),
    };
    // If the keys cannot be read, encrypted objects count as unreadable.
    let keys = Keys::read(&keys_path(config)).ok().map(Arc::new);
    let found = match store(config) {
        Ok(store) => {
            let store = match keys {
                Some(keys) => store.with_keys(keys, false),
                None => store,
            };
            store.survey().await
        }
        Err(error) => Err(error),
    };
    let is_well = matches!(&found, Ok(None | Some(Survey { unreadable: 0, .. })));
    let mut text = format!("# store at {place}: ");
    match found {
        Ok(None) => text.push_str("nothing is stored yet"),
        Ok(Some(found)) => {
            text.push_str(&amounts(&found, retention(config).bytes));
            if found.encrypted > 0 {
                _ = write!(text, ", {} encrypted", found.encrypted);
            }
            if found.unreadable > 0 {
                _ = write!(text, "\n# store: NOT USABLE: {}", unreadable(&found));
            }
        }
        Err(error) => _ = write!(text, "NOT USABLE: {}", because(&error)),
    }
    text.push('\n');
    (text, is_well)
}

fn unreadable(found: &Survey) -> String {
    format!(
        "{} stored objects cannot be read, because the key that encrypted them is missing; add it to the file of seal_keys",
        found.unreadable
    )
}

fn amounts(found: &Survey, limit: u64) -> String {
    let mut parts: Vec<String> = found
        .objects
        .iter()
        .map(|(kind, number)| {
            let (one, many) = kind.nouns();
            format!("{number} {}", if *number == 1 { one } else { many })
        })
        .collect();
    if parts.is_empty() {
        parts.push("no objects".to_owned());
    }
    let (used, limit) = (ByteSize::b(found.bytes), ByteSize::b(limit));
    format!("{}, {used} of {limit}", parts.join(", "))
}

/// An error with its cause.
fn because(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

fn path(config: &Config) -> PathBuf {
    config.data_dir.join(FILE)
}

fn keys_path(config: &Config) -> PathBuf {
    let path = config.seal_keys.value.clone();
    path.unwrap_or_else(|| config.data_dir.join(KEYS))
}

fn retention(config: &Config) -> Retention {
    Retention {
        age: Some(config.store_age.0).filter(|age| !age.is_zero()),
        bytes: config.store_size.bytes(),
    }
}

#[cfg(test)]
mod tests {
    use loggia_api::store::Kind;

    use super::*;
    use crate::config::{self, Config};

    #[test]
    fn the_programs_retention_is_that_of_its_library() {
        let home = |name: &str| (name == "HOME").then(|| "/home/someone".to_owned());
        let config = Config::load(&config::Flags::default(), &home).unwrap();
        assert_eq!(retention(&config), Retention::default());
    }

    #[test]
    fn check_reports_keys_and_creates_no_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keys");
        let (text, is_well) = report_keys(&path);
        let later = format!(
            "# keys at {}: created when they are first needed\n",
            path.display()
        );
        assert_eq!((text, is_well), (later, true));
        assert!(!path.exists());
        Keys::read_or_create(&path).expect("keys");
        let (text, is_well) = report_keys(&path);
        assert!(text.ends_with("keys: readable\n") && is_well, "{text}");
        std::fs::write(&path, "secret\n").expect("a file");
        let (text, is_well) = report_keys(&path);
        assert!(
            text.contains("NOT USABLE: line 1 of the key file"),
            "{text}"
        );
        assert!(!is_well && !text.contains("secret"));
    }

    #[test]
    fn a_survey_is_described_in_words() {
        let mut found = Survey {
            objects: vec![
                (Kind::ChatCompletion, 1),
                (Kind::Conversation, 20),
                (Kind::WebhookEndpoint, 2),
            ],
            encrypted: 0,
            unreadable: 0,
            bytes: 40960,
        };
        let text = amounts(&found, 4 << 30);
        assert_eq!(
            text,
            "1 chat completion, 20 conversations, 2 webhook endpoints, 40.0 KiB of 4.0 GiB"
        );
        found.objects.clear();
        let text = amounts(&found, 4 << 30);
        assert_eq!(text, "no objects, 40.0 KiB of 4.0 GiB");
    }
}
