//! Detects a mismatch about TLS when a connection fails: an `https://` URL for a server that speaks
//! plain HTTP, or the reverse.

use std::error::Error as StdError;
use std::io;

use http::Uri;
use http::uri::Scheme;
use hyper_rustls::HttpsConnector;
use serde::{Deserialize, Serialize};
use tokio_rustls::rustls;
use tower::ServiceExt;

use super::resolver::Tcp;

/// A mismatch between the URL of a backend and its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TlsFault {
    /// The URL starts with `https://`, but the server does not speak TLS.
    AnswersPlain,
    /// The URL starts with `http://`, but the server speaks TLS.
    AnswersTls,
    /// This machine does not trust the certificate of the server.
    Untrusted,
}

impl TlsFault {
    /// Returns the problem and its solution as the end of a sentence that starts with the backend's
    /// name.
    pub(crate) fn sentence(self) -> &'static str {
        match self {
            Self::AnswersPlain => "answers without TLS: change https:// to http:// in its URL",
            Self::AnswersTls => "answers with TLS: change http:// to https:// in its URL",
            Self::Untrusted => {
                "has a TLS certificate that this machine does not trust: add its authority to the system's certificates, \
                 or name the file with it in SSL_CERT_FILE"
            }
        }
    }

    /// Returns the TLS-related reason why a connection failed, if there is one.
    pub(super) fn of(error: &(dyn StdError + 'static)) -> Option<Self> {
        match cause(error)? {
            // The data is not a TLS record, for example `HTTP/1.1 400`.
            rustls::Error::InvalidMessage(_) => Some(Self::AnswersPlain),
            rustls::Error::InvalidCertificate(_) => Some(Self::Untrusted),
            _ => None,
        }
    }
}

/// Returns whether a server that was contacted without TLS speaks TLS: it completes a handshake, or
/// refuses with a TLS alert.
pub(super) async fn answers_tls(to: &Uri, https: HttpsConnector<Tcp>) -> bool {
    let mut parts = to.clone().into_parts();
    parts.scheme = Some(Scheme::HTTPS);
    let Ok(to) = Uri::from_parts(parts) else {
        return false;
    };
    match https.oneshot(to).await {
        Ok(_) => true,
        Err(error) => {
            cause(&*error).is_some_and(|error| !matches!(error, rustls::Error::InvalidMessage(_)))
        }
    }
}

/// Returns the TLS error among the causes.
fn cause<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    std::iter::successors(Some(error), |error| beneath(*error))
        .find_map(|error| error.downcast_ref())
}

/// Returns the next cause. For an [`io::Error`], [`source`](StdError::source) skips the error that
/// it wraps.
fn beneath<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    match error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref)
    {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrapped(error: rustls::Error) -> Box<dyn StdError + Send + Sync> {
        io::Error::other(io::Error::new(io::ErrorKind::InvalidData, error)).into()
    }

    #[test]
    fn what_tls_complains_of_is_found_however_deep_it_is_wrapped() {
        let plain = wrapped(rustls::Error::InvalidMessage(
            rustls::InvalidMessage::InvalidContentType,
        ));
        assert_eq!(TlsFault::of(&*plain), Some(TlsFault::AnswersPlain));
        let untrusted = wrapped(rustls::Error::InvalidCertificate(
            rustls::CertificateError::UnknownIssuer,
        ));
        assert_eq!(TlsFault::of(&*untrusted), Some(TlsFault::Untrusted));
        let refused: Box<dyn StdError + Send + Sync> =
            io::Error::from(io::ErrorKind::ConnectionRefused).into();
        assert_eq!(TlsFault::of(&*refused), None);
    }
}
