//! `POST /v1/messages` and `/v1/messages/count_tokens`: reads the request, brings back the thread
//! that it continues, and answers it.

use std::sync::Arc;

use bytes::Buf;
use http::{Request, Response};
use loggia_wire::anthropic::MessagesRequest;

use crate::admit::ParsedRequest;
use crate::admit::parse::{parsed, profile_of};
use crate::door::read;
use crate::messages::ask::MessageAsChat;
use crate::messages::signature::Signer;
use crate::messages::thread::Thread;
use crate::{ApiError, Body, Caller, Door};

impl Door {
    /// `POST /v1/messages`.
    pub(crate) async fn messages<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data: Buf, Error: std::fmt::Display> + Send,
    {
        match self.ask_message(request, |_| ()).await {
            Ok(asked) => self.generated(asked).await,
            // The model, and therefore its profile, was not known before.
            Err(error) => self.refuse(error),
        }
    }

    /// `POST /v1/messages/count_tokens`.
    pub(crate) async fn count_message_tokens<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data: Buf, Error: std::fmt::Display> + Send,
    {
        let without_limit = |request: &mut MessagesRequest| {
            // The count allows prompts and answers of any length.
            request.max_tokens.get_or_insert(i64::from(u32::MAX));
            // The count is of the conversation as it is, without compaction.
            request.compaction = None;
        };
        match self.ask_message(request, without_limit).await {
            Ok(asked) => self.counted(asked).await,
            Err(error) => self.refuse(error),
        }
    }

    async fn ask_message<B>(
        &self,
        request: Request<B>,
        complete: impl FnOnce(&mut MessagesRequest),
    ) -> Result<ParsedRequest<MessageAsChat>, ApiError>
    where
        B: http_body::Body<Data: Buf, Error: std::fmt::Display> + Send,
    {
        let (parts, body) = read::json_request(request, &self.policy).await?;
        let mut request: MessagesRequest = parsed(&body)?;
        complete(&mut request);
        let profile = profile_of(&body, &self.policy);
        // A request that waits for an engine should use little memory.
        drop(body);
        let thread = match Thread::of(&mut request)? {
            // Boxed, because this is rare: every request would reserve the memory for it.
            Some(thread) => Box::pin(thread.recall(self, &parts, &mut request)).await?,
            None => Thread::default(),
        };
        let signer = Signer::new(self.keys.as_ref(), Caller::name_of(&parts));
        let asked = MessageAsChat::new(request, thread, signer, &self.policy.ceilings)?;
        Ok(ParsedRequest::new(self, parts, Arc::new(asked), profile))
    }
}
