//! [`FileBlobs`]: the contents of files, in a folder.
//!
//! A content is written to a staged file beside its place, flushed to the disk and renamed, so that
//! no place ever has half of a content.

use std::fs::{self, File, TryLockError};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_core::future::BoxFuture;
use loggia_api::store::StoreError;
use loggia_api::store::blobs::{BlobWriter, Blobs, Leftovers, NewBlob, Pieces, in_pages};
use loggia_seal::Keys;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Place;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt as _, PutPayload};
use tokio::sync::OnceCell;

use super::{fact, io_fact, read, sealed};
use crate::sealing::Sealing;

/// How many bytes are written at once.
const WRITE_AT_ONCE: usize = 1 << 20;

/// The file in the folder by which a server knows that no other one uses the folder.
const LOCK: &str = "lock";

/// Contents of files in a folder, which is made when the first one is written.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), loggia_api::store::StoreError> {
/// use futures_util::TryStreamExt as _;
/// use loggia_api::store::Blobs;
/// use loggia_store::FileBlobs;
///
/// let folder = tempfile::tempdir().expect("a folder can be made");
/// let blobs = FileBlobs::in_folder(folder.path());
/// let (place, mut writer) = blobs.create("files/file-1").await?;
/// writer.write("some text".into()).await?;
/// writer.finish().await?;
/// let pieces: Vec<_> = blobs.read(&place, 5..9).await?.try_collect().await?;
/// assert_eq!(pieces.concat(), b"text");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct FileBlobs {
    folder: PathBuf,
    opened: OnceCell<Opened>,
    sealing: Sealing,
}

#[derive(Debug)]
struct Opened {
    files: Arc<LocalFileSystem>,
    /// Locked as long as this server may write.
    _lock: File,
}

impl FileBlobs {
    /// Returns the storage of contents in this folder, without creating it.
    pub fn in_folder(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            opened: OnceCell::new(),
            sealing: Sealing::default(),
        }
    }

    /// Adds the keys that open encrypted contents. With `encrypts`, new contents are encrypted with
    /// the first of them.
    #[must_use]
    pub fn with_keys(self, keys: Arc<Keys>, encrypts: bool) -> Self {
        Self {
            sealing: Sealing::new(keys, encrypts),
            ..self
        }
    }

    /// Checks that files can be written in the folder, and leaves nothing behind. Returns whether
    /// there is a folder: the first content creates it.
    pub async fn check(&self) -> Result<bool, StoreError> {
        let folder = self.folder.clone();
        let checked = tokio::task::spawn_blocking(move || try_to_write(&folder)).await;
        let checked = checked.map_err(io::Error::from).flatten();
        checked.map_err(|error| io_fact(&error))
    }

    async fn opened(&self) -> Result<&Arc<LocalFileSystem>, StoreError> {
        let open = async || {
            let folder = self.folder.clone();
            let opened = tokio::task::spawn_blocking(move || open(&folder)).await;
            opened.map_err(|error| StoreError::Unavailable {
                cause: error.to_string(),
            })?
        };
        let opened = self.opened.get_or_try_init(open).await?;
        Ok(&opened.files)
    }
}

/// Writes a file into the folder, if there is one, and deletes it.
fn try_to_write(folder: &Path) -> io::Result<bool> {
    if !folder.exists() {
        return Ok(false);
    }
    // The name is one of a staged file: what remains of it is deleted as those are.
    let path = folder.join(format!("check#{}", std::process::id()));
    fs::write(&path, "check")?;
    fs::remove_file(path)?;
    Ok(true)
}

/// Creates the folder, readable by its owner only, and takes a lock on it that servers share.
fn open(folder: &Path) -> Result<Opened, StoreError> {
    let lock = make(folder).and_then(|()| lock(folder));
    let lock = lock.map_err(|error| io_fact(&error))?;
    lock.lock_shared().map_err(|error| io_fact(&error))?;
    let files = LocalFileSystem::new_with_prefix(folder).map_err(|error| fact(&error))?;
    Ok(Opened {
        files: Arc::new(files.with_fsync(true)),
        _lock: lock,
    })
}

fn make(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

fn lock(folder: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.create(true).truncate(false).write(true);
    options.open(folder.join(LOCK))
}

/// Returns the places of all contents in the folder, and deletes staged files. Returns nothing if
/// another server uses the folder.
fn survey(folder: &Path) -> io::Result<Vec<String>> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let lock = lock(folder)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(Vec::new()),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    let mut places = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(inner) = folders.pop() {
        for entry in fs::read_dir(inner)? {
            let (kind, path) = entry.and_then(|entry| Ok((entry.file_type()?, entry.path())))?;
            let place = path.strip_prefix(folder).ok().and_then(Path::to_str);
            if kind.is_dir() {
                folders.push(path);
            } else if let Some(place) = place.filter(|place| *place != LOCK) {
                if place.contains('#') {
                    fs::remove_file(&path)?;
                } else {
                    places.push(place.replace(std::path::MAIN_SEPARATOR, "/"));
                }
            }
        }
    }
    Ok(places)
}

impl Blobs for FileBlobs {
    fn create<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<NewBlob, StoreError>> {
        Box::pin(async move {
            let files = self.opened().await?;
            let place = sealed::place(&self.sealing, name);
            let upload = files.put_multipart(&Place::from(place.as_str())).await;
            let writer = FileWriter {
                upload: upload.map_err(|error| fact(&error))?,
                pieces: Vec::new(),
                length: 0,
            };
            let writer = sealed::writer(&self.sealing, writer, &place);
            Ok((place, writer))
        })
    }

    fn read<'a>(
        &'a self,
        place: &'a str,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Pieces, StoreError>> {
        Box::pin(async move {
            let files: Arc<dyn ObjectStore> = Arc::<LocalFileSystem>::clone(self.opened().await?);
            read(files, Place::from(place), place, &self.sealing, range).await
        })
    }

    fn delete<'a>(&'a self, place: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let files = self.opened().await?;
            match files.delete(&Place::from(place)).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(fact(&error)),
            }
        })
    }

    fn leftovers(&self) -> BoxFuture<'_, Result<Leftovers, StoreError>> {
        Box::pin(async move {
            let folder = self.folder.clone();
            let found = tokio::task::spawn_blocking(move || survey(&folder)).await;
            let found = found.map_err(io::Error::from).flatten();
            found.map(in_pages).map_err(|error| io_fact(&error))
        })
    }
}

/// Writes pieces of some size.
struct FileWriter {
    upload: Box<dyn MultipartUpload>,
    pieces: Vec<Bytes>,
    length: usize,
}

impl FileWriter {
    async fn flush(&mut self) -> Result<(), StoreError> {
        self.length = 0;
        let pieces: PutPayload = std::mem::take(&mut self.pieces).into_iter().collect();
        let written = self.upload.put_part(pieces).await;
        written.map_err(|error| fact(&error))
    }
}

impl BlobWriter for FileWriter {
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, Result<(), StoreError>> {
        self.length += bytes.len();
        self.pieces.push(bytes);
        Box::pin(async move {
            if self.length < WRITE_AT_ONCE {
                return Ok(());
            }
            self.flush().await
        })
    }

    fn finish(mut self: Box<Self>) -> BoxFuture<'static, Result<(), StoreError>> {
        Box::pin(async move {
            if self.length > 0 {
                self.flush().await?;
            }
            let done = self.upload.complete().await;
            done.map(|_| ()).map_err(|error| fact(&error))
        })
    }
}
