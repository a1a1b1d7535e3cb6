//! Downloads a file from the hub completely or not at all: with retries, and resuming where the
//! connection broke.

use std::path::Path;
use std::time::Duration;

use bytesize::ByteSize;

use super::hub::{Hub, HubError, HubFile};
use super::partial_file::{Part, WriteError};
use super::progress::{Meter, Progress};
use super::source::Repo;

/// The number of attempts in a row with less than [`A_STEP`] of progress before giving up. The next
/// `loggia pull` resumes.
const ATTEMPTS: u32 = 5;
const A_STEP: u64 = 1 << 20;
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// Why a download failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DownloadError {
    #[error(transparent)]
    Hub(#[from] HubError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("the connection ended at {got} of {size}; run the same command again to resume")]
    Cut { got: ByteSize, size: ByteSize },
}

impl DownloadError {
    fn is_passing(&self) -> bool {
        match self {
            DownloadError::Hub(error) => error.is_passing(),
            DownloadError::Cut { .. } => true,
            DownloadError::Write(_) => false,
        }
    }
}

/// A file of a repository, and its expected properties.
pub(crate) struct ExpectedFile<'a> {
    pub(crate) hub: &'a Hub,
    pub(crate) repo: &'a Repo,
    pub(crate) file: &'a HubFile,
}

impl ExpectedFile<'_> {
    /// Downloads the file to `target`; returns its sha256.
    pub(crate) async fn download(
        &self,
        target: &Path,
        progress: Progress,
    ) -> Result<String, DownloadError> {
        let sha256 = self.file.sha256.as_deref();
        let mut part = Part::open(target, self.file.size, sha256)?;
        let continued = part.len() > 0;
        if let Err(error) = self.fill(&mut part, progress).await {
            part.discard_if_empty();
            return Err(error);
        }
        match part.finish(sha256) {
            // The part from an earlier attempt may be wrong: download everything once more.
            Err(WriteError::Digest { .. }) if continued => {
                let mut part = Part::open(target, self.file.size, sha256)?;
                self.fill(&mut part, progress).await?;
                Ok(part.finish(sha256)?)
            }
            finished => Ok(finished?),
        }
    }

    /// Requests the file repeatedly, with growing pauses, until it is complete or there is no more
    /// progress.
    async fn fill(&self, part: &mut Part, progress: Progress) -> Result<(), DownloadError> {
        let name = self.file.path.rsplit('/').next().unwrap_or(&self.file.path);
        let mut meter = progress.start(name, self.file.size);
        if part.len() > 0 {
            meter.say(&format!(
                "{name}: resuming at {} of {}",
                ByteSize(part.len()),
                ByteSize(self.file.size)
            ));
        }
        let (mut reached, mut failures) = (part.len(), 0);
        while !part.is_whole() {
            let Err(error) = self.attempt(part, &mut meter).await else {
                continue;
            };
            if part.len() >= reached + A_STEP {
                (reached, failures) = (part.len(), 0);
            }
            failures += 1;
            if !error.is_passing() || failures == ATTEMPTS {
                return Err(error);
            }
            meter.say(&format!("{name}: {error}; retrying"));
            tokio::time::sleep(FIRST_WAIT * 2_u32.pow(failures - 1)).await;
        }
        Ok(())
    }

    async fn attempt(&self, part: &mut Part, meter: &mut Meter) -> Result<(), DownloadError> {
        let mut opened = self.hub.open(self.repo, self.file, part.len()).await?;
        if opened.at != part.len() {
            part.restart()?;
        }
        while let Some(bytes) = opened.response.chunk().await.map_err(HubError::from)? {
            part.write(&bytes)?;
            meter.at(part.len());
        }
        if part.is_whole() {
            return Ok(());
        }
        Err(DownloadError::Cut {
            got: ByteSize(part.len()),
            size: ByteSize(self.file.size),
        })
    }
}
