//! `data:` URLs: how many bytes one holds, and how one is written.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::ImageKind;
use super::refusal::Refusal;

/// The URL of these bytes.
pub(super) fn of(kind: ImageKind, bytes: &[u8]) -> String {
    let mut url = format!("data:{};base64,", kind.media_type());
    STANDARD.encode_string(bytes, &mut url);
    url
}

/// How many bytes a `data:` URL holds. It must be base64 through and through: an engine would otherwise fail at it later, in its own
/// words.
pub(super) fn size(url: &str) -> Result<usize, Refusal> {
    let (_, base64) =
        url.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,")).ok_or(Refusal::NoBase64)?;
    STANDARD.decode(base64).map(|bytes| bytes.len()).map_err(|_| Refusal::NoBase64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let url = of(ImageKind::Gif, b"GIF89a");
        assert_eq!(url, "data:image/gif;base64,R0lGODlh");
        assert_eq!(size(&url), Ok(6));
    }

    #[test]
    fn what_is_not_base64_is_refused() {
        for url in [
            "data:image/png,AAAA",
            "data:image/png;base64,AAA",
            "data:image/png;base64,A*==",
            "data:image/png;base64,AA==AA==",
            "data:image/png;base64,__--",
            "data:image/png;base64, AA==",
            "data:",
        ] {
            assert_eq!(size(url), Err(Refusal::NoBase64), "{url}");
        }
    }
}
