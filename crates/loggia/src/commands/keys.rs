//! `loggia keys`: the API keys that are kept in the store. A server that uses the same store notices
//! each change within a second.

use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context as _, bail, ensure};
use loggia_api::store::{EarlierSecret, KeyStore, StoreError, StoredKey};
use loggia_server::{KeySettings, NewKey, is_key_name, new_secret};

use super::{print, runtime};
use crate::cli::{CreateKeyArgs, KeysCommand};
use crate::config::{Config, DatabaseFlags};
use crate::{clock, logs, state};

pub(super) fn run(command: &KeysCommand) -> anyhow::Result<ExitCode> {
    logs::start("warn");
    let place = match command {
        KeysCommand::Create(args) => &args.place,
        KeysCommand::List { place }
        | KeysCommand::Rotate { place, .. }
        | KeysCommand::Revoke { place, .. } => place,
    };
    let config = configuration(place)?;
    let store = state::needed_store(&config, "API keys are")?;
    let output = runtime()?.block_on(async {
        match command {
            KeysCommand::Create(args) => create(&store, &config, args).await,
            KeysCommand::List { .. } => list(&store).await,
            KeysCommand::Rotate { name, overlap, .. } => {
                let overlap = overlap.as_ref().map(|overlap| overlap.0);
                rotate(&store, name, overlap.unwrap_or_default()).await
            }
            KeysCommand::Revoke { name, .. } => revoke(&store, name).await,
        }
    })?;
    print(&output)
}

fn configuration(place: &DatabaseFlags) -> anyhow::Result<Config> {
    Ok(Config::of_this_process(&place.clone().into())?)
}

async fn create(
    store: &dyn KeyStore,
    config: &Config,
    args: &CreateKeyArgs,
) -> anyhow::Result<String> {
    let name = &args.name;
    ensure!(
        is_key_name(name),
        "`{name}` is not a valid name for an API key; use letters, digits, `-`, `_` and `.`, at most 64"
    );
    let taken =
        || format!("another API key has the name `{name}`; choose another, or revoke that one");
    ensure!(!config.key.iter().any(|key| key.name == *name), taken());
    let settings = KeySettings {
        scopes: Some(args.scopes()).filter(|scopes| !scopes.is_empty()),
        models: Some(args.models.clone()).filter(|models| !models.is_empty()),
        may_delete_models: args.may_delete_models,
        limits: args.limits.clone().map(|limits| limits.0),
        budget: args.budget,
    };
    if let Some((field, mistake)) = settings.mistake() {
        bail!("{field}: {mistake}");
    }
    let now = clock::unix_seconds();
    let expires = args
        .expires
        .as_ref()
        .map(|time| now.saturating_add(seconds(time.0)));
    let new = NewKey::new(name, &settings, now, expires);
    match store.create_key(new.stored).await {
        Err(StoreError::Duplicate { .. }) => bail!(taken()),
        created => created.context("the key cannot be stored")?,
    }
    eprintln!("loggia: the key `{name}`; it is shown only now, and kept as a digest");
    Ok(format!("{}\n", new.text))
}

async fn list(store: &dyn KeyStore) -> anyhow::Result<String> {
    let keys = store.keys().await.context("the keys cannot be read")?;
    if keys.is_empty() {
        eprintln!("there is no stored API key yet; to create one: loggia keys create NAME");
    }
    let now = clock::unix_seconds();
    let width = keys.iter().map(|key| key.name.len()).max().unwrap_or(0);
    let line = |key: &StoredKey| {
        let state = match (key.revoked, key.expires) {
            (Some(at), _) => format!("revoked {}", day(at)),
            (None, Some(at)) if at <= now => format!("expired {}", day(at)),
            (None, Some(at)) => format!("valid until {}", day(at)),
            (None, None) => "valid".to_owned(),
        };
        format!(
            "{:width$}  {}…  created {}  {state}  used {} tokens  {}\n",
            key.name,
            key.secret.prefix,
            day(key.created),
            key.used,
            key.settings
        )
    };
    Ok(keys.iter().map(line).collect())
}

async fn rotate(store: &dyn KeyStore, name: &str, overlap: Duration) -> anyhow::Result<String> {
    let key = find(store, name).await?;
    let (text, secret) = new_secret();
    let earlier = (!overlap.is_zero()).then(|| EarlierSecret {
        secret: key.secret,
        until: clock::unix_seconds().saturating_add(seconds(overlap)),
    });
    let rotated = store.rotate_key(&key.id, secret, earlier).await;
    rotated.context("the key cannot be changed")?;
    eprintln!("loggia: the new key `{name}`; it is shown only now, and kept as a digest");
    Ok(format!("{text}\n"))
}

async fn revoke(store: &dyn KeyStore, name: &str) -> anyhow::Result<String> {
    let key = find(store, name).await?;
    let revoked = store.revoke_key(&key.id, clock::unix_seconds()).await;
    revoked.context("the key cannot be revoked")?;
    Ok(format!("revoked {name}\n"))
}

/// The key with this name, or this id.
async fn find(store: &dyn KeyStore, name: &str) -> anyhow::Result<StoredKey> {
    let keys = store.keys().await.context("the keys cannot be read")?;
    let mut valid = keys.into_iter().filter(|key| key.revoked.is_none());
    let found = valid.find(|key| key.name == name || key.id == name);
    found.with_context(|| {
        format!("no stored API key has the name `{name}`; `loggia keys list` shows all")
    })
}

fn seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

/// A moment as a date.
fn day(seconds: i64) -> String {
    let since = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    let moment = UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH);
    let text = humantime::format_rfc3339_seconds(moment).to_string();
    text.chars().take("2026-11-30".len()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_shown_as_its_day() {
        assert_eq!(day(0), "1970-01-01");
        assert_eq!(day(1_796_004_184), "2026-11-30");
    }
}
