//! The reasons why an image could not be fetched, and the error for the client: the host that it
//! sent, a reason and advice.

use std::time::Duration;

use thiserror::Error;

use crate::BackendError;

/// The reason why an image could not be fetched. Contains no address, path or text of the server.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum Refusal {
    #[error("an image must be a data: URL in base64 (data:image/png;base64,…) or an http(s) URL")]
    NoUrl,
    #[error(
        "the data: URL is not valid base64; it must have the form data:image/png;base64,… with the standard alphabet"
    )]
    NoBase64,
    #[error("the data: URL is not an image of a supported type (PNG, JPEG, GIF, WebP)")]
    NoImage,
    #[error("the request has more than {0} images to fetch")]
    TooManyFetches(usize),
    #[error("it is larger than {0} bytes")]
    TooLarge(usize),
    #[error("all images of the request together are larger than {0} bytes")]
    TooLargeTogether(usize),
    #[error("a URL must not contain a user name or password")]
    Credentials,
    #[error("its port is not allowed")]
    Port,
    #[error("its address is not public, and not in a network that this server allows")]
    NotPublic,
    #[error("its host name cannot be resolved")]
    Unresolved,
    #[error("it cannot be reached")]
    Unreachable,
    #[error("the TLS connection failed, or its certificate is not trusted")]
    Tls,
    #[error("https needs root certificates, which this server does not have")]
    NoCertificates,
    #[error("its response is not HTTP, or is incomplete")]
    CutShort,
    #[error("it responded with status {0}")]
    Status(u16),
    #[error("it redirected more than {0} times")]
    TooManyRedirects(usize),
    #[error("it redirected to a URL that is not http(s)")]
    BadRedirect,
    #[error("it redirected from https to http")]
    Downgrade,
    #[error("its response is not an image of a supported type (PNG, JPEG, GIF, WebP)")]
    WrongKind,
    #[error("fetching the images of the request took longer than {} s", .0.as_secs_f32())]
    TooSlow(Duration),
}

impl Refusal {
    /// Returns the error for the part at `param`. `host` is present if the image was to be fetched.
    pub(super) fn into_backend(self, param: String, host: Option<&str>) -> BackendError {
        let message = match (host, self.advice()) {
            (Some(host), Some(advice)) => {
                format!("the image at `{host}` cannot be fetched: {self}; {advice}")
            }
            (Some(host), None) => format!("the image at `{host}` cannot be fetched: {self}"),
            (None, Some(advice)) => format!("{self}; {advice}"),
            (None, None) => self.to_string(),
        };
        BackendError::InvalidRequest {
            message,
            param: Some(param),
            code: Some("invalid_image_url".to_owned()),
        }
    }

    /// Returns the reason for a document.
    pub(super) fn of_document(&self) -> String {
        match self {
            Self::NoUrl => "it is not an http(s) URL".to_owned(),
            Self::TooSlow(time) => format!("it took longer than {} s", time.as_secs_f32()),
            other => other.to_string(),
        }
    }

    /// Returns advice, if the reason does not contain it.
    fn advice(&self) -> Option<&'static str> {
        match self {
            Self::NoUrl | Self::NoBase64 | Self::NoImage => None,
            Self::TooLarge(_) | Self::TooLargeTogether(_) => Some("send a smaller one"),
            _ => Some("send the image itself, as a data: URL (data:image/png;base64,…)"),
        }
    }
}
