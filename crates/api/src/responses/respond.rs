//! `POST /v1/responses`: reads the request, loads what it refers to from the store, and answers, at
//! once or in the background.

use std::sync::Arc;

use bytes::Buf;
use http::request::Parts;
use http::{Request, Response};
use loggia_backend::Profile;
use loggia_wire::openai::responses::{Input, ResponseRequest};

use crate::admit::ParsedRequest;
use crate::admit::ask::Ask as _;
use crate::admit::parse::profile_of;
use crate::door::read;
use crate::responses::ask::ResponseAsChat;
use crate::responses::file_search::FileSearch;
use crate::responses::mcp::Servers;
use crate::responses::recall::{Memory, Recalled, is_reference};
use crate::responses::session::link::Link;
use crate::responses::turn::{self, Turn};
use crate::responses::{background, request, summary};
use crate::store::Item;
use crate::store::Owner;
use crate::stored::{may_see_stored, metadata, owner};
use crate::{ApiError, Body, Door, RequestId};

impl Door {
    /// `POST /v1/responses`.
    pub(crate) async fn responses<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data: Buf, Error: std::fmt::Display> + Send,
    {
        match self.ask_response(request).await {
            Ok(asked) if asked.request.is_background() => background::answer(self, asked).await,
            Ok(asked) => self.generated(asked).await,
            Err(error) => self.refuse(error),
        }
    }

    async fn ask_response<B>(
        &self,
        request: Request<B>,
    ) -> Result<ParsedRequest<ResponseAsChat>, ApiError>
    where
        B: http_body::Body<Data: Buf, Error: std::fmt::Display> + Send,
    {
        let (parts, body) = read::json_request(request, &self.policy).await?;
        let (request, dropped) = self.read_response(&parts, &body).await?;
        let profile = profile_of(&body, &self.policy);
        let mut asked = self.ask_for(parts, request, profile, None).await?;
        let request = Arc::make_mut(&mut asked.request);
        request.ignore(&dropped);
        request.keep_long_numbers(&body);
        Ok(asked)
    }

    /// Loads the stored items that a request refers to, and turns both into a chat.
    pub(crate) async fn ask_for(
        &self,
        parts: Parts,
        mut request: ResponseRequest,
        profile: Profile,
        link: Option<Arc<Link>>,
    ) -> Result<ParsedRequest<ResponseAsChat>, ApiError> {
        self.check_request(&request, &parts)?;
        let owner = owner(&parts);
        let id = RequestId::of(&parts);
        let local = link.as_ref().map(|link| &*link.local);
        let memory = Memory::of(self, &owner, id.as_deref()).with(local);
        let recalled = memory.recall(&mut request).await?;
        let turn = turn(&request, &recalled)?;
        let is_stored = recalled.is_stored;
        if let Some(link) = &link {
            let previous = request.previous_response_id.as_deref();
            let is_local = previous.is_some_and(|id| link.local.has(id));
            if !is_stored || is_local {
                link.note_parts(previous, stored_input(&request)?);
            }
        }
        let mut asked = self.chat_of(request, recalled, turn, owner.clone()).await?;
        asked.link = link;
        let mut asked = ParsedRequest::new(self, parts, Arc::new(asked), profile);
        if is_stored {
            let entry = self.live.enter(Arc::clone(&asked.head.id), owner);
            Arc::make_mut(&mut asked.request).enter(entry);
        }
        Ok(asked)
    }
}

impl Door {
    /// `POST /v1/responses/input_tokens`.
    pub(crate) async fn input_tokens<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data: Buf, Error: std::fmt::Display> + Send,
    {
        match self.ask_to_count(request).await {
            Ok(asked) => self.counted(asked).await,
            Err(error) => self.refuse(error),
        }
    }

    /// Reads a request whose prompt is only counted: nothing is stored, and no conversation is
    /// locked.
    async fn ask_to_count<B>(
        &self,
        request: Request<B>,
    ) -> Result<ParsedRequest<ResponseAsChat>, ApiError>
    where
        B: http_body::Body<Data: Buf, Error: std::fmt::Display> + Send,
    {
        let (parts, body) = read::json_request(request, &self.policy).await?;
        let (mut request, dropped) = self.read_response(&parts, &body).await?;
        let profile = profile_of(&body, &self.policy);
        self.check_request(&request, &parts)?;
        request.store = Some(false);
        request.background = None;
        let owner = owner(&parts);
        let id = RequestId::of(&parts);
        let memory = Memory::of(self, &owner, id.as_deref()).only_reading();
        let recalled = memory.recall(&mut request).await?;
        let mut asked = self.chat_of(request, recalled, None, owner).await?;
        asked.ignore(&dropped);
        asked.keep_long_numbers(&body);
        Ok(ParsedRequest::new(self, parts, Arc::new(asked), profile))
    }

    /// Lists the tools of the MCP servers that a request names, and turns the request into a chat.
    async fn chat_of(
        &self,
        request: ResponseRequest,
        recalled: Recalled,
        turn: Option<Turn>,
        owner: Owner,
    ) -> Result<ResponseAsChat, ApiError> {
        let input = match &request.input {
            Some(Input::Items(items)) => items.as_slice(),
            _ => &[],
        };
        let items = recalled.history.iter().chain(input);
        let servers = if summary::is_asked(input) {
            // A summary is made without tools.
            Servers::default()
        } else {
            let file_search = FileSearch::of(self, owner, &request).await?;
            let servers = Servers::of(self.mcp.as_ref(), &request, items).await?;
            servers.with_file_search(file_search)
        };
        let (keys, ceilings) = (self.keys.as_ref(), &self.policy.ceilings);
        ResponseAsChat::new(request, recalled, turn, servers, keys, ceilings)
    }

    /// Checks a request before anything is brought back for it.
    fn check_request(&self, request: &ResponseRequest, parts: &Parts) -> Result<(), ApiError> {
        request::check(request)?;
        if names_stored(request) && self.store.is_some() && !may_see_stored(parts) {
            return Err(ApiError::stored_for_keys_only());
        }
        Ok(())
    }
}

/// Returns whether a request refers to stored objects.
fn names_stored(request: &ResponseRequest) -> bool {
    let refers = |input: &Input| match input {
        Input::Text(_) => false,
        Input::Items(items) => items.iter().any(is_reference),
    };
    request.previous_response_id.is_some()
        || request.conversation.is_some()
        || request.input.as_ref().is_some_and(refers)
}

/// The parts of a request that are stored.
fn turn(request: &ResponseRequest, recalled: &Recalled) -> Result<Option<Turn>, ApiError> {
    if !recalled.is_stored && recalled.conversation.is_none() {
        return Ok(None);
    }
    let input = stored_input(request)?;
    let metadata = if recalled.is_stored {
        metadata::checked(request.metadata.clone())?
    } else {
        crate::store::Metadata::new()
    };
    Ok(Some(Turn {
        input,
        metadata,
        previous: request.previous_response_id.clone(),
        conversation: recalled.conversation.clone(),
        is_stored: recalled.is_stored,
        entry: None,
    }))
}

/// The input of a request, as it is stored.
fn stored_input(request: &ResponseRequest) -> Result<Vec<Item>, ApiError> {
    match &request.input {
        Some(Input::Text(text)) => turn::input(&[request::user(text)]),
        Some(Input::Items(items)) => turn::input(items),
        None => Ok(Vec::new()),
    }
}
