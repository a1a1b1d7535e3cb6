//! Fetches one image or document: sends the request, follows redirects and reads the content within
//! the limits.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::header::{ACCEPT, CONNECTION, HOST, LOCATION, USER_AGENT};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::Body as _;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::connect::{Connector, Resolve, Transport};
use super::plan::Remote;
use super::refusal::Refusal;
use super::target::Target;
use super::{ImageKind, Limits, data_url};
use crate::BackendError;

/// The maximum size of the response head, and of unread data.
const READ_BUFFER: usize = 64 << 10;

/// The name of this client.
pub(super) const USER_AGENT_VALUE: &str = concat!("loggia/", env!("CARGO_PKG_VERSION"));

/// The media types of images.
const IMAGES: &str = "image/*";

/// Fetches images and documents.
pub(super) struct Fetcher {
    limits: Limits,
    connector: Connector,
}

/// The limits that the fetches of one request share.
pub(super) struct Allowance {
    bytes: AtomicUsize,
    until: Instant,
}

impl Allowance {
    pub(super) fn new(bytes: usize, until: Instant) -> Self {
        Self {
            bytes: AtomicUsize::new(bytes),
            until,
        }
    }

    /// Takes `bytes` from the allowance. Returns false if less is left.
    fn take(&self, bytes: usize) -> bool {
        let less = |left: usize| left.checked_sub(bytes);
        self.bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
            .is_ok()
    }
}

/// The response to a request: the content, or a redirect.
enum FetchResponse {
    Content(Response<Incoming>),
    Redirect(Target),
}

/// The task that drives the connection of a response. It ends with the response.
pub(super) type Driver = JoinSet<()>;

impl Fetcher {
    pub(super) fn new(limits: Limits, resolver: Arc<dyn Resolve>) -> Self {
        Self {
            limits,
            connector: Connector::new(resolver),
        }
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Fetches a URL and returns the image as a `data:` URL.
    pub(super) async fn fetch(
        &self,
        remote: &Remote,
        allowance: &Allowance,
    ) -> Result<String, BackendError> {
        let uses = remote.places.len();
        let fetched = self.content(&remote.target, uses, allowance, IMAGES).await;
        let image = fetched.and_then(|image| {
            let kind = ImageKind::of(&image).filter(|kind| self.limits.kinds.contains(kind));
            Ok(data_url::of(kind.ok_or(Refusal::WrongKind)?, image))
        });
        image.map_err(|refusal| {
            let param = remote
                .places
                .first()
                .map(|place| place.param())
                .unwrap_or_default();
            refusal.into_backend(param, Some(remote.target.host()))
        })
    }

    /// Fetches a URL and returns its content. `accept` are the media types to ask for.
    pub(super) async fn content(
        &self,
        target: &Target,
        uses: usize,
        allowance: &Allowance,
        accept: &'static str,
    ) -> Result<Vec<u8>, Refusal> {
        let following = self.follow(target, uses, allowance, accept);
        timeout_at(allowance.until, following)
            .await
            .unwrap_or(Err(Refusal::TooSlow(self.limits.time)))
    }

    async fn follow(
        &self,
        first: &Target,
        uses: usize,
        allowance: &Allowance,
        accept: &'static str,
    ) -> Result<Vec<u8>, Refusal> {
        let mut target = first.clone();
        for _ in 0..=self.limits.redirects {
            let transport = self.connector.connect(&target, &self.limits).await?;
            let (answer, driver) = self.ask(transport, &target, accept).await?;
            match answer {
                FetchResponse::Content(response) => {
                    let content = self.read(response, uses, allowance).await;
                    drop(driver);
                    return content;
                }
                FetchResponse::Redirect(next) => target = next,
            }
        }
        Err(Refusal::TooManyRedirects(self.limits.redirects))
    }

    async fn ask(
        &self,
        transport: Transport,
        target: &Target,
        accept: &'static str,
    ) -> Result<(FetchResponse, Driver), Refusal> {
        let request = request(target, accept)?;
        let (response, driver) = response_to(request, transport).await?;
        Ok((self.judge(response, target)?, driver))
    }

    fn judge(
        &self,
        response: Response<Incoming>,
        target: &Target,
    ) -> Result<FetchResponse, Refusal> {
        match response.status() {
            StatusCode::OK => Ok(FetchResponse::Content(response)),
            StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT => {
                let location = response
                    .headers()
                    .get(LOCATION)
                    .and_then(|value| value.to_str().ok());
                let location = location.ok_or(Refusal::BadRedirect)?;
                Ok(FetchResponse::Redirect(
                    target.redirected(location, &self.limits)?,
                ))
            }
            other => Err(Refusal::Status(other.as_u16())),
        }
    }

    /// Reads a content. Its size counts `uses` times towards the total, because the request uses it
    /// that often.
    async fn read(
        &self,
        response: Response<Incoming>,
        uses: usize,
        allowance: &Allowance,
    ) -> Result<Vec<u8>, Refusal> {
        let mut body = response.into_body();
        let mut content = Vec::new();
        let limit = self.limits.bytes;
        if body.size_hint().lower() > u64::try_from(limit).unwrap_or(u64::MAX) {
            return Err(Refusal::TooLarge(limit));
        }
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| Refusal::CutShort)?.into_data() else {
                continue;
            };
            if data.len() > limit - content.len() {
                return Err(Refusal::TooLarge(limit));
            }
            if !allowance.take(data.len().saturating_mul(uses)) {
                return Err(Refusal::TooLargeTogether(self.limits.total_bytes));
            }
            content.extend_from_slice(&data);
        }
        Ok(content)
    }
}

/// Sends a request over a new connection, and returns the head of the response.
pub(super) async fn response_to<B>(
    request: Request<B>,
    transport: Transport,
) -> Result<(Response<Incoming>, Driver), Refusal>
where
    B: http_body::Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    let mut builder = http1::Builder::new();
    builder.max_buf_size(READ_BUFFER);
    let (mut requests, connection) = builder
        .handshake(transport)
        .await
        .map_err(|_| Refusal::CutShort)?;
    let mut driver = Driver::new();
    driver.spawn(async move {
        // The response and its body report errors of the connection.
        let _ = connection.await;
    });
    let response = requests
        .send_request(request)
        .await
        .map_err(|_| Refusal::CutShort)?;
    Ok((response, driver))
}

/// Creates the request. It contains nothing of the client or its request, apart from the target.
fn request(target: &Target, accept: &'static str) -> Result<Request<Empty<Bytes>>, Refusal> {
    Request::get(target.path_and_query())
        .header(HOST, target.authority())
        .header(USER_AGENT, HeaderValue::from_static(USER_AGENT_VALUE))
        .header(ACCEPT, HeaderValue::from_static(accept))
        .header(CONNECTION, HeaderValue::from_static("close"))
        .body(Empty::new())
        .map_err(|_| Refusal::NoUrl)
}
