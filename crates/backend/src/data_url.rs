//! Reads `data:` URLs and base64 as the Fetch standard defines them: any case of the scheme and
//! `;base64`, whitespace within, optional padding.
//!
//! This is the only parser of both. Engines receive base64 in its canonical form ([`canonical`]).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A parsed `data:` URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataUrl {
    /// The media type in lower case, without parameters: `image/png`. Empty if the URL has none.
    pub media_type: String,
    /// The decoded bytes.
    pub bytes: Vec<u8>,
}

impl DataUrl {
    /// Parses a `data:` URL. Returns `None` for any other text and for invalid base64.
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

    /// Returns the URL with canonical base64. The media type is in lower case, without parameters.
    pub fn canonical(&self) -> String {
        let mut url = format!("data:{};base64,", self.media_type);
        STANDARD.encode_string(&self.bytes, &mut url);
        url
    }
}

/// Returns the first bytes of a `data:` URL: at least 48, unless it has fewer. The rest is neither
/// decoded nor checked if the URL has the usual form. Returns `None` for invalid base64.
pub fn first_bytes(url: &str) -> Option<Vec<u8>> {
    const FIRST: usize = 64;
    if let Some((_, base64)) = plain(url)
        && let Some(first) = base64.get(..FIRST)
        && let Ok(bytes) = STANDARD.decode(first)
    {
        return Some(bytes);
    }
    DataUrl::read(url).map(|url| url.bytes)
}

/// Returns whether a text is a `data:` URL, valid or not.
pub fn is_data_url(url: &str) -> bool {
    url.trim_start()
        .get(..5)
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:"))
}

/// Decodes base64, or the base64 of a `data:` URL. Returns `None` for anything else.
pub fn base64(text: &str) -> Option<Vec<u8>> {
    if is_data_url(text) {
        return DataUrl::read(text).map(|url| url.bytes);
    }
    STANDARD
        .decode(text)
        .ok()
        .or_else(|| data_url::forgiving_base64::decode_to_vec(text.as_bytes()).ok())
}

/// Encodes bytes as base64 with the standard alphabet, padding and no line breaks.
pub fn canonical(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Splits a URL in the usual form quickly, without checking each byte.
fn plain(url: &str) -> Option<(&str, &str)> {
    url.strip_prefix("data:")?.split_once(";base64,")
}

/// Returns the part between the scheme and the comma.
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
    fn the_first_bytes_are_decoded_alone() {
        let url = |base64: &str| format!("data:image/png;base64,{base64}");
        let long = "aGVs".repeat(100);
        assert_eq!(first_bytes(&url(&long)), Some(b"hel".repeat(16)));
        // What comes after them is not read.
        assert_eq!(first_bytes(&url(&(long + "*"))), Some(b"hel".repeat(16)));
        for (base64, bytes) in [
            ("aGVsbG8", &b"hello"[..]),
            ("aGVs\r\nbG8=", b"hello"),
            ("", b""),
        ] {
            assert_eq!(first_bytes(&url(base64)).as_deref(), Some(bytes));
        }
        // In lines, all is decoded.
        let lines = "aGVs\n".repeat(100);
        assert_eq!(first_bytes(&url(&lines)), Some(b"hel".repeat(100)));
        for wrong in ["A", "?", "é"] {
            assert_eq!(first_bytes(&url(wrong)), None);
        }
        assert_eq!(first_bytes("https://a.example"), None);
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
