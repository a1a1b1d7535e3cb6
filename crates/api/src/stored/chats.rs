//! The routes of stored chat completions, `/v1/chat/completions/…`. Changing the metadata and
//! deleting is the same for every kind of object, and is here too.

use loggia_wire::openai::{Deleted, Message, Page, UpdateMetadata};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::{Answer, StoredRequest, damaged, metadata, page, shown};
use crate::ApiError;
use crate::admit::checks::missing;
use crate::admit::parse::tracked;
use crate::store::{Item, Kind, Order, Side};

const KIND: Kind = Kind::ChatCompletion;

impl StoredRequest<'_> {
    /// `GET /v1/chat/completions`.
    pub(super) async fn chats(&self) -> Result<Answer, ApiError> {
        let part = page::of(&self.query, Order::Ascending)?;
        let filter = page::filter(&self.query);
        let found = self.store.objects(&self.owner, KIND, &filter, &part).await;
        let found = found.map_err(self.refused(KIND))?;
        let chats = found.data.into_iter();
        let chats = chats.map(|chat| Ok((chat.id.clone(), shown(chat)?)));
        let chats = chats.collect::<Result<_, ApiError>>()?;
        Answer::new(&Page::new(chats, found.has_more))
    }

    /// `GET /v1/chat/completions/{completion_id}`.
    pub(super) async fn chat(&self) -> Result<Answer, ApiError> {
        let chat = self.store.object(self.at(KIND)).await;
        Answer::new(&shown(chat.map_err(self.refused(KIND))?)?)
    }

    /// `GET /v1/chat/completions/{completion_id}/messages`.
    pub(super) async fn messages(&self) -> Result<Answer, ApiError> {
        let part = page::of(&self.query, Order::Ascending)?;
        let found = self.store.items(self.at(KIND), Side::Input, &part).await;
        let found = found.map_err(self.refused(KIND))?;
        Answer::new(&listed(found.data, found.has_more)?)
    }

    /// `POST` of an object: replaces its metadata.
    pub(super) async fn update(&self, kind: Kind) -> Result<Answer, ApiError> {
        let body: Map<String, Value> = tracked(&self.body)?;
        if !body.contains_key("metadata") {
            return Err(missing("metadata".to_owned()));
        }
        let UpdateMetadata { metadata, extra } = tracked(&self.body)?;
        let ignored = self.unknown(&extra)?;
        let metadata = metadata::checked(metadata)?;
        let changed = self.store.set_metadata(self.at(kind), metadata).await;
        let answer = Answer::new(&shown(changed.map_err(self.refused(kind))?)?)?;
        Ok(Answer { ignored, ..answer })
    }

    /// `DELETE` of an object.
    pub(super) async fn delete(&self, kind: Kind) -> Result<Answer, ApiError> {
        let deleted = self.store.delete(self.at(kind)).await;
        deleted.map_err(self.refused(kind))?;
        Answer::new(&Deleted {
            object: format!("{}.deleted", kind.as_str()),
            id: self.route.id().to_owned(),
            deleted: true,
        })
    }
}

/// Returns items as a list with `has_more`.
pub(crate) fn listed(items: Vec<Item>, has_more: bool) -> Result<Page<Box<RawValue>>, ApiError> {
    let items = items.into_iter();
    let items = items.map(|item| Ok((item.id, RawValue::from_string(item.body)?)));
    let items = items.collect::<Result<_, serde_json::Error>>();
    Ok(Page::new(items.map_err(|_| damaged())?, has_more))
}

/// Returns the messages of a request as `GET …/messages` lists them.
pub(super) fn stored(messages: &[Message], completion: &str) -> Result<Vec<Item>, ApiError> {
    let numbered = messages.iter().enumerate();
    numbered
        .map(|(index, message)| {
            let id = format!("{completion}-{index}");
            let message = serde_json::to_value(message).map_err(|_| damaged())?;
            let body = one(&id, message).to_string();
            Ok(Item {
                id,
                body,
                side: Side::Input,
            })
        })
        .collect()
}

/// Returns a stored message with its id. If its content is a list of parts, the list is moved to
/// `content_parts`.
fn one(id: &str, message: Value) -> Value {
    let Value::Object(mut message) = message else {
        return message;
    };
    let content = message.remove("content").unwrap_or_default();
    let (content, parts) = match content {
        Value::Array(_) => (Value::Null, content),
        text => (text, Value::Null),
    };
    let mut stored = json!({
        "id": id,
        "role": message.remove("role"),
        "content": content,
        "refusal": message.remove("refusal"),
        "content_parts": parts,
    });
    if let Some(stored) = stored.as_object_mut() {
        stored.extend(message);
    }
    stored
}
