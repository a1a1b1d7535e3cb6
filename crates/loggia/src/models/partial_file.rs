//! Writing a file into the model folder: first to a part in the same folder, under a lock; then
//! renamed.
//!
//! Only a file that was verified and synced to disk gets the final name. The part's name includes
//! the beginning of the expected sha256, so that a part of an older version is never continued with
//! bytes of a newer one.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use super::digest::Digest;

/// Why a file could not be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    #[error("another `loggia pull` is downloading this model; wait until it has finished")]
    Locked,
    #[error(
        "the disk is full: {path} needs {needed} more; free some space and run the same command again to resume"
    )]
    Full {
        path: PathBuf,
        needed: bytesize::ByteSize,
    },
    #[error("cannot write {path}: {cause}")]
    Write { path: PathBuf, cause: io::Error },
    #[error("the sha256 of {name} is {got} instead of {wanted}; the download was deleted")]
    Digest {
        name: String,
        wanted: String,
        got: String,
    },
    #[error("{name} is not a GGUF file; the download was deleted")]
    NotGguf { name: String },
    #[error("{name} is longer than the expected {size} bytes; the download was deleted")]
    TooLong { name: String, size: u64 },
}

/// A lock on a model while it is written. The file system releases it even if the program is
/// killed.
pub(crate) struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// Locks the model with this first file; `Locked` if another process holds the lock.
    pub(crate) fn take(target: &Path) -> Result<Self, WriteError> {
        let path = hidden(target, ".lock");
        let write_error = |cause| WriteError::Write {
            path: path.clone(),
            cause,
        };
        loop {
            if let Some(folder) = target.parent() {
                fs::create_dir_all(folder).map_err(write_error)?;
            }
            let file = OpenOptions::new()
                .create(true)
                .append(true)
                .open(&path)
                .map_err(write_error)?;
            match file.try_lock() {
                Ok(()) if is_still(&path, &file) => return Ok(Lock { path, _file: file }),
                // The process that held the file removed it between the two steps.
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(WriteError::Locked),
                Err(TryLockError::Error(cause)) => return Err(write_error(cause)),
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // A remaining lock file is harmless.
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether the open file is still the one at the path.
fn is_still(path: &Path, file: &File) -> bool {
    let (Ok(there), Ok(open)) = (fs::metadata(path), file.metadata()) else {
        return false;
    };
    #[cfg(unix)]
    return std::os::unix::fs::MetadataExt::ino(&there)
        == std::os::unix::fs::MetadataExt::ino(&open);
    #[cfg(not(unix))]
    return there.len() == open.len();
}

/// A partly written file: the data that has arrived so far, and its digest.
pub(crate) struct Part {
    target: PathBuf,
    path: PathBuf,
    file: File,
    digest: Digest,
    len: u64,
    size: u64,
}

impl Part {
    /// Opens the part of an earlier attempt, or creates one. `sha256` is the expected digest.
    /// Without it nothing is continued, because both pieces could be of different versions.
    pub(crate) fn open(target: &Path, size: u64, sha256: Option<&str>) -> Result<Self, WriteError> {
        let path = hidden(
            target,
            &format!(".{}{PART}", sha256.map_or("new", |hex| &hex[..12])),
        );
        let write_error = |cause| WriteError::Write {
            path: path.clone(),
            cause,
        };
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder).map_err(write_error)?;
        }
        let options = OpenOptions::new()
            .create(true)
            .read(true)
            .write(true)
            .truncate(false)
            .open(&path);
        let file = options.map_err(write_error)?;
        let mut part = Part {
            target: target.to_owned(),
            path,
            file,
            digest: Digest::default(),
            len: 0,
            size,
        };
        let there = part
            .file
            .metadata()
            .map_err(|cause| part.write_error(cause))?
            .len();
        if sha256.is_none() || there > size {
            part.restart()?;
        } else {
            let mut digest = Digest::default();
            digest
                .read(&part.file, |read| part.len += read)
                .map_err(|cause| part.write_error(cause))?;
            part.digest = digest;
        }
        Ok(part)
    }

    /// The number of bytes so far.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.len == self.size
    }

    /// Starts again from the beginning.
    pub(crate) fn restart(&mut self) -> Result<(), WriteError> {
        self.digest = Digest::default();
        self.len = 0;
        self.file
            .set_len(0)
            .and_then(|()| self.file.rewind())
            .map_err(|cause| self.write_error(cause))
    }

    /// Removes an empty part: a refused download leaves nothing behind.
    pub(crate) fn discard_if_empty(self) {
        if self.len == 0 {
            let _ = fs::remove_file(&self.path);
        }
    }

    /// Appends bytes, up to the expected size.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        let len = self.len + bytes.len() as u64;
        if len > self.size {
            return Err(self.thrown_away(|name, part| WriteError::TooLong {
                name,
                size: part.size,
            }));
        }
        self.file
            .write_all(bytes)
            .map_err(|cause| self.write_error(cause))?;
        self.digest.update(bytes);
        self.len = len;
        Ok(())
    }

    /// Verifies the file, syncs it to disk and gives it its final name. Returns its sha256.
    pub(crate) fn finish(mut self, sha256: Option<&str>) -> Result<String, WriteError> {
        let got = self.digest.clone().hex();
        if let Some(wanted) = sha256.filter(|wanted| **wanted != got) {
            return Err(self.thrown_away(|name, _| WriteError::Digest {
                name,
                wanted: wanted.to_owned(),
                got,
            }));
        }
        if !self
            .begins_as_gguf()
            .map_err(|cause| self.write_error(cause))?
        {
            return Err(self.thrown_away(|name, _| WriteError::NotGguf { name }));
        }
        self.file
            .sync_all()
            .map_err(|cause| self.write_error(cause))?;
        settle(&self.path, &self.target).map_err(|cause| self.write_error(cause))?;
        remove_parts(&self.target);
        Ok(got)
    }

    fn begins_as_gguf(&mut self) -> io::Result<bool> {
        self.file.rewind()?;
        is_gguf(&self.file)
    }

    fn thrown_away(&self, error: impl FnOnce(String, &Self) -> WriteError) -> WriteError {
        // If the file cannot be removed now, its length or digest will be wrong the next time.
        let _ = fs::remove_file(&self.path);
        error(file_name(&self.target).to_owned(), self)
    }

    fn write_error(&self, cause: io::Error) -> WriteError {
        let path = self.path.clone();
        if matches!(
            cause.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        ) {
            return WriteError::Full {
                path,
                needed: bytesize::ByteSize(self.size.saturating_sub(self.len)),
            };
        }
        WriteError::Write { path, cause }
    }
}

const PART: &str = ".part";

/// Whether the bytes begin as a GGUF file.
pub(crate) fn is_gguf(mut reader: impl io::Read) -> io::Result<bool> {
    let mut magic = Vec::with_capacity(4);
    reader.by_ref().take(4).read_to_end(&mut magic)?;
    Ok(magic == b"GGUF")
}

/// Renames a finished file to its final name. After a power cut, the file has either the old name
/// or the new one.
fn settle(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    // A rename is durable once its folder is synced. Windows cannot open a folder for that, and
    // does not need it.
    #[cfg(unix)]
    if let Some(folder) = to.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// The name of the file if this is the name of one of its parts: `.NAME.1234567890ab.part`.
pub(crate) fn target_of_part(name: &str) -> Option<&str> {
    let (target, id) = name
        .strip_prefix('.')?
        .strip_suffix(PART)?
        .rsplit_once('.')?;
    (!id.is_empty()).then_some(target)
}

/// Removes all parts of this file, including those of older versions.
pub(crate) fn remove_parts(target: &Path) {
    let Some(entries) = target.parent().and_then(|folder| fs::read_dir(folder).ok()) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_name().to_str().and_then(target_of_part) == Some(file_name(target)) {
            // A part that cannot be removed only uses space; `loggia rm` reports the reason.
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn hidden(target: &Path, ending: &str) -> PathBuf {
    target.with_file_name(format!(".{}{ending}", file_name(target)))
}

fn file_name(target: &Path) -> &str {
    target
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or("model.gguf")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_continued_only_for_the_same_file() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("m.gguf");
        let (old, new) = ("a".repeat(64), "b".repeat(64));
        Part::open(&target, 10, Some(&old))
            .unwrap()
            .write(b"GGUF1")
            .unwrap();
        assert_eq!(Part::open(&target, 10, Some(&old)).unwrap().len(), 5);
        assert_eq!(Part::open(&target, 10, Some(&new)).unwrap().len(), 0);
        Part::open(&target, 10, None)
            .unwrap()
            .write(b"GGUF")
            .unwrap();
        assert_eq!(Part::open(&target, 10, None).unwrap().len(), 0);
        // A part that is longer than the file cannot be its beginning.
        assert_eq!(Part::open(&target, 4, Some(&old)).unwrap().len(), 0);
    }

    #[test]
    fn a_full_disk_says_how_much_room_is_wanted_and_that_nothing_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let mut part =
            Part::open(&dir.path().join("m.gguf"), 3 << 20, Some(&"a".repeat(64))).unwrap();
        part.write(&vec![0; 1 << 20]).unwrap();
        let error = part
            .write_error(io::ErrorKind::StorageFull.into())
            .to_string();
        assert!(
            error.contains("needs 2.0 MiB more") && error.contains("run the same command again"),
            "{error}"
        );
    }

    #[test]
    fn the_final_name_is_given_only_to_what_was_checked() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("m.gguf");
        let mut part = Part::open(&target, 5, None).unwrap();
        part.write(b"hello").unwrap();
        assert!(matches!(part.finish(None), Err(WriteError::NotGguf { .. })));
        let mut part = Part::open(&target, 5, None).unwrap();
        part.write(b"GGUF!").unwrap();
        assert!(matches!(
            part.finish(Some(&"0".repeat(64))),
            Err(WriteError::Digest { .. })
        ));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let mut part = Part::open(&target, 5, None).unwrap();
        assert!(matches!(
            part.write(b"GGUF!!"),
            Err(WriteError::TooLong { .. })
        ));
        let mut part = Part::open(&target, 5, None).unwrap();
        part.write(b"GGUF!").unwrap();
        part.finish(None).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"GGUF!");
    }

    #[test]
    fn two_pulls_of_one_model_do_not_meet() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("m.gguf");
        let held = Lock::take(&target).unwrap();
        assert!(matches!(Lock::take(&target), Err(WriteError::Locked)));
        drop(held);
        drop(Lock::take(&target).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_name_of_a_part_tells_its_file() {
        assert_eq!(
            target_of_part(".m-Q4.gguf.0123456789ab.part"),
            Some("m-Q4.gguf")
        );
        assert_eq!(target_of_part("m-Q4.gguf"), None);
        assert_eq!(target_of_part(".m-Q4.gguf.lock"), None);
    }
}
