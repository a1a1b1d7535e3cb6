//! Threads: conversations that the server keeps. The tool runners of the SDKs send the conversation
//! once, and then only the results of its calls.
//!
//! Each message of a thread is an object of the store, which names the one before it. Its items are
//! the messages of the request and the answer; the first object also has the system prompt and the
//! tools.

use http::StatusCode;
use http::request::Parts;
use loggia_wire::anthropic::{Content, InputMessage, MessagesRequest, Tool};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::admit::checks::{missing, not_among};
use crate::admit::parse::{typed, wrong_at};
use crate::answer::id;
use crate::answer::writer::Head;
use crate::messages::error::{NOT_FOUND, UNSUPPORTED};
use crate::store::{self, Change, Item, Kind, Metadata, Object, ObjectRef, Side, StoreError};
use crate::stored::may_see_stored;
use crate::stored::{damaged, failed, log, owner};
use crate::{ApiError, Door, RequestId};

/// The id of the item with the system prompt and the tools.
const SETTINGS: &str = "settings";

/// The thread of a request, and the parts of the request that are stored with its answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Thread {
    /// Whether the answer is stored.
    is_kept: bool,
    /// The message that this one continues.
    previous: Option<String>,
    /// The items of the request.
    items: Vec<Item>,
    /// The number of messages that the store brought back.
    pub(crate) recalled: usize,
}

/// The part of a thread that cannot change.
#[derive(Default, Serialize, Deserialize)]
struct Settings {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    system: Option<Content>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tools: Option<Vec<Tool>>,
}

impl Thread {
    /// Takes the thread out of a request. `None` if it has none.
    ///
    /// # Errors
    /// Returns a 400 for a thread of an unknown type or without its message.
    pub(crate) fn of(request: &mut MessagesRequest) -> Result<Option<Self>, ApiError> {
        #[derive(Deserialize)]
        struct ThreadParam {
            #[serde(rename = "type")]
            kind: String,
            #[serde(default)]
            previous_message_id: Option<String>,
        }
        let Some(thread) = request.thread.take().filter(|thread| !thread.is_null()) else {
            return Ok(None);
        };
        let asked: ThreadParam = typed(thread).map_err(|error| wrong_at("thread", error))?;
        let previous = match asked.kind.as_str() {
            "create" => None,
            "continue" => {
                let id = asked.previous_message_id;
                Some(id.ok_or_else(|| missing("thread.previous_message_id".to_owned()))?)
            }
            other => return Err(not_among("thread.type", other, &["create", "continue"])),
        };
        Ok(Some(Self {
            is_kept: true,
            previous,
            ..Self::default()
        }))
    }

    /// Puts what the thread contains before the messages of a request.
    ///
    /// # Errors
    /// Returns a 400 if this server keeps no threads, and a 404 for a message that it does not have.
    pub(crate) async fn recall(
        mut self,
        door: &Door,
        parts: &Parts,
        request: &mut MessagesRequest,
    ) -> Result<Self, ApiError> {
        let Some(store) = &door.store else {
            return Err(unsupported());
        };
        if !may_see_stored(parts) {
            return Err(ApiError::stored_for_keys_only());
        }
        self.items = stored(request, self.previous.is_none())?;
        let Some(previous) = &self.previous else {
            return Ok(self);
        };
        let owner = owner(parts);
        let at = ObjectRef {
            owner: &owner,
            kind: Kind::Message,
            id: previous,
        };
        let items = store.chain(at).await.map_err(|error| match error {
            StoreError::NotFound | StoreError::BrokenChain { .. } => not_found(previous),
            StoreError::TooLong => {
                let message = "The thread is too long; start a new one.";
                ApiError::invalid("thread", "invalid_value", message)
            }
            error => {
                log(&error, RequestId::of(parts).as_deref());
                failed(&error)
            }
        })?;
        let (settings, mut messages) = read(items)?;
        self.recalled = messages.len();
        messages.append(&mut request.messages);
        request.messages = messages;
        request.system = request.system.take().or(settings.system);
        request.tools = request.tools.take().or(settings.tools);
        Ok(self)
    }

    /// Returns whether the answer is stored.
    pub(crate) fn is_kept(&self) -> bool {
        self.is_kept
    }

    /// The change that stores an answer, which is a complete message as JSON.
    pub(crate) fn end(&self, head: &Head, json: &[u8]) -> Result<Change, ApiError> {
        let mut message: Value = serde_json::from_slice(json).map_err(|_| damaged())?;
        let content = message.get_mut("content").map(Value::take);
        let answer = json!({"role": "assistant", "content": content});
        let mut items = self.items.clone();
        items.push(Item {
            id: "answer".to_owned(),
            body: answer.to_string(),
            side: Side::Output,
        });
        let object = Object {
            kind: Kind::Message,
            id: head.id.to_string(),
            created: id::now(),
            model: Some(head.model.to_string()),
            metadata: Metadata::new(),
            body: message.to_string(),
            previous: self.previous.clone(),
            is_held: false,
        };
        Ok(Change::Create { object, items })
    }
}

/// The items that are stored of a request.
fn stored(request: &MessagesRequest, is_first: bool) -> Result<Vec<Item>, ApiError> {
    let item = |id: String, body: serde_json::Result<String>| {
        let side = Side::Input;
        let item = body.map(|body| Item { id, body, side });
        item.map_err(|_| damaged())
    };
    let mut items = Vec::new();
    if is_first {
        let settings = Settings {
            system: request.system.clone(),
            tools: request.tools.clone(),
        };
        items.push(item(SETTINGS.to_owned(), serde_json::to_string(&settings))?);
    }
    for (index, message) in request.messages.iter().enumerate() {
        let body = serde_json::to_string(message);
        items.push(item(format!("message_{index}"), body)?);
    }
    Ok(items)
}

/// The settings and the messages of a thread.
fn read(items: Vec<store::Item>) -> Result<(Settings, Vec<InputMessage>), ApiError> {
    let (mut settings, mut messages) = (Settings::default(), Vec::new());
    for item in items {
        if item.id == SETTINGS {
            settings = serde_json::from_str(&item.body).map_err(|_| damaged())?;
        } else {
            messages.push(serde_json::from_str(&item.body).map_err(|_| damaged())?);
        }
    }
    Ok((settings, messages))
}

fn unsupported() -> ApiError {
    let message = "This server keeps no threads; send the whole conversation in 'messages' and leave 'thread' out.";
    ApiError::invalid("thread", UNSUPPORTED, message)
}

fn not_found(id: &str) -> ApiError {
    let message = format!("No thread has a message with the id '{id}'.");
    ApiError::new(StatusCode::NOT_FOUND, message)
        .about("thread.previous_message_id")
        .coded(NOT_FOUND)
}
