//! `POST /v1/files` of OpenAI's and of Anthropic's API: receives a file. The form is checked before
//! its content is stored, although the content may come before the other fields.

use std::fmt::Display;
use std::time::Duration;

use bytes::Buf;
use http::Response;
use loggia_wire::Extra;
use loggia_wire::openai::ExpiresAfter;
use multer::Field;

use super::{
    Files, Head, StoredFile, UNNAMED, anthropic, check_purpose, creation, name, new_file, seconds,
    shown,
};
use crate::admit::checks::{between, missing};
use crate::answer::id;
use crate::door::form::{Form, FormLimits, too_large};
use crate::door::policy::FileLimits;
use crate::store::Kind;
use crate::store::blobs::BlobWriter;
use crate::{ApiError, Body};

/// A content that was received, and not stored yet.
pub(super) struct Received {
    pub(super) writer: Box<dyn BlobWriter>,
    pub(super) place: String,
    pub(super) bytes: u64,
    /// The client's name for the file, if any.
    name: Option<String>,
    /// The media type that the client gave for the file, if it is useful.
    media_type: Option<String>,
}

/// The fields of the form.
#[derive(Default)]
struct Fields {
    file: Option<Received>,
    purpose: Option<String>,
    anchor: Option<String>,
    seconds: Option<String>,
    /// `expires_in_seconds` of Anthropic's API.
    expires_in: Option<String>,
    extra: Extra,
}

impl Files {
    pub(super) async fn create<B>(
        &self,
        head: &Head<'_>,
        body: B,
        pause: Duration,
    ) -> Result<Response<Body>, ApiError>
    where
        B: http_body::Body<Data: Buf, Error: Display> + Send,
    {
        let limit = self.limit(self.limits.file_bytes).await?;
        let form = Form::new(&head.parts.headers, body, FormLimits::short(limit), pause)?;
        let id = id::file();
        let fields = self.fields(form, head, &id, limit).await?;
        let ignored = head.unknown(&fields.extra)?;
        let lasts = fields.lasts()?;
        let received = fields.file.ok_or_else(|| missing("file".to_owned()))?;
        let usual = head.is_anthropic.then(|| anthropic::PURPOSE.to_owned());
        let purpose = fields.purpose.or(usual);
        let purpose = purpose.ok_or_else(|| missing("purpose".to_owned()))?;
        check_purpose(&purpose)?;
        let Received {
            writer,
            place,
            bytes,
            name,
            media_type,
        } = received;
        let name = name.unwrap_or_else(|| {
            if head.is_anthropic {
                anthropic::name_for(media_type.as_deref())
            } else {
                UNNAMED.to_owned()
            }
        });
        let stored = StoredFile {
            file: new_file(id, bytes, name, purpose, lasts),
            place,
            media_type,
        };
        let changes = creation(Kind::File, &stored, Some(self.limits.key_bytes))?;
        let done = self.store(writer, stored.place.clone(), changes).await;
        done.map_err(|error| self.failed(&error))?;
        shown(&stored, head, &ignored)
    }

    /// Reads the form, and receives the content of the file.
    async fn fields(
        &self,
        mut form: Form<'_>,
        head: &Head<'_>,
        id: &str,
        limit: u64,
    ) -> Result<Fields, ApiError> {
        let mut fields = Fields::default();
        while let Some(field) = form.next().await? {
            let name = field.name().unwrap_or_default().to_owned();
            let is_new = match name.as_str() {
                "file" => {
                    let place = format!("files/{id}");
                    let received = self.receive(&form, field, &place, limit).await?;
                    fields.file.replace(received).is_none()
                }
                "purpose" => fields.purpose.replace(form.text(field).await?).is_none(),
                "expires_after[anchor]" => fields.anchor.replace(form.text(field).await?).is_none(),
                "expires_after[seconds]" => {
                    fields.seconds.replace(form.text(field).await?).is_none()
                }
                "expires_in_seconds" if head.is_anthropic => {
                    fields.expires_in.replace(form.text(field).await?).is_none()
                }
                _ => {
                    let text = form.text(field).await?;
                    fields.extra.insert(name.clone(), text.into()).is_none()
                }
            };
            if !is_new {
                let message = format!("Duplicate parameter: '{name}'.");
                return Err(ApiError::invalid(name, "duplicate_parameter", message));
            }
        }
        Ok(fields)
    }

    /// Returns how many bytes a new file of the owner may have.
    pub(in crate::stored) async fn limit(&self, most: u64) -> Result<u64, ApiError> {
        let used = self.store.content_bytes(&self.owner).await;
        let used = used.map_err(|error| self.failed(&error))?;
        let left = self.limits.key_bytes.saturating_sub(used);
        match left.checked_sub(FileLimits::OVERHEAD) {
            Some(left) => Ok(left.min(most)),
            None => Err(super::over_limit(self.limits.key_bytes)),
        }
    }

    /// Receives a content.
    pub(super) async fn receive<'b>(
        &self,
        form: &Form<'b>,
        mut field: Field<'b>,
        place: &str,
        limit: u64,
    ) -> Result<Received, ApiError> {
        let name = name(field.file_name().unwrap_or_default());
        let media_type = field
            .content_type()
            .map(|sent| sent.essence_str().to_owned());
        let media_type = media_type.filter(|sent| sent != anthropic::UNKNOWN);
        let (place, mut writer) = self.begin(place).await?;
        let mut bytes = 0;
        while let Some(piece) = form.piece(&mut field).await? {
            bytes += piece.len() as u64;
            if bytes > limit {
                return Err(too_large(limit));
            }
            let written = writer.write(piece).await;
            written.map_err(|error| self.failed(&error))?;
        }
        Ok(Received {
            writer,
            place,
            bytes,
            name,
            media_type,
        })
    }
}

impl Fields {
    /// Returns how long the file is kept, in seconds.
    fn lasts(&self) -> Result<Option<u64>, ApiError> {
        if let Some(sent) = &self.expires_in {
            let param = "expires_in_seconds";
            let (least, most) = anthropic::KEPT_SECONDS;
            let seconds = integer(param, sent)?;
            between(param, Some(seconds), least, most)?;
            return Ok(Some(seconds.unsigned_abs()));
        }
        let param = "expires_after";
        let (anchor, seconds_sent) = match (&self.anchor, &self.seconds) {
            (None, None) => return Ok(None),
            (Some(anchor), Some(seconds)) => (anchor, seconds),
            (None, _) => return Err(missing(format!("{param}.anchor"))),
            (_, None) => return Err(missing(format!("{param}.seconds"))),
        };
        let expires = ExpiresAfter {
            anchor: anchor.clone(),
            seconds: integer(&format!("{param}.seconds"), seconds_sent)?,
            extra: Extra::default(),
        };
        seconds(&expires, param).map(Some)
    }
}

/// Reads an integer of a form.
fn integer(param: &str, sent: &str) -> Result<i64, ApiError> {
    sent.trim().parse().map_err(|_| {
        let message = format!("Invalid type for '{param}': expected an integer.");
        ApiError::invalid(param, "invalid_type", message)
    })
}
