//! [`S3Blobs`]: the contents of files in S3-compatible object storage, for servers that share them.
//!
//! `options.rs` says where the bucket is, `http.rs` is its HTTP client, `writer.rs` writes an object,
//! `unfinished.rs` deletes what was never finished, `error.rs` says why a bucket cannot be used.
//!
//! An object appears whole or not at all, so that no place ever has half of a content. There is no
//! lock as in a folder: what another server is writing is known by its age.

mod error;
mod http;
mod options;
mod unfinished;
mod writer;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_core::future::BoxFuture;
use futures_util::{StreamExt as _, TryStreamExt as _, future, stream};
use loggia_api::store::StoreError;
use loggia_api::store::blobs::{Blobs, Leftovers, NewBlob, Pieces};
use loggia_seal::Keys;
use object_store::aws::AmazonS3;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode, PutOptions};
use url::Url;

use self::http::Connector;
use self::writer::S3Writer;
use super::{fact, read, sealed};
use crate::SqlStore;
use crate::clock::unix_time;
use crate::sealing::Sealing;

pub use error::BucketError;
pub use options::{NotS3Address, S3Address, S3Options};

/// The object that says which database the contents belong to.
const DATABASE: &str = "database";

/// What the places of contents begin with. A bucket may have objects of other programs, too.
const FOLDERS: [&str; 2] = ["files/", "parts/"];

/// The bytes of a part, of which S3 takes no smaller ones, and the most parts of an object.
const LEAST_OF_PART: u64 = 5 << 20;
const MOST_PARTS: u64 = 10_000;

/// How long after a content its object is stored at the latest. The clocks of the server and of S3
/// differ by 15 minutes at most, or S3 refuses the requests.
const SETTLED: Duration = Duration::from_hours(1);

/// How long a content may take to be written: longer than any request, and than the end of a batch.
const WRITTEN: Duration = Duration::from_hours(24);

/// The most places that are looked up at once.
const PAGE: usize = 1000;

/// Contents of files in a bucket. Cheap to clone.
#[derive(Clone)]
pub struct S3Blobs {
    objects: Arc<AmazonS3>,
    connector: Connector,
    address: S3Address,
    endpoint: Option<Url>,
    part_bytes: usize,
    sealing: Sealing,
    database: Option<Arc<SqlStore>>,
    settled: Duration,
    written: Duration,
}

impl S3Blobs {
    /// Contents in a bucket. `env` looks up environment variables: the keys come from those of AWS's
    /// own programs. The service is not reached yet.
    pub fn new(
        options: &S3Options,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, BucketError> {
        let (objects, connector, endpoint) = options.client(env)?;
        let part_bytes = options.largest.div_ceil(MOST_PARTS).max(LEAST_OF_PART);
        Ok(Self {
            objects: Arc::new(objects),
            connector,
            address: options.address.clone(),
            endpoint,
            part_bytes: usize::try_from(part_bytes).unwrap_or(usize::MAX),
            sealing: Sealing::default(),
            database: None,
            settled: SETTLED,
            written: WRITTEN,
        })
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

    /// Adds the database that has the objects of these contents. Contents of another database are
    /// then never deleted.
    #[must_use]
    pub fn with_database(self, database: Arc<SqlStore>) -> Self {
        Self {
            database: Some(database),
            ..self
        }
    }

    /// Changes after which time a content without an object is deleted, and after which time one that
    /// was never finished.
    #[must_use]
    pub fn with_ages(self, settled: Duration, written: Duration) -> Self {
        Self {
            settled,
            written,
            ..self
        }
    }

    /// Checks that the bucket exists, and that its objects can be listed, written and deleted. It
    /// leaves nothing behind.
    pub async fn check(&self) -> Result<(), BucketError> {
        let failed = |error| BucketError::of(&error, &self.address.bucket);
        let now = unix_time().as_nanos();
        let path = self.path(&format!("files/check-{}-{now}", std::process::id()));
        let put = self.objects.put(&path, Bytes::new().into()).await;
        put.map_err(failed)?;
        let listed = self.objects.list(Some(&path)).try_next().await;
        let deleted = self.objects.delete(&path).await;
        listed.map_err(failed)?;
        deleted.map_err(failed)
    }

    /// Checks that the contents belong to the database. The first database that comes gets them.
    pub async fn check_database(&self) -> Result<(), BucketError> {
        let Some(database) = &self.database else {
            return Ok(());
        };
        let away = |error: StoreError| BucketError::Away(error.to_string());
        let identity = database.identity().await.map_err(away)?;
        let failed = |error| BucketError::of(&error, &self.address.bucket);
        let path = self.path(DATABASE);
        let create = PutOptions::from(PutMode::Create);
        for _ in 0..2 {
            match self.objects.get(&path).await {
                Ok(found) => {
                    let found = found.bytes().await.map_err(failed)?;
                    return if found == identity.as_bytes() {
                        Ok(())
                    } else {
                        Err(BucketError::OtherDatabase)
                    };
                }
                Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(failed(error)),
            }
            let identity = identity.clone().into();
            // Another server may be faster.
            match self.objects.put_opts(&path, identity, create.clone()).await {
                Ok(_) | Err(object_store::Error::AlreadyExists { .. }) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Err(BucketError::Away(
            "it does not keep what is written".to_owned(),
        ))
    }

    /// Deletes contents that were never finished, and returns the places of those that are old enough.
    async fn old_contents(self) -> Result<Leftovers, StoreError> {
        let checked = self.check_database().await;
        checked.map_err(|error| error.fact())?;
        let now = SystemTime::now();
        let begun_before = now - self.written;
        let (objects, prefix) = (&self.objects, self.prefix());
        let deleted = unfinished::delete(objects, self.connector, &prefix, begun_before).await;
        if let Err(error) = deleted {
            // Some services do not list them. Then a rule of the bucket may delete them.
            tracing::debug!(%error, "unfinished objects could not be looked for");
        }
        let stored_before = now - self.settled;
        let all = self.objects.list(Some(&Path::from(&*prefix)));
        let places = all.try_filter_map(move |object| {
            let is_settled = SystemTime::from(object.last_modified) < stored_before;
            let place = object.location.as_ref().strip_prefix(&*prefix);
            let place = place.filter(|place| {
                is_settled && FOLDERS.iter().any(|folder| place.starts_with(folder))
            });
            future::ready(Ok(place.map(str::to_owned)))
        });
        let pages = places.try_chunks(PAGE).map_err(|error| fact(&error.1));
        Ok(pages.boxed())
    }

    /// The path of a place in the bucket.
    fn path(&self, place: &str) -> Path {
        Path::from(format!("{}/{place}", self.address.prefix))
    }

    /// What the paths of all places begin with.
    fn prefix(&self) -> String {
        match &*self.address.prefix {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        }
    }
}

/// Shows where the bucket is.
impl fmt::Display for S3Blobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)?;
        match &self.endpoint {
            Some(url) => write!(f, " ({})", url.as_str().trim_end_matches('/')),
            None => Ok(()),
        }
    }
}

/// Shows no keys.
impl fmt::Debug for S3Blobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S3Blobs({self})")
    }
}

impl Blobs for S3Blobs {
    fn create<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<NewBlob, StoreError>> {
        let place = sealed::place(&self.sealing, name);
        let writer = S3Writer::new(
            Arc::clone(&self.objects),
            self.path(&place),
            self.part_bytes,
        );
        let writer = sealed::writer(&self.sealing, writer, &place);
        Box::pin(async move { Ok((place, writer)) })
    }

    fn read<'a>(
        &'a self,
        place: &'a str,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Pieces, StoreError>> {
        let objects: Arc<dyn ObjectStore> = Arc::<AmazonS3>::clone(&self.objects);
        Box::pin(read(objects, self.path(place), place, &self.sealing, range))
    }

    fn delete<'a>(&'a self, place: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            match self.objects.delete(&self.path(place)).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(fact(&error)),
            }
        })
    }

    /// Nothing is looked for before the first page is read, so that a server starts without delay.
    fn leftovers(&self) -> BoxFuture<'_, Result<Leftovers, StoreError>> {
        let found = stream::once(self.clone().old_contents()).try_flatten();
        Box::pin(future::ready(Ok(found.boxed())))
    }
}
