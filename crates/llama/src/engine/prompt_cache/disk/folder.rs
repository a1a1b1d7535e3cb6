//! The folder of the cached prompts of one model, and its place among those of other models.
//!
//! `ROOT/IDENTITY/` has the files of one model with one engine, and a lock that one process holds.
//! `cache_disk` limits all files in `ROOT` together; the least recently used ones make room. Files
//! of a folder whose lock is held by another process are left alone.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::file::{Digest, FileError, Header, hex};
use crate::engine::prompt_cache::Snapshot;
use crate::state_bytes::StateBytes;

const LOCK: &str = "lock";
/// The ending of a complete file.
const COMPLETE: &str = "prompt";
/// The ending of a file that is being written.
const PARTIAL: &str = "part";

const OTHER_NAME: &str = "it has the name of another file";

/// The folder of a model. This process holds its lock.
#[derive(Debug)]
pub(super) struct Folder {
    root: PathBuf,
    path: PathBuf,
    identity: Digest,
    /// The maximum number of bytes in `root`.
    most: u64,
    _lock: File,
}

/// A file of any model.
struct Listed {
    path: PathBuf,
    bytes: u64,
    last_used: SystemTime,
}

impl Folder {
    /// Creates the folder if necessary, and takes its lock. Returns `None` if another process has
    /// it.
    pub(super) fn open(root: &Path, identity: Digest, most: u64) -> io::Result<Option<Self>> {
        let path = root.join(hex(&identity));
        let mut folders = DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut folders, 0o700);
        folders.recursive(true).create(&path)?;
        let Some(lock) = take_lock(&path)? else {
            return Ok(None);
        };
        Ok(Some(Self {
            root: root.to_owned(),
            path,
            identity,
            most,
            _lock: lock,
        }))
    }

    pub(super) fn identity(&self) -> Digest {
        self.identity
    }

    /// The headers of the files. Files that were not finished are deleted, and so are damaged ones,
    /// with a warning.
    pub(super) fn headers(&self) -> io::Result<Vec<Header>> {
        let mut headers = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let path = entry?.path();
            match path.extension().and_then(OsStr::to_str) {
                Some(PARTIAL) => drop(fs::remove_file(&path)),
                Some(COMPLETE) => match self.header(&path) {
                    Ok((header, _)) if self.place_of(&header) == path => headers.push(header),
                    Ok(_) => delete(&path, &FileError::Damaged(OTHER_NAME)),
                    Err(why) => delete(&path, &why),
                },
                _ => {}
            }
        }
        Ok(headers)
    }

    /// Reads a file, and records the use. A file that is damaged is deleted, with a warning.
    pub(super) fn load(&self, header: &Header) -> Option<StateBytes> {
        let path = self.place_of(header);
        let load = || {
            let (found, mut file) = self.header(&path)?;
            if found != *header {
                return Err(FileError::Damaged(OTHER_NAME));
            }
            let state = found.read_state(&mut file)?;
            // The time is only for the order in which files make room.
            let _ = file.set_modified(SystemTime::now());
            Ok(state)
        };
        load().inspect_err(|why| delete(&path, why)).ok()
    }

    /// Writes a snapshot, under a temporary name first. The file is complete as soon as it has its
    /// name.
    pub(super) fn save(&self, header: &Header, snapshot: &Snapshot) -> io::Result<()> {
        let path = self.place_of(header);
        let partial = path.with_extension(PARTIAL);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let written = options
            .open(&partial)
            .and_then(|mut file| header.write(&snapshot.state, &mut file))
            .and_then(|()| fs::rename(&partial, &path));
        if written.is_err() {
            // If this fails too, the next start deletes the file.
            let _ = fs::remove_file(&partial);
        }
        written
    }

    /// Deletes the file with this header, which a newer one replaces.
    pub(super) fn remove(&self, header: &Header) {
        let _ = fs::remove_file(self.place_of(header));
    }

    /// Whether the file with this header is still there.
    pub(super) fn has(&self, header: &Header) -> bool {
        self.place_of(header).is_file()
    }

    /// Deletes the least recently used files until there is room for `bytes` more. Returns `false`
    /// if there cannot be. Deletes what other models have not finished to write, too: the next start
    /// would, but there may be none with such a model again.
    pub(super) fn make_room(&self, bytes: u64) -> io::Result<bool> {
        if bytes > self.most {
            return Ok(false);
        }
        let mut files = Vec::new();
        let mut locks = Vec::new();
        let mut total = bytes;
        for folder in fs::read_dir(&self.root)? {
            let folder = folder?.path();
            if !folder.is_dir() {
                continue;
            }
            let listed = complete_files(&folder)?;
            total = listed
                .iter()
                .fold(total, |total, file| total.saturating_add(file.bytes));
            if folder == self.path {
                files.extend(listed);
            } else if let Ok(Some(lock)) = take_lock(&folder) {
                delete_unfinished(&folder)?;
                locks.push(lock);
                files.extend(listed);
            }
        }
        files.sort_by_key(|file| file.last_used);
        for file in files {
            if total <= self.most {
                break;
            }
            match fs::remove_file(&file.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => total -= file.bytes,
            }
        }
        drop(locks);
        Ok(total <= self.most)
    }

    fn header(&self, path: &Path) -> Result<(Header, File), FileError> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        let header = Header::read(&mut file, length, &self.identity)?;
        Ok((header, file))
    }

    fn place_of(&self, header: &Header) -> PathBuf {
        self.path.join(header.name()).with_extension(COMPLETE)
    }
}

/// Takes the lock of a folder. Returns `None` if another process has it. The lock is released when
/// the file is closed, however the process ends.
fn take_lock(folder: &Path) -> io::Result<Option<File>> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(folder.join(LOCK))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn complete_files(folder: &Path) -> io::Result<Vec<Listed>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        // A missing file was deleted by the process that owns it.
        let Ok(metadata) = fs::metadata(&path) else {
            continue;
        };
        if metadata.is_file() && path.extension() == Some(OsStr::new(COMPLETE)) {
            files.push(Listed {
                bytes: metadata.len(),
                last_used: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
                path,
            });
        }
    }
    Ok(files)
}

fn delete_unfinished(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension() == Some(OsStr::new(PARTIAL)) {
            let _ = fs::remove_file(&path);
        }
    }
    Ok(())
}

fn delete(path: &Path, why: &FileError) {
    if matches!(why, FileError::Io(error) if error.kind() == io::ErrorKind::NotFound) {
        // The snapshot was removed for others since it was found.
        return;
    }
    tracing::warn!(
        path = %path.display(),
        %why,
        "a file of the prompt cache cannot be used, and is deleted; its prompt is read again"
    );
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "cannot delete it");
    }
}
