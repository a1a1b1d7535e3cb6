//! [`BaseUrl`]: the address of an engine, as a scheme, an authority and the path of its API.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Uri};
use thiserror::Error;

/// The address of an engine: `http://localhost:8000`, `https://gpu.example/engines/a/v1`. A
/// trailing slash makes no difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl {
    scheme: Scheme,
    authority: Authority,
    /// Empty, or begins with a slash and does not end with one.
    prefix: String,
}

/// The reason why a text is not a base URL. It does not quote the text, which may contain a
/// password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BaseUrlError {
    /// The scheme is missing or unsupported: `localhost:8000`, `ftp://…`.
    #[error(
        "the URL of a backend must begin with http:// or https://, for example http://localhost:8000"
    )]
    Scheme,
    /// The host is missing or invalid: `http://`, `http://:80`, `http://a b`.
    #[error("the URL of a backend must have a host, for example http://localhost:8000")]
    Host,
    /// The URL contains credentials: `http://user:password@host`.
    #[error(
        "the URL of a backend must not contain a user or password; set its API key in the environment or the configuration file"
    )]
    Credentials,
    /// The URL has a query: `http://host/v1?key=…`.
    #[error("the URL of a backend must not contain `?` or `#`")]
    Query,
    /// The path is invalid: `http://host/a b`.
    #[error("the path of a backend's URL is invalid; a valid URL is http://localhost:8000/v1")]
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
    /// Returns this URL, with the path `/v1` if it has none. Every engine has OpenAI's API there,
    /// and people write both `http://localhost:8000` and `http://localhost:8000/v1`.
    #[must_use]
    pub fn or_v1(mut self) -> Self {
        if self.prefix.is_empty() {
            "/v1".clone_into(&mut self.prefix);
        }
        self
    }

    /// Returns this URL without `ending`, the last part of its path. `None` if it does not end with
    /// it.
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

    /// Returns whether the path is exactly `/v1`.
    pub fn is_v1(&self) -> bool {
        self.prefix == "/v1"
    }

    /// Returns this URL without its path.
    #[must_use]
    pub fn root(&self) -> Self {
        Self {
            prefix: String::new(),
            ..self.clone()
        }
    }

    /// Returns the absolute URI of `path` under this URL. Nothing is copied if this URL has no
    /// path.
    pub fn join(&self, path: &PathAndQuery) -> Uri {
        let path = if self.prefix.is_empty() {
            path.clone()
        } else {
            let joined = Bytes::from(format!("{}{path}", self.prefix));
            // Both halves are paths, and the second begins with a slash, so this cannot fail. If it
            // did, the engine would return 404.
            PathAndQuery::from_maybe_shared(joined).unwrap_or_else(|_| path.clone())
        };
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(path);
        // Fails only if the scheme, authority or path is missing, and all are present.
        Uri::from_parts(parts).unwrap_or_default()
    }

    /// Returns the host: a name, or an address without brackets.
    pub fn host_name(&self) -> &str {
        let host = self.authority.host();
        let address = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        address.unwrap_or(host)
    }

    /// Returns the value of the `host` header.
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
