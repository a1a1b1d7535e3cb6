//! [`Turn`]: the parts of a request for a response that are stored with its answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::StatusCode;
use loggia_wire::openai::responses::{self, OutputItem, Response};
use serde_json::Value;

use crate::ApiError;
use crate::answer::id::now;
use crate::responses::live::Entry;
use crate::store::{
    Change, Item, Kind, Metadata, NeededHold, Object, Owner, Side, Store, StoreError,
};
use crate::stored::{damaged, items};

/// How long a hold on an object lasts unless it is renewed. If the server is killed, the object is
/// free after this time.
pub(crate) const HELD_FOR: Duration = Duration::from_secs(20);

/// How often a hold is renewed.
pub(crate) const RENEWED_EVERY: Duration = Duration::from_secs(5);

/// The parts of a request for a response that are stored together with its answer.
#[derive(Clone, Debug)]
pub(crate) struct Turn {
    /// The items that the client sent. References are replaced by the items that they name.
    pub(crate) input: Vec<Item>,
    pub(crate) metadata: Metadata,
    /// The response that this one continues.
    pub(crate) previous: Option<String>,
    /// The conversation that the input and the output are added to.
    pub(crate) conversation: Option<Arc<HeldConversation>>,
    /// Whether the response is stored. Otherwise only its conversation changes.
    pub(crate) is_stored: bool,
    /// The entry among the responses that are being made, until the turn is over.
    pub(crate) entry: Option<Arc<Entry>>,
}

impl Turn {
    /// Returns the changes that store a response that has ended.
    pub(crate) fn end(&self, response: &mut Response) -> Result<Vec<Change>, ApiError> {
        let output = output(&response.output)?;
        let mut changes = Vec::new();
        if self.is_stored {
            let mut items = self.input.clone();
            items.extend(output.iter().cloned());
            let object = self.object(response)?;
            changes.push(Change::Create { object, items });
        }
        changes.extend(self.add_to_conversation(output));
        Ok(changes)
    }

    /// Returns the changes that store a background response before its task begins.
    pub(crate) fn begin(
        &self,
        response: &mut Response,
        holder: &str,
    ) -> Result<Vec<Change>, ApiError> {
        let object = self.object(response)?;
        let items = self.input.clone();
        let id = &response.id;
        let hold = hold(Kind::Response, id, holder);
        let due = abandoned_later(id);
        Ok(vec![Change::Create { object, items }, hold, due])
    }

    /// Returns the changes that store the end of a background response. `stream` has its events.
    pub(crate) fn replace(
        &self,
        response: &mut Response,
        holder: &str,
        stream: Option<Vec<u8>>,
    ) -> Result<Vec<Change>, ApiError> {
        let mut items = output(&response.output)?;
        let mut to_conversation = Vec::new();
        if is_added(response) {
            to_conversation.extend(self.add_to_conversation(items.clone()));
        }
        if let Some(stream) = stream {
            items.push(Item {
                id: "stream".to_owned(),
                body: String::from_utf8_lossy(&stream).into_owned(),
                side: Side::Stream,
            });
        }
        let (kind, id) = (Kind::Response, response.id.clone());
        let body = body(response)?;
        let mut changes = vec![
            Change::Replace {
                kind,
                id: id.clone(),
                body,
                items,
                needs: Some(NeededHold::Of(holder.to_owned())),
            },
            Change::Release {
                kind,
                id: id.clone(),
                holder: Some(holder.to_owned()),
            },
            never_abandoned(&id),
        ];
        changes.extend(to_conversation);
        Ok(changes)
    }

    fn object(&self, response: &mut Response) -> Result<Object, ApiError> {
        Ok(Object {
            kind: Kind::Response,
            id: response.id.clone(),
            created: response.created_at,
            model: Some(response.model.clone()),
            metadata: self.metadata.clone(),
            body: body(response)?,
            previous: self.previous.clone(),
            is_held: false,
        })
    }

    /// Returns the changes that add the input and the output to the conversation, and end the hold
    /// on it.
    fn add_to_conversation(&self, output: Vec<Item>) -> Vec<Change> {
        let Some(conversation) = &self.conversation else {
            return Vec::new();
        };
        let added = self.input.iter().cloned().chain(output);
        let items = added.map(|item| Item {
            side: Side::Input,
            ..item
        });
        let append = Change::Append {
            kind: Kind::Conversation,
            id: conversation.id.clone(),
            items: items.collect(),
        };
        let mut changes = vec![append];
        changes.extend(self.release());
        changes
    }

    fn release(&self) -> Option<Change> {
        let conversation = self.conversation.as_ref()?;
        Some(Change::Release {
            kind: Kind::Conversation,
            id: conversation.id.clone(),
            holder: Some(conversation.holder.clone()),
        })
    }

    /// Returns the error for a turn whose conversation was deleted in the meantime.
    pub(crate) fn without_conversation(&self) -> Option<ApiError> {
        let conversation = self.conversation.as_ref()?;
        let hint = " It was deleted before the turn ended; nothing was stored.";
        Some(no_conversation(conversation.id(), hint))
    }

    /// Ends the hold on the conversation of a turn that did not add to it.
    pub(crate) async fn release_conversation(&self) {
        if let Some(conversation) = &self.conversation {
            conversation.release().await;
        }
    }

    /// Notes that the changes were made.
    pub(crate) fn was_stored(&self) {
        if let Some(conversation) = &self.conversation {
            conversation.is_released.store(true, Ordering::Relaxed);
        }
    }
}

/// Returns whether a background response that has ended is added to its conversation.
pub(crate) fn is_added(response: &Response) -> bool {
    matches!(
        response.status,
        responses::ResponseStatus::Completed | responses::ResponseStatus::Incomplete
    )
}

/// When a background response counts as abandoned whose hold is not renewed any more. Later than its
/// hold runs out, so that a server whose store was away for a moment goes on.
const ABANDONED_AFTER: Duration = Duration::from_secs(30);

/// Returns the change that makes a server look for the task of a background response later on.
pub(crate) fn abandoned_later(id: &str) -> Change {
    due(id, Some(now() + ABANDONED_AFTER.as_secs()))
}

/// Returns the change after which no server looks for the task of a response.
pub(crate) fn never_abandoned(id: &str) -> Change {
    due(id, None)
}

fn due(id: &str, due: Option<u64>) -> Change {
    Change::Schedule {
        kind: Kind::Response,
        id: id.to_owned(),
        due,
        content: 0,
    }
}

/// Returns the change that holds an object for some time.
fn hold(kind: Kind, id: &str, holder: &str) -> Change {
    Change::Hold {
        kind,
        id: id.to_owned(),
        holder: holder.to_owned(),
        time: HELD_FOR,
    }
}

/// Returns the change that makes a hold last longer.
pub(crate) fn renewed(kind: Kind, id: &str, holder: &str) -> Change {
    Change::Renew {
        kind,
        id: id.to_owned(),
        holder: holder.to_owned(),
        time: HELD_FOR,
    }
}

/// Returns the items of an input as they are stored.
pub(crate) fn input(input: &[responses::Item]) -> Result<Vec<Item>, ApiError> {
    let stored: Result<Vec<Item>, ApiError> = input.iter().map(items::as_they_come).collect();
    Ok(distinct(stored?))
}

/// Gives new ids to items whose id was used by an earlier item of the same input. Clients may send
/// such items.
fn distinct(mut items: Vec<Item>) -> Vec<Item> {
    let mut seen = std::collections::HashSet::new();
    for item in &mut items {
        if !seen.insert(item.id.clone()) {
            *item = items::with_new_id(item);
            seen.insert(item.id.clone());
        }
    }
    items
}

/// Returns the items of an output as they are stored.
fn output(output: &[OutputItem]) -> Result<Vec<Item>, ApiError> {
    let stored = output.iter().map(|item| {
        Ok(Item {
            id: item.id().to_owned(),
            body: serde_json::to_string(item).map_err(|_| damaged())?,
            side: Side::Output,
        })
    });
    stored.collect()
}

/// Returns the response as it is stored, without output and metadata, which are stored separately.
pub(crate) fn body(response: &mut Response) -> Result<String, ApiError> {
    let output = std::mem::take(&mut response.output);
    let metadata = std::mem::take(&mut response.metadata);
    let body = serde_json::to_string(response).map_err(|_| damaged());
    response.output = output;
    response.metadata = metadata;
    body
}

/// Returns a stored response with its output and its metadata.
pub(crate) fn whole(object: Object, output: &[Item]) -> Result<Response, ApiError> {
    let mut response: Response = serde_json::from_str(&object.body).map_err(|_| damaged())?;
    let items = output.iter().map(|item| serde_json::from_str(&item.body));
    response.output = items.collect::<Result<_, _>>().map_err(|_| damaged())?;
    let metadata = object.metadata.into_iter();
    response.metadata = metadata
        .map(|(name, value)| (name, Value::String(value)))
        .collect();
    Ok(response)
}

pub(crate) fn no_conversation(id: &str, hint: &str) -> ApiError {
    let message = format!("Conversation with id '{id}' not found.{hint}");
    ApiError::new(StatusCode::NOT_FOUND, message)
        .about("conversation")
        .coded("conversation_not_found")
}

/// A conversation that is held for one turn, so that no other turn changes it in the meantime. The
/// hold is renewed until this is dropped.
pub(crate) struct HeldConversation {
    store: Arc<dyn Store>,
    owner: Owner,
    id: String,
    holder: String,
    is_released: AtomicBool,
    renewing: tokio::task::AbortHandle,
}

impl HeldConversation {
    /// Holds a conversation. Fails with [`StoreError::InUse`] while another turn holds it.
    pub(crate) async fn hold(
        store: &Arc<dyn Store>,
        owner: &Owner,
        id: &str,
    ) -> Result<Self, StoreError> {
        // This is a task of its own: if the client leaves during the write, the task still releases
        // the hold.
        let holding = Self::begin(Arc::clone(store), owner.clone(), id.to_owned());
        let held = tokio::spawn(holding).await;
        held.unwrap_or_else(|error| {
            let cause = error.to_string();
            Err(StoreError::Unavailable { cause })
        })
    }

    async fn begin(store: Arc<dyn Store>, owner: Owner, id: String) -> Result<Self, StoreError> {
        let holder = crate::answer::id::item("hold_");
        let change = hold(Kind::Conversation, &id, &holder);
        store.write(&owner, vec![change]).await?;
        let renewing = {
            let (store, owner) = (Arc::clone(&store), owner.clone());
            let change = renewed(Kind::Conversation, &id, &holder);
            tokio::spawn(async move {
                loop {
                    tokio::time::sleep(RENEWED_EVERY).await;
                    let renewed = store.write(&owner, vec![change.clone()]).await;
                    if let Err(StoreError::InUse | StoreError::NotFound) = renewed {
                        return;
                    }
                }
            })
        };
        Ok(Self {
            store,
            owner,
            id,
            holder,
            is_released: AtomicBool::new(false),
            renewing: renewing.abort_handle(),
        })
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Ends the hold, unless it has ended already.
    async fn release(&self) {
        self.renewing.abort();
        if self.is_released.swap(true, Ordering::Relaxed) {
            return;
        }
        let release = Change::Release {
            kind: Kind::Conversation,
            id: self.id.clone(),
            holder: Some(self.holder.clone()),
        };
        // If that fails, the hold ends when its time runs out.
        let _ = self.store.write(&self.owner, vec![release]).await;
    }
}

impl std::fmt::Debug for HeldConversation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HeldConversation")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Drop for HeldConversation {
    /// Ends the hold if the turn did not end.
    fn drop(&mut self) {
        self.renewing.abort();
        if self.is_released.load(Ordering::Relaxed) {
            return;
        }
        let release = Change::Release {
            kind: Kind::Conversation,
            id: std::mem::take(&mut self.id),
            holder: Some(std::mem::take(&mut self.holder)),
        };
        let (store, owner) = (Arc::clone(&self.store), self.owner.clone());
        // Without a runtime, the hold ends when its time runs out.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { store.write(&owner, vec![release]).await });
        }
    }
}
