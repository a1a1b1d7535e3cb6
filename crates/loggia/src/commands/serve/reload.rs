//! Reloads files while the server runs, at SIGHUP or when a file changes: the certificate. Changed
//! settings are logged; they take effect after a restart. A mistake changes nothing and is logged.

#[cfg(unix)]
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use loggia_server::Tls;

use crate::config::{Config, Flags};

/// How often the files are looked at.
const LOOKED_AT_EVERY: Duration = Duration::from_secs(5);

/// The files that are watched, and the certificate that is reloaded from them.
pub(super) struct Reload {
    /// The flags that the program was started with.
    flags: Flags,
    tls: Option<Tls>,
    files: Vec<WatchedFile>,
}

/// A file, and when it was last changed.
struct WatchedFile {
    path: PathBuf,
    changed: Option<SystemTime>,
}

impl WatchedFile {
    fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            changed: changed(path),
        }
    }

    /// Returns whether the file has changed since the last check. A missing file counts as
    /// unchanged, because a program may be replacing it.
    fn has_changed(&mut self) -> bool {
        let now = changed(&self.path);
        let has_changed = now.is_some() && now != self.changed;
        if has_changed {
            self.changed = now;
        }
        has_changed
    }
}

fn changed(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).ok()?.modified().ok()
}

impl Reload {
    pub(super) fn new(flags: &Flags, config: &Config, tls: Option<Tls>) -> Self {
        let file = flags.file();
        let tls_files = [&config.tls_cert.value, &config.tls_key.value];
        let tls_files = tls_files.into_iter().filter_map(Option::as_deref);
        let files = file.as_deref().into_iter().chain(tls_files);
        Self {
            flags: flags.clone(),
            tls,
            files: files.map(WatchedFile::new).collect(),
        }
    }

    /// Reloads at each SIGHUP, and when a file has changed. Never ends.
    pub(super) async fn watch(mut self, running: &Config) -> anyhow::Result<()> {
        let mut looks = tokio::time::interval(LOOKED_AT_EVERY);
        #[cfg(unix)]
        let mut hang_ups = {
            use tokio::signal::unix::{SignalKind, signal};
            // A terminal that is closed sends SIGHUP too, and ends a server that runs in it.
            let is_service = !std::io::stderr().is_terminal();
            let hang_ups = is_service.then(|| signal(SignalKind::hangup()));
            hang_ups.transpose()?
        };
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
            // Compares all of them, so that each change is noticed once.
            let changed = self
                .files
                .iter_mut()
                .filter_map(|file| file.has_changed().then_some(()));
            if changed.count() > 0 || is_asked {
                self.reload(running);
            }
        }
    }

    fn reload(&self, running: &Config) {
        match self.tls.as_ref().map(Tls::reload) {
            Some(Ok(true)) => tracing::info!("new connections use the new certificate"),
            Some(Err(error)) => {
                tracing::warn!(%error, "the certificate was not reloaded; the one from before stays");
            }
            Some(Ok(false)) | None => {}
        }
        match Config::of_this_process(&self.flags) {
            Ok(config) => match &config.changed_since(running)[..] {
                [] => tracing::info!("reloaded; no setting has changed"),
                changed => {
                    let settings = changed.join(", ");
                    tracing::warn!(
                        settings,
                        "settings have changed and take effect after a restart"
                    );
                }
            },
            Err(error) => {
                tracing::warn!("the configuration has a mistake, and nothing was changed: {error}");
            }
        }
    }
}
