//! The HTTP client of a bucket. What a service says about a refused request is shortened to its
//! code: the whole answer may quote signatures and ids of keys, which belong into no log.

use std::sync::Arc;
use std::time::Duration;

use futures_core::future::BoxFuture;
use hyper_rustls::ConfigBuilderExt as _;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpResponseBody, HttpService,
};
use reqwest::redirect;
use tokio_rustls::rustls;
use tokio_rustls::rustls::crypto::ring;

use super::error::{code_in, full};

/// The time to connect.
const CONNECT: Duration = Duration::from_secs(5);
/// The time until an answer begins, and between two pieces of it.
const SILENCE: Duration = Duration::from_secs(30);
/// After this time, an unused connection is closed. Services close theirs after 20 s or more.
const UNUSED: Duration = Duration::from_secs(10);
/// The longest answer to a refused request that is read.
const LONGEST_REFUSAL: usize = 64 << 10;

/// Makes clients with the TLS of the whole program.
#[derive(Clone, Copy, Debug)]
pub(super) struct Connector {
    /// Whether the service is on this machine. No proxy is used then.
    pub(super) is_local: bool,
}

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = self
            .client()
            .map_err(|source| object_store::Error::Generic {
                store: "S3",
                source,
            })?;
        Ok(HttpClient::new(Service(client)))
    }
}

impl Connector {
    pub(super) fn client(
        self,
    ) -> Result<reqwest::Client, Box<dyn std::error::Error + Send + Sync>> {
        let tls = rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let tls = tls.with_safe_default_protocol_versions()?;
        let tls = tls.with_native_roots()?.with_no_client_auth();
        let builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .http1_only()
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE)
            .pool_idle_timeout(UNUSED);
        let builder = if self.is_local {
            builder.no_proxy()
        } else {
            builder
        };
        Ok(builder.build()?)
    }
}

#[derive(Debug)]
struct Service(reqwest::Client);

impl HttpService for Service {
    fn call<'life0, 'async_trait>(
        &'life0 self,
        request: HttpRequest,
    ) -> BoxFuture<'async_trait, Result<HttpResponse, HttpError>>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(async move {
            let response = HttpService::call(&self.0, request).await?;
            let status = response.status();
            if !status.is_client_error() && !status.is_server_error() {
                return Ok(response);
            }
            if status == http::StatusCode::INSUFFICIENT_STORAGE {
                return Err(HttpError::new(HttpErrorKind::Unknown, full()));
            }
            let (parts, body) = response.into_parts();
            let code = code(body).await;
            let shortened = format!("<Error><Code>{code}</Code></Error>");
            Ok(HttpResponse::from_parts(parts, shortened.into()))
        })
    }
}

/// The code in the answer to a refused request. Empty if it has none.
async fn code(body: HttpResponseBody) -> String {
    use http_body_util::{BodyExt as _, Limited};
    // An answer that is too long, or cut off, has no code either.
    let read = Limited::new(body, LONGEST_REFUSAL).collect().await;
    let text = read.map(|read| String::from_utf8_lossy(&read.to_bytes()).into_owned());
    let text = text.unwrap_or_default();
    let is_plain =
        |code: &&str| code.len() <= 64 && code.chars().all(|one| one.is_ascii_alphanumeric());
    let code = code_in(&text).filter(is_plain);
    code.unwrap_or_default().to_owned()
}
