//! A request of `POST /v1/messages`, admitted and answered like any other.

use std::collections::BTreeSet;
use std::sync::Arc;

use loggia_backend::conversation::continuation;
use loggia_backend::{Abilities, Ability, OptionNames, Profile, Work, WorkKind};
use loggia_wire::Extra;
use loggia_wire::anthropic::MessagesRequest;
use loggia_wire::openai::{ChatCompletionRequest, Message};
use serde_json::{Value, json};

use crate::admit::ask::Ask;
use crate::admit::chat;
use crate::answer::id;
use crate::answer::writer::Shape;
use crate::count::Count;
use crate::field_names::{named, renamed};
use crate::generated::Generate;
use crate::messages::edits::Edit;
use crate::messages::names::{self, Places};
use crate::messages::request::{Translated, translate};
use crate::messages::shape::{MessageShape, Purpose};
use crate::messages::signature::Signer;
use crate::messages::thread::Thread;
use crate::responses::auto_compaction::AutoCompaction;
use crate::stored::keep::ToStore;
use crate::wording::{Dialect, Origins};
use crate::{ApiError, Ceilings, Strictness};

/// A request of `POST /v1/messages` that was parsed and became a chat.
#[derive(Clone, Debug)]
pub(crate) struct MessageAsChat {
    chat: Arc<ChatCompletionRequest>,
    /// The names of the chat's fields in the client's request.
    places: Arc<Places>,
    /// Fields that have no effect with any model.
    ignored: Vec<String>,
    /// Whether the client did not mention reasoning. Without the field, Anthropic's models do not
    /// reason.
    leaves_thinking_open: bool,
    /// Whether the answer continues the last message.
    continues: bool,
    /// The edits of the conversation, and the tokens that they have removed.
    edits: Vec<Edit>,
    removed_tokens: u64,
    /// The compaction of the conversation.
    compaction: Option<AutoCompaction>,
    shape: Arc<MessageShape>,
    thread: Thread,
}

impl MessageAsChat {
    /// Makes a chat of a request, which has the messages of its thread.
    pub(crate) fn new(
        request: MessagesRequest,
        thread: Thread,
        signer: Signer,
        ceilings: &Ceilings,
    ) -> Result<Self, ApiError> {
        let Translated {
            mut chat,
            places,
            ignored,
            leaves_thinking_open,
            continues,
            edits,
            compaction,
            shape,
        } = translate(request, thread.recalled, signer, ceilings)?;
        chat::check_whole_with(&mut chat, ceilings, MOST_STOP_SEQUENCES)
            .map_err(|error| renamed(error, |param| names::of_messages(param, &places)))?;
        Ok(Self {
            chat: Arc::new(chat),
            places: Arc::new(places),
            ignored,
            leaves_thinking_open,
            continues,
            edits,
            removed_tokens: 0,
            compaction,
            shape: Arc::new(shape),
            thread,
        })
    }

    /// Returns the chat. It is not shared yet, so nothing is copied.
    fn chat(&mut self) -> &mut ChatCompletionRequest {
        Arc::make_mut(&mut self.chat)
    }

    /// Translates an error and a list of fields to the client's names.
    fn named(&self, settled: Result<Vec<String>, ApiError>) -> Result<Vec<String>, ApiError> {
        named(settled, |field| names::of_messages(field, &self.places))
    }
}

impl Ask for MessageAsChat {
    const WORK: WorkKind = WorkKind::Chat;
    const DIALECT: Dialect = Dialect::Messages;
    const NEEDS: Ability = Ability::Chat;

    fn id(_: Profile) -> Arc<str> {
        id::message()
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
        // An engine that passes unknown fields on claims every ability, and may refuse the value.
        let can_answer_at_once = can.has(Ability::Reasoning)
            && can.has(Ability::NoReasoning)
            && !can.has(Ability::UnknownFields);
        if self.leaves_thinking_open && can_answer_at_once {
            self.chat().reasoning_effort = Some("none".to_owned());
        }
        if self.continues && can_continue(can) {
            continuation::request(&mut self.chat().extra);
        }
        let settled = self.chat().settle(can, strictness);
        if self.shape.purpose == Purpose::Prewarming && can.options == OptionNames::Embedded {
            self.chat().max_completion_tokens = Some(0);
        }
        self.named(settled)
    }

    fn chat(&mut self) -> Option<&mut ChatCompletionRequest> {
        Some(Self::chat(self))
    }

    fn origins(&self) -> Origins {
        Origins::Messages(Arc::clone(&self.places))
    }

    fn named_place(&self, error: ApiError) -> ApiError {
        renamed(error, |param| names::of_messages(param, &self.places))
    }

    fn limit(&mut self, can: &Abilities, ceilings: &Ceilings) {
        self.chat().limit(can, ceilings);
    }
}

/// Returns whether the engine has a field for answers that continue the last message. Ollama has
/// none: there the model's template decides.
fn can_continue(can: &Abilities) -> bool {
    let is_read = |fields: &BTreeSet<String>| fields.contains(continuation::CONTINUE);
    can.has(Ability::Continuation) && !can.has(Ability::UnknownFields)
        || can.chat_fields().is_some_and(is_read)
}

/// The maximum number of stop sequences, as in Anthropic's API.
const MOST_STOP_SEQUENCES: usize = 8191;

impl Generate for MessageAsChat {
    fn streams(&self) -> bool {
        self.chat.streams()
    }

    fn shape(&self) -> Shape {
        Shape::Message(Arc::clone(&self.shape))
    }

    fn choices(&self) -> usize {
        1
    }

    fn include_usage(&self) -> bool {
        false
    }

    fn compaction(&self) -> Option<&AutoCompaction> {
        self.compaction.as_ref()
    }

    fn edits(&self) -> &[Edit] {
        &self.edits
    }

    fn edit(&mut self, messages: Vec<Message>, applied: Value, tokens: u64) {
        self.chat().messages = messages;
        let edits = &mut Arc::make_mut(&mut self.shape).applied_edits;
        edits.get_or_insert_default().push(applied);
        self.removed_tokens += tokens;
    }

    fn take_stored(&mut self, _: &str) -> Result<Option<ToStore>, ApiError> {
        let thread = std::mem::take(&mut self.thread);
        Ok(thread.is_kept().then_some(ToStore::Message(thread)))
    }

    fn work(request: Arc<Self>) -> Work {
        Work::Chat(Arc::clone(&request.chat))
    }
}

impl Count for MessageAsChat {
    const FIELD: &'static str = "input_tokens";

    fn removed_tokens(&self) -> Option<u64> {
        let edits = self.shape.applied_edits.as_ref();
        edits.map(|_| self.removed_tokens)
    }

    fn counted(input_tokens: u64, removed: Option<u64>) -> serde_json::Result<Vec<u8>> {
        let mut counted = json!({"input_tokens": input_tokens});
        if let Some(removed) = removed {
            let original = input_tokens.saturating_add(removed);
            counted["context_management"] = json!({"original_input_tokens": original});
        }
        serde_json::to_vec(&counted)
    }
}
