//! The store of chat completions, conversations and responses: one file in the data folder.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytesize::ByteSize;
use loggia_store::{OpenError, Retention, SqliteStore, Survey, survey};

use crate::config::Config;

/// The file's name in the data folder.
const FILE: &str = "state.db";

/// How often objects that are too old are deleted.
const CLEAN_EVERY: Duration = Duration::from_hours(1);

/// The store, unless it is turned off. Opens the file if there is one, so that a file that
/// cannot be used is an error at the start and not at the first request. Without a file, the first
/// request creates one.
pub(crate) async fn open(config: &Config) -> anyhow::Result<Option<Arc<SqliteStore>>> {
    if !config.store.0 {
        return Ok(None);
    }
    let store = SqliteStore::new(path(config), retention(config));
    if store.path().exists() {
        let opened = store.open().await;
        opened.context("stored chats and conversations cannot be read; --store=false serves without them, --data-dir names another folder")?;
    }
    Ok(Some(Arc::new(store)))
}

/// Deletes objects that are too old, every hour.
pub(crate) async fn clean(store: Arc<SqliteStore>) {
    let mut hours = tokio::time::interval(CLEAN_EVERY);
    loop {
        hours.tick().await;
        if store.path().exists()
            && let Err(error) = store.clean().await
        {
            tracing::warn!(%error, "old stored objects could not be deleted");
        }
    }
}

/// The line of `loggia check` about the store, and whether the store can be used.
pub(crate) async fn report(config: &Config) -> (String, bool) {
    if !config.store.0 {
        return ("# store: off\n".to_owned(), true);
    }
    let path = path(config);
    let found = survey(&path).await;
    let is_well = found.is_ok();
    let mut text = format!("# store at {}: ", path.display());
    match found {
        Ok(None) => text.push_str("nothing is stored yet"),
        Ok(Some(found)) => text.push_str(&amounts(&found, retention(config).bytes)),
        Err(error) => _ = write!(text, "NOT USABLE: {}", because(&error)),
    }
    text.push('\n');
    (text, is_well)
}

fn amounts(found: &Survey, limit: u64) -> String {
    let amounts =
        |number: u64, one: &str| format!("{number} {one}{}", if number == 1 { "" } else { "s" });
    format!(
        "{}, {}, {}, {} of {}",
        amounts(found.chat_completions, "chat completion"),
        amounts(found.conversations, "conversation"),
        amounts(found.responses, "response"),
        ByteSize::b(found.bytes),
        ByteSize::b(limit)
    )
}

fn because(error: &OpenError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

fn path(config: &Config) -> PathBuf {
    config.data_dir.join(FILE)
}

fn retention(config: &Config) -> Retention {
    Retention {
        age: Some(config.store_age.0).filter(|age| !age.is_zero()),
        bytes: config.store_size.bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Config};

    #[test]
    fn the_programs_retention_is_that_of_its_library() {
        let home = |name: &str| (name == "HOME").then(|| "/home/someone".to_owned());
        let config = Config::load(&config::Flags::default(), &home).unwrap();
        assert_eq!(retention(&config), Retention::default());
    }

    #[test]
    fn a_survey_is_described_in_words() {
        let found = Survey {
            chat_completions: 1,
            conversations: 20,
            responses: 0,
            bytes: 40960,
        };
        let text = amounts(&found, 4 << 30);
        assert_eq!(
            text,
            "1 chat completion, 20 conversations, 0 responses, 40.0 KiB of 4.0 GiB"
        );
    }
}
