//! [`ApiError`]: converts causes to the errors that clients see, in one flat list.
//! `error_response.rs` writes them.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use loggia_backend::{BackendError, NotDeleted, Phase, Profile, WorkKind};
use loggia_wire::openai::{ErrorBody, ErrorObject};

use crate::wording::{self, Dialect, Origins};

/// The default wait before a retry: if an engine is busy or down, for the engine's rate limit, and
/// while a model is pulled. Some clients never retry a 429 or 503 without a time.
pub(crate) const BUSY_RETRY_AFTER: Duration = Duration::from_secs(1);
const LIMITED_RETRY_AFTER: Duration = Duration::from_secs(2);
const NO_MODELS_RETRY_AFTER: Duration = Duration::from_secs(30);

/// The maximum wait that an error tells clients. OpenAI's packages do not retry after a longer one.
const LONGEST_RETRY_AFTER: Duration = Duration::from_mins(2);

/// The supported content codings, as a 415 lists them in `Accept-Encoding`.
pub(crate) const ACCEPTED_CODINGS: &str = "gzip, deflate, br, zstd";

/// The maximum number of characters of a path in an error.
const LONGEST_PATH: usize = 256;

/// The maximum length of an error's message and of its `param`, in bytes.
const LONGEST_TEXT: usize = 2048;

/// The error of a request or a stream, in OpenAI's format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// The HTTP status, for errors before the response begins.
    pub status: StatusCode,
    /// The error object.
    pub error: ErrorObject,
    /// Whether the SDKs should retry, if their own rule (408, 409, 429, 5xx) is wrong.
    pub should_retry: Option<bool>,
    /// The time after which to retry. Every 429 and 503 has one, except for an account without
    /// quota.
    pub retry_after: Option<Duration>,
    /// The methods of the route, for a 405.
    pub allow: Vec<Method>,
    /// The id of the request, for the error events of dialects that have it there.
    pub request_id: Option<Arc<str>>,
}

impl ApiError {
    /// Creates an error with OpenAI's type for this status.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        let kind = kind(status).to_owned();
        let error = ErrorObject {
            message: bounded(message.into()),
            kind,
            param: None,
            code: None,
        };
        let retry_after = match status {
            StatusCode::SERVICE_UNAVAILABLE => Some(BUSY_RETRY_AFTER),
            StatusCode::TOO_MANY_REQUESTS => Some(LIMITED_RETRY_AFTER),
            _ => None,
        };
        Self {
            status,
            error,
            should_retry: None,
            retry_after,
            allow: Vec::new(),
            request_id: None,
        }
    }

    /// Creates a 400 about one field.
    pub fn invalid(param: impl Into<String>, code: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
            .about(param)
            .coded(code)
    }

    /// Sets the path of the invalid field.
    #[must_use]
    pub fn about(mut self, param: impl Into<String>) -> Self {
        self.error.param = Some(bounded(param.into()));
        self
    }

    /// Sets the code for programs.
    #[must_use]
    pub fn coded(mut self, code: impl Into<String>) -> Self {
        self.error.code = Some(code.into());
        self
    }

    /// Sets the time after which to retry, at most the longest that the SDKs accept.
    #[must_use]
    fn again_after(mut self, time: Option<Duration>) -> Self {
        self.retry_after = time
            .or(self.retry_after)
            .map(|time| time.min(LONGEST_RETRY_AFTER));
        self
    }

    /// Tells clients not to retry, because a retry would fail or double the load.
    #[must_use]
    pub fn not_again(mut self) -> Self {
        self.should_retry = Some(false);
        self
    }

    /// Creates the error for a missing API key.
    pub fn no_key() -> Self {
        let message = "You didn't provide an API key. Send yours in the header 'Authorization: Bearer YOUR_KEY', or in 'x-api-key'.";
        Self::new(StatusCode::UNAUTHORIZED, message).coded("invalid_api_key")
    }

    /// Creates the error for an unknown API key. It does not quote the key, because errors are
    /// logged and shown to others.
    pub fn wrong_key() -> Self {
        let message =
            "Incorrect API key provided. Ask the operator of this server for a valid key.";
        Self::new(StatusCode::UNAUTHORIZED, message).coded("invalid_api_key")
    }

    /// Creates the error for a caller whose key may not delete models.
    pub(crate) fn may_not_delete() -> Self {
        let message = "You have insufficient permissions for this operation: this API key may not delete models. \
                       Ask the operator of this server to set `may_delete_models = true` for it.";
        Self::new(StatusCode::FORBIDDEN, message)
            .coded("insufficient_permissions")
            .not_again()
    }

    /// Creates the error for a deletion without an API key, if the server requires one.
    pub(crate) fn deletes_for_keys_only() -> Self {
        let message = "This server deletes models only for an API key that has `may_delete_models = true` in its configuration.";
        Self::new(StatusCode::FORBIDDEN, message)
            .coded("insufficient_permissions")
            .not_again()
    }

    /// Creates the error for a request for stored objects without an API key, under a host name
    /// that a web page may have made resolve to this server (see `door/host.rs`).
    pub(crate) fn stored_for_keys_only() -> Self {
        let message = "Without an API key, stored objects are served only under an IP address, 'localhost' or a name of a \
                       local network, so that no web page can read them. Configure an API key to use another host name.";
        Self::new(StatusCode::FORBIDDEN, message)
            .coded("insufficient_permissions")
            .not_again()
    }

    /// Creates the error for a deletion without an API key by a web page.
    pub(crate) fn no_page_deletes() -> Self {
        let message = "A web page cannot delete models without an API key that has `may_delete_models = true`.";
        Self::new(StatusCode::FORBIDDEN, message)
            .coded("insufficient_permissions")
            .not_again()
    }

    /// Creates the error for an unknown route. `meant` is a similar route.
    pub(crate) fn unknown_route(method: &Method, path: &str, meant: Option<&str>) -> Self {
        let url: String = path.chars().take(LONGEST_PATH).collect();
        let message = match meant {
            // Clients of Anthropic's API add the whole path.
            Some(meant) if meant.starts_with("/v1/messages") => {
                format!(
                    "Invalid URL ({method} {url}). Did you mean {meant}? The base URL of a client of Anthropic's API has no path."
                )
            }
            Some(meant) => {
                format!(
                    "Invalid URL ({method} {url}). Did you mean {meant}? The base URL of a client ends in '/v1'."
                )
            }
            None => format!("Invalid URL ({method} {url})"),
        };
        Self::new(StatusCode::NOT_FOUND, message).coded("unknown_url")
    }

    pub(crate) fn wrong_method(method: &Method, path: &str, allowed: Vec<Method>) -> Self {
        let message = format!(
            "Not allowed to {method} on {path}; use {}.",
            listed(&allowed, " or ")
        );
        let mut error =
            Self::new(StatusCode::METHOD_NOT_ALLOWED, message).coded("method_not_supported");
        error.allow = allowed;
        error
    }

    /// Creates the error for a body above the size limit.
    pub(crate) fn body_too_large(limit: usize) -> Self {
        let message = format!(
            "The body of the request is too large. This server accepts at most {limit} bytes."
        );
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, message).coded("request_too_large")
    }

    /// Returns the error for a client that asks for a WebSocket on a route that does not offer it:
    /// a 426. After it Codex continues with POST; after any other status it repeats the request.
    #[must_use]
    pub(crate) fn without_websocket(self) -> Self {
        if self.status != StatusCode::METHOD_NOT_ALLOWED {
            return self;
        }
        let message = format!(
            "This server does not offer WebSocket; use {}.",
            listed(&self.allow, " or ")
        );
        let mut error =
            Self::new(StatusCode::UPGRADE_REQUIRED, message).coded("method_not_supported");
        error.allow = self.allow;
        error
    }

    pub(crate) fn unknown(param: &str) -> Self {
        Self::invalid(
            param,
            "unknown_parameter",
            format!("Unknown parameter: '{param}'."),
        )
    }

    pub(crate) fn unsupported(param: &str) -> Self {
        let message = format!("Unsupported parameter: '{param}' is not supported with this model.");
        Self::invalid(param, "unsupported_parameter", message)
    }

    /// Converts the error for the profile: the original had three types, without param and code.
    #[must_use]
    pub(crate) fn under(mut self, profile: Profile) -> Self {
        if profile == Profile::Original {
            let kind = match self.status.as_u16() {
                400 => "invalid_request_error",
                404 => "not_found_error",
                _ => "api_error",
            };
            self.error = ErrorObject {
                kind: kind.to_owned(),
                param: None,
                code: None,
                ..self.error
            };
        }
        self
    }

    /// Returns the code of the error, or its type if it has no code.
    pub(crate) fn label(&self) -> &str {
        self.error.code.as_deref().unwrap_or(&self.error.kind)
    }

    /// Returns the body of the response, or the data of an error event.
    pub fn body(&self) -> ErrorBody {
        ErrorBody {
            error: self.error.clone(),
        }
    }
}

pub(crate) fn listed(methods: &[Method], between: &str) -> String {
    methods
        .iter()
        .map(Method::as_str)
        .collect::<Vec<_>>()
        .join(between)
}

/// Limits the length of a text, because errors quote the client and the engine.
fn bounded(mut text: String) -> String {
    if text.len() > LONGEST_TEXT {
        text.truncate(text.floor_char_boundary(LONGEST_TEXT));
        text.push('…');
    }
    text
}

/// Returns OpenAI's error type for this status.
fn kind(status: StatusCode) -> &'static str {
    match status.as_u16() {
        429 => "rate_limit_exceeded",
        500..=599 => "server_error",
        _ => "invalid_request_error",
    }
}

fn rate_limited(message: String, code: Option<String>, retry_after: Option<Duration>) -> ApiError {
    let limited = ApiError::new(StatusCode::TOO_MANY_REQUESTS, message);
    let no_quota = code.as_deref() == Some(BackendError::NO_QUOTA);
    let mut limited = limited.coded(bounded(
        code.unwrap_or_else(|| "rate_limit_exceeded".to_owned()),
    ));
    if no_quota {
        BackendError::NO_QUOTA.clone_into(&mut limited.error.kind);
        limited.should_retry = Some(false);
        limited.retry_after = retry_after;
        return limited;
    }
    limited.again_after(retry_after)
}

impl From<BackendError> for ApiError {
    fn from(error: BackendError) -> Self {
        Self::worded(error, Dialect::Chat)
    }
}

impl ApiError {
    /// Converts a backend's failure to the error that clients of this dialect see.
    pub(crate) fn worded(error: BackendError, dialect: Dialect) -> Self {
        Self::worded_at(error, dialect, &Origins::default())
    }

    /// The same about a chat whose fields come from there.
    pub(crate) fn worded_at(error: BackendError, dialect: Dialect, origins: &Origins) -> Self {
        let message = error.to_string();
        match error {
            BackendError::ModelNotFound { .. } => {
                Self::new(StatusCode::NOT_FOUND, message).coded("model_not_found")
            }
            BackendError::NoModels => {
                let none = Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
                    .coded("no_models")
                    .not_again();
                none.again_after(Some(NO_MODELS_RETRY_AFTER))
            }
            BackendError::InvalidRequest { param, code, .. } => {
                let mut refused = Self::new(StatusCode::BAD_REQUEST, message);
                refused.error.param = param.map(|param| wording::param(dialect, origins, param));
                refused.error.code = code;
                refused
            }
            BackendError::EmptyPrompt => {
                let message = wording::empty_prompt(dialect);
                Self::new(StatusCode::BAD_REQUEST, message).about(wording::prompt(dialect))
            }
            BackendError::ContextLengthExceeded {
                prompt_tokens,
                context,
            } => {
                let message = wording::context_exceeded(dialect, prompt_tokens, context);
                Self::invalid(wording::prompt(dialect), "context_length_exceeded", message)
            }
            BackendError::InputTooLong {
                index,
                tokens,
                most,
            } => {
                let param = wording::input(index);
                let message = wording::input_too_long(&param, tokens, most);
                Self::invalid(param, "context_length_exceeded", message)
            }
            BackendError::Unsupported { work } => unsupported(work, dialect),
            BackendError::NotDeleted { why, .. } => not_deleted(message, &why),
            BackendError::Refused {
                status,
                param,
                code,
                ..
            } => {
                let mut refused = Self::new(refusal_status(status), message);
                let param = param.map(|param| wording::param(dialect, origins, param));
                refused.error.param = param.map(bounded);
                refused.error.code = code.map(bounded);
                refused
            }
            BackendError::RateLimited {
                code, retry_after, ..
            } => rate_limited(message, code, retry_after),
            failed => failure(&failed, message),
        }
    }
}

/// Returns the status of a request that the engine refused. A status that is no refusal becomes 400.
fn refusal_status(status: u16) -> StatusCode {
    let status = StatusCode::from_u16(status).ok();
    let refusal = status.filter(StatusCode::is_client_error);
    refusal.unwrap_or(StatusCode::BAD_REQUEST)
}

/// As OpenAI: a 404 if the model does not support the route, a 403 if it does not support
/// embeddings.
fn unsupported(work: WorkKind, dialect: Dialect) -> ApiError {
    let status = match work {
        WorkKind::Chat | WorkKind::Completions => StatusCode::NOT_FOUND,
        WorkKind::Embeddings => StatusCode::FORBIDDEN,
    };
    ApiError::new(status, wording::unsupported(work, dialect)).about("model")
}

fn not_deleted(message: String, why: &NotDeleted) -> ApiError {
    let (status, code) = if why.is_conflict() {
        (StatusCode::CONFLICT, "model_in_use")
    } else {
        (StatusCode::FORBIDDEN, "model_not_deletable")
    };
    let refused = ApiError::new(status, message).about("model").coded(code);
    // The SDKs retry a 409, which helps only if the model will soon be free.
    if *why == NotDeleted::InUse {
        refused
    } else {
        refused.not_again()
    }
}

/// Converts an error of the engine or of the connection to it.
fn failure(error: &BackendError, message: String) -> ApiError {
    let (status, code, is_worth_another_try) = match error {
        BackendError::Busy { retry_after } => {
            let busy = ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message);
            return busy.coded("engine_busy").again_after(*retry_after);
        }
        BackendError::Credentials { .. } => (StatusCode::BAD_GATEWAY, "backend_credentials", false),
        BackendError::Unreachable { .. } => (StatusCode::BAD_GATEWAY, "backend_unreachable", true),
        // A retry fails until the configuration changes.
        BackendError::Tls { .. } => (StatusCode::BAD_GATEWAY, "backend_unreachable", false),
        // A retry would process the prompt from the beginning again.
        BackendError::TimedOut { phase, .. } => (
            StatusCode::GATEWAY_TIMEOUT,
            "backend_timeout",
            *phase == Phase::Connect,
        ),
        BackendError::BadAnswer { .. } => (StatusCode::BAD_GATEWAY, "backend_bad_answer", false),
        BackendError::CutShort { .. }
        | BackendError::NodeRemoved { .. }
        | BackendError::Unfinished => (StatusCode::BAD_GATEWAY, "backend_cut_short", true),
        BackendError::Overdue { .. } => (StatusCode::GATEWAY_TIMEOUT, "backend_timeout", false),
        _ => (StatusCode::INTERNAL_SERVER_ERROR, "engine_error", true),
    };
    let failed = ApiError::new(status, message).coded(code);
    if is_worth_another_try {
        failed
    } else {
        failed.not_again()
    }
}
