//! [`Create`]: the request for one response of a session, and how the door answers it.

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response};
use loggia_wire::openai::responses::ResponseRequest;
use serde_json::{Map, Value, json};

use super::link::Link;
use crate::admit::ParsedRequest;
use crate::admit::parse::profile_of;
use crate::responses::ask::ResponseAsChat;
use crate::{ApiError, Body, Door};

/// A request for one response of a [`Session`](crate::Session): the frame that asked for it.
#[derive(Clone, Debug)]
pub struct Create {
    /// The frame: the fields of a request for a response, and those of the frame.
    pub(super) frame: Bytes,
    pub(super) link: Arc<Link>,
}

impl Door {
    /// Answers a request of a [`Session`](crate::Session): with a stream of server-sent events, or
    /// with an error.
    pub async fn respond(&self, request: Request<Create>) -> Response<Body> {
        let (parts, create) = request.into_parts();
        let restricted = self.restricted(&parts.extensions);
        let door = restricted.as_ref().unwrap_or(self);
        match door.ask_created(parts, create).await {
            Ok(asked) => door.generated(asked).await,
            Err(error) => door.refuse(error),
        }
    }

    async fn ask_created(
        &self,
        parts: Parts,
        create: Create,
    ) -> Result<ParsedRequest<ResponseAsChat>, ApiError> {
        let profile = profile_of(&create.frame, &self.policy);
        let (mut request, dropped) = self.read_response(&parts, &create.frame).await?;
        of_frame(&mut request)?;
        let link = Some(create.link);
        let mut asked = self.ask_for(parts, request, profile, link).await?;
        let request = Arc::make_mut(&mut asked.request);
        request.ignore(&dropped);
        request.keep_long_numbers(&create.frame);
        Ok(asked)
    }
}

/// Makes a request of a frame: removes the fields that only frames have, and makes it a stream in
/// the foreground.
fn of_frame(request: &mut ResponseRequest) -> Result<(), ApiError> {
    for field in ["type", "stream_id"] {
        request.extra.shift_remove(field);
    }
    match request.extra.shift_remove("generate") {
        None | Some(Value::Null | Value::Bool(true)) => {}
        Some(Value::Bool(false)) => prewarm(request),
        Some(_) => {
            let message = "Invalid type for 'generate': expected a boolean.";
            return Err(ApiError::invalid("generate", "invalid_type", message));
        }
    }
    request.stream = Some(true);
    request.background = None;
    Ok(())
}

/// `generate: false` means the same as `prompt_cache_options.prewarm`.
fn prewarm(request: &mut ResponseRequest) {
    let mut options = match request.prompt_cache_options.take() {
        Some(Value::Object(options)) => options,
        _ => Map::new(),
    };
    options.insert("prewarm".to_owned(), json!(true));
    request.prompt_cache_options = Some(Value::Object(options));
}
