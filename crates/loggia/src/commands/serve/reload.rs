//! Reloads files while the server runs, at SIGHUP or when a file changes: the certificate, and the
//! settings that the table in `config/settings.rs` marks as `live`. Running requests keep the settings
//! with which they began. Other changed settings are logged; they take effect after a restart. A
//! mistake changes nothing and is logged.

#[cfg(unix)]
use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use loggia_api::{Door, DoorChange};
use loggia_backend::Backend as _;
use loggia_server::{AppState, Keys, LastReload, Pages, ServerOptions, Tls, TlsError};
use tokio::time::MissedTickBehavior;

use super::options::{key_rules, origins, policy_at};
use super::{backend, mcp, refuse_to_be_open, webhooks};
use crate::backends::Parts;
use crate::config::{Config, Flags, find};
use crate::documents::ReadDocuments;

/// How often the files are looked at.
const LOOKED_AT_EVERY: Duration = Duration::from_secs(1);

/// How long new requests wait for the lists of models after a reload, at most.
const LISTED_WITHIN: Duration = Duration::from_secs(5);

/// The parts of the running server that a reload changes.
pub(super) struct Reload {
    /// The flags that the program was started with.
    flags: Flags,
    /// The address that the server listens on.
    address: SocketAddr,
    door: Door,
    pages: Pages,
    keys: Keys,
    parts: Parts,
    /// The reader of documents with which the server was started.
    documents: Arc<ReadDocuments>,
    tls: Option<Tls>,
    last: LastReload,
}

/// A file, and its state when it was last looked at.
struct WatchedFile {
    path: PathBuf,
    loaded: Option<Stamp>,
    seen: Option<Stamp>,
}

/// The properties by which a change of a file is noticed. An editor may replace the file by another
/// one with the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    changed: Option<SystemTime>,
    length: u64,
    #[cfg(unix)]
    number: u64,
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let file = std::fs::metadata(path).ok()?;
        Some(Self {
            changed: file.modified().ok(),
            length: file.len(),
            #[cfg(unix)]
            number: std::os::unix::fs::MetadataExt::ino(&file),
        })
    }
}

impl WatchedFile {
    fn new(path: &Path) -> Self {
        let stamp = Stamp::of(path);
        Self {
            path: path.to_owned(),
            loaded: stamp,
            seen: stamp,
        }
    }

    /// Returns whether the file has changed, and not since the last check: a program may still be
    /// writing it. A missing file counts as unchanged, because a program may be replacing it.
    fn has_changed(&mut self) -> bool {
        let Some(now) = Stamp::of(&self.path) else {
            return false;
        };
        let is_settled = self.seen.replace(now) == Some(now);
        let has_changed = is_settled && self.loaded != Some(now);
        if has_changed {
            self.loaded = Some(now);
        }
        has_changed
    }

    /// Notes that the file is read now, so that its change is not noticed again.
    fn mark_as_read(&mut self) {
        let stamp = Stamp::of(&self.path);
        (self.loaded, self.seen) = (stamp, stamp);
    }
}

impl Reload {
    pub(super) fn new(
        flags: &Flags,
        address: SocketAddr,
        state: &AppState,
        options: &ServerOptions,
        parts: Parts,
        documents: Arc<ReadDocuments>,
        last: LastReload,
    ) -> Self {
        Self {
            flags: flags.clone(),
            address,
            door: state.door().clone(),
            pages: state.pages().clone(),
            keys: options.keys.clone(),
            parts,
            documents,
            tls: options.tls.clone(),
            last,
        }
    }

    /// Reloads at each SIGHUP, and when a file has changed. Never ends.
    pub(super) async fn watch(self, started: &Config) -> anyhow::Result<()> {
        let file = self.flags.file();
        let tls_files = [&started.tls_cert.value, &started.tls_key.value];
        let tls_files = tls_files.into_iter().filter_map(Option::as_deref);
        let files = file.as_deref().into_iter().chain(tls_files);
        let mut files: Vec<_> = files.map(WatchedFile::new).collect();
        let mut looks = tokio::time::interval(LOOKED_AT_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        #[cfg(unix)]
        let mut hang_ups = {
            use tokio::signal::unix::{SignalKind, signal};
            // A terminal that is closed sends SIGHUP too, and ends a server that runs in it.
            let is_service = !std::io::stderr().is_terminal();
            let hang_ups = is_service.then(|| signal(SignalKind::hangup()));
            hang_ups.transpose()?
        };
        let mut applied = None;
        loop {
            #[cfg(unix)]
            let is_asked = tokio::select! {
                Some(()) = async { hang_ups.as_mut()?.recv().await } => true,
                _ = looks.tick() => false,
            };
            #[cfg(not(unix))]
            let is_asked = {
                looks.tick().await;
                false
            };
            if is_asked {
                files.iter_mut().for_each(WatchedFile::mark_as_read);
                self.reload(started, &mut applied).await;
                continue;
            }
            // Compares all of them, so that each change is noticed once.
            let changed = files
                .iter_mut()
                .filter_map(|file| file.has_changed().then_some(()));
            if changed.count() > 0 {
                self.reload(started, &mut applied).await;
            }
        }
    }

    async fn reload(&self, started: &Config, applied: &mut Option<Config>) {
        let certificate = self.reload_certificate();
        let config = match self.load().await {
            Ok(config) => config,
            Err(error) => {
                self.last.failed(format!("{error:#}"));
                tracing::warn!(
                    "the configuration has a mistake, and nothing was changed: {error:#}"
                );
                return;
            }
        };
        let before = applied.as_ref().unwrap_or(started);
        let mut changed = config.changed_since(before);
        changed.retain(|setting| find(setting).is_some_and(|setting| setting.is_live));
        let after_restart = config.pending_since(started);
        if changed.is_empty() {
            tracing::info!("the configuration was reloaded; no setting has changed that can");
        } else {
            let settings = changed.join(", ");
            tracing::info!(
                settings,
                "the configuration was reloaded, and settings have changed"
            );
        }
        for setting in &after_restart {
            tracing::warn!("`{setting}` has changed, and takes effect after a restart");
        }
        match certificate {
            Ok(()) => self.last.succeeded(after_restart),
            Err(error) => self.last.failed(error.to_string()),
        }
        *applied = Some(config);
    }

    fn reload_certificate(&self) -> Result<(), TlsError> {
        match self.tls.as_ref().map(Tls::reload) {
            Some(Ok(true)) => tracing::info!("new connections use the new certificate"),
            Some(Err(error)) => {
                tracing::warn!(%error, "the certificate was not reloaded; the one from before stays");
                return Err(error);
            }
            Some(Ok(false)) | None => {}
        }
        Ok(())
    }

    /// Reads the configuration again, and applies it.
    ///
    /// # Errors
    /// Fails if it has a mistake. Then nothing has changed.
    async fn load(&self) -> anyhow::Result<Config> {
        let config = Config::of_this_process(&self.flags)?;
        let (rules, origins) = (key_rules(&config)?, origins(&config)?);
        let requires_key = self.keys.would_be_required(&rules);
        refuse_to_be_open(&config, requires_key, self.address)?;
        let roster = self.parts.reload(&config)?;
        // Nothing fails from here on. A key that was removed is invalid at once, also if a backend
        // lets the reload wait.
        self.keys.change(rules);
        self.pages.change(origins);
        self.parts.servers.resolve().await;
        // So that the first request does not wait for a backend that is away. Its error is found
        // again by the requests that need it.
        let _ = tokio::time::timeout(LISTED_WITHIN, roster.models()).await;
        let documents = self.documents.with_limits(config.images.limits());
        self.door.change(DoorChange {
            mcp: Some(mcp(&config)),
            documents: Some(documents),
            webhooks: Some(webhooks(&config)),
            ..DoorChange::new(backend(&roster, &config), policy_at(&config, self.address))
        });
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_written_is_reloaded_once_it_is_complete() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("loggia.toml");
        std::fs::write(&path, "strict = true").unwrap();
        let mut file = WatchedFile::new(&path);
        assert!(!file.has_changed());
        std::fs::write(&path, "").unwrap();
        assert!(!file.has_changed(), "it may not be complete");
        std::fs::write(&path, "strict = false").unwrap();
        assert!(!file.has_changed());
        assert!(file.has_changed());
        assert!(!file.has_changed(), "it is reloaded once");
        let other = folder.path().join("other");
        std::fs::write(&other, "strict = false").unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert!(!file.has_changed());
        assert!(file.has_changed(), "an editor has replaced it");
        std::fs::write(&path, "").unwrap();
        file.mark_as_read();
        assert!(!file.has_changed() && !file.has_changed(), "it was read");
        std::fs::remove_file(&path).unwrap();
        assert!(!file.has_changed());
    }
}
