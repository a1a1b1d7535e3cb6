//! The contents of files in a folder and in a bucket, as they are and encrypted.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use loggia_api::store::Blobs;
use loggia_api::store::StoreError;
use loggia_seal::Keys;
use loggia_store::FileBlobs;

use crate::s3::{Bucket, bucket};

/// Where contents are.
enum Kept {
    Folder(PathBuf),
    Bucket(Bucket),
}

impl Kept {
    /// The names of everything that is there, also of what was not finished.
    fn names(&self) -> Vec<String> {
        match self {
            Self::Folder(folder) => files(folder),
            Self::Bucket(bucket) => bucket.names(),
        }
    }
}

/// Runs a test over contents in a folder and in a bucket, as they are and encrypted.
async fn each(test: impl AsyncFn(&dyn Blobs, &Kept)) {
    each_folder(async |blobs, folder| test(blobs, &Kept::Folder(folder.to_owned())).await).await;
    let (Some(plain), Some(sealed)) = (bucket(), bucket()) else {
        return;
    };
    test(&plain.blobs(), &Kept::Bucket(plain)).await;
    let blobs = sealed.blobs().with_keys(Arc::new(Keys::random()), true);
    test(&blobs, &Kept::Bucket(sealed)).await;
}

/// Runs a test over contents in a folder, as they are and encrypted.
async fn each_folder(test: impl AsyncFn(&FileBlobs, &Path)) {
    let folder = tempfile::tempdir().expect("a folder");
    let plain = folder.path().join("deeper/plain");
    test(&FileBlobs::in_folder(&plain), &plain).await;
    let sealed = folder.path().join("sealed");
    let keys = Arc::new(Keys::random());
    let blobs = FileBlobs::in_folder(&sealed).with_keys(keys, true);
    test(&blobs, &sealed).await;
}

/// Bytes that differ from place to place.
pub(crate) fn content(length: usize) -> Vec<u8> {
    (0..=250).cycle().take(length).collect()
}

pub(crate) async fn write(blobs: &dyn Blobs, name: &str, content: &[u8]) -> String {
    let (place, mut writer) = blobs.create(name).await.expect("a writer");
    for piece in content.chunks(10_007) {
        let piece = Bytes::copy_from_slice(piece);
        assert_eq!(writer.write(piece).await, Ok(()));
    }
    assert_eq!(writer.finish().await, Ok(()));
    place
}

pub(crate) async fn read(blobs: &dyn Blobs, place: &str, from: usize, to: usize) -> Vec<u8> {
    let pieces = blobs.read(place, from as u64..to as u64).await;
    let pieces: Vec<Bytes> = pieces
        .expect("pieces")
        .try_collect()
        .await
        .expect("all pieces");
    pieces.concat()
}

/// The names of all files in a folder, without the lock.
fn files(folder: &Path) -> Vec<String> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else if path.file_name().is_some_and(|name| name != "lock") {
            files.push(path.display().to_string());
        }
    }
    files
}

async fn leftovers(blobs: &dyn Blobs) -> Vec<String> {
    let pages = blobs.leftovers().await.expect("leftovers");
    let pages: Vec<Vec<String>> = pages.try_collect().await.expect("all pages");
    pages.concat()
}

#[tokio::test]
async fn a_content_is_read_whole_and_in_every_range_around_a_chunk() {
    each(async |blobs, _| {
        const CHUNK: usize = 64 << 10;
        for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5] {
            let whole = content(length);
            let place = write(blobs, &format!("files/file-{length}"), &whole).await;
            assert_eq!(read(blobs, &place, 0, length).await, whole);
            let ends = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, length];
            for from in ends.into_iter().filter(|at| *at <= length) {
                for to in ends.into_iter().filter(|at| (from..=length).contains(at)) {
                    let part = read(blobs, &place, from, to).await;
                    assert_eq!(part, whole[from..to], "{length}: {from}..{to}");
                }
            }
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_not_finished_leaves_nothing() {
    each(async |blobs, kept| {
        let (place, mut writer) = blobs.create("files/file-1").await.expect("a writer");
        assert_eq!(writer.write(vec![1; 11 << 20].into()).await, Ok(()));
        assert_eq!(kept.names().len(), 1, "the staged file, or the parts");
        assert!(blobs.read(&place, 0..1).await.is_err());
        drop(writer);
        // It is deleted in the background.
        for _ in 0..1000 {
            if kept.names().is_empty() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("left behind: {:?}", kept.names());
    })
    .await;
}

#[tokio::test]
async fn a_deleted_content_is_gone_and_may_be_deleted_again() {
    each(async |blobs, kept| {
        let place = write(blobs, "parts/upload_1/part_1", b"text").await;
        assert_eq!(blobs.delete(&place).await, Ok(()));
        assert_eq!(blobs.delete(&place).await, Ok(()));
        assert!(kept.names().is_empty());
        let read = blobs.read(&place, 0..4).await.map(|_| ());
        assert!(
            matches!(read, Err(StoreError::Unavailable { .. })),
            "{read:?}"
        );
    })
    .await;
}

#[tokio::test]
async fn leftovers_are_all_contents_and_staged_files_are_deleted() {
    each_folder(async |blobs, folder| {
        assert!(leftovers(blobs).await.is_empty());
        let place = write(blobs, "files/file-1", b"text").await;
        std::fs::write(folder.join("files/file-2#1"), "half").expect("a file");
        // The folder is in use by this server itself.
        assert!(leftovers(blobs).await.is_empty());
        let next = FileBlobs::in_folder(folder);
        assert!(leftovers(&next).await.is_empty());
        assert_eq!(files(folder).len(), 2);
        // Once that server has ended, the next one finds its leftovers.
        let copy = tempfile::tempdir().expect("a folder");
        let moved = copy.path().join("moved");
        std::fs::rename(folder, &moved).expect("renamed");
        std::fs::remove_file(moved.join("lock")).expect("unlocked");
        let next = FileBlobs::in_folder(&moved);
        assert_eq!(leftovers(&next).await, [place]);
        assert_eq!(files(&moved).len(), 1);
    })
    .await;
}

#[tokio::test]
async fn an_encrypted_content_cannot_be_read_without_its_key_or_moved_or_changed() {
    let folder = tempfile::tempdir().expect("a folder");
    let keys = Arc::new(Keys::random());
    let blobs = FileBlobs::in_folder(folder.path()).with_keys(Arc::clone(&keys), true);
    let secret = content(200_000);
    let place = write(&blobs, "files/file-1", &secret).await;
    let path = folder.path().join(&place);
    let on_disk = std::fs::read(&path).expect("a file");
    assert!(!on_disk.windows(64).any(|some| some == &secret[..64]));

    let unreadable = async |blobs: &FileBlobs, place: &str, range: std::ops::Range<u64>| {
        let Ok(pieces) = blobs.read(place, range.clone()).await else {
            return true;
        };
        let pieces: Result<Vec<Bytes>, _> = pieces.try_collect().await;
        let length = |pieces: Vec<Bytes>| pieces.concat().len() as u64;
        pieces.map_or(true, |pieces| length(pieces) < range.end - range.start)
    };
    let all = 0..secret.len() as u64;
    assert!(unreadable(&FileBlobs::in_folder(folder.path()), &place, all.clone()).await);
    let other = FileBlobs::in_folder(folder.path()).with_keys(Arc::new(Keys::random()), true);
    assert!(unreadable(&other, &place, all.clone()).await);
    // The content can still be read if new contents are no longer encrypted.
    let reads = FileBlobs::in_folder(folder.path()).with_keys(keys, false);
    assert_eq!(read(&reads, &place, 0, secret.len()).await, secret);

    std::fs::copy(&path, folder.path().join("files/file-2.sealed")).expect("copied");
    assert!(unreadable(&blobs, "files/file-2.sealed", all.clone()).await);
    let mut changed = on_disk.clone();
    changed[150_000] ^= 1;
    std::fs::write(&path, changed).expect("written");
    assert!(unreadable(&blobs, &place, all.clone()).await);
    std::fs::write(&path, &on_disk[..on_disk.len() - 1]).expect("written");
    assert!(unreadable(&blobs, &place, all).await);
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_of_the_folder_can_read_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("files");
    write(&FileBlobs::in_folder(&path), "files/file-1", b"x").await;
    let mode = std::fs::metadata(path)
        .expect("a folder")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o700);
}
