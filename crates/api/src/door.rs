//! The one door: every request of OpenAI's API goes through [`Door::serve`].

use std::fmt::Display;
use std::sync::Arc;

use bytes::Buf;
use http::{Request, Response};
use loggia_backend::Backend;

use crate::{Body, Policy};

/// The request's id, put among the request's extensions by a server that has one; it goes into the log.
#[derive(Clone, Debug)]
pub struct RequestId(pub Arc<str>);

/// OpenAI's API over a backend.
#[derive(Clone)]
pub struct Door {
    #[expect(dead_code, reason = "the first step only fixes the signature")]
    backend: Arc<dyn Backend>,
    #[expect(dead_code, reason = "the first step only fixes the signature")]
    policy: Arc<Policy>,
}

impl Door {
    /// A door before this backend.
    pub fn new(backend: Arc<dyn Backend>, policy: Policy) -> Self {
        Self { backend, policy: Arc::new(policy) }
    }

    /// Answers one request: a route of OpenAI's API, or 404 or 405 in OpenAI's error shape.
    pub async fn serve<B>(&self, _request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data: Buf, Error: Display> + Send,
    {
        std::future::ready(()).await;
        Response::new(Body::whole("not yet"))
    }
}
