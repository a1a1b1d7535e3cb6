//! Sends requests to Ollama and reads its responses, as bytes and JSON.

use bytes::Bytes;
use futures_util::TryFutureExt;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tower::ServiceExt;

use super::client::{Ollama, OllamaService};
use super::error::{refusal, transport_error};
use crate::retry_after::retry_after;
use crate::{BackendError, CallHead};

/// The maximum size of a response other than a chat. A list of a thousand models has 500 KiB.
const BODY_LIMIT: usize = 32 << 20;

/// The initial capacity of the buffer of a request: a short conversation. It grows if needed.
const FIRST_BUFFER: usize = 1000;

impl<S, B> Ollama<S, B>
where
    S: OllamaService<B>,
    B: From<Bytes> + Send + 'static,
{
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, BackendError> {
        let mut request = Request::new(B::from(Bytes::new()));
        *request.uri_mut() =
            http::Uri::try_from(path).map_err(|_| self.bad("a path that is none"))?;
        self.fetch(request, "").await
    }

    pub(super) async fn fetch<T: DeserializeOwned>(
        &self,
        request: Request<B>,
        model: &str,
    ) -> Result<T, BackendError> {
        let response = self.send(request).await?;
        if response.status() != StatusCode::OK {
            return Err(self.refused(response, model).await);
        }
        let body = self.collect(response).await?;
        serde_json::from_slice(&body).map_err(|_| self.bad("JSON that is not in Ollama's format"))
    }

    pub(super) fn send(
        &self,
        request: Request<B>,
    ) -> impl Future<Output = Result<Response<S::Body>, BackendError>> + Send {
        self.service
            .clone()
            .oneshot(request)
            .map_err(|error| transport_error(error.into(), &self.name))
    }

    pub(super) async fn refused(&self, response: Response<S::Body>, model: &str) -> BackendError {
        let status = response.status();
        let retry_after = retry_after(response.headers());
        match self.collect(response).await {
            Ok(body) => refusal(status, retry_after, &body, model, &self.name),
            Err(error) => error,
        }
    }

    pub(super) async fn collect(&self, response: Response<S::Body>) -> Result<Bytes, BackendError> {
        match Limited::new(response.into_body(), BODY_LIMIT)
            .collect()
            .await
        {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => {
                Err(self.bad("a response that is too long"))
            }
            Err(error) => Err(transport_error(error, &self.name)),
        }
    }

    pub(super) fn bad(&self, what: &str) -> BackendError {
        BackendError::BadAnswer {
            backend: self.name.to_string(),
            what: what.to_owned(),
        }
    }
}

/// Creates a POST request with JSON, for a call or for Loggia itself. It has the headers and
/// extensions of the client's request if the service is behind it, and is a part of its trace.
pub(super) fn post<B: From<Bytes>>(
    path: &'static str,
    body: Vec<u8>,
    call: Option<&CallHead>,
) -> Request<B> {
    let length = HeaderValue::from(body.len());
    let mut request = Request::new(B::from(Bytes::from(body)));
    if let Some(head) = call.and_then(|call| call.forwarded.as_deref()) {
        *request.version_mut() = head.version;
        *request.extensions_mut() = head.extensions.clone();
        *request.headers_mut() = without_body_headers(&head.headers);
    }
    if let Some(trace) = call.and_then(|call| call.trace.as_deref()) {
        trace.add_to(request.headers_mut());
    }
    *request.method_mut() = Method::POST;
    *request.uri_mut() = http::Uri::from_static(path);
    request.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    request.headers_mut().insert(header::CONTENT_LENGTH, length);
    request
}

/// Returns the client's headers without those about its body, its connection and compression.
fn without_body_headers(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    for name in [
        header::CONTENT_ENCODING,
        header::TRANSFER_ENCODING,
        header::CONNECTION,
        header::EXPECT,
        header::ACCEPT,
        header::ACCEPT_ENCODING,
    ] {
        headers.remove(name);
    }
    headers
}

pub(super) fn to_json(value: &impl Serialize, backend: &str) -> Result<Vec<u8>, BackendError> {
    let mut json = Vec::with_capacity(FIRST_BUFFER);
    match serde_json::to_writer(&mut json, value) {
        Ok(()) => Ok(json),
        Err(_) => Err(BackendError::Engine {
            message: format!("the request for `{backend}` cannot be written as JSON"),
        }),
    }
}
