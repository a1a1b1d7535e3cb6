//! A request for a response, as one that is admitted and answered like any other.

use std::ops::Range;
use std::sync::Arc;

use loggia_backend::{Abilities, Ability, Profile, Work, WorkKind};
use loggia_seal::Keys;
use loggia_wire::Extra;
use loggia_wire::openai::ChatCompletionRequest;
use loggia_wire::openai::responses::{InputTokens, ResponseRequest, tool_texts};
use serde_json::Value;

use crate::admit::ask::Ask;
use crate::admit::chat;
use crate::answer::id;
use crate::answer::interrupt::Interrupt;
use crate::answer::writer::Shape;
use crate::count::Count;
use crate::field_names::{named, renamed};
use crate::generated::Generate;
use crate::responses::auto_compaction::AutoCompaction;
use crate::responses::live::Entry;
use crate::responses::mcp::Servers;
use crate::responses::names::{self, Places};
use crate::responses::recall::Recalled;
use crate::responses::request::{Translated, translate};
use crate::responses::server_tools::ServerTools;
use crate::responses::session::link::Link;
use crate::responses::shape::ResponseShape;
use crate::responses::summary::Compaction;
use crate::responses::truncation;
use crate::responses::turn::Turn;
use crate::stored::keep::ToStore;
use crate::wording::{Dialect, Origins};
use crate::{ApiError, Ceilings, Strictness};

/// A request for a response that was parsed and became a chat.
#[derive(Clone, Debug)]
pub(crate) struct ResponseAsChat {
    chat: Arc<ChatCompletionRequest>,
    /// The names of its fields in the client's request.
    places: Arc<Places>,
    /// The names of fields that have no effect with any model.
    ignored: Vec<String>,
    pub(crate) shape: Arc<ResponseShape>,
    /// The data that is stored together with the answer.
    turn: Option<Turn>,
    /// The tools that the server runs.
    server_tools: Option<Arc<ServerTools>>,
    /// How the conversation is compacted before the answer.
    compaction: Option<AutoCompaction>,
    /// The WebSocket connection and its session.
    pub(crate) link: Option<Arc<Link>>,
}

impl ResponseAsChat {
    /// Turns a request, together with the stored objects that it refers to, into a chat.
    pub(crate) fn new(
        request: ResponseRequest,
        recalled: Recalled,
        turn: Option<Turn>,
        servers: Servers,
        keys: Option<&Arc<Keys>>,
        ceilings: &Ceilings,
    ) -> Result<Self, ApiError> {
        let Translated {
            mut chat,
            places,
            ignored,
            shape,
            server_tools,
            compaction,
        } = translate(request, recalled, servers, keys, ceilings)?;
        chat::check_whole(&mut chat, ceilings)
            .map_err(|error| renamed(error, |param| names::of_response(param, &places)))?;
        Ok(Self {
            chat: Arc::new(chat),
            places: Arc::new(places),
            ignored,
            shape: Arc::new(shape),
            turn,
            server_tools: server_tools.map(Arc::new),
            compaction,
            link: None,
        })
    }

    /// Makes the answer a compacted conversation: these items and the summary.
    pub(crate) fn returns_conversation(&mut self, kept: Vec<Value>) {
        let shape = Arc::make_mut(&mut self.shape);
        shape.compaction = Some(Compaction::Conversation(kept));
    }

    /// Keeps the text of the tools' parameters that have long numbers. `body` is the client's
    /// request.
    pub(crate) fn keep_long_numbers(&mut self, body: &[u8]) {
        let texts = tool_texts(body);
        if texts.is_empty() {
            return;
        }
        let places = Arc::clone(&self.places);
        let tools = self.chat().tools.iter_mut().flatten();
        for (tool, place) in tools.zip(&places.tools) {
            if let (Some(function), Some(text)) = (&mut tool.function, texts.get(place)) {
                function.keep_exact_parameters(text);
            }
        }
    }

    /// Adds fields to those that have no effect.
    pub(crate) fn ignore(&mut self, fields: &[&str]) {
        self.ignored.extend(fields.iter().map(ToString::to_string));
    }

    pub(crate) fn is_streamed(&self) -> bool {
        self.chat.streams()
    }

    /// Registers the response among those that are being made.
    pub(crate) fn enter(&mut self, entry: Entry) {
        if let Some(turn) = &mut self.turn {
            turn.entry = Some(Arc::new(entry));
        }
    }

    /// Returns the chat. It is not shared yet, so nothing is copied.
    fn chat(&mut self) -> &mut ChatCompletionRequest {
        Arc::make_mut(&mut self.chat)
    }

    /// Replaces the chat's field names by the client's, in an error and in a list of fields.
    fn named(&self, settled: Result<Vec<String>, ApiError>) -> Result<Vec<String>, ApiError> {
        named(settled, |field| names::of_response(field, &self.places))
    }
}

impl Ask for ResponseAsChat {
    const WORK: WorkKind = WorkKind::Chat;
    const DIALECT: Dialect = Dialect::Responses;
    const NEEDS: Ability = Ability::Chat;

    fn id(_: Profile) -> Arc<str> {
        id::response()
    }

    fn model(&self) -> &str {
        &self.chat.model
    }

    fn extra(&mut self) -> &mut Extra {
        &mut self.chat().extra
    }

    fn settle_combinations(&mut self, strictness: Strictness) -> Result<Vec<String>, ApiError> {
        if strictness == Strictness::Strict
            && let Some(first) = self.ignored.first()
        {
            return Err(ApiError::unsupported(first));
        }
        let settled = self.chat().settle_combinations(strictness);
        let mut ignored = std::mem::take(&mut self.ignored);
        ignored.extend(self.named(settled)?);
        Ok(ignored)
    }

    fn settle(&mut self, can: &Abilities, strictness: Strictness) -> Result<Vec<String>, ApiError> {
        let settled = self.chat().settle(can, strictness);
        self.named(settled)
    }

    fn chat(&mut self) -> Option<&mut ChatCompletionRequest> {
        Some(Self::chat(self))
    }

    fn is_background(&self) -> bool {
        self.shape.template.background
    }

    fn tell_service_tier(&mut self, tier: &'static str) {
        let shape = Arc::make_mut(&mut self.shape);
        tier.clone_into(&mut shape.template.service_tier);
    }

    fn origins(&self) -> Origins {
        Origins::Response(Arc::clone(&self.places))
    }

    fn named_place(&self, error: ApiError) -> ApiError {
        renamed(error, |param| names::of_response(param, &self.places))
    }

    fn limit(&mut self, can: &Abilities, ceilings: &Ceilings) {
        self.chat().limit(can, ceilings);
    }
}

impl Generate for ResponseAsChat {
    fn streams(&self) -> bool {
        self.chat.streams()
    }

    fn shape(&self) -> Shape {
        Shape::Response(Arc::clone(&self.shape))
    }

    fn choices(&self) -> usize {
        1
    }

    fn include_usage(&self) -> bool {
        false
    }

    fn server_tools(&self) -> Option<Arc<ServerTools>> {
        self.server_tools.clone()
    }

    fn compaction(&self) -> Option<&AutoCompaction> {
        self.compaction.as_ref()
    }

    fn interrupt(&self) -> Option<Arc<Interrupt>> {
        let link = self.link.as_ref();
        link.map(|link| Arc::clone(&link.interrupt))
    }

    fn take_stored(&mut self, _: &str) -> Result<Option<ToStore>, ApiError> {
        Ok(self.turn.take().map(ToStore::Response))
    }

    fn work(request: Arc<Self>) -> Work {
        Work::Chat(Arc::clone(&request.chat))
    }

    fn droppable(&self) -> Option<Vec<Range<usize>>> {
        let truncates = self.shape.template.truncation == "auto";
        truncates.then(|| truncation::droppable(&self.chat.messages, &self.places.messages))
    }

    fn drop_messages(&mut self, dropped: &[Range<usize>]) -> Vec<String> {
        truncation::drop_messages(&mut self.chat().messages, dropped);
        let places = &mut Arc::make_mut(&mut self.places).messages;
        truncation::drop_messages(places, dropped)
    }
}

impl Count for ResponseAsChat {
    const FIELD: &'static str = "input_tokens";

    fn counted(input_tokens: u64, _: Option<u64>) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(&InputTokens::new(input_tokens))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_errors_text_quotes_the_clients_name() {
        let message = "Invalid 'max_completion_tokens': integer below minimum value.";
        let error = ApiError::invalid("max_completion_tokens", "integer_below_min_value", message);
        let renamed = renamed(error, |param| names::of_response(param, &Places::default()));
        assert_eq!(renamed.error.param.as_deref(), Some("max_output_tokens"));
        assert_eq!(
            renamed.error.message,
            "Invalid 'max_output_tokens': integer below minimum value."
        );
    }
}
