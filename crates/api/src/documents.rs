//! Documents that models cannot read themselves. A chat's files by URL are replaced by their
//! contents, and PDFs by their text, before the chat is compared with what its model can read. Of a
//! PDF without text, a scan, a model that sees gets the pages as images.
//!
//! [`Documents`] does the work. It is a trait because a PDF should be read in a process of its own,
//! which a library cannot start.

use bytes::Bytes;
use futures_core::future::BoxFuture;
use http::StatusCode;
use loggia_backend::data_url::{self, DataUrl};
use loggia_backend::fetch_images::ImageKind;
use loggia_backend::{Abilities, Ability};
use loggia_wire::Extra;
use loggia_wire::openai::{ChatCompletionRequest, Content, File, Part, PartKind};

use crate::admit::ask::Ask;
use crate::stored::files::attach::{PDF, PartPosition, file_at, media_type};
use crate::wording::Dialect;
use crate::{ApiError, Door};

/// The maximum number of documents of one request that are fetched or read.
const MOST: usize = 16;

/// Fetches documents, and reads PDFs. PDFs are not trusted: whatever a PDF contains, reading it has to
/// end soon and with limited memory.
pub trait Documents: Send + Sync {
    /// Returns the content of a document by its http(s) URL.
    fn fetch<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<Bytes, DocumentError>>;

    /// Returns the text of a PDF. Returns `None` if it has none, for example because its pages are
    /// scans.
    fn pdf_text(&self, pdf: Bytes) -> BoxFuture<'_, Result<Option<String>, DocumentError>>;

    /// Returns the pages of a PDF as images in a format that models read. More than `most` pages are
    /// an error.
    fn pdf_pages(
        &self,
        pdf: Bytes,
        most: usize,
    ) -> BoxFuture<'_, Result<Vec<Bytes>, DocumentError>>;
}

/// Why a document cannot be read: the end of a sentence about it, for the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentError(String);

impl DocumentError {
    /// Creates an error, for example of the reason "it is encrypted".
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }

    pub(crate) fn reason(&self) -> &str {
        &self.0
    }
}

/// Returns whether a chat has documents that this door reads for the model.
pub(crate) fn has_documents(door: &Door, chat: &ChatCompletionRequest, can: &Abilities) -> bool {
    documents(door, chat, can).next().is_some()
}

/// What the documents of a request may still have.
struct Left {
    /// The bytes that are fetched or rendered.
    bytes: usize,
    /// The pages that become images.
    pages: usize,
}

impl Left {
    fn take(&mut self, bytes: usize) -> Result<(), DocumentError> {
        let left = self.bytes.checked_sub(bytes);
        self.bytes = left.ok_or_else(|| {
            DocumentError::new("all documents of the request together are too large")
        })?;
        Ok(())
    }
}

/// Replaces the documents of a request by their text, and scans by images of their pages.
///
/// # Errors
/// A 400 for a document that cannot be fetched or read.
pub(crate) async fn read_documents<R: Ask>(
    door: &Door,
    request: &mut R,
    can: &Abilities,
) -> Result<(), ApiError> {
    let chat = request.chat();
    let found: Vec<_> = chat.map_or_else(Vec::new, |chat| documents(door, chat, can).collect());
    let mut left = Left {
        bytes: door.policy.ceilings.media_bytes,
        pages: door.policy.ceilings.media,
    };
    let mut replacements = Vec::new();
    for (number, place) in found.into_iter().enumerate() {
        let file = request.chat().and_then(|chat| file_at(chat, &place));
        let Some(file) = file.cloned() else { continue };
        let is_url = is_url(file.file_data.as_deref().unwrap_or_default());
        let read = if number < MOST {
            replaced(door, file, can, &mut left).await
        } else {
            let reason = format!("this is more than the {MOST} that one request may have");
            Err(DocumentError(reason))
        };
        match read {
            Ok(read) => replacements.push((place, read)),
            Err(DocumentError(reason)) => {
                let field = match R::DIALECT {
                    Dialect::Responses | Dialect::Messages if is_url => "file_url",
                    _ => "file_data",
                };
                let (message, part) = place;
                let param = format!("messages[{message}].content[{part}].file.{field}");
                let text = format!("The document cannot be read: {reason}.");
                let error = ApiError::new(StatusCode::BAD_REQUEST, text).coded("unsupported_file");
                return Err(request.named_place(error.about(param)));
            }
        }
    }
    if let Some(chat) = request.chat() {
        // From the last one, because several parts in the place of one move those after it.
        for ((message, part), mut parts) in replacements.into_iter().rev() {
            let message = chat.messages.get_mut(message);
            if let Some(Content::Parts(all)) = message.and_then(|one| one.content.as_mut())
                && let Some(replaced) = all.get_mut(part)
            {
                if let Some(first) = parts.first_mut() {
                    first.extra = std::mem::take(&mut replaced.extra);
                }
                all.splice(part..=part, parts);
            }
        }
    }
    Ok(())
}

/// Returns the parts in the place of a file: the file with the text of its document, or the images of
/// its pages.
async fn replaced(
    door: &Door,
    mut file: File,
    can: &Abilities,
    left: &mut Left,
) -> Result<Vec<Part>, DocumentError> {
    let data = file.file_data.take().unwrap_or_default();
    let Some(documents) = &door.documents else {
        let reason = "this server does not fetch documents; send the document itself";
        return Err(DocumentError::new(reason));
    };
    let (bytes, media_type) = if is_url(&data) {
        let bytes = documents.fetch(&data).await?;
        left.take(bytes.len())?;
        let media_type = media_type(&bytes)
            .ok_or_else(|| DocumentError::new("it is neither text, nor an image, nor a PDF"))?;
        file.filename = file.filename.or_else(|| name_of(&data));
        (bytes, media_type)
    } else {
        let read = DataUrl::read(&data).map(|url| url.bytes);
        let bytes = read.or_else(|| data_url::base64(&data));
        let bytes =
            bytes.ok_or_else(|| DocumentError::new("it is neither base64 nor a data: URL"))?;
        (bytes.into(), PDF)
    };
    let (bytes, media_type) = if media_type == PDF && !can.has(Ability::Files) {
        match documents.pdf_text(bytes.clone()).await? {
            Some(text) => (text.into(), "text/plain"),
            None if can.has(Ability::Images) => {
                return pages(&**documents, bytes, &file, left).await;
            }
            None => return Err(DocumentError::new(NO_TEXT)),
        }
    } else {
        (bytes, media_type)
    };
    let media_type = media_type.to_owned();
    let bytes = Vec::from(bytes);
    file.file_data = Some(DataUrl { media_type, bytes }.canonical());
    Ok(vec![PartKind::File(file).into()])
}

/// The error for a scan, if the model does not see.
const NO_TEXT: &str = "it has no text, and this model cannot see its pages; send it to a model that sees images, or send its text";

/// Returns the pages of a scan as images, each under its number.
async fn pages(
    documents: &dyn Documents,
    pdf: Bytes,
    file: &File,
    left: &mut Left,
) -> Result<Vec<Part>, DocumentError> {
    let pages = documents.pdf_pages(pdf, left.pages).await?;
    left.pages = left.pages.saturating_sub(pages.len());
    let name = file.filename.as_deref().unwrap_or("the document");
    let mut parts = Vec::new();
    for (page, number) in pages.into_iter().zip(1..) {
        left.take(page.len())?;
        let kind = ImageKind::of(&page)
            .ok_or_else(|| DocumentError::new("its pages cannot be shown as images"))?;
        let image = DataUrl {
            media_type: kind.media_type().to_owned(),
            bytes: page.into(),
        };
        // The texts of parts are concatenated without a separator.
        let title = format!("\n\n[Page {number} of {name}]\n\n");
        parts.push(PartKind::Text(title).into());
        let image = PartKind::ImageUrl {
            url: image.canonical(),
            detail: None,
            extra: Extra::new(),
        };
        parts.push(image.into());
    }
    Ok(parts)
}

/// Returns the documents that the model cannot read itself: those by URL, and PDFs. Without a reader,
/// a model gets a note in the place of a PDF.
fn documents(
    door: &Door,
    chat: &ChatCompletionRequest,
    can: &Abilities,
) -> impl Iterator<Item = PartPosition> {
    let reads_pdfs = door.documents.is_some() && !can.has(Ability::Files);
    let messages = chat.messages.iter().enumerate();
    messages.flat_map(move |(at, message)| {
        let parts = match &message.content {
            Some(Content::Parts(parts)) => parts.as_slice(),
            _ => &[],
        };
        let parts = parts.iter().enumerate();
        parts.filter_map(move |(part, one)| {
            let PartKind::File(file) = &one.kind else {
                return None;
            };
            let data = file.file_data.as_deref()?;
            (is_url(data) || reads_pdfs && is_pdf(data)).then_some((at, part))
        })
    })
}

fn is_url(data: &str) -> bool {
    let begins = |scheme: &str| {
        data.get(..scheme.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    };
    begins("http://") || begins("https://")
}

/// Refuses a URL that is not http(s).
pub(crate) fn check_url(param: &str, url: &str) -> Result<(), ApiError> {
    if is_url(url) {
        return Ok(());
    }
    let message = format!("Invalid value for '{param}': expected an http(s) URL.");
    Err(ApiError::invalid(param, "invalid_value", message))
}

/// Whether the data of a file, in base64 or as a `data:` URL, is a PDF. `%PDF-` in base64 begins
/// with these letters.
fn is_pdf(data: &str) -> bool {
    const BEGIN: &str = "JVBERi";
    let (head, content) = match data.split_once(',') {
        Some((head, content)) if data_url::is_data_url(data) => (head, content),
        _ => ("", data),
    };
    let media_type = head.split_once(':').map_or("", |(_, rest)| rest);
    let media_type = media_type.split(';').next().unwrap_or_default();
    media_type.eq_ignore_ascii_case(PDF) || content.trim_start().starts_with(BEGIN)
}

/// Returns the last part of the path of a URL.
fn name_of(url: &str) -> Option<String> {
    let path = url.split(['?', '#']).next()?;
    let (_, path) = path.split_once("://")?;
    let (_, name) = path.rsplit_once('/')?;
    (!name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pdf_is_found_by_its_media_type_or_its_first_bytes() {
        for (data, is) in [
            ("data:application/pdf;base64,AAAA", true),
            ("DATA:Application/PDF,%25PDF", true),
            ("data:application/octet-stream;base64,JVBERi0xLjc", true),
            ("JVBERi0xLjc", true),
            ("\nJVBERi0xLjc", true),
            ("data:text/plain;base64,aGk=", false),
            ("aGk=", false),
            ("", false),
            ("data:,", false),
        ] {
            assert_eq!(is_pdf(data), is, "{data}");
        }
    }

    #[test]
    fn a_document_by_url_has_the_name_in_its_path() {
        for (url, name) in [
            ("https://a.example/b/c.pdf?x=1/2#3", Some("c.pdf")),
            ("https://a.example/", None),
            ("https://a.example", None),
        ] {
            assert_eq!(name_of(url).as_deref(), name);
        }
    }
}
