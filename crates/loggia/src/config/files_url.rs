//! The bucket with the contents of files, and the service that has it.

use std::fmt;
use std::str::FromStr;

use loggia_store::S3Address;
use serde::Deserialize;

use super::value::ValueError;

/// `s3://BUCKET/PREFIX`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct FilesUrl(pub(crate) S3Address);

impl FromStr for FilesUrl {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        text.parse().map(Self).map_err(|_| ValueError::FilesUrl)
    }
}

impl TryFrom<String> for FilesUrl {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        text.parse()
    }
}

impl fmt::Display for FilesUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The URL of an S3-compatible service, without user and password.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct FilesEndpoint(pub(crate) url::Url);

impl FromStr for FilesEndpoint {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let url = url::Url::parse(text).ok();
        let url = url.filter(|url| {
            let is_http = matches!(url.scheme(), "http" | "https");
            let has_keys = !url.username().is_empty() || url.password().is_some();
            is_http && !has_keys && url.query().is_none()
        });
        url.map(Self).ok_or(ValueError::FilesEndpoint)
    }
}

impl TryFrom<String> for FilesEndpoint {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        text.parse()
    }
}

impl fmt::Display for FilesEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_in_an_address_are_refused_and_not_shown() {
        for text in [
            "s3://id:secret@files/loggia",
            "s3://files?secret=1",
            "files",
            "",
        ] {
            let error = text.parse::<FilesUrl>().expect_err(text);
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        for text in [
            "https://id:secret@s3.example",
            "https://s3.example/?key=secret",
            "s3.example:9000",
            "ftp://s3.example",
            "",
        ] {
            let error = text.parse::<FilesEndpoint>().expect_err(text);
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        let url: FilesUrl = "s3://files/loggia/".parse().expect("an address");
        assert_eq!(url.to_string(), "s3://files/loggia");
        let endpoint: FilesEndpoint = "http://127.0.0.1:9000/".parse().expect("a URL");
        assert_eq!(endpoint.to_string(), "http://127.0.0.1:9000");
    }
}
