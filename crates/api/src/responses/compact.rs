//! `POST /v1/responses/compact`: a response whose answer is a compacted conversation.

use std::sync::Arc;

use bytes::Buf;
use http::{Request, Response};
use loggia_wire::openai::responses::{Input, Item, ResponseRequest};
use serde_json::json;

use crate::admit::ParsedRequest;
use crate::admit::parse::profile_of;
use crate::door::read;
use crate::responses::ask::ResponseAsChat;
use crate::responses::request;
use crate::responses::summary::{TRIGGER, is_asked, kept};
use crate::{ApiError, Body, Door};

impl Door {
    /// `POST /v1/responses/compact`.
    pub(crate) async fn compact<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data: Buf, Error: std::fmt::Display> + Send,
    {
        match self.ask_to_compact(request).await {
            Ok(asked) => self.generated(asked).await,
            Err(error) => self.refuse(error),
        }
    }

    async fn ask_to_compact<B>(
        &self,
        request: Request<B>,
    ) -> Result<ParsedRequest<ResponseAsChat>, ApiError>
    where
        B: http_body::Body<Data: Buf, Error: std::fmt::Display> + Send,
    {
        let (parts, body) = read::json_request(request, &self.policy).await?;
        let (request, dropped) = self.read_response(&parts, &body).await?;
        let profile = profile_of(&body, &self.policy);
        let request = to_compact(request)?;
        let kept = match &request.input {
            Some(Input::Items(items)) => kept(items),
            _ => Vec::new(),
        };
        let mut asked = self.ask_for(parts, request, profile, None).await?;
        let compacting = Arc::make_mut(&mut asked.request);
        compacting.returns_conversation(kept);
        compacting.ignore(&dropped);
        Ok(asked)
    }
}

/// Turns a request for a compacted conversation into a request for a response.
fn to_compact(mut request: ResponseRequest) -> Result<ResponseRequest, ApiError> {
    let mut items = match request.input.take() {
        Some(Input::Text(text)) => vec![request::user(&text)],
        Some(Input::Items(items)) => items,
        None => Vec::new(),
    };
    if !is_asked(&items) {
        items.push(trigger()?);
    }
    request.input = Some(Input::Items(items));
    request.stream = None;
    request.background = None;
    // Nothing is stored: the client keeps the compacted conversation.
    request.store = Some(false);
    Ok(request)
}

fn trigger() -> Result<Item, ApiError> {
    serde_json::from_value(json!({"type": TRIGGER})).map_err(|_| crate::stored::damaged())
}
