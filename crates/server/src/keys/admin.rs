//! The routes that change stored keys, under `/admin/keys`: for keys with the scope `admin` only.
//!
//! | route | what it does |
//! |---|---|
//! | `GET /admin/keys` | lists all keys |
//! | `POST /admin/keys` | creates a key; only this answer has its text |
//! | `GET /admin/keys/{id}` | returns one |
//! | `POST /admin/keys/{id}` | replaces what it allows |
//! | `POST /admin/keys/{id}/rotate` | replaces its text; only this answer has the new one |
//! | `DELETE /admin/keys/{id}` | revokes it |

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, Request, State};
use axum::routing::{get, post};
use http::{Response, StatusCode};
use loggia_api::store::{EarlierSecret, KeyStore, StoreError, StoredKey};
use loggia_api::{ApiError, ModelPattern};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{KeySettings, Keys, NewKey, holder, is_key_name, new_secret};
use crate::{clock, json_answer};

/// The path below which all routes are.
pub(crate) const PATH: &str = "/admin/keys";
pub(crate) const KEY: &str = "/admin/keys/{id}";
const ROTATE: &str = "/admin/keys/{id}/rotate";

/// The largest body of a request, and the time in which it must arrive.
const LARGEST_BODY: usize = 64 << 10;
const BODY_WITHIN: Duration = Duration::from_secs(30);

/// The keys, and the store that keeps them.
#[derive(Clone)]
pub(crate) struct Admin {
    keys: Keys,
    store: Arc<dyn KeyStore>,
}

/// The path of a route as the table has it, if the path is one of them.
pub(crate) fn route(path: &str) -> Option<&'static str> {
    let rest = path.strip_prefix(PATH)?;
    match rest.strip_prefix('/') {
        None if rest.is_empty() => Some(PATH),
        None => None,
        Some(rest) if rest.ends_with("/rotate") => Some(ROTATE),
        Some(_) => Some(KEY),
    }
}

/// Returns the routes.
pub(crate) fn routes(keys: Keys, store: Arc<dyn KeyStore>) -> Router {
    Router::new()
        .route(PATH, get(list).post(create))
        .route(KEY, get(find).post(change).delete(revoke))
        .route(ROTATE, post(rotate))
        .with_state(Admin { keys, store })
}

pub(crate) type Answer = Result<Response<Body>, Response<Body>>;

/// A key as the routes show it.
#[derive(Serialize)]
struct Shown<'a> {
    object: &'static str,
    id: &'a str,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    redacted_value: String,
    created_at: i64,
    expires_at: Option<i64>,
    revoked_at: Option<i64>,
    used_tokens: u64,
    #[serde(flatten)]
    settings: Value,
}

fn shown(key: &StoredKey, text: Option<&str>) -> Value {
    let settings: KeySettings = serde_json::from_str(&key.settings).unwrap_or_default();
    let scopes = settings
        .scopes
        .clone()
        .unwrap_or_else(|| holder::Scopes::DEFAULT.listed());
    let shown = Shown {
        object: "api_key",
        id: &key.id,
        name: &key.name,
        value: text,
        redacted_value: format!("{}…", key.secret.prefix),
        created_at: key.created,
        expires_at: key.expires,
        revoked_at: key.revoked,
        used_tokens: key.used,
        settings: json!({
            "scopes": scopes,
            "models": settings.models,
            "may_delete_models": settings.may_delete_models,
            "limits": settings.limits,
            "budget": settings.budget,
        }),
    };
    // Cannot fail: all keys of maps are texts.
    serde_json::to_value(shown).unwrap_or_default()
}

async fn list(State(admin): State<Admin>) -> Answer {
    let keys = admin.store.keys().await.map_err(unavailable)?;
    let data: Vec<Value> = keys.iter().map(|key| shown(key, None)).collect();
    Ok(json_answer(&json!({"object": "list", "data": data})))
}

async fn find(State(admin): State<Admin>, Path(id): Path<String>) -> Answer {
    Ok(json_answer(&shown(&admin.key(&id).await?, None)))
}

/// The body of a request that creates a key.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    name: String,
    expires_in_seconds: Option<i64>,
    scopes: Option<Vec<holder::Scope>>,
    models: Option<Vec<String>>,
    #[serde(default)]
    may_delete_models: bool,
    limits: Option<crate::limits::KeyLimits>,
    budget: Option<u64>,
}

async fn create(State(admin): State<Admin>, request: Request) -> Answer {
    let asked: Create = body(request).await?;
    let settings = KeySettings {
        scopes: asked.scopes,
        models: asked.models,
        may_delete_models: asked.may_delete_models,
        limits: asked.limits,
        budget: asked.budget,
    };
    check(&settings)?;
    if !is_key_name(&asked.name) {
        let message = "Invalid 'name': a name has letters, digits, '-', '_' and '.', at most 64.";
        return Err(invalid("name", message));
    }
    if admin.keys.is_configured(&asked.name) {
        return Err(taken());
    }
    let expires = match asked.expires_in_seconds {
        Some(seconds) if seconds <= 0 => {
            let message = "Invalid 'expires_in_seconds': it must be at least 1.";
            return Err(invalid("expires_in_seconds", message));
        }
        seconds => seconds.map(|seconds| clock::unix_seconds().saturating_add(seconds)),
    };
    let new = NewKey::new(&asked.name, &settings, clock::unix_seconds(), expires);
    let created = admin.store.create_key(new.stored.clone()).await;
    created.map_err(|error| match error {
        StoreError::Duplicate { .. } => taken(),
        error => unavailable(error),
    })?;
    admin.reload().await;
    Ok(json_answer(&shown(&new.stored, Some(&new.text))))
}

/// The body of a request that changes what a key allows. Fields that are absent become the default.
async fn change(State(admin): State<Admin>, Path(id): Path<String>, request: Request) -> Answer {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Change {
        scopes: Option<Vec<holder::Scope>>,
        models: Option<Vec<String>>,
        #[serde(default)]
        may_delete_models: bool,
        limits: Option<crate::limits::KeyLimits>,
        budget: Option<u64>,
    }
    let asked: Change = body(request).await?;
    let settings = KeySettings {
        scopes: asked.scopes,
        models: asked.models,
        may_delete_models: asked.may_delete_models,
        limits: asked.limits,
        budget: asked.budget,
    };
    check(&settings)?;
    let text = serde_json::to_string(&settings).unwrap_or_default();
    let changed = admin.store.change_key(&id, text).await;
    changed.map_err(|error| admin_error(error, &id))?;
    admin.reload().await;
    Ok(json_answer(&shown(&admin.key(&id).await?, None)))
}

/// The body of a request that rotates a key. It may be empty.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rotate {
    /// How long the earlier text stays valid.
    #[serde(default)]
    overlap_seconds: i64,
}

async fn rotate(State(admin): State<Admin>, Path(id): Path<String>, request: Request) -> Answer {
    let asked: Rotate = body(request).await?;
    let mut key = admin.key(&id).await?;
    let (text, secret) = new_secret();
    let earlier = (asked.overlap_seconds > 0).then(|| EarlierSecret {
        secret: key.secret.clone(),
        until: clock::unix_seconds().saturating_add(asked.overlap_seconds),
    });
    let rotated = admin.store.rotate_key(&id, secret.clone(), earlier).await;
    rotated.map_err(|error| admin_error(error, &id))?;
    key.secret = secret;
    admin.reload().await;
    Ok(json_answer(&shown(&key, Some(&text))))
}

async fn revoke(State(admin): State<Admin>, Path(id): Path<String>) -> Answer {
    let revoked = admin.store.revoke_key(&id, clock::unix_seconds()).await;
    revoked.map_err(|error| admin_error(error, &id))?;
    admin.reload().await;
    Ok(json_answer(
        &json!({"object": "api_key.deleted", "id": id, "deleted": true}),
    ))
}

impl Admin {
    async fn key(&self, id: &str) -> Result<StoredKey, Response<Body>> {
        let keys = self.store.keys().await.map_err(unavailable)?;
        let mut keys = keys.into_iter();
        keys.find(|key| key.id == id)
            .ok_or_else(|| admin_error(StoreError::NotFound, id))
    }

    /// Applies a change to this server at once. Other servers notice the change soon.
    async fn reload(&self) {
        if let Err(error) = self.keys.load(&*self.store).await {
            tracing::warn!(%error, "API keys were changed, and cannot be read");
        }
    }
}

pub(crate) async fn body<T: DeserializeOwned + 'static>(
    request: Request,
) -> Result<T, Response<Body>> {
    let reading = to_bytes(request.into_body(), LARGEST_BODY);
    let Ok(Ok(bytes)) = tokio::time::timeout(BODY_WITHIN, reading).await else {
        let message = format!(
            "The body of the request cannot be read, or has more than {LARGEST_BODY} bytes."
        );
        return Err(refused(ApiError::new(StatusCode::BAD_REQUEST, message)));
    };
    let bytes = if bytes.is_empty() { &b"{}"[..] } else { &bytes };
    serde_json::from_slice(bytes).map_err(|error| {
        let message = format!("We could not parse the JSON body of your request: {error}.");
        refused(ApiError::new(StatusCode::BAD_REQUEST, message))
    })
}

fn check(settings: &KeySettings) -> Result<(), Response<Body>> {
    match settings.mistake() {
        Some((field, message)) => Err(invalid(field, &format!("Invalid '{field}': {message}."))),
        None => Ok(()),
    }
}

impl KeySettings {
    /// Returns the invalid field and the error.
    pub fn mistake(&self) -> Option<(&'static str, String)> {
        let wrong = self.models.iter().flatten().find_map(|model| {
            let parsed = model.parse::<ModelPattern>();
            parsed.err().map(|error| error.to_string())
        });
        let limits = self
            .limits
            .as_ref()
            .and_then(crate::limits::KeyLimits::mistake);
        let has_no_scope = self.scopes.as_ref().is_some_and(Vec::is_empty);
        wrong
            .map(|why| ("models", why))
            .or(limits.map(|why| ("limits", why)))
            .or(has_no_scope.then(|| {
                (
                    "scopes",
                    "a key needs one of chat, files and admin".to_owned(),
                )
            }))
    }
}

fn invalid(field: &str, message: &str) -> Response<Body> {
    refused(ApiError::invalid(field, "invalid_value", message))
}

fn taken() -> Response<Body> {
    let message = "Another API key has this name. Revoke it, or choose another name.";
    let error = ApiError::new(StatusCode::CONFLICT, message);
    refused(error.about("name").coded("name_taken").not_again())
}

fn admin_error(error: StoreError, id: &str) -> Response<Body> {
    match error {
        StoreError::NotFound => {
            let message = format!("There is no API key '{id}' that is not revoked.");
            refused(ApiError::new(StatusCode::NOT_FOUND, message).coded("not_found"))
        }
        error => unavailable(error),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "made for `map_err`")]
fn unavailable(error: StoreError) -> Response<Body> {
    tracing::warn!(%error, "stored API keys cannot be read or changed");
    let message = "Stored API keys cannot be read or changed now.";
    refused(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message).coded("store_unavailable"))
}

#[expect(clippy::needless_pass_by_value, reason = "errors are made in the call")]
pub(crate) fn refused(error: ApiError) -> Response<Body> {
    error.response().map(Body::new)
}
