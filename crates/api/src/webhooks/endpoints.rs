//! The routes of webhook endpoints, `/v1/webhook_endpoints…`, and `/v1/webhook_event_types`.

use std::time::Duration;

use http::StatusCode;
use loggia_wire::openai::{
    CreateWebhookEndpoint, Deleted, Page, RotateWebhookSecret, TestWebhook, UpdateWebhookEndpoint,
    WebhookEndpoint, WebhookTestResult,
};
use serde_json::{Value, json};

use super::{
    EVENT_TYPES, EarlierSecret, MOST_ENDPOINTS, StoredEndpoint, as_json, endpoints, event,
    signature,
};
use crate::ApiError;
use crate::admit::checks::one_of;
use crate::admit::parse::tracked;
use crate::answer::id;
use crate::responses::turn::HELD_FOR;
use crate::store::{Filter, Kind, Metadata, Object, Order};
use crate::stored::change_held::{Changed, ToHold, change_held};
use crate::stored::{Answer, StoredRequest, damaged, page};

const KIND: Kind = Kind::WebhookEndpoint;

/// The longest name, in characters.
const LONGEST_NAME: usize = 256;

/// How long a replaced secret may stay valid.
const KEPT_SECONDS: u64 = 24 * 3600;

impl StoredRequest<'_> {
    /// `GET /v1/webhook_event_types`.
    pub(crate) fn webhook_event_types() -> Result<Answer, ApiError> {
        Answer::new(&json!({"object": "list", "data": EVENT_TYPES}))
    }

    /// `POST /v1/webhook_endpoints`.
    pub(crate) async fn create_webhook(&self) -> Result<Answer, ApiError> {
        let CreateWebhookEndpoint {
            name,
            url,
            event_types,
            extra,
        } = tracked(self.body())?;
        let ignored = self.unknown(&extra)?;
        self.check(Some(&name), Some(&url), Some(&event_types))?;
        let existing = endpoints(self.store, &self.owner).await;
        if existing.map_err(self.refused(KIND))?.len() >= MOST_ENDPOINTS {
            let message = format!(
                "You have {MOST_ENDPOINTS} webhook endpoints, the limit of this server. Delete one first."
            );
            return Err(ApiError::new(StatusCode::BAD_REQUEST, message).coded("too_many_webhooks"));
        }
        let secret = signature::new_secret();
        let created_at = id::now();
        let stored = StoredEndpoint {
            endpoint: WebhookEndpoint {
                id: id::item("whe_"),
                object: KIND.as_str().to_owned(),
                created_at,
                updated_at: created_at,
                name,
                url,
                event_types: distinct(event_types),
                signing_secret_hint: signature::hint(&secret),
            },
            secret,
            earlier: None,
        };
        let object = Object {
            kind: KIND,
            id: stored.endpoint.id.clone(),
            created: created_at,
            model: None,
            metadata: Metadata::new(),
            body: as_json(&stored).map_err(|_| damaged())?,
            previous: None,
            is_held: false,
        };
        let created = self.store.create(&self.owner, object, Vec::new()).await;
        created.map_err(self.refused(KIND))?;
        Ok(with_secret(&stored)?.ignoring(ignored))
    }

    /// `GET /v1/webhook_endpoints`.
    pub(crate) async fn webhooks(&self) -> Result<Answer, ApiError> {
        let part = page::of(&self.query, Order::Descending)?;
        let filter = Filter::default();
        let found = self.store.objects(&self.owner, KIND, &filter, &part).await;
        let found = found.map_err(self.refused(KIND))?;
        let mut listed = Vec::with_capacity(found.data.len());
        for object in found.data {
            let StoredEndpoint { endpoint, .. } = stored(&object)?;
            listed.push((object.id, endpoint));
        }
        Answer::new(&Page::new(listed, found.has_more))
    }

    /// `GET /v1/webhook_endpoints/{webhook_endpoint_id}`.
    pub(crate) async fn webhook(&self) -> Result<Answer, ApiError> {
        Answer::new(&self.found_webhook().await?.endpoint)
    }

    /// `POST /v1/webhook_endpoints/{webhook_endpoint_id}`.
    pub(crate) async fn update_webhook(&self) -> Result<Answer, ApiError> {
        let UpdateWebhookEndpoint {
            name,
            url,
            event_types,
            extra,
        } = tracked(self.body())?;
        let ignored = self.unknown(&extra)?;
        self.check(name.as_deref(), url.as_deref(), event_types.as_deref())?;
        let changed = self.change_webhook(|stored| {
            let before = stored.endpoint.clone();
            let endpoint = &mut stored.endpoint;
            if let Some(name) = name {
                endpoint.name = name;
            }
            if let Some(url) = url {
                endpoint.url = url;
            }
            if let Some(event_types) = event_types {
                endpoint.event_types = distinct(event_types);
            }
            if *endpoint != before {
                endpoint.updated_at = id::now();
            }
        });
        Ok(Answer::new(&changed.await?.endpoint)?.ignoring(ignored))
    }

    /// `DELETE /v1/webhook_endpoints/{webhook_endpoint_id}`. Its queued events are dropped.
    pub(crate) async fn delete_webhook(&self) -> Result<Answer, ApiError> {
        let deleted = self.store.delete(self.at(KIND)).await;
        deleted.map_err(self.refused(KIND))?;
        Answer::new(&Deleted {
            object: "webhook_endpoint.deleted".to_owned(),
            id: self.route.id().to_owned(),
            deleted: true,
        })
    }

    /// `POST /v1/webhook_endpoints/{webhook_endpoint_id}/rotate_secret`.
    pub(crate) async fn rotate_webhook_secret(&self) -> Result<Answer, ApiError> {
        let RotateWebhookSecret {
            keep_old_secret_active_for_24_hours,
            extra,
        } = tracked(self.body())?;
        let ignored = self.unknown(&extra)?;
        let keeps = keep_old_secret_active_for_24_hours.unwrap_or(false);
        let rotated = self.change_webhook(|stored| {
            let now = id::now();
            let secret = signature::new_secret();
            stored.endpoint.signing_secret_hint = signature::hint(&secret);
            stored.endpoint.updated_at = now;
            let old = std::mem::replace(&mut stored.secret, secret);
            stored.earlier = keeps.then_some(EarlierSecret {
                secret: old,
                until: now + KEPT_SECONDS,
            });
        });
        Ok(with_secret(&rotated.await?)?.ignoring(ignored))
    }

    /// `POST /v1/webhook_endpoints/{webhook_endpoint_id}/test`: sends an event at once, and once.
    pub(crate) async fn test_webhook(&self) -> Result<Answer, ApiError> {
        let TestWebhook { event_type, extra } = tracked(self.body())?;
        let ignored = self.unknown(&extra)?;
        one_of("event_type", Some(&event_type), EVENT_TYPES)?;
        let stored = self.found_webhook().await?;
        let sender = self.webhook_sender.ok_or_else(damaged)?;
        let object = match event_type.split_once('.') {
            Some(("batch", _)) => "batch_test",
            _ => "resp_test",
        };
        let event = event(&event_type, object);
        let sent = stored.send(sender, &id::item("wh_"), &event).await;
        let status = sent.map_err(|reason| {
            let message = format!("The webhook endpoint could not be called: {reason}.");
            ApiError::new(StatusCode::BAD_REQUEST, message).coded("webhook_not_delivered")
        })?;
        let result = WebhookTestResult {
            object: "webhook_endpoint.test",
            webhook_endpoint_id: stored.endpoint.id,
            event_type,
            success: true,
            status_code: status.as_u16(),
        };
        Ok(Answer::new(&result)?.ignoring(ignored))
    }

    async fn found_webhook(&self) -> Result<StoredEndpoint, ApiError> {
        let object = self.store.object(self.at(KIND)).await;
        stored(&object.map_err(self.refused(KIND))?)
    }

    /// Changes an endpoint. No other request can change it between the read and the write.
    async fn change_webhook(
        &self,
        change: impl FnOnce(&mut StoredEndpoint) + Send,
    ) -> Result<StoredEndpoint, ApiError> {
        let to_hold = ToHold {
            store: self.store,
            object: self.at(KIND),
            time: HELD_FOR,
            wait: Duration::ZERO,
        };
        let changed = async {
            let mut stored = self.found_webhook().await?;
            change(&mut stored);
            Ok(Changed {
                body: as_json(&stored).map_err(|_| damaged())?,
                with: Vec::new(),
                value: stored,
            })
        };
        change_held(to_hold, self.refused(KIND), changed).await
    }

    /// Checks the fields of an endpoint that a request has.
    fn check(
        &self,
        name: Option<&str>,
        url: Option<&str>,
        event_types: Option<&[String]>,
    ) -> Result<(), ApiError> {
        if let Some(name) = name
            && (name.is_empty() || name.chars().count() > LONGEST_NAME)
        {
            let message =
                format!("Invalid 'name': expected a string of 1 to {LONGEST_NAME} characters.");
            return Err(ApiError::invalid("name", "invalid_value", message));
        }
        if let Some(url) = url {
            let checked = self.webhook_sender.ok_or_else(damaged)?.check(url);
            checked.map_err(|reason| {
                let message = format!("Invalid 'url': {reason}.");
                ApiError::invalid("url", "invalid_value", message)
            })?;
        }
        let Some(event_types) = event_types else {
            return Ok(());
        };
        if event_types.is_empty() {
            let message = "Invalid 'event_types': expected at least one type of event.";
            return Err(ApiError::invalid("event_types", "invalid_value", message));
        }
        for (index, event_type) in event_types.iter().enumerate() {
            one_of(
                format_args!("event_types[{index}]"),
                Some(event_type),
                EVENT_TYPES,
            )?;
        }
        Ok(())
    }
}

/// Returns the types without repetitions.
fn distinct(mut event_types: Vec<String>) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    event_types.retain(|one| seen.insert(one.clone()));
    event_types
}

fn stored(object: &Object) -> Result<StoredEndpoint, ApiError> {
    serde_json::from_str(&object.body).map_err(|_| damaged())
}

/// Returns the answer with the secret, which no other answer has.
fn with_secret(stored: &StoredEndpoint) -> Result<Answer, ApiError> {
    let mut shown = serde_json::to_value(&stored.endpoint).map_err(|_| damaged())?;
    if let Value::Object(shown) = &mut shown {
        shown.insert("signing_secret".to_owned(), stored.secret.clone().into());
    }
    Answer::new(&shown)
}
