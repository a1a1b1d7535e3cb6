//! Refuses data that is not an image in the place of an image, before any engine gets it. The first
//! bytes decide.
//!
//! Each dialect calls this where it reads an image, because only there the client's name of the
//! place is known. Images by http(s) URL are checked when they are fetched.

use loggia_backend::data_url;
use loggia_backend::fetch_images::ImageKind;
use loggia_wire::openai::{Content, Message, PartKind};

use crate::ApiError;
use crate::admit::checks::not_among;

const CODE: &str = "invalid_image_url";

/// The first bytes of images that some engines of OpenAI's API read besides: BMP and TIFF.
const OTHERS: [&[u8]; 3] = [b"BM", b"II*\0", b"MM\0*"];

/// The bytes at the fifth place of AVIF and HEIC images.
const FTYP: &[u8] = b"ftyp";

/// Checks the images of a chat.
///
/// # Errors
/// A 400 about the first one whose data is not an image.
pub(crate) fn check_all(messages: &[Message]) -> Result<(), ApiError> {
    for (at, message) in messages.iter().enumerate() {
        let parts = message
            .content
            .as_ref()
            .map(Content::parts)
            .unwrap_or_default();
        for (part_at, part) in parts.iter().enumerate() {
            if let PartKind::ImageUrl { url, .. } = &part.kind {
                check(
                    || format!("messages[{at}].content[{part_at}].image_url.url"),
                    url,
                )?;
            }
        }
    }
    Ok(())
}

/// Checks the `data:` URL of an image. Other URLs pass.
///
/// # Errors
/// A 400 about `param` for invalid base64, and for bytes that are not an image.
pub(crate) fn check(param: impl FnOnce() -> String, url: &str) -> Result<(), ApiError> {
    if data_url::is_data_url(url) {
        kind(param, url)?;
    }
    Ok(())
}

/// Checks the image of a Messages request: its media type must be one of the four that Anthropic's API
/// takes, and that of its bytes.
///
/// # Errors
/// A 400 about a field of `place`, the image's `source`.
pub(crate) fn check_source(place: &str, media_type: &str, url: &str) -> Result<(), ApiError> {
    let types = ImageKind::ALL.map(ImageKind::media_type);
    if !types.contains(&media_type) {
        return Err(not_among(format!("{place}.media_type"), media_type, &types));
    }
    let data = || format!("{place}.data");
    let found = kind(data, url)?.ok_or_else(|| not_an_image(data()))?;
    let found = found.media_type();
    if found == media_type {
        return Ok(());
    }
    let param = format!("{place}.media_type");
    // Anthropic's own message.
    let message = format!(
        "{param}: The image was specified using the {media_type} media type, but the image appears to be a {found} image"
    );
    Err(ApiError::invalid(param, CODE, message))
}

/// Returns the kind of the image in a `data:` URL. `None` for one of [`OTHERS`].
fn kind(param: impl FnOnce() -> String, url: &str) -> Result<Option<ImageKind>, ApiError> {
    let Some(bytes) = data_url::first_bytes(url) else {
        let param = param();
        let message =
            format!("Invalid '{param}': the image is not valid base64 with the standard alphabet.");
        return Err(ApiError::invalid(param, CODE, message));
    };
    let kind = ImageKind::of(&bytes);
    let is_other = OTHERS.iter().any(|begin| bytes.starts_with(begin))
        || bytes.get(4..).is_some_and(|rest| rest.starts_with(FTYP));
    if kind.is_none() && !is_other {
        return Err(not_an_image(param()));
    }
    Ok(kind)
}

fn not_an_image(param: String) -> ApiError {
    let message = format!(
        "Invalid '{param}': the data is not an image. Supported types are PNG, JPEG, GIF and WebP."
    );
    ApiError::invalid(param, CODE, message)
}

#[cfg(test)]
mod tests {
    use loggia_backend::data_url::DataUrl;

    use super::*;

    fn url(media_type: &str, bytes: &[u8]) -> String {
        DataUrl {
            media_type: media_type.to_owned(),
            bytes: bytes.to_vec(),
        }
        .canonical()
    }

    fn refused(checked: Result<(), ApiError>) -> Option<String> {
        checked.err().and_then(|error| error.error.param)
    }

    const WEBP: &[u8] = b"RIFF\0\0\0\0WEBPVP8 ";

    #[test]
    fn an_image_is_known_by_its_first_bytes_whatever_its_media_type() {
        let long = [&b"\x89PNG\r\n\x1a\n"[..], &vec![7; 100_000]].concat();
        for bytes in [
            &b"\x89PNG\r\n\x1a\n"[..],
            b"\xff\xd8\xff\xe0",
            b"GIF87a",
            b"GIF89a",
            WEBP,
            b"BM6\0",
            b"II*\0",
            b"MM\0*",
            b"\0\0\0 ftypavif",
            &long,
        ] {
            assert_eq!(
                refused(check(|| "x".into(), &url("image/png", bytes))),
                None
            );
        }
        for bytes in [
            &b""[..],
            b"hi",
            b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>",
            b"%PDF-1.4",
            b"RIFF\0\0\0\0WAVEfmt ",
            &vec![0; 100_000],
        ] {
            let checked = check(|| "x".into(), &url("image/png", bytes));
            assert_eq!(refused(checked).as_deref(), Some("x"), "{bytes:?}");
        }
        for (url, is_refused) in [
            ("https://a.example/a.png", false),
            ("data:image/png;base64,?", true),
            ("data:image/png", true),
            // Base64 in lines, and data without base64.
            ("data:image/gif;base64,R0lG\r\nODlh", false),
            ("data:image/gif,GIF89a", false),
            ("data:image/gif,GIF80a", true),
        ] {
            let checked = check(|| "x".into(), url);
            assert_eq!(checked.is_err(), is_refused, "{url}");
        }
    }

    #[test]
    fn a_source_has_the_media_type_of_its_bytes() {
        for (media_type, bytes, param) in [
            ("image/webp", WEBP, None),
            ("image/gif", b"GIF89a", None),
            ("image/png", b"GIF89a", Some("s.media_type")),
            ("image/bmp", b"BM6\0", Some("s.media_type")),
            ("IMAGE/GIF", b"GIF89a", Some("s.media_type")),
            ("image/png", b"BM6\0", Some("s.data")),
            ("image/png", b"hi", Some("s.data")),
        ] {
            let checked = check_source("s", media_type, &url(media_type, bytes));
            assert_eq!(refused(checked).as_deref(), param, "{media_type}");
        }
    }
}
