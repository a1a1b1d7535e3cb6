//! Writes an object: a small one at once, a larger one in parts of one size, of which one is being
//! sent while the next one is collected. The object is there when all of it is, or not at all.
//!
//! `BufWriter` of `object_store` does not do this: it leaves the parts of an upload that is dropped,
//! also during the last request, and aborts one while a part may still be on its way.

use std::sync::Arc;

use bytes::Bytes;
use futures_core::future::BoxFuture;
use loggia_api::store::StoreError;
use loggia_api::store::blobs::BlobWriter;
use object_store::aws::AmazonS3;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStoreExt as _, PutPayload};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::blobs::fact;

/// Writes an object.
pub(super) struct S3Writer {
    objects: Arc<AmazonS3>,
    path: Path,
    /// The bytes of each part but the last.
    part_bytes: usize,
    /// What is not sent yet, and its length.
    pieces: Vec<Bytes>,
    length: usize,
    upload: Option<Upload>,
}

/// An object of which parts were sent.
struct Upload {
    parts: Box<dyn MultipartUpload>,
    sending: Option<JoinHandle<object_store::Result<()>>>,
}

impl S3Writer {
    pub(super) fn new(objects: Arc<AmazonS3>, path: Path, part_bytes: usize) -> Self {
        Self {
            objects,
            path,
            part_bytes,
            pieces: Vec::new(),
            length: 0,
            upload: None,
        }
    }

    /// Takes the first bytes of what was collected.
    fn take(&mut self, mut bytes: usize) -> PutPayload {
        self.length -= bytes;
        let whole = self.pieces.iter().take_while(|piece| {
            let fits = piece.len() <= bytes;
            if fits {
                bytes -= piece.len();
            }
            fits
        });
        let whole = whole.count();
        let mut taken: Vec<Bytes> = self.pieces.drain(..whole).collect();
        if bytes > 0 {
            taken.push(self.pieces[0].split_to(bytes));
        }
        taken.into_iter().collect()
    }

    /// Begins to send a part, after the one before.
    async fn send(&mut self, part: PutPayload) -> Result<(), StoreError> {
        let upload = if let Some(upload) = &mut self.upload {
            upload
        } else {
            let parts = self.objects.put_multipart(&self.path).await;
            self.upload.insert(Upload {
                parts: parts.map_err(|error| fact(&error))?,
                sending: None,
            })
        };
        upload.sent().await?;
        upload.sending = Some(tokio::spawn(upload.parts.put_part(part)));
        Ok(())
    }
}

impl Upload {
    /// Waits for the part that is being sent.
    async fn sent(&mut self) -> Result<(), StoreError> {
        let Some(sending) = &mut self.sending else {
            return Ok(());
        };
        let sent = sending.await;
        self.sending = None;
        let sent = sent.map_err(|error| StoreError::Unavailable {
            cause: error.to_string(),
        })?;
        sent.map_err(|error| fact(&error))
    }
}

impl BlobWriter for S3Writer {
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, Result<(), StoreError>> {
        self.length += bytes.len();
        self.pieces.push(bytes);
        Box::pin(async move {
            while self.length >= self.part_bytes {
                let part = self.take(self.part_bytes);
                self.send(part).await?;
            }
            Ok(())
        })
    }

    fn finish(mut self: Box<Self>) -> BoxFuture<'static, Result<(), StoreError>> {
        Box::pin(async move {
            let rest = self.take(self.length);
            if self.upload.is_none() {
                let put = self.objects.put(&self.path, rest).await;
                return put.map(|_| ()).map_err(|error| fact(&error));
            }
            if rest.content_length() > 0 {
                self.send(rest).await?;
            }
            let Some(upload) = &mut self.upload else {
                return Ok(());
            };
            upload.sent().await?;
            let completed = upload.parts.complete().await;
            completed.map_err(|error| fact(&error))?;
            self.upload = None;
            Ok(())
        })
    }
}

/// What was not finished leaves nothing. If that fails, [`super::unfinished`] deletes it later.
impl Drop for S3Writer {
    fn drop(&mut self) {
        let (Some(mut upload), Ok(runtime)) = (self.upload.take(), Handle::try_current()) else {
            return;
        };
        runtime.spawn(async move {
            // A part that arrives afterwards would stay.
            if let Some(sending) = upload.sending {
                let _ = sending.await;
            }
            if let Err(error) = upload.parts.abort().await {
                let error = fact(&error);
                tracing::warn!(%error, "the parts of an unfinished content could not be deleted");
            }
        });
    }
}
