//! The reasons why an image could not be fetched, and the error for the client: the host that it
//! sent, a reason and advice.

use std::time::Duration;

use thiserror::Error;

use crate::BackendError;

/// The reason why an image could not be fetched. Contains no address, path or text of the server.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum Refusal {
    #[error("an image is a data: URL in base64 (data:image/png;base64,…) or an http(s) URL")]
    NoUrl,
    #[error(
        "the data: URL is not base64; it must read data:image/png;base64,… with the standard alphabet"
    )]
    NoBase64,
    #[error("the request has more than {0} images that would have to be fetched")]
    TooManyFetches(usize),
    #[error("it is larger than {0} bytes")]
    TooLarge(usize),
    #[error("the images of the request are together larger than {0} bytes")]
    TooLargeTogether(usize),
    #[error("a URL with a user name or password is not fetched")]
    Credentials,
    #[error("its port is not allowed")]
    Port,
    #[error("its address is not public, and not among the networks that this server allows")]
    NotPublic,
    #[error("its name cannot be resolved")]
    Unresolved,
    #[error("it cannot be reached")]
    Unreachable,
    #[error("no TLS connection with it can be had, or its certificate is not trusted")]
    Tls,
    #[error("https needs root certificates, and this server has none")]
    NoCertificates,
    #[error("it did not answer in HTTP, or not to the end")]
    CutShort,
    #[error("it answered with the status {0}")]
    Status(u16),
    #[error("it redirected more than {0} times")]
    TooManyRedirects(usize),
    #[error("it redirected to a URL that is not http(s)")]
    BadRedirect,
    #[error("it redirected from https to http")]
    Downgrade,
    #[error("what it sent is not an image of a kind that is taken (PNG, JPEG, GIF, WebP)")]
    WrongKind,
    #[error("the images of the request took longer than {} s", .0.as_secs_f32())]
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

    /// Returns advice, if the reason does not contain it.
    fn advice(&self) -> Option<&'static str> {
        match self {
            Self::NoUrl | Self::NoBase64 => None,
            Self::TooLarge(_) | Self::TooLargeTogether(_) => Some("send a smaller one"),
            _ => Some("send the image itself, as a data: URL (data:image/png;base64,…)"),
        }
    }
}
