//! `/v1/uploads…`: a file that is sent in parts. The parts are items of the upload; completing the
//! upload joins their contents to one.

use std::fmt::{Display, Write as _};
use std::time::{Duration, Instant};

use bytes::Buf;
use futures_util::TryStreamExt as _;
use http::{Response, StatusCode};
use loggia_wire::Extra;
use loggia_wire::openai::{CompleteUpload, CreateUpload, Upload, UploadPart};
use md5::{Digest as _, Md5};
use serde::{Deserialize, Serialize};

use super::create::Received;
use super::{
    Files, Head, StoredFile, UNNAMED, answered, check_purpose, creation, name, new_file, seconds,
};
use crate::admit::checks::{between, missing};
use crate::admit::parse::tracked;
use crate::answer::id;
use crate::door::form::{Form, FormLimits, too_large};
use crate::door::policy::FileLimits;
use crate::store::blobs::BlobWriter;
use crate::store::{Change, Item, Kind, Metadata, NeededHold, Object, Side, StoreError};
use crate::stored::{all_items, damaged};
use crate::{ApiError, Body};

/// How long an upload can be completed: an hour, as at OpenAI.
const LASTS: u64 = 3600;

/// How long an upload is held while it is completed, and how often that is renewed.
const HELD_FOR: Duration = Duration::from_secs(30);
const RENEWED_EVERY: Duration = Duration::from_secs(5);

/// The maximum number of parts of an upload. OpenAI's largest uploads have 128 parts.
const MOST_PARTS: usize = 10_000;

/// The bytes of all descriptions of the parts of an upload: more than those of the most parts.
const MOST_OF_PARTS: usize = 16 << 20;

/// The stored form of an upload.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct StoredUpload {
    #[serde(flatten)]
    upload: Upload,
    /// How long the file will be kept, in seconds.
    lasts: Option<u64>,
}

/// The stored form of a part.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct StoredPart {
    #[serde(flatten)]
    part: UploadPart,
    bytes: u64,
    place: String,
}

impl Files {
    /// `POST /v1/uploads`.
    pub(super) async fn create_upload(
        &self,
        head: &Head<'_>,
        body: &[u8],
    ) -> Result<Response<Body>, ApiError> {
        let CreateUpload {
            bytes,
            filename,
            mime_type: _,
            purpose,
            expires_after,
            extra,
        } = tracked(body)?;
        let ignored = head.unknown(&extra)?;
        check_purpose(&purpose)?;
        let most = i64::try_from(self.limits.file_bytes).unwrap_or(i64::MAX);
        between("bytes", Some(bytes), 0, most)?;
        let bytes = u64::try_from(bytes).unwrap_or_default();
        let expires = expires_after.as_ref();
        let lasts = expires.map(|expires| seconds(expires, "expires_after"));
        let stored = StoredUpload {
            upload: new_upload(&filename, bytes, purpose),
            lasts: lasts.transpose()?,
        };
        let upload = &stored.upload;
        let object = object_of(&stored)?;
        let content = bytes + FileLimits::OVERHEAD;
        let changes = vec![
            Change::Limit {
                more: content,
                most: self.limits.key_bytes,
            },
            Change::Create {
                object,
                items: Vec::new(),
            },
            reserve(upload, content),
        ];
        let written = self.store.write(&self.owner, changes).await;
        written.map_err(|error| self.failed(&error))?;
        answered(upload, &ignored)
    }

    /// `POST /v1/uploads/{upload_id}/parts`.
    pub(super) async fn add_part<B>(
        &self,
        head: &Head<'_>,
        body: B,
        pause: Duration,
    ) -> Result<Response<Body>, ApiError>
    where
        B: http_body::Body<Data: Buf, Error: Display> + Send,
    {
        let upload = self.pending(head.route.id()).await?.upload;
        let limit = self.room(&upload).await?;
        let mut form = Form::new(&head.parts.headers, body, FormLimits::short(limit), pause)?;
        let id = id::part();
        let place = format!("parts/{}/{id}", upload.id);
        let (data, extra) = self.receive_part(&mut form, &place, limit).await?;
        let ignored = head.unknown(&extra)?;
        let received = data.ok_or_else(|| missing("data".to_owned()))?;
        let Received {
            writer,
            place,
            bytes,
            ..
        } = received;
        // Other parts may have come in the meantime.
        let room = self.room(&upload).await?;
        if bytes > room {
            return Err(too_large(room));
        }
        let part = StoredPart {
            part: UploadPart {
                id: id.clone(),
                object: "upload.part".to_owned(),
                created_at: id::now(),
                upload_id: upload.id.clone(),
            },
            bytes,
            place: place.clone(),
        };
        let item = Item {
            id,
            body: serde_json::to_string(&part).map_err(|_| damaged())?,
            side: Side::Input,
        };
        let append = Change::Append {
            kind: Kind::Upload,
            id: upload.id.clone(),
            items: vec![item],
        };
        let stored = self.store(writer, place, vec![append]).await;
        stored.map_err(|error| self.worded(&error, Kind::Upload, &upload.id))?;
        answered(&part.part, &ignored)
    }

    /// Reads the form of a part. Returns its data, if it has any, and its other fields.
    async fn receive_part(
        &self,
        form: &mut Form<'_>,
        place: &str,
        limit: u64,
    ) -> Result<(Option<Received>, Extra), ApiError> {
        let (mut data, mut extra) = (None, Extra::default());
        while let Some(field) = form.next().await? {
            match field.name().unwrap_or_default() {
                "data" if data.is_none() => {
                    data = Some(self.receive(form, field, place, limit).await?);
                }
                name => {
                    let name = name.to_owned();
                    extra.insert(name, form.text(field).await?.into());
                }
            }
        }
        Ok((data, extra))
    }

    /// `POST /v1/uploads/{upload_id}/complete`.
    pub(super) async fn complete_upload(
        &self,
        head: &Head<'_>,
        body: &[u8],
    ) -> Result<Response<Body>, ApiError> {
        let CompleteUpload {
            part_ids,
            md5,
            extra,
        } = tracked(body)?;
        let ignored = head.unknown(&extra)?;
        let id = head.route.id();
        self.pending(id).await?;
        let holder = self.hold(id).await?;
        let completed = self.complete(id, &holder, &part_ids, md5.as_deref()).await;
        if completed.is_err() {
            self.release(id, &holder).await;
        }
        answered(&completed?, &ignored)
    }

    /// Creates the file. The caller holds the upload.
    async fn complete(
        &self,
        id: &str,
        holder: &str,
        part_ids: &[String],
        md5: Option<&str>,
    ) -> Result<Upload, ApiError> {
        // Another request may have ended the upload before this one held it.
        let StoredUpload { upload, lasts } = self.pending(id).await?;
        let all = self.parts(id).await?;
        let parts = chosen(&all, part_ids)?;
        let bytes: u64 = parts.iter().map(|part| part.bytes).sum();
        if bytes != upload.bytes {
            let message = format!(
                "The parts have {bytes} bytes together, but the upload was created for {} bytes.",
                upload.bytes
            );
            return Err(ApiError::invalid("part_ids", "invalid_value", message));
        }
        let file_id = id::file();
        let (place, mut writer) = self.begin(&format!("files/{file_id}")).await?;
        let sum = self.join(id, holder, &parts, &mut *writer).await?;
        check_md5(md5, sum)?;
        let (name, purpose) = (upload.filename.clone(), upload.purpose.clone());
        let file = new_file(file_id, bytes, name, purpose, lasts);
        let stored = StoredFile {
            file,
            place,
            media_type: None,
        };
        let upload = Upload {
            status: "completed".to_owned(),
            file: Some(stored.file.clone()),
            ..upload
        };
        let mut changes = creation(Kind::File, &stored, None)?;
        changes.extend(end(&upload, lasts, holder)?);
        let done = self.store(writer, stored.place, changes).await;
        done.map_err(|error| self.worded(&error, Kind::Upload, id))?;
        for part in &all {
            self.discard(&part.place).await;
        }
        Ok(upload)
    }

    /// Writes the contents of parts one after the other. Returns their checksum.
    async fn join(
        &self,
        id: &str,
        holder: &str,
        parts: &[&StoredPart],
        writer: &mut dyn BlobWriter,
    ) -> Result<Md5, ApiError> {
        let mut sum = Md5::new();
        let mut renewed = Instant::now();
        for part in parts {
            let pieces = self.blobs.read(&part.place, 0..part.bytes).await;
            let mut pieces = pieces.map_err(|error| self.failed(&error))?;
            let mut left = part.bytes;
            while let Some(piece) = pieces
                .try_next()
                .await
                .map_err(|error| self.failed(&error))?
            {
                left = left.saturating_sub(piece.len() as u64);
                sum.update(&piece);
                let written = writer.write(piece).await;
                written.map_err(|error| self.failed(&error))?;
                if renewed.elapsed() >= RENEWED_EVERY {
                    let renewed_hold = Change::Renew {
                        kind: Kind::Upload,
                        id: id.to_owned(),
                        holder: holder.to_owned(),
                        time: HELD_FOR,
                    };
                    let held = self.store.write(&self.owner, vec![renewed_hold]).await;
                    held.map_err(|error| self.worded(&error, Kind::Upload, id))?;
                    renewed = Instant::now();
                }
            }
            if left > 0 {
                return Err(damaged());
            }
        }
        Ok(sum)
    }

    /// `POST /v1/uploads/{upload_id}/cancel`.
    pub(super) async fn cancel_upload(&self, head: &Head<'_>) -> Result<Response<Body>, ApiError> {
        let id = head.route.id();
        self.pending(id).await?;
        let holder = self.hold(id).await?;
        let cancelled = self.cancel(id, &holder).await;
        if cancelled.is_err() {
            self.release(id, &holder).await;
        }
        answered(&cancelled?, "")
    }

    async fn cancel(&self, id: &str, holder: &str) -> Result<Upload, ApiError> {
        let StoredUpload { upload, lasts } = self.pending(id).await?;
        let upload = Upload {
            status: "cancelled".to_owned(),
            ..upload
        };
        let places = places(self, id).await?;
        let changes = end(&upload, lasts, holder)?;
        let written = self.store.write(&self.owner, changes).await;
        written.map_err(|error| self.worded(&error, Kind::Upload, id))?;
        for place in places {
            self.discard(&place).await;
        }
        Ok(upload)
    }

    /// Returns an upload that can be completed.
    async fn pending(&self, id: &str) -> Result<StoredUpload, ApiError> {
        let object = self.store.object(self.at(Kind::Upload, id)).await;
        let object = object.map_err(|error| self.worded(&error, Kind::Upload, id))?;
        let stored: StoredUpload = serde_json::from_str(&object.body).map_err(|_| damaged())?;
        let status = match stored.upload.status.as_str() {
            "pending" if stored.upload.expires_at <= id::now() => "expired",
            status => status,
        };
        if status != "pending" {
            let message = format!("Upload {id} is {status}, so it cannot be changed any more.");
            return Err(ApiError::invalid("upload_id", "invalid_value", message));
        }
        Ok(stored)
    }

    /// Returns how many bytes one more part may have. It cannot be longer than the file. A client
    /// that sends a part again may need room for both.
    async fn room(&self, upload: &Upload) -> Result<u64, ApiError> {
        let parts = self.parts(&upload.id).await?;
        if parts.len() >= MOST_PARTS {
            let message = format!("An upload may have at most {MOST_PARTS} parts.");
            return Err(ApiError::invalid("data", "too_many_parts", message));
        }
        let used: u64 = parts.iter().map(|part| part.bytes).sum();
        let most = self.limits.part_bytes.min(upload.bytes);
        Ok(upload
            .bytes
            .saturating_mul(2)
            .saturating_sub(used)
            .min(most))
    }

    async fn parts(&self, id: &str) -> Result<Vec<StoredPart>, ApiError> {
        let at = self.at(Kind::Upload, id);
        let items = all_items(&*self.store, at, Side::Input, MOST_OF_PARTS).await;
        let items = items.map_err(|error| match error {
            StoreError::TooLong => {
                let message = "The upload has too many parts. Send larger ones.";
                ApiError::invalid("data", "invalid_value", message)
            }
            error => self.worded(&error, Kind::Upload, id),
        })?;
        let part = |item: &Item| serde_json::from_str(&item.body).map_err(|_| damaged());
        items.iter().map(part).collect()
    }

    async fn hold(&self, id: &str) -> Result<String, ApiError> {
        let holder = id::item("hold_");
        let held = self.store.write(&self.owner, vec![hold(id, &holder)]).await;
        held.map_err(|error| self.worded(&error, Kind::Upload, id))?;
        Ok(holder)
    }

    async fn release(&self, id: &str, holder: &str) {
        let release = Change::Release {
            kind: Kind::Upload,
            id: id.to_owned(),
            holder: Some(holder.to_owned()),
        };
        // If that fails, the hold runs out.
        let _ = self.store.write(&self.owner, vec![release]).await;
    }
}

/// Returns a new upload.
fn new_upload(filename: &str, bytes: u64, purpose: String) -> Upload {
    let created_at = id::now();
    Upload {
        id: id::upload(),
        object: Kind::Upload.as_str().to_owned(),
        bytes,
        created_at,
        expires_at: created_at + LASTS,
        filename: name(filename).unwrap_or_else(|| UNNAMED.to_owned()),
        purpose,
        status: "pending".to_owned(),
        file: None,
    }
}

/// Returns an upload as the store keeps it.
fn object_of(stored: &StoredUpload) -> Result<Object, ApiError> {
    Ok(Object {
        kind: Kind::Upload,
        id: stored.upload.id.clone(),
        created: stored.upload.created_at,
        model: None,
        metadata: Metadata::new(),
        body: serde_json::to_string(stored).map_err(|_| damaged())?,
        previous: None,
        is_held: false,
    })
}

/// Returns the change that schedules the end of an upload, and how much it counts.
fn reserve(upload: &Upload, content: u64) -> Change {
    Change::Schedule {
        kind: Kind::Upload,
        id: upload.id.clone(),
        due: Some(upload.expires_at),
        content,
    }
}

/// Returns the changes that end an upload.
fn end(upload: &Upload, lasts: Option<u64>, holder: &str) -> Result<Vec<Change>, ApiError> {
    let upload = upload.clone();
    let reserve = reserve(&upload, 0);
    let id = upload.id.clone();
    let body = serde_json::to_string(&StoredUpload { upload, lasts });
    Ok(vec![
        Change::Replace {
            kind: Kind::Upload,
            id: id.clone(),
            body: body.map_err(|_| damaged())?,
            items: Vec::new(),
            needs: Some(NeededHold::Of(holder.to_owned())),
        },
        reserve,
        Change::Release {
            kind: Kind::Upload,
            id,
            holder: Some(holder.to_owned()),
        },
    ])
}

/// Returns the places of the contents of all parts of an upload.
pub(super) async fn places(files: &Files, id: &str) -> Result<Vec<String>, ApiError> {
    let parts = files.parts(id).await?;
    Ok(parts.into_iter().map(|part| part.place).collect())
}

fn hold(id: &str, holder: &str) -> Change {
    Change::Hold {
        kind: Kind::Upload,
        id: id.to_owned(),
        holder: holder.to_owned(),
        time: HELD_FOR,
    }
}

/// Returns the parts with these ids, in the order of the ids.
fn chosen<'a>(all: &'a [StoredPart], ids: &[String]) -> Result<Vec<&'a StoredPart>, ApiError> {
    let mut chosen: Vec<&StoredPart> = Vec::with_capacity(ids.len());
    for (index, id) in ids.iter().enumerate() {
        let param = format!("part_ids[{index}]");
        let Some(part) = all.iter().find(|part| part.part.id == *id) else {
            let message = format!("Invalid value for '{param}': the upload has no part {id}.");
            return Err(ApiError::new(StatusCode::BAD_REQUEST, message).about(param));
        };
        if ids[..index].contains(id) {
            let message = format!("Invalid value for '{param}': the part {id} is named twice.");
            return Err(ApiError::invalid(param, "invalid_value", message));
        }
        chosen.push(part);
    }
    Ok(chosen)
}

/// Compares the checksum of the client with that of the content.
fn check_md5(sent: Option<&str>, sum: Md5) -> Result<(), ApiError> {
    let Some(sent) = sent else { return Ok(()) };
    let mut actual = String::new();
    for byte in sum.finalize() {
        // Writing to a string cannot fail.
        let _ = write!(actual, "{byte:02x}");
    }
    if sent.trim().eq_ignore_ascii_case(&actual) {
        return Ok(());
    }
    let message = format!("The MD5 checksum of the parts is {actual}, not the one in 'md5'.");
    Err(ApiError::invalid("md5", "invalid_value", message))
}
