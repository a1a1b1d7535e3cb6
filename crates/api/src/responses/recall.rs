//! Loads from the store all that a request for a response refers to: the items of the response that
//! it continues, the items of its conversation, and items that it references by id.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use http::StatusCode;
use loggia_wire::openai::responses::{Input, Item, ResponseRequest, ResponseStatus};
use serde::Deserialize;
use serde_json::Value;

use crate::responses::live::Live;
use crate::responses::session::local::Local;
use crate::responses::summary::TRIGGER;
use crate::responses::turn::{HeldConversation, no_conversation};
use crate::store::{self, Kind, ObjectRef, Owner, Side, Store, StoreError};
use crate::stored::{all_items, damaged, failed, log};
use crate::{ApiError, Door};

/// The maximum number of bytes of a conversation that one request loads.
const MOST_BYTES: usize = store::MOST_BYTES_OF_A_PAGE * 2;

/// The data that a request loads from the store, and whether its response is stored.
#[derive(Debug, Default)]
pub(crate) struct Recalled {
    /// The earlier items, which precede those of the request.
    pub(crate) history: Vec<Item>,
    /// The field of the request that referred to them.
    pub(crate) named_by: &'static str,
    /// The conversation of the request, which is held for this turn.
    pub(crate) conversation: Option<Arc<HeldConversation>>,
    /// Whether the response will be stored.
    pub(crate) is_stored: bool,
}

/// Returns which items come from the store.
pub(crate) struct Memory<'a> {
    pub(crate) store: Option<&'a Arc<dyn Store>>,
    pub(crate) live: &'a Live,
    /// The responses that are kept for the session of the request.
    pub(crate) local: Option<&'a Local>,
    pub(crate) owner: &'a Owner,
    pub(crate) request_id: Option<&'a str>,
    /// Whether to hold the conversation for this turn.
    holds: bool,
}

impl<'a> Memory<'a> {
    pub(crate) fn of(door: &'a Door, owner: &'a Owner, request_id: Option<&'a str>) -> Self {
        Self {
            store: door.store.as_ref(),
            live: &door.live,
            local: None,
            owner,
            request_id,
            holds: true,
        }
    }

    /// Adds the unstored responses of the session of the request.
    pub(crate) fn with(mut self, local: Option<&'a Local>) -> Self {
        self.local = local;
        self
    }

    /// Returns the same without holding the conversation, for a request that stores nothing.
    pub(crate) fn only_reading(self) -> Self {
        Self {
            holds: false,
            ..self
        }
    }

    /// Loads what a request refers to, and replaces its references by the items.
    ///
    /// # Errors
    /// A 404 for an unknown id, a 400 for a response or a conversation that is in use, a 503 if the
    /// store does not work.
    pub(crate) async fn recall(&self, request: &mut ResponseRequest) -> Result<Recalled, ApiError> {
        check(request)?;
        let mut recalled = Recalled {
            is_stored: self.store.is_some() && request.store != Some(false),
            ..Recalled::default()
        };
        if request.background == Some(true) && !recalled.is_stored {
            return Err(background_needs_store(self.store.is_some()));
        }
        if let Some(id) = &request.previous_response_id {
            recalled.history = self.before(id).await?;
            recalled.named_by = "previous_response_id";
        }
        if let Some(id) = conversation(request)? {
            let (held, items) = self.conversation(&id).await?;
            recalled.conversation = held.map(Arc::new);
            recalled.history = items;
            recalled.named_by = "conversation";
        }
        if let Some(Input::Items(items)) = &mut request.input {
            without_known(items, &recalled.history);
            self.replace_references(items).await?;
            if request.conversation.is_some() {
                distinct(items, &recalled.history)?;
            }
        }
        Ok(recalled)
    }

    /// Returns the items of a response and of the responses before it.
    async fn before(&self, id: &str) -> Result<Vec<Item>, ApiError> {
        let Some(found) = self.local.and_then(|local| local.find(id)) else {
            return self.stored_before(id).await;
        };
        let mut items = match &found.stored {
            Some(id) => self.stored_before(id).await?,
            None => Vec::new(),
        };
        items.extend(read(found.items)?);
        Ok(items)
    }

    async fn stored_before(&self, id: &str) -> Result<Vec<Item>, ApiError> {
        let Some(store) = self.store else {
            return Err(no_previous(
                id,
                " This server keeps no responses; send the whole conversation in 'input'.",
            ));
        };
        if self.live.find(id, self.owner).is_some() {
            return Err(in_progress(id));
        }
        let at = ObjectRef {
            owner: self.owner,
            kind: Kind::Response,
            id,
        };
        let refuse = |error| match error {
            StoreError::NotFound => no_previous(id, ""),
            StoreError::BrokenChain { id: missing } => no_previous(
                &missing,
                " A response before the one that you named was deleted.",
            ),
            StoreError::TooLong => too_long("previous_response_id"),
            error => self.failed(&error),
        };
        let object = store.object(at).await.map_err(refuse)?;
        let kept: Kept = serde_json::from_str(&object.body).map_err(|_| damaged())?;
        if object.is_held && is_open(kept.status) {
            return Err(in_progress(id));
        }
        let items = self.of_chain(store, at, object).await.map_err(refuse)?;
        read(items)
    }

    /// Returns the items of a response and of those that it continues. If the oldest one belongs to
    /// a conversation, its items at that time come first.
    async fn of_chain(
        &self,
        store: &Arc<dyn Store>,
        at: ObjectRef<'_>,
        object: store::Object,
    ) -> Result<Vec<store::Item>, StoreError> {
        let mut items = store.chain(at).await?;
        // Only the oldest one can have a conversation: a request names a response or a conversation.
        let oldest = match object.previous {
            Some(_) => store.oldest(at).await?,
            None => object,
        };
        let kept = serde_json::from_str::<Kept>(&oldest.body).ok();
        let Some(conversation) = kept.and_then(|kept| kept.conversation) else {
            return Ok(items);
        };
        let first = ObjectRef {
            id: &oldest.id,
            ..at
        };
        let own = store.chain(first).await?;
        let later = items.split_off(own.len().min(items.len()));
        let mut items = self
            .in_conversation(store, first, own, &conversation.id)
            .await?;
        items.extend(later);
        Ok(items)
    }

    /// Returns the items of the conversation of a response, up to the last one of the response's
    /// own.
    async fn in_conversation(
        &self,
        store: &Arc<dyn Store>,
        at: ObjectRef<'_>,
        own: Vec<store::Item>,
        conversation: &str,
    ) -> Result<Vec<store::Item>, StoreError> {
        let conversation = ObjectRef {
            kind: Kind::Conversation,
            id: conversation,
            ..at
        };
        let mut items = match all_items(&**store, conversation, Side::Input, MOST_BYTES).await {
            Ok(items) => items,
            Err(StoreError::NotFound) => return Ok(own),
            Err(error) => return Err(error),
        };
        let last = own.last().map(|item| item.id.as_str());
        let last = items.iter().position(|item| Some(item.id.as_str()) == last);
        match last {
            Some(last) => {
                items.truncate(last + 1);
                Ok(items)
            }
            None => Ok(own),
        }
    }

    /// Holds a conversation if there is a turn, and returns its items.
    async fn conversation(
        &self,
        id: &str,
    ) -> Result<(Option<HeldConversation>, Vec<Item>), ApiError> {
        let Some(store) = self.store else {
            return Err(no_conversation(
                id,
                " This server keeps no conversations; send the whole conversation in 'input'.",
            ));
        };
        let refuse = |error| match error {
            StoreError::NotFound => no_conversation(id, ""),
            StoreError::InUse => locked(),
            StoreError::TooLong => too_long("conversation"),
            error => self.failed(&error),
        };
        let held = if self.holds {
            let held = HeldConversation::hold(store, self.owner, id).await;
            Some(held.map_err(refuse)?)
        } else {
            None
        };
        let at = ObjectRef {
            owner: self.owner,
            kind: Kind::Conversation,
            id,
        };
        let items = all_items(&**store, at, Side::Input, MOST_BYTES)
            .await
            .map_err(refuse)?;
        Ok((held, read(items)?))
    }

    /// Replaces every reference to an item by the item.
    async fn replace_references(&self, items: &mut [Item]) -> Result<(), ApiError> {
        let wanted = items.iter().filter(|item| is_reference(item));
        let wanted: Vec<String> = wanted.filter_map(|item| item.id.clone()).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let mut found: HashMap<String, Item> = HashMap::new();
        if let Some(store) = self.store {
            let stored = store.find_items(self.owner, &wanted).await;
            for item in stored.map_err(|error| self.failed(&error))? {
                let read = serde_json::from_str(&item.body).map_err(|_| damaged())?;
                found.insert(item.id, read);
            }
        }
        for (index, item) in items.iter_mut().enumerate() {
            if !is_reference(item) {
                continue;
            }
            let id = item.id.clone().unwrap_or_default();
            match found.get(&id) {
                Some(stored) => *item = stored.clone(),
                None => return Err(no_item(index, &id, self.store.is_some())),
            }
        }
        Ok(())
    }

    fn failed(&self, error: &StoreError) -> ApiError {
        log(error, self.request_id);
        failed(error)
    }
}

/// The fields of a stored response that decide how another one can continue it.
#[derive(Deserialize)]
struct Kept {
    status: ResponseStatus,
    conversation: Option<KeptConversation>,
}

#[derive(Deserialize)]
struct KeptConversation {
    id: String,
}

/// Returns whether a response with this status has not ended.
pub(crate) fn is_open(status: ResponseStatus) -> bool {
    matches!(status, ResponseStatus::Queued | ResponseStatus::InProgress)
}

/// Parses stored items. Leaves out calls that were cut short, since no output for them will come.
fn read(mut items: Vec<store::Item>) -> Result<Vec<Item>, ApiError> {
    let is_summary = |at: usize| {
        // Only a summary that a model wrote replaces the items before it: a client that sends a
        // summary sends only the items that are needed beside it. In a conversation, a model's
        // summary follows the item that asked for it.
        let is_models = |item: &store::Item| {
            let asked = at.checked_sub(1).and_then(|before| items.get(before));
            item.side == Side::Output || asked.is_some_and(|asked| is_of_kind(asked, TRIGGER))
        };
        items
            .get(at)
            .is_some_and(|item| is_of_kind(item, "compaction") && is_models(item))
    };
    if let Some(last) = (0..items.len()).rev().find(|at| is_summary(*at)) {
        items.drain(..last);
    }
    let mut history = Vec::with_capacity(items.len());
    for item in items {
        let item: Item = serde_json::from_str(&item.body).map_err(|_| damaged())?;
        let is_call = item
            .kind
            .as_deref()
            .is_some_and(|kind| kind.ends_with("_call"));
        if !(is_call && item.status.as_deref() == Some("incomplete")) {
            history.push(item);
        }
    }
    Ok(history)
}

/// Returns whether a stored item is of this kind.
fn is_of_kind(item: &store::Item, kind: &str) -> bool {
    // Most are not, and need not be parsed.
    item.body.contains(&format!("\"{kind}\""))
        && serde_json::from_str::<Item>(&item.body)
            .is_ok_and(|item| item.kind.as_deref() == Some(kind))
}

/// Returns whether an item only refers to a stored item. Its other fields do not matter.
pub(crate) fn is_reference(item: &Item) -> bool {
    match item.kind.as_deref() {
        Some(kind) => kind == "item_reference",
        None => item.role.is_none() && item.id.is_some(),
    }
}

/// Checks the fields that refer to the store, without the store.
fn check(request: &ResponseRequest) -> Result<(), ApiError> {
    if request.previous_response_id.is_some() && request.conversation.is_some() {
        let message = "Mutually exclusive parameters: 'previous_response_id' and 'conversation'. Send only one of them.";
        return Err(ApiError::invalid(
            "previous_response_id",
            "mutually_exclusive_parameters",
            message,
        ));
    }
    Ok(())
}

/// Returns the id of the conversation that a request names.
fn conversation(request: &ResponseRequest) -> Result<Option<String>, ApiError> {
    let id = match &request.conversation {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Object(named)) => named.get("id").and_then(Value::as_str),
        Some(named) => named.as_str(),
    };
    let Some(id) = id else {
        let message = "Invalid type for 'conversation': expected an id, or an object with an 'id'.";
        return Err(ApiError::invalid("conversation", "invalid_type", message));
    };
    Ok(Some(id.to_owned()))
}

/// Drops references to items that are in the history anyway: the model reads each item once, in its
/// place.
fn without_known(items: &mut Vec<Item>, history: &[Item]) {
    if !items.iter().any(is_reference) {
        return;
    }
    let known: HashSet<&str> = history.iter().filter_map(|one| one.id.as_deref()).collect();
    let is_known = |item: &Item| item.id.as_deref().is_some_and(|id| known.contains(id));
    items.retain(|item| !(is_reference(item) && is_known(item)));
}

/// Refuses an item that is already in the conversation, since the turn could not be stored later.
fn distinct(items: &[Item], history: &[Item]) -> Result<(), ApiError> {
    let there: HashSet<&str> = history
        .iter()
        .filter_map(|item| item.id.as_deref())
        .collect();
    let mut new = HashSet::new();
    for item in items {
        let Some(id) = item.id.as_deref() else {
            continue;
        };
        if there.contains(id) || !new.insert(id) {
            let message = format!(
                "Duplicate item found with id {id}. Remove duplicate items from your input and try again."
            );
            return Err(ApiError::new(StatusCode::BAD_REQUEST, message).about("input"));
        }
    }
    Ok(())
}

fn no_previous(id: &str, hint: &str) -> ApiError {
    let message = format!("Previous response with id '{id}' not found.{hint}");
    ApiError::new(StatusCode::NOT_FOUND, message)
        .about("previous_response_id")
        .coded("previous_response_not_found")
}

fn in_progress(id: &str) -> ApiError {
    let message = format!(
        "The response with id '{id}' is still in progress. Continue it after it has ended, or cancel it."
    );
    ApiError::invalid("previous_response_id", "response_in_progress", message)
}

fn locked() -> ApiError {
    let message = "Another process is currently operating on this conversation. Please retry in a few seconds.";
    ApiError::invalid("conversation", "conversation_locked", message)
}

fn too_long(param: &str) -> ApiError {
    let message = format!(
        "What '{param}' brings back is more than {} MiB: start a new conversation.",
        MOST_BYTES >> 20
    );
    ApiError::invalid(param, "context_length_exceeded", message)
}

fn no_item(index: usize, id: &str, stores: bool) -> ApiError {
    let hint = if stores {
        "Items of a response are only kept if 'store' is not false. Send the item itself."
    } else {
        "This server keeps no responses; send the item itself (in the AI SDK: `store: false`)."
    };
    let message = format!("Item with id '{id}' not found. {hint}");
    ApiError::new(StatusCode::NOT_FOUND, message)
        .about(format!("input[{index}].id"))
        .coded("item_not_found")
}

fn background_needs_store(stores: bool) -> ApiError {
    let message = if stores {
        "A background response must be stored: leave 'store' out, or set it to true."
    } else {
        "This server keeps no responses, so that none can be fetched later; leave 'background' out."
    };
    ApiError::invalid("background", "unsupported_parameter", message)
}
