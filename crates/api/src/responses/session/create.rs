//! [`Create`]: the request for one response of a session, and how the door answers it.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response};
use loggia_wire::openai::responses::ResponseRequest;
use serde_json::{Map, Value, json};

use super::local::{Local, Previous};
use crate::admit::Asked;
use crate::admit::parse::profile_of;
use crate::answer::interrupt::Interrupt;
use crate::responses::ask::AskedResponse;
use crate::store::Item;
use crate::{ApiError, Body, Door};

/// A request for one response of a [`Session`](crate::Session): the frame that asked for it.
#[derive(Clone, Debug)]
pub struct Create {
    /// The frame: the fields of a request for a response, and those of the frame.
    pub(super) frame: Bytes,
    pub(super) link: Arc<Link>,
}

/// What connects one response with its session.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) local: Arc<Local>,
    pub(crate) interrupt: Arc<Interrupt>,
    begun: Mutex<Option<Begun>>,
}

/// What the session keeps of a response if it is not stored.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) previous: Previous,
    pub(super) input: Vec<Item>,
}

impl Link {
    pub(super) fn new(local: Arc<Local>) -> Self {
        Self {
            local,
            interrupt: Arc::default(),
            begun: Mutex::default(),
        }
    }

    /// Notes what an unstored response continues, and its own input.
    pub(crate) fn begin(&self, previous: Option<&str>, input: Vec<Item>) {
        let previous = self.local.previous(previous);
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        *begun = Some(Begun { previous, input });
    }

    pub(super) fn take_begun(&self) -> Option<Begun> {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        begun.take()
    }
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
    ) -> Result<Asked<AskedResponse>, ApiError> {
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

/// Makes a request of a frame: takes out what only frames have, and sets what every session does.
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

/// `generate: false` is what `prompt_cache_options.prewarm` is.
fn prewarm(request: &mut ResponseRequest) {
    let mut options = match request.prompt_cache_options.take() {
        Some(Value::Object(options)) => options,
        _ => Map::new(),
    };
    options.insert("prewarm".to_owned(), json!(true));
    request.prompt_cache_options = Some(Value::Object(options));
}
