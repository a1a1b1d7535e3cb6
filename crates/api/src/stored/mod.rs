//! The endpoints of stored objects: chat completions (`chats.rs`), conversations
//! (`conversations.rs`, `items.rs`), files and uploads (`files/`), batches
//! (`batches/`), and vector stores (`vector_stores/`). `change_held.rs` changes an object that no other
//! request changes at the same time. `keep.rs` stores an answer when it has ended. The store itself is [`store`](crate::store).

mod batches;
pub(crate) mod change_held;
pub(crate) mod chats;
mod conversations;
pub(crate) mod files;
pub(crate) mod items;
pub(crate) mod keep;
pub(crate) mod metadata;
pub(crate) mod page;
pub(crate) mod vector_stores;

pub use batches::{AnswerLine, AnsweredLine, BatchWork, FindCaller};

use std::sync::Arc;

use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_core::stream::BoxStream;
use http::request::Parts;
use http::{Request, Response, StatusCode};
use loggia_backend::fetch_images::WebhookSender;
use loggia_wire::Extra;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::admit::checks::{listed_unless_strict, one_of};
use crate::answer::headers::{self, event_stream, name_ignored};
use crate::answer::ignored::listed;
use crate::door::host;
use crate::door::query::Query;
use crate::door::read;
use crate::door::routes::StoredHandler;
use crate::responses::accounts::BackgroundListener;
use crate::responses::live::Live;
use crate::store::{Item, Kind, Object, ObjectRef, Order, Owner, Page, Side, StoreError};
use crate::{ApiError, Body, Caller, Door, RequestId, Route, Store, Strictness};

/// A JSON answer or a stream, and the names of the request's fields that have no effect.
pub(crate) struct Answer {
    content: Content,
    ignored: Vec<String>,
}

enum Content {
    Json(Vec<u8>),
    Events(BoxStream<'static, Bytes>),
}

impl Answer {
    pub(crate) fn new(answer: &impl Serialize) -> Result<Self, ApiError> {
        let json = serde_json::to_vec(answer).map_err(|_| damaged())?;
        Ok(Self {
            content: Content::Json(json),
            ignored: Vec::new(),
        })
    }

    /// Adds the names of the request's fields that have no effect.
    pub(crate) fn ignoring(self, ignored: Vec<String>) -> Self {
        Self { ignored, ..self }
    }

    /// Creates an answer that is a stream of events.
    pub(crate) fn events(events: BoxStream<'static, Bytes>) -> Self {
        Self {
            content: Content::Events(events),
            ignored: Vec::new(),
        }
    }
}

/// A request about stored objects, with its body.
pub(crate) struct StoredRequest<'a> {
    pub(crate) store: &'a dyn Store,
    /// The responses that are being made.
    pub(crate) live: &'a Live,
    /// Hears how background responses ended.
    pub(crate) background_listener: Option<&'a dyn BackgroundListener>,
    /// Calls the URLs of webhooks.
    pub(crate) webhook_sender: Option<&'a WebhookSender>,
    pub(crate) owner: Owner,
    handler: StoredHandler,
    pub(crate) route: &'a Route,
    pub(crate) query: Query,
    body: Bytes,
    strictness: Strictness,
    request_id: Option<Arc<str>>,
    /// The interval of heartbeats in streams.
    pub(crate) heartbeat: Duration,
}

impl Door {
    /// Answers a request about stored objects.
    pub(crate) async fn stored<B>(
        &self,
        handler: StoredHandler,
        route: &Route,
        request: Request<B>,
    ) -> Response<Body>
    where
        B: http_body::Body<Data: Buf, Error: std::fmt::Display> + Send,
    {
        match Box::pin(self.answer_stored(handler, route, request)).await {
            Ok(Answer { content, ignored }) => {
                let mut response = match content {
                    Content::Events(events) => event_stream(Body::events(events)),
                    Content::Json(json) => headers::json(Body::whole(json)),
                };
                name_ignored(&mut response, &listed(&ignored));
                response
            }
            Err(error) => self.refuse(error),
        }
    }

    async fn answer_stored<B>(
        &self,
        handler: StoredHandler,
        route: &Route,
        request: Request<B>,
    ) -> Result<Answer, ApiError>
    where
        B: http_body::Body<Data: Buf, Error: std::fmt::Display> + Send,
    {
        // Without a store, the routes that need one do not exist.
        let store = self.store.clone().ok_or_else(damaged)?;
        let (parts, body) = request.into_parts();
        if parts.extensions.get::<Caller>().is_none() && host::is_public_name(&parts) {
            return Err(ApiError::stored_for_keys_only());
        }
        let body = match parts.method {
            http::Method::POST if !takes_no_body(handler) => {
                read::json_body(&parts.headers, body, &self.policy).await?
            }
            _ => Bytes::new(),
        };
        let asked = StoredRequest {
            store: &*store,
            live: &self.live,
            background_listener: self.background_listener.as_deref(),
            webhook_sender: self.webhooks.as_deref(),
            owner: owner(&parts),
            handler,
            route,
            query: Query::of(&parts.uri),
            body,
            strictness: self.strictness_for(&parts, ""),
            request_id: RequestId::of(&parts),
            heartbeat: self.policy.heartbeat_every,
        };
        asked.answer().await
    }
}

/// Returns the owner of the objects that a request creates and sees.
pub(crate) fn owner(parts: &Parts) -> Owner {
    Owner::new(Caller::name_of(parts))
}

/// Without an API key, no web page may read stored objects.
pub(crate) fn may_see_stored(parts: &Parts) -> bool {
    parts.extensions.get::<Caller>().is_some() || !host::is_public_name(parts)
}

impl StoredRequest<'_> {
    /// Answers the request by its route.
    async fn answer(&self) -> Result<Answer, ApiError> {
        match self.handler {
            StoredHandler::Chats => self.chats().await,
            StoredHandler::StoredChat => self.chat().await,
            StoredHandler::UpdateChat => self.update(Kind::ChatCompletion).await,
            StoredHandler::DeleteChat => self.delete(Kind::ChatCompletion).await,
            StoredHandler::ChatMessages => self.messages().await,
            StoredHandler::CreateConversation => self.create_conversation().await,
            StoredHandler::Conversation => self.conversation().await,
            StoredHandler::UpdateConversation => self.update(Kind::Conversation).await,
            StoredHandler::DeleteConversation => self.delete(Kind::Conversation).await,
            StoredHandler::CreateItems => self.create_items().await,
            StoredHandler::Items => self.items().await,
            StoredHandler::Item => self.item().await,
            StoredHandler::DeleteItem => self.delete_item().await,
            StoredHandler::Response => self.response().await,
            StoredHandler::DeleteResponse => self.delete_response().await,
            StoredHandler::CancelResponse => self.cancel_response().await,
            StoredHandler::InputItems => self.input_items().await,
            StoredHandler::WebhookEventTypes => Self::webhook_event_types(),
            StoredHandler::CreateWebhook => self.create_webhook().await,
            StoredHandler::Webhooks => self.webhooks().await,
            StoredHandler::Webhook => self.webhook().await,
            StoredHandler::UpdateWebhook => self.update_webhook().await,
            StoredHandler::DeleteWebhook => self.delete_webhook().await,
            StoredHandler::RotateWebhookSecret => self.rotate_webhook_secret().await,
            StoredHandler::TestWebhook => self.test_webhook().await,
        }
    }

    /// Returns the object that the path names.
    pub(crate) fn at(&self, kind: Kind) -> ObjectRef<'_> {
        ObjectRef {
            owner: &self.owner,
            kind,
            id: self.route.id(),
        }
    }

    /// Returns the function that turns an error of the store into an answer.
    pub(crate) fn refused(&self, kind: Kind) -> impl Fn(StoreError) -> ApiError + '_ {
        move |error| {
            log(&error, self.request_id.as_deref());
            let after = self.query.get("after").unwrap_or_default();
            let list = match self.handler {
                StoredHandler::ChatMessages => "Message",
                StoredHandler::Items | StoredHandler::InputItems => "Item",
                _ => noun(kind),
            };
            worded(&error, kind, self.route, (list, after))
        }
    }

    /// Returns the body, or an empty object if the client sent none.
    pub(crate) fn body(&self) -> &[u8] {
        if self.body.is_empty() {
            b"{}"
        } else {
            &self.body
        }
    }

    /// Returns the names of unknown fields, or refuses them in strict mode.
    pub(crate) fn unknown(&self, extra: &Extra) -> Result<Vec<String>, ApiError> {
        listed_unless_strict(extra.keys().cloned().collect(), self.strictness)
    }
}

/// Returns whether a route takes no body although its method is POST. Clients send no body or an
/// empty one.
fn takes_no_body(handler: StoredHandler) -> bool {
    handler == StoredHandler::CancelResponse
}

/// The allowed values of `include`. They change nothing, since items are stored and returned whole.
const INCLUDES: &[&str] = &[
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
    "reasoning.encrypted_content",
    "message.output_text.logprobs",
];

/// Refuses an unknown value of the parameter `include`.
pub(crate) fn check_include(query: &Query) -> Result<(), ApiError> {
    let mut includes = query.all("include").enumerate();
    includes
        .try_for_each(|(index, one)| one_of(format_args!("include[{index}]"), Some(one), INCLUDES))
}

/// The number of items of a page when all of them are wanted.
const ALL: usize = 10_000;

/// Returns all items of one side of an object.
///
/// # Errors
/// [`StoreError::TooLong`] if they have more than `most` bytes, and what the store returns.
pub(crate) async fn all_items(
    store: &dyn Store,
    at: ObjectRef<'_>,
    side: Side,
    most: usize,
) -> Result<Vec<Item>, StoreError> {
    let mut items: Vec<Item> = Vec::new();
    let mut bytes = 0_usize;
    loop {
        let page = Page {
            after: items.last().map(|item| item.id.clone()),
            limit: ALL,
            order: Order::Ascending,
        };
        let part = store.items(at, side, &page).await?;
        bytes += part.data.iter().map(|item| item.body.len()).sum::<usize>();
        items.extend(part.data);
        if bytes > most {
            return Err(StoreError::TooLong);
        }
        if !part.has_more {
            return Ok(items);
        }
    }
}

/// Logs a failure of the store. The log contains no text of the client.
pub(crate) fn log(error: &StoreError, request_id: Option<&str>) {
    match error {
        StoreError::Full | StoreError::Unavailable { .. } => {
            tracing::warn!(request_id, %error, "the store failed");
        }
        _ => {}
    }
}

/// Returns the answer for a failure of the store. Its cause is in the operator's log only.
pub(crate) fn failed(error: &StoreError) -> ApiError {
    let (code, message) = match error {
        StoreError::Full => (
            "store_full",
            "There is no room to store this; nothing was stored. Make it smaller, or try again without 'store'.",
        ),
        _ => (
            "store_unavailable",
            "The store of this server does not work at the moment; nothing was stored. Try again later, or without 'store'.",
        ),
    };
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message).coded(code)
}

/// The noun by which errors call an object.
fn noun(kind: Kind) -> &'static str {
    match kind {
        Kind::ChatCompletion => "Chat completion",
        Kind::Conversation => "Conversation",
        Kind::Response => "Response",
        Kind::Message => "Message",
        Kind::File | Kind::VectorStoreFile => "File",
        Kind::Upload => "Upload",
        Kind::Batch | Kind::MessageBatch => "Batch",
        Kind::BatchContent => "Content",
        Kind::VectorStore => "Vector store",
        Kind::VectorStoreFileBatch => "File batch",
        Kind::WebhookEndpoint => "Webhook endpoint",
        Kind::WebhookDelivery => "Webhook event",
    }
}

/// Returns an error of the store in OpenAI's words. `after` is the noun and the id of the entry after
/// which the client wants a list.
fn worded(error: &StoreError, kind: Kind, route: &Route, (list, after): (&str, &str)) -> ApiError {
    let not_found = |noun: &str, id: &str| {
        ApiError::new(
            StatusCode::NOT_FOUND,
            format!("{noun} with id '{id}' not found."),
        )
    };
    let noun = noun(kind);
    match error {
        StoreError::NotFound => not_found(noun, route.id()),
        StoreError::ItemNotFound => not_found("Item", route.item()),
        StoreError::AfterNotFound => not_found(list, after).about("after"),
        StoreError::Duplicate { id } => {
            let message = format!(
                "Duplicate item found with id {id}. Remove duplicate items from your input and try again."
            );
            ApiError::new(StatusCode::BAD_REQUEST, message).about("items")
        }
        StoreError::InUse => {
            let message = format!(
                "{noun} with id '{}' is in use. Try again later.",
                route.id()
            );
            ApiError::new(StatusCode::CONFLICT, message)
        }
        StoreError::BrokenChain { id } => not_found(noun, id),
        StoreError::TooLong => {
            let message = "This is too long to be read at once.";
            ApiError::new(StatusCode::BAD_REQUEST, message)
        }
        StoreError::Full | StoreError::OverLimit | StoreError::Unavailable { .. } => failed(error),
    }
}

/// Returns the error for stored data that cannot be read.
pub(crate) fn damaged() -> ApiError {
    failed(&StoreError::Unavailable {
        cause: String::new(),
    })
}

/// Returns an object with its metadata, as its route shows it.
fn shown(object: Object) -> Result<Map<String, Value>, ApiError> {
    let mut shown: Map<String, Value> =
        serde_json::from_str(&object.body).map_err(|_| damaged())?;
    let metadata = object.metadata.into_iter();
    let metadata: Map<_, _> = metadata.map(|(name, value)| (name, value.into())).collect();
    shown.insert("metadata".to_owned(), metadata.into());
    Ok(shown)
}
