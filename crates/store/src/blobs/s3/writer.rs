//! Writes an object: a small one at once, a larger one in parts of one size, of which one is being
//! sent while the next one is collected. The object is there when all of it is, or not at all.

use std::sync::Arc;

use bytes::Bytes;
use futures_core::future::BoxFuture;
use loggia_api::store::StoreError;
use loggia_api::store::blobs::BlobWriter;
use object_store::aws::AmazonS3;
use object_store::multipart::{MultipartStore as _, PartId};
use object_store::path::Path;
use object_store::{ObjectStoreExt as _, PutPayload};
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
    upload: Option<MultipartUpload>,
}

/// An object of which parts were sent.
struct MultipartUpload {
    id: String,
    sent: Vec<PartId>,
    sending: Option<JoinHandle<object_store::Result<PartId>>>,
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
            let id = self.objects.create_multipart(&self.path).await;
            self.upload.insert(MultipartUpload {
                id: id.map_err(|error| fact(&error))?,
                sent: Vec::new(),
                sending: None,
            })
        };
        upload.sent().await?;
        let (objects, path) = (Arc::clone(&self.objects), self.path.clone());
        let (id, number) = (upload.id.clone(), upload.sent.len());
        upload.sending = Some(tokio::spawn(async move {
            objects.put_part(&path, &id, number, part).await
        }));
        Ok(())
    }
}

impl MultipartUpload {
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
        self.sent.push(sent.map_err(|error| fact(&error))?);
        Ok(())
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
            let parts = std::mem::take(&mut upload.sent);
            let (objects, path) = (&self.objects, &self.path);
            let completed = objects.complete_multipart(path, &upload.id, parts).await;
            completed.map_err(|error| fact(&error))?;
            self.upload = None;
            Ok(())
        })
    }
}

/// What was not finished leaves nothing. If that fails, [`super::unfinished`] deletes it later.
impl Drop for S3Writer {
    fn drop(&mut self) {
        let (Some(upload), Ok(runtime)) = (self.upload.take(), Handle::try_current()) else {
            return;
        };
        let (objects, path) = (Arc::clone(&self.objects), self.path.clone());
        runtime.spawn(async move {
            // A part that arrives afterwards would stay.
            if let Some(sending) = upload.sending {
                let _ = sending.await;
            }
            if let Err(error) = objects.abort_multipart(&path, &upload.id).await {
                let error = fact(&error);
                tracing::warn!(%error, "the parts of an unfinished content could not be deleted");
            }
        });
    }
}
