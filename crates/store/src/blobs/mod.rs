//! The contents of files: [`FileBlobs`] in a folder, [`S3Blobs`] in S3-compatible object storage.
//! `sealed.rs` encrypts both.

mod folder;
mod s3;
mod sealed;

use std::io;
use std::ops::Range;
use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _};
use loggia_api::store::StoreError;
use loggia_api::store::blobs::Pieces;
use object_store::path::Path;
use object_store::{GetOptions, ObjectStore};

pub use folder::FileBlobs;
pub use s3::{BucketError, NotS3Address, S3Address, S3Blobs, S3Options};

use crate::sealing::Sealing;

/// Reads a range of the content of a place, whose bytes are at a path.
async fn read(
    objects: Arc<dyn ObjectStore>,
    path: Path,
    place: &str,
    sealing: &Sealing,
    range: Range<u64>,
) -> Result<Pieces, StoreError> {
    if place.ends_with(sealed::ENDING) {
        return sealed::read(objects, path, sealing.keys.clone(), place.to_owned(), range).await;
    }
    pieces(&*objects, &path, range).await
}

/// The bytes of an object as they are.
async fn pieces(
    objects: &dyn ObjectStore,
    path: &Path,
    range: Range<u64>,
) -> Result<Pieces, StoreError> {
    if range.is_empty() {
        return Ok(futures_util::stream::empty().boxed());
    }
    let options = GetOptions {
        range: Some(range.into()),
        ..GetOptions::default()
    };
    let found = objects.get_opts(path, options).await;
    let found = found.map_err(|error| fact(&error))?;
    Ok(found.into_stream().map_err(|error| fact(&error)).boxed())
}

/// The fact behind an error. Places are ids that the server made, so the cause has no text of a
/// client.
fn fact(error: &object_store::Error) -> StoreError {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(one) = cause {
        if let Some(error) = one.downcast_ref::<io::Error>() {
            return io_fact(error);
        }
        cause = one.source();
    }
    StoreError::Unavailable {
        cause: error.to_string(),
    }
}

fn io_fact(error: &io::Error) -> StoreError {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    match error.kind() {
        StorageFull | QuotaExceeded | FileTooLarge => StoreError::Full,
        _ => StoreError::Unavailable {
            cause: error.to_string(),
        },
    }
}
