//! Where an engine is: a scheme, an authority, and the path under which its API lies.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Uri};
use thiserror::Error;

/// Where an engine is: `http://localhost:8000`, `https://gpu.example/engines/a/v1`. A slash at its
/// end makes no difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl {
    scheme: Scheme,
    authority: Authority,
    /// Empty, or begins with a slash and does not end with one.
    prefix: String,
}

/// Why a text is no base URL. The text is not repeated: it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BaseUrlError {
    /// `localhost:8000`, `ftp://…`.
    #[error("a backend's URL begins with http:// or https://, as in http://localhost:8000")]
    Scheme,
    /// `http://`, `http://:80`, `http://a b`.
    #[error("a backend's URL names a host, as in http://localhost:8000")]
    Host,
    /// `http://user:password@host`.
    #[error(
        "a backend's URL holds no user or password; its key belongs into the environment or the configuration file"
    )]
    Credentials,
    /// `http://host/v1?key=…`.
    #[error("a backend's URL ends with its path: no `?` and no `#`")]
    Query,
    /// `http://host/a b`.
    #[error(
        "the path of a backend's URL holds something that belongs into no path; write it as in http://localhost:8000/v1"
    )]
    Path,
}

impl FromStr for BaseUrl {
    type Err = BaseUrlError;

    fn from_str(text: &str) -> Result<Self, BaseUrlError> {
        let (scheme, rest) = text.trim().split_once("://").ok_or(BaseUrlError::Scheme)?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::HTTP,
            "https" => Scheme::HTTPS,
            _ => return Err(BaseUrlError::Scheme),
        };
        if rest.contains(['?', '#']) {
            return Err(BaseUrlError::Query);
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(BaseUrlError::Credentials);
        }
        let authority: Authority = authority.parse().map_err(|_| BaseUrlError::Host)?;
        let bad_port =
            authority.as_str().len() > authority.host().len() && authority.port_u16().is_none();
        if authority.host().is_empty() || bad_port {
            return Err(BaseUrlError::Host);
        }
        let prefix = path.trim_end_matches('/').to_owned();
        PathAndQuery::from_str(&format!("{prefix}/")).map_err(|_| BaseUrlError::Path)?;
        Ok(Self {
            scheme,
            authority,
            prefix,
        })
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority, self.prefix)
    }
}

impl BaseUrl {
    /// This URL, or, where it has no path, the path `/v1` on it: OpenAI's API lies there with every
    /// engine, and people write both `http://localhost:8000` and `http://localhost:8000/v1`.
    #[must_use]
    pub fn or_v1(mut self) -> Self {
        if self.prefix.is_empty() {
            "/v1".clone_into(&mut self.prefix);
        }
        self
    }

    /// This URL without `ending`, a path, at the end of its own; `None` where it does not end so.
    pub fn without(&self, ending: &str) -> Option<Self> {
        let prefix = self
            .prefix
            .strip_suffix(ending)?
            .trim_end_matches('/')
            .to_owned();
        Some(Self {
            prefix,
            ..self.clone()
        })
    }

    /// Whether its path is exactly `/v1`.
    pub fn is_v1(&self) -> bool {
        self.prefix == "/v1"
    }

    /// The same host, without a path.
    #[must_use]
    pub fn root(&self) -> Self {
        Self {
            prefix: String::new(),
            ..self.clone()
        }
    }

    /// The absolute URI of `path` under this URL. Without a path of its own, nothing is copied.
    pub fn join(&self, path: &PathAndQuery) -> Uri {
        let path = if self.prefix.is_empty() {
            path.clone()
        } else {
            let joined = Bytes::from(format!("{}{path}", self.prefix));
            // Both halves are paths, and the second begins with a slash: this cannot fail, and
            // would it, the engine says 404.
            PathAndQuery::from_maybe_shared(joined).unwrap_or_else(|_| path.clone())
        };
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(path);
        // Scheme, authority and path are all there: the one thing that makes this fail is the lack
        // of one of them.
        Uri::from_parts(parts).unwrap_or_default()
    }

    /// The value of `host`.
    pub(super) fn host(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(self.authority.as_str()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(base: &str, path: &'static str) -> String {
        base.parse::<BaseUrl>()
            .unwrap()
            .join(&PathAndQuery::from_static(path))
            .to_string()
    }

    #[test]
    fn a_path_is_joined_to_whatever_path_the_url_has() {
        assert_eq!(
            joined("http://localhost:11434", "/api/chat"),
            "http://localhost:11434/api/chat"
        );
        assert_eq!(
            joined(" HTTP://localhost:11434/ ", "/api/chat?a=b"),
            "http://localhost:11434/api/chat?a=b"
        );
        assert_eq!(
            joined("https://gpu.example/engines/a/v1//", "/models"),
            "https://gpu.example/engines/a/v1/models"
        );
        assert_eq!(joined("http://[::1]:80", "/"), "http://[::1]:80/");
    }

    #[test]
    fn an_ending_is_taken_off_where_it_is_there() {
        let without = |text: &str, ending: &str| {
            text.parse::<BaseUrl>()
                .unwrap()
                .without(ending)
                .map(|url| url.to_string())
        };
        assert_eq!(
            without("http://a/v1/chat/completions/", "/chat/completions").as_deref(),
            Some("http://a/v1")
        );
        assert_eq!(without("http://a/api", "/api").as_deref(), Some("http://a"));
        assert_eq!(without("http://a/v1", "/api"), None);
        assert_eq!(without("http://a/myapi", "/api"), None);
    }

    #[test]
    fn v1_is_added_only_where_there_is_no_path() {
        let or_v1 = |text: &str| text.parse::<BaseUrl>().unwrap().or_v1().to_string();
        assert_eq!(or_v1("http://localhost:8000"), "http://localhost:8000/v1");
        assert_eq!(
            or_v1("http://localhost:8000/v1/"),
            "http://localhost:8000/v1"
        );
        assert_eq!(
            or_v1("https://gpu.example/openai"),
            "https://gpu.example/openai"
        );
    }

    #[test]
    fn what_is_no_base_url_is_refused_with_its_reason() {
        for (text, why) in [
            ("localhost:8000", BaseUrlError::Scheme),
            ("ftp://host", BaseUrlError::Scheme),
            ("", BaseUrlError::Scheme),
            ("http://", BaseUrlError::Host),
            ("http://:80", BaseUrlError::Host),
            ("http://host:", BaseUrlError::Host),
            ("http://host:99999", BaseUrlError::Host),
            ("http://a b", BaseUrlError::Host),
            ("http://me:secret@host", BaseUrlError::Credentials),
            ("http://host/v1?key=secret", BaseUrlError::Query),
            ("http://host/a b", BaseUrlError::Path),
        ] {
            assert_eq!(text.parse::<BaseUrl>(), Err(why), "{text}");
        }
    }
}
