//! The routes of conversations and their items, `/v1/conversations/…`.

use loggia_wire::openai::{CreateConversation, CreateItems};
use serde_json::json;
use serde_json::value::RawValue;

use super::chats::listed;
use super::{Answer, StoredRequest, check_include, damaged, items, metadata, page, shown};
use crate::ApiError;
use crate::admit::checks::missing;
use crate::admit::parse::tracked;
use crate::answer::id;
use crate::store::{Kind, Object, Order, Side};

const KIND: Kind = Kind::Conversation;

impl StoredRequest<'_> {
    /// `POST /v1/conversations`.
    pub(super) async fn create_conversation(&self) -> Result<Answer, ApiError> {
        let body = if self.body.is_empty() {
            b"{}"
        } else {
            &self.body[..]
        };
        let CreateConversation {
            items,
            metadata,
            extra,
        } = tracked(body)?;
        let ignored = self.unknown(&extra)?;
        let metadata = metadata::checked(metadata)?;
        let items = items.map_or_else(|| Ok(Vec::new()), items::stored)?;
        let (id, created) = (id::conversation(), id::now());
        let body = json!({"id": id, "object": KIND.as_str(), "created_at": created});
        let object = Object {
            kind: KIND,
            id,
            created,
            model: None,
            metadata,
            body: body.to_string(),
            previous: None,
            is_held: false,
        };
        let stored = self.store.create(&self.owner, object.clone(), items).await;
        stored.map_err(self.refused(KIND))?;
        let answer = Answer::new(&shown(object)?)?;
        Ok(Answer { ignored, ..answer })
    }

    /// `GET /v1/conversations/{conversation_id}`.
    pub(super) async fn conversation(&self) -> Result<Answer, ApiError> {
        let found = self.store.object(self.at(KIND)).await;
        Answer::new(&shown(found.map_err(self.refused(KIND))?)?)
    }

    /// `POST /v1/conversations/{conversation_id}/items`.
    pub(super) async fn create_items(&self) -> Result<Answer, ApiError> {
        check_include(&self.query)?;
        let CreateItems { items, extra } = tracked(&self.body)?;
        let ignored = self.unknown(&extra)?;
        let items = items::stored(items.ok_or_else(|| missing("items".to_owned()))?)?;
        let added = self.store.append(self.at(KIND), items.clone()).await;
        added.map_err(self.refused(KIND))?;
        let answer = Answer::new(&listed(items, false)?)?;
        Ok(Answer { ignored, ..answer })
    }

    /// `GET /v1/conversations/{conversation_id}/items`.
    pub(super) async fn items(&self) -> Result<Answer, ApiError> {
        check_include(&self.query)?;
        let part = page::of(&self.query, Order::Descending)?;
        let found = self.store.items(self.at(KIND), Side::Input, &part).await;
        let found = found.map_err(self.refused(KIND))?;
        Answer::new(&listed(found.data, found.has_more)?)
    }

    /// `GET /v1/conversations/{conversation_id}/items/{item_id}`.
    pub(super) async fn item(&self) -> Result<Answer, ApiError> {
        check_include(&self.query)?;
        let found = self.store.item(self.at(KIND), self.route.item()).await;
        let found = found.map_err(self.refused(KIND))?;
        Answer::new(&RawValue::from_string(found.body).map_err(|_| damaged())?)
    }

    /// `DELETE /v1/conversations/{conversation_id}/items/{item_id}`.
    pub(super) async fn delete_item(&self) -> Result<Answer, ApiError> {
        let deleted = self
            .store
            .delete_item(self.at(KIND), self.route.item())
            .await;
        Answer::new(&shown(deleted.map_err(self.refused(KIND))?)?)
    }
}
