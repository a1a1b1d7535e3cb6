//! `data:` URLs of images: their size, and how they are written.

use super::ImageKind;
use super::refusal::Refusal;
use crate::data_url::DataUrl;

/// Returns the `data:` URL of these bytes.
pub(super) fn of(kind: ImageKind, bytes: Vec<u8>) -> String {
    DataUrl {
        media_type: kind.media_type().to_owned(),
        bytes,
    }
    .canonical()
}

/// Returns the number of bytes in the `data:` URL of an image. Checks the complete URL and the type of
/// the image, because an engine would otherwise fail later with a less helpful error.
pub(super) fn size(url: &str) -> Result<usize, Refusal> {
    let DataUrl { bytes, .. } = DataUrl::read(url).ok_or(Refusal::NoBase64)?;
    ImageKind::of(&bytes).ok_or(Refusal::NoImage)?;
    Ok(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let url = of(ImageKind::Gif, b"GIF89a".to_vec());
        assert_eq!(url, "data:image/gif;base64,R0lGODlh");
        assert_eq!(size(&url), Ok(6));
        assert_eq!(size("DATA:image/gif;base64,R0lG\nODlh"), Ok(6));
        assert_eq!(size("data:image/gif;base64,R"), Err(Refusal::NoBase64));
        assert_eq!(size("data:image/gif;base64,R0lG"), Err(Refusal::NoImage));
    }
}
