//! Webhooks: URLs of clients that are called when a background response or a batch has ended.
//!
//! [`queued`] makes the changes that put an event into the queue, so that they are stored together
//! with the end that they tell of. `deliver.rs` sends the queued events, `signature.rs` signs them,
//! and `endpoints.rs` has the routes by which clients set their URLs, `/v1/webhook_endpoints…`.
//!
//! Endpoints and deliveries are objects of the store, so every key has its own, and a delivery that
//! a killed server did not finish is claimed again.

mod deliver;
mod endpoints;
mod signature;

use loggia_wire::openai::WebhookEndpoint;
use loggia_wire::openai::responses::ResponseStatus;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::answer::id;
use crate::store::{Change, Filter, Kind, Metadata, Object, Order, Owner, Page, Store, StoreError};

/// The types of events that can be sent.
pub(crate) const EVENT_TYPES: &[&str] = &[
    "response.completed",
    "response.failed",
    "response.cancelled",
    "response.incomplete",
    "batch.completed",
    "batch.failed",
    "batch.cancelled",
    "batch.expired",
];

/// The maximum number of endpoints of an API key.
const MOST_ENDPOINTS: usize = 16;

/// The maximum number of deliveries of an API key that wait. Further events are not sent.
const MOST_WAITING: u64 = 1000;

/// The label of a delivery with the id of its endpoint.
const ENDPOINT: &str = "endpoint";

/// The stored form of an endpoint.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct StoredEndpoint {
    #[serde(flatten)]
    endpoint: WebhookEndpoint,
    /// The secret that signs events.
    secret: String,
    /// The secret before the last rotation, if it still signs events too.
    earlier: Option<EarlierSecret>,
}

/// A secret that was replaced.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct EarlierSecret {
    secret: String,
    /// When the replaced secret becomes invalid, in Unix seconds.
    until: u64,
}

/// The stored form of an event that waits for an endpoint. Its id is the same for all attempts.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Delivery {
    /// The id of the endpoint.
    endpoint: String,
    /// The event as JSON.
    event: String,
    /// The number of failed attempts.
    attempts: u32,
}

/// Returns the type of the event for a response with this status. `None` while it is being made.
pub(crate) fn response_event(status: ResponseStatus) -> Option<&'static str> {
    match status {
        ResponseStatus::Completed => Some("response.completed"),
        ResponseStatus::Failed => Some("response.failed"),
        ResponseStatus::Cancelled => Some("response.cancelled"),
        ResponseStatus::Incomplete => Some("response.incomplete"),
        ResponseStatus::Queued | ResponseStatus::InProgress => None,
    }
}

/// Returns the changes that queue an event about an object, one delivery for each endpoint of its
/// owner that is for such events. They belong into the write that stores the end of the object.
pub(crate) async fn queued(
    store: &dyn Store,
    owner: &Owner,
    event_type: &str,
    id: &str,
) -> Result<Vec<Change>, StoreError> {
    let mut wanting = endpoints(store, owner).await?;
    let is_wanted = |one: &String| one == event_type;
    wanting.retain(|stored| stored.endpoint.event_types.iter().any(is_wanted));
    if wanting.is_empty() {
        return Ok(Vec::new());
    }
    if waiting(store, owner).await? >= MOST_WAITING {
        tracing::warn!(
            event_type,
            object = id,
            key = owner.key(),
            "a webhook event is not sent: too many of this key wait for their endpoints"
        );
        return Ok(Vec::new());
    }
    let event = event(event_type, id);
    let changes = wanting.iter().map(|stored| {
        let endpoint = stored.endpoint.id.clone();
        delivery(endpoint, event.clone())
    });
    let changes: Result<Vec<_>, _> = changes.collect();
    Ok(changes?.concat())
}

/// Returns the endpoints of an owner.
async fn endpoints(store: &dyn Store, owner: &Owner) -> Result<Vec<StoredEndpoint>, StoreError> {
    let all = Page {
        after: None,
        limit: MOST_ENDPOINTS,
        order: Order::Ascending,
    };
    let filter = Filter::default();
    let found = store.objects(owner, Kind::WebhookEndpoint, &filter, &all);
    let mut endpoints = Vec::new();
    for object in found.await?.data {
        if let Ok(endpoint) = serde_json::from_str(&object.body) {
            endpoints.push(endpoint);
        } else {
            tracing::warn!(id = object.id, "a webhook endpoint cannot be read");
        }
    }
    Ok(endpoints)
}

/// Returns how many deliveries of an owner wait.
async fn waiting(store: &dyn Store, owner: &Owner) -> Result<u64, StoreError> {
    let filter = Filter::default();
    let counts = store.counts(owner, Kind::WebhookDelivery, &filter, ENDPOINT);
    Ok(counts.await?.iter().map(|count| count.objects).sum())
}

/// Returns an event as JSON. Of the object, it contains only the id.
fn event(event_type: &str, id: &str) -> String {
    json!({
        "id": id::item("evt_"),
        "object": "event",
        "created_at": id::now(),
        "type": event_type,
        "data": {"id": id},
    })
    .to_string()
}

/// Returns the changes that queue a delivery.
fn delivery(endpoint: String, event: String) -> Result<[Change; 2], StoreError> {
    let (kind, id, now) = (Kind::WebhookDelivery, id::item("wh_"), id::now());
    let metadata = Metadata::from([(ENDPOINT.to_owned(), endpoint.clone())]);
    let delivery = Delivery {
        endpoint,
        event,
        attempts: 0,
    };
    let object = Object {
        kind,
        id: id.clone(),
        created: now,
        model: None,
        metadata,
        body: as_json(&delivery)?,
        previous: None,
        is_held: false,
    };
    let create = Change::Create {
        object,
        items: Vec::new(),
    };
    let schedule = Change::Schedule {
        kind,
        id,
        due: Some(now),
        content: 0,
    };
    Ok([create, schedule])
}

/// Returns the stored form as JSON, which never fails.
fn as_json(stored: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(stored).map_err(|error| StoreError::Unavailable {
        cause: error.to_string(),
    })
}
