//! `data:` URLs and base64 as the Fetch standard reads them: the scheme and `;base64` in any case,
//! line breaks and spaces within, padding or none.
//!
//! The one reader of both. Engines that are told base64 are told it in its canonical form
//! ([`canonical`]).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// What a `data:` URL holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataUrl {
    /// Its media type in small letters, without parameters: `image/png`. Empty where the URL names
    /// none.
    pub media_type: String,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl DataUrl {
    /// Reads a `data:` URL. `None` for any other text, and for base64 that is none.
    pub fn read(url: &str) -> Option<Self> {
        if let Some((media_type, base64)) = plain(url)
            && let Ok(bytes) = STANDARD.decode(base64)
        {
            return Some(Self {
                media_type: essence(media_type),
                bytes,
            });
        }
        let parsed = data_url::DataUrl::process(url).ok()?;
        let (bytes, _fragment) = parsed.decode_to_vec().ok()?;
        Some(Self {
            media_type: essence(header(url)),
            bytes,
        })
    }

    /// The URL with canonical base64. The media type is in small letters and without parameters.
    pub fn canonical(&self) -> String {
        let mut url = format!("data:{};base64,", self.media_type);
        STANDARD.encode_string(&self.bytes, &mut url);
        url
    }
}

/// Whether a text is a `data:` URL, well-formed or not.
pub fn is_data_url(url: &str) -> bool {
    url.trim_start()
        .get(..5)
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:"))
}

/// Reads base64, which may also stand in a `data:` URL. `None` where it is neither.
pub fn base64(text: &str) -> Option<Vec<u8>> {
    if is_data_url(text) {
        return DataUrl::read(text).map(|url| url.bytes);
    }
    STANDARD
        .decode(text)
        .ok()
        .or_else(|| data_url::forgiving_base64::decode_to_vec(text.as_bytes()).ok())
}

/// Base64 with the standard alphabet, padded, without line breaks.
pub fn canonical(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// The usual form, which is read without a look at each byte.
fn plain(url: &str) -> Option<(&str, &str)> {
    url.strip_prefix("data:")?.split_once(";base64,")
}

/// What stands between the scheme and the comma.
fn header(url: &str) -> &str {
    let url = url.trim_start().get(5..).unwrap_or_default();
    url.split(',').next().unwrap_or_default()
}

fn essence(media_type: &str) -> String {
    media_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Option<(String, Vec<u8>)> {
        DataUrl::read(url).map(|url| (url.media_type, url.bytes))
    }

    #[test]
    fn a_data_url_is_read_as_the_fetch_standard_reads_it() {
        let hello = Some(("image/png".to_owned(), b"hello".to_vec()));
        for url in [
            "data:image/png;base64,aGVsbG8=",
            "data:image/png;base64,aGVsbG8",
            "data:image/png;base64,aGVs\r\nbG8=\r\n",
            "data:image/png;base64, aG Vs\tbG8 =",
            "DATA:image/png;base64,aGVsbG8=",
            "Data:IMAGE/PNG;BASE64,aGVsbG8=",
            "  data:image/png;base64,aGVsbG8=\n",
            "data:image/png; base64,aGVsbG8=",
            "data:image/png;base64,aGVsbG8%3D",
            "data:image/png;base64,%61GVsbG8=",
            "data:image/png;base64,aGVs%0AbG8=",
            "data:image/png;name=a.png;base64,aGVsbG8=",
            "data:image/png,hello",
            "data:image/png,%68ello",
        ] {
            assert_eq!(read(url), hello, "{url}");
        }
        assert_eq!(
            read("data:;base64,aGVsbG8="),
            Some((String::new(), b"hello".to_vec()))
        );
        assert_eq!(
            DataUrl::read("DATA:Image/PNG;BASE64,aGVs bG8")
                .unwrap()
                .canonical(),
            "data:image/png;base64,aGVsbG8="
        );
    }

    #[test]
    fn what_is_no_base64_is_not_read() {
        for url in [
            "data:image/png;base64,A",
            "data:image/png;base64,A*==",
            "data:image/png;base64,AA==AA==",
            "data:image/png;base64,__--",
            "data:image/png;base64",
            "data:",
            "https://images.example/a.png",
            "",
        ] {
            assert_eq!(DataUrl::read(url), None, "{url}");
        }
    }

    #[test]
    fn base64_may_be_in_lines_without_padding_or_in_a_data_url() {
        for text in [
            "aGVsbG8=",
            "aGVsbG8",
            "aGVs\r\nbG8=\r\n",
            "data:audio/wav;base64,aGVsbG8=",
            "DATA:;base64,aGVs bG8",
        ] {
            assert_eq!(base64(text).as_deref(), Some(&b"hello"[..]), "{text}");
        }
        for text in ["no base64!", "a", "data:audio/wav;base64,a"] {
            assert_eq!(base64(text), None, "{text}");
        }
        assert_eq!(canonical(b"hello"), "aGVsbG8=");
    }
}
