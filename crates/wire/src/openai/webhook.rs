//! `/v1/webhook_endpoints`: URLs that are called when an object of the client has ended.

use serde::{Deserialize, Serialize};

use crate::object::object;

object! {
    /// The request of `POST /v1/webhook_endpoints`.
    pub struct CreateWebhookEndpoint {
        /// A name, for people.
        required name: String = "name",
        /// The URL that is called.
        required url: String = "url",
        /// The types of events for which the endpoint is called.
        required event_types: Vec<String> = "event_types",
    }
}

object! {
    /// The request of `POST /v1/webhook_endpoints/{webhook_endpoint_id}`. Missing fields do not
    /// change.
    pub struct UpdateWebhookEndpoint {
        /// A new name.
        optional name: String = "name",
        /// A new URL.
        optional url: String = "url",
        /// The types of all events that the endpoint is called for from now on.
        optional event_types: Vec<String> = "event_types",
    }
}

object! {
    /// The request of `POST /v1/webhook_endpoints/{webhook_endpoint_id}/rotate_secret`.
    pub struct RotateWebhookSecret {
        /// Whether events are signed with the old secret, too, for 24 hours.
        optional keep_old_secret_active_for_24_hours: bool = "keep_old_secret_active_for_24_hours",
    }
}

object! {
    /// The request of `POST /v1/webhook_endpoints/{webhook_endpoint_id}/test`.
    pub struct TestWebhook {
        /// The type of the event to send.
        required event_type: String = "event_type",
    }
}

/// A webhook endpoint, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookEndpoint {
    /// The id.
    pub id: String,
    /// Always `webhook_endpoint`.
    pub object: String,
    /// When the endpoint was created, in Unix seconds.
    pub created_at: u64,
    /// When the endpoint or its secret was changed, in Unix seconds.
    pub updated_at: u64,
    /// A name, for people.
    pub name: String,
    /// The URL that is called.
    pub url: String,
    /// The types of events for which the endpoint is called.
    pub event_types: Vec<String>,
    /// The beginning and the end of the secret.
    pub signing_secret_hint: String,
}

/// The answer of a test of a webhook endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WebhookTestResult {
    /// Always `webhook_endpoint.test`.
    pub object: &'static str,
    /// The id of the endpoint.
    pub webhook_endpoint_id: String,
    /// The type of the event that was sent.
    pub event_type: String,
    /// Always `true`: the endpoint has answered.
    pub success: bool,
    /// The status of the endpoint's answer.
    pub status_code: u16,
}
