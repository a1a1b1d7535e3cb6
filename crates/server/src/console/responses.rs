//! `GET /console/responses`: the stored responses of the caller. OpenAI's API has no list of them.
//!
//! Like every stored object, a response is shown to the key that owns it, and to no other.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::routing::get;
use http::{Response, StatusCode};
use loggia_api::store::{Filter, Kind, Object, Order, Owner, Page};
use loggia_api::{ApiError, Caller, Store};
use serde_json::{Value, json};

use crate::json_answer;
use crate::live::routes::number;

pub(crate) const PATH: &str = "/console/responses";

const USUAL_LIMIT: i64 = 20;
const MOST: i64 = 100;

/// Returns the route.
pub(crate) fn routes(store: Arc<dyn Store>) -> Router {
    Router::new().route(PATH, get(list)).with_state(store)
}

async fn list(State(store): State<Arc<dyn Store>>, request: Request) -> Response<Body> {
    let caller = request.extensions().get::<Caller>();
    let owner = Owner::new(caller.map(|caller| Arc::clone(&caller.name)));
    let limit = number(request.uri(), "limit").unwrap_or(USUAL_LIMIT);
    let page = Page {
        after: text(request.uri().query().unwrap_or_default(), "after"),
        limit: usize::try_from(limit.clamp(1, MOST)).unwrap_or(1),
        order: Order::Descending,
    };
    let filter = Filter::default();
    let listed = store.objects(&owner, Kind::Response, &filter, &page).await;
    match listed {
        Ok(listed) => json_answer(&json!({
            "object": "list",
            "data": listed.data.iter().map(shown).collect::<Vec<_>>(),
            "has_more": listed.has_more,
        })),
        Err(error) => {
            tracing::warn!(%error, "stored responses cannot be listed");
            let message = "Stored responses cannot be listed now.";
            let error = ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message);
            error.coded("store_unavailable").response().map(Body::new)
        }
    }
}

/// Returns the fields of a response that a list shows. `GET /v1/responses/{id}` has the rest.
fn shown(object: &Object) -> Value {
    let body: Value = serde_json::from_str(&object.body).unwrap_or_default();
    let mut shown = json!({
        "id": object.id,
        "object": "response",
        "created_at": object.created,
        "metadata": object.metadata,
        "previous_response_id": object.previous,
    });
    for field in ["model", "status", "background", "usage", "error"] {
        shown[field] = body[field].clone();
    }
    shown
}

/// Returns a text of the query, if it has one of this name. Ids need no decoding.
fn text(query: &str, name: &str) -> Option<String> {
    let mut fields = query.split('&').filter_map(|field| field.split_once('='));
    fields.find_map(|(field, value)| (field == name && !value.is_empty()).then(|| value.to_owned()))
}
