//! [`WebhookSender`]: calls the URLs of webhooks, by the rules of images.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderMap, USER_AGENT};
use http::{HeaderValue, Request, StatusCode};
use http_body_util::Full;
use tokio::time::timeout;

use super::Limits;
use super::connect::{Connector, Resolve, SystemResolver};
use super::fetch::{USER_AGENT_VALUE, response_to};
use super::refusal::Refusal;
use super::target::Target;

/// The time limit for one call, from the name lookup to the head of the response.
const WITHIN: Duration = Duration::from_secs(15);

/// Calls the URLs of webhooks: with the checks of addresses and ports that images have. Redirects
/// are not followed, and the body of the response is not read.
pub struct WebhookSender {
    limits: Limits,
    connector: Connector,
}

impl WebhookSender {
    /// Creates a sender that uses the resolver of the operating system.
    pub fn new(limits: Limits) -> Self {
        Self::resolving(limits, Arc::new(SystemResolver))
    }

    /// Creates a sender that uses another resolver. Its addresses are checked too.
    pub fn resolving(limits: Limits, resolver: Arc<dyn Resolve>) -> Self {
        Self {
            limits,
            connector: Connector::new(resolver),
        }
    }

    /// Checks a URL, as far as that needs no network.
    ///
    /// # Errors
    /// Returns the reason why it is never called, in words for the client.
    pub fn check(&self, url: &str) -> Result<(), String> {
        let target = Target::parse(url, &self.limits);
        target.map(|_| ()).map_err(|refusal| refusal.of_document())
    }

    /// Sends JSON to a URL, with these headers, and returns the status of the response.
    ///
    /// # Errors
    /// Returns the reason in words for the client. It contains no address or text of the other
    /// server.
    pub async fn send(
        &self,
        url: &str,
        headers: HeaderMap,
        json: Bytes,
    ) -> Result<StatusCode, String> {
        let sending = self.call(url, headers, json);
        let sent = timeout(WITHIN, sending).await;
        sent.unwrap_or(Err(Refusal::TooSlow(WITHIN)))
            .map_err(|refusal| refusal.of_document())
    }

    async fn call(
        &self,
        url: &str,
        headers: HeaderMap,
        json: Bytes,
    ) -> Result<StatusCode, Refusal> {
        let target = Target::parse(url, &self.limits)?;
        let mut request = Request::post(target.path_and_query())
            .header(HOST, target.authority())
            .header(USER_AGENT, HeaderValue::from_static(USER_AGENT_VALUE))
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .header(CONNECTION, HeaderValue::from_static("close"))
            .body(Full::new(json))
            .map_err(|_| Refusal::NoUrl)?;
        request.headers_mut().extend(headers);
        let transport = self.connector.connect(&target, &self.limits).await?;
        let (response, driver) = response_to(request, transport).await?;
        drop(driver);
        Ok(response.status())
    }
}
