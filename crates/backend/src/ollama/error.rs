//! Translates Ollama's errors into [`BackendError`].

use std::time::Duration;

use http::StatusCode;
use loggia_wire::ollama::{ErrorLine, InnerError};
use tower::BoxError;

use crate::openai::with_its_status;
use crate::{BackendError, WorkKind};

/// Translates a refusal before the answer: a status and a body of `{"error": "…"}`, or plain text
/// for an unknown route.
pub(super) fn refusal(
    status: StatusCode,
    retry_after: Option<Duration>,
    body: &[u8],
    model: &str,
    backend: &str,
) -> BackendError {
    if let Some(error) = with_its_status(status.as_u16(), retry_after, body) {
        return signed_in(error, backend);
    }
    let text = match serde_json::from_slice::<ErrorLine>(body) {
        Ok(line) => line.error,
        Err(_) => format!(
            "the backend `{backend}` responded with status {}",
            status.as_u16()
        ),
    };
    if let Some(inner) = InnerError::inside(&text) {
        return from_engine(inner, status);
    }
    match status.as_u16() {
        404 if text.contains("not found") => BackendError::model_not_found(model),
        501 if text.contains("support embeddings") => BackendError::Unsupported {
            work: WorkKind::Embeddings,
        },
        400 if text.contains("support chat") => BackendError::Unsupported {
            work: WorkKind::Chat,
        },
        // This is an input of `/api/embed`. A prompt that is too long is an engine's error, handled
        // above.
        400 if text.contains("context length") => BackendError::InputTooLong {
            index: None,
            tokens: None,
            most: None,
        },
        404 | 405 => {
            let what = format!("status {}, which Ollama does not send", status.as_u16());
            BackendError::BadAnswer {
                backend: backend.to_owned(),
                what,
            }
        }
        503 => BackendError::Busy { retry_after },
        400..=499 => invalid(text),
        // Ollama answers 500 to an invalid option or format of the client
        // (`fixtures/ollama/chat/option-wrong-type`).
        _ if is_the_clients_fault(&text) => invalid(text),
        _ => BackendError::Engine { message: text },
    }
}

/// Adds advice to "unauthorized", which is all that Ollama reports for a model in its cloud if its
/// machine is not signed in.
fn signed_in(error: BackendError, backend: &str) -> BackendError {
    match error {
        BackendError::Refused {
            status: 401,
            message,
            param,
            code,
        } if message.eq_ignore_ascii_case("unauthorized") => {
            let message = format!(
                "{message}: the model runs in Ollama's cloud; sign in with `ollama signin` on the machine of the backend `{backend}`"
            );
            BackendError::Refused {
                status: 401,
                message,
                param,
                code,
            }
        }
        other => other,
    }
}

/// Translates an error line within a 200 response.
pub(super) fn error_in_stream(text: &str) -> BackendError {
    match InnerError::inside(text) {
        Some(inner) => from_engine(inner, StatusCode::INTERNAL_SERVER_ERROR),
        None => BackendError::Engine {
            message: text.to_owned(),
        },
    }
}

fn from_engine(inner: InnerError, status: StatusCode) -> BackendError {
    if inner.kind.as_deref() == Some("exceed_context_size_error") {
        return BackendError::ContextLengthExceeded {
            prompt_tokens: inner.n_prompt_tokens,
            context: inner.n_ctx,
        };
    }
    if (400..500).contains(&inner.code.unwrap_or(status.as_u16())) {
        invalid(inner.message)
    } else {
        BackendError::Engine {
            message: inner.message,
        }
    }
}

fn is_the_clients_fault(text: &str) -> bool {
    text.starts_with("option ")
        || text.contains("must be of type")
        || text.starts_with("invalid format")
}

fn invalid(message: String) -> BackendError {
    BackendError::InvalidRequest {
        message,
        param: None,
        code: None,
    }
}

/// Translates the error of a service that failed without an answer: an error of the HTTP client, or
/// a broken connection.
pub(super) fn transport_error(error: BoxError, backend: &str) -> BackendError {
    let error = match error.downcast::<BackendError>() {
        Ok(error) => return *error,
        Err(error) => error,
    };
    match error.downcast::<crate::http::Error>() {
        Ok(error) => error.into_backend(backend),
        Err(_) => BackendError::CutShort {
            backend: backend.to_owned(),
        },
    }
}
