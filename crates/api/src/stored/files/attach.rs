//! Replaces the ids of files in a chat by their contents, before the chat is compared with what its
//! model can read.

use std::ops::Range;

use futures_util::TryStreamExt as _;
use http::StatusCode;
use loggia_backend::data_url::DataUrl;
use loggia_backend::{Abilities, Ability};
use loggia_wire::openai::{ChatCompletionRequest, Content, File, PartKind};

use super::{Files, StoredFile};
use crate::admit::ask::Ask;
use crate::store::Owner;
use crate::wording::Dialect;
use crate::{ApiError, Door};

/// The first bytes of pictures and PDFs (the WHATWG's MIME Sniffing Standard).
const SIGNATURES: [(&[u8], Range<usize>, &str); 6] = [
    (b"\x89PNG\r\n\x1a\n", 0..8, "image/png"),
    (b"\xff\xd8\xff", 0..3, "image/jpeg"),
    (b"GIF87a", 0..6, "image/gif"),
    (b"GIF89a", 0..6, "image/gif"),
    (b"WEBPVP", 8..14, "image/webp"),
    (b"%PDF-", 0..5, PDF),
];

pub(crate) const PDF: &str = "application/pdf";

/// Replaces the ids of files in a request by their contents.
///
/// # Errors
/// A 404 for a file that the caller does not have, a 400 for one that the model cannot read.
pub(crate) async fn attach<R: Ask>(
    door: &Door,
    request: &mut R,
    can: &Abilities,
    owner: Owner,
) -> Result<(), ApiError> {
    let Some(files) = door.files_of(owner) else {
        // A chat has a note instead.
        return match request.chat().and_then(|chat| named(chat, can).next()) {
            Some((place, _)) if matches!(R::DIALECT, Dialect::Responses | Dialect::Messages) => {
                let message = "This server does not store files, so a file id names nothing; send the content of the file.";
                let error = ApiError::invalid(place_of(&place), "invalid_value", message);
                Err(request.named_place(error))
            }
            _ => Ok(()),
        };
    };
    let reads_pdfs = can.has(Ability::Files) || door.documents.is_some();
    let most = door.policy.ceilings.media_bytes as u64;
    let mut bytes = 0;
    let chat = request.chat();
    let named: Vec<_> = chat.map_or_else(Vec::new, |chat| named(chat, can).collect());
    for (place, id) in named {
        let param = place_of(&place);
        let failed = |error: ApiError| request.named_place(error.about(param.clone()));
        let stored = files.find(&id).await.map_err(failed)?;
        // The size of the file in base64, as it is sent.
        bytes += stored.file.bytes.div_ceil(3) * 4;
        if bytes > most {
            let message = format!(
                "The files of the request are too large: they may have {most} bytes together, as base64."
            );
            let error = ApiError::invalid(param, "file_too_large", message);
            return Err(request.named_place(error));
        }
        let read = files.read(&stored, reads_pdfs).await.map_err(failed)?;
        let file = request.chat().and_then(|chat| file_at(chat, &place));
        if let Some(file) = file {
            file.file_id = None;
            file.filename.get_or_insert(stored.file.filename);
            file.file_data = Some(read);
        }
    }
    Ok(())
}

/// Whether a chat has files that are named by their ids alone.
pub(crate) fn names_files(chat: &ChatCompletionRequest, can: &Abilities) -> bool {
    named(chat, can).next().is_some()
}

/// The number of a message, and of a part of it.
pub(crate) type PartPosition = (usize, usize);

fn place_of((message, part): &PartPosition) -> String {
    format!("messages[{message}].content[{part}].file.file_id")
}

/// Returns the files that are named by their ids alone.
fn named(
    chat: &ChatCompletionRequest,
    can: &Abilities,
) -> impl Iterator<Item = (PartPosition, String)> {
    let takes_files = can.has(Ability::Files);
    let messages = chat.messages.iter().enumerate();
    let files = messages.flat_map(|(at, message)| {
        let parts = match &message.content {
            Some(Content::Parts(parts)) => parts.as_slice(),
            _ => &[],
        };
        let parts = parts.iter().enumerate();
        parts.filter_map(move |(part, one)| match &one.kind {
            PartKind::File(file) => Some(((at, part), file)),
            _ => None,
        })
    });
    files.filter_map(move |(place, file)| {
        let id = file.file_id.as_ref().filter(|_| file.file_data.is_none())?;
        // Engines that accept files may have files with ids of their own.
        let is_ours = id.starts_with("file-") || !takes_files;
        is_ours.then(|| (place, id.clone()))
    })
}

pub(crate) fn file_at<'a>(
    chat: &'a mut ChatCompletionRequest,
    place: &PartPosition,
) -> Option<&'a mut File> {
    let message = chat.messages.get_mut(place.0)?;
    let Some(Content::Parts(parts)) = &mut message.content else {
        return None;
    };
    match &mut parts.get_mut(place.1)?.kind {
        PartKind::File(file) => Some(file),
        _ => None,
    }
}

impl Files {
    /// Reads a file as a `data:` URL.
    async fn read(&self, stored: &StoredFile, reads_pdfs: bool) -> Result<String, ApiError> {
        let StoredFile { file, place, .. } = stored;
        let pieces = self.blobs.read(place, 0..file.bytes).await;
        let pieces = pieces.map_err(|error| self.failed(&error))?;
        let bytes = pieces.try_fold(Vec::new(), async |mut bytes, piece| {
            bytes.extend_from_slice(&piece);
            Ok(bytes)
        });
        let bytes = bytes.await.map_err(|error| self.failed(&error))?;
        let media_type = media_type(&bytes);
        let is_readable = media_type.is_some_and(|kind| kind != PDF || reads_pdfs);
        let Some(media_type) = media_type.filter(|_| is_readable) else {
            let what = media_type.map_or("neither text nor an image", |_| "a PDF");
            let message = format!(
                "The file {} is {what}, which this model cannot read. Send its text instead.",
                file.id
            );
            return Err(ApiError::new(StatusCode::BAD_REQUEST, message).coded("unsupported_file"));
        };
        let media_type = media_type.to_owned();
        Ok(DataUrl { media_type, bytes }.canonical())
    }
}

/// Returns the media type of a content. `None` if it is neither text nor one of the known kinds.
pub(crate) fn media_type(bytes: &[u8]) -> Option<&'static str> {
    let known = SIGNATURES
        .iter()
        .find(|(signature, at, _)| bytes.get(at.clone()) == Some(*signature));
    let is_text = || str::from_utf8(bytes).is_ok_and(|text| !text.contains('\0'));
    known
        .map(|(_, _, media_type)| *media_type)
        .or_else(|| is_text().then_some("text/plain"))
}
