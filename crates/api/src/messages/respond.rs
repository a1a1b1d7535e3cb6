//! `POST /v1/messages`: reads the request, brings back the thread that it continues, and answers it.

use std::sync::Arc;

use bytes::Buf;
use http::request::Parts;
use http::{Request, Response};

use crate::admit::Asked;
use crate::admit::parse::profile_of;
use crate::door::read;
use crate::messages::ask::AskedMessage;
use crate::messages::signature::Signer;
use crate::messages::thread::Thread;
use crate::{ApiError, Body, Caller, Door};

impl Door {
    /// `POST /v1/messages`.
    pub(crate) async fn messages<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data: Buf, Error: std::fmt::Display> + Send,
    {
        let (parts, body) = request.into_parts();
        let read = read::json_body(&parts.headers, body, &self.policy).await;
        let asked = match read {
            Ok(bytes) => self.ask_message(parts, &bytes).await,
            Err(error) => Err(error),
        };
        match asked {
            Ok(asked) => self.generated(asked).await,
            // The model, and so its profile, was not known yet.
            Err(error) => self.refuse(error),
        }
    }

    async fn ask_message(
        &self,
        parts: Parts,
        body: &[u8],
    ) -> Result<Asked<AskedMessage>, ApiError> {
        let mut request = AskedMessage::read(body)?;
        let profile = profile_of(body, &self.policy);
        let thread = match Thread::of(&mut request)? {
            // Boxed, because it is rare.
            Some(thread) => Box::pin(thread.recall(self, &parts, &mut request)).await?,
            None => Thread::default(),
        };
        let signer = Signer::new(self.keys.as_ref(), Caller::name_of(&parts));
        let asked = AskedMessage::new(request, thread, signer, &self.policy.ceilings)?;
        Ok(Asked::new(self, parts, Arc::new(asked), profile))
    }
}
