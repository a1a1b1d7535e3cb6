//! Translates an engine's error, before the answer or within a stream, into [`BackendError`].
//!
//! Engines have different formats (`{"error": {…}}` with numeric or text codes, `{"object":
//! "error", …}`, `FastAPI`'s `detail`, plain text), and some wrap one in another.

use std::time::Duration;

use loggia_wire::openai::EmbeddingRequest;
use serde_json::Value;

use super::context::{self, Overflow};
use super::error_body::{EngineError, FORMAT, WRAPPED};
use crate::{BackendError, WorkKind};

/// Translates a refusal before the answer.
pub(super) fn before_the_answer(
    status: u16,
    retry_after: Option<Duration>,
    body: &[u8],
    model: &str,
    backend: &str,
) -> BackendError {
    let told = EngineError::read(body).unwrap_or_default();
    from_status(status, retry_after, told, model, backend)
}

/// Translates an error that replaces an answer or interrupts it. Its code is used as the status.
pub(super) fn instead(error: &Value, model: &str, backend: &str) -> BackendError {
    let told = EngineError::from_value(error, WRAPPED).unwrap_or_default();
    from_status(told.status(), None, told, model, backend)
}

/// Parses and translates such an error.
pub(super) fn instead_unread(error: &[u8], model: &str, backend: &str) -> BackendError {
    let told = EngineError::read(error).unwrap_or_default();
    from_status(told.status(), None, told, model, backend)
}

/// Keeps a status that clients act on, or that gives a person advice: 401 to 403 (subscription,
/// sign-in), 408, 409, 422, 429. Ollama or a proxy in front of it sends them too.
pub(crate) fn with_its_status(
    status: u16,
    retry_after: Option<Duration>,
    body: &[u8],
) -> Option<BackendError> {
    matches!(status, 401..=403 | 408 | 409 | 422 | 429).then(|| {
        passed_on(
            status,
            retry_after,
            EngineError::read(body).unwrap_or_default(),
        )
    })
}

fn passed_on(status: u16, retry_after: Option<Duration>, told: EngineError) -> BackendError {
    let no_quota = told.kind.as_deref() == Some(BackendError::NO_QUOTA);
    let EngineError {
        message,
        param,
        code,
        ..
    } = told;
    if status == 429 {
        let code = if no_quota {
            Some(BackendError::NO_QUOTA.to_owned())
        } else {
            code
        };
        let message = message
            .unwrap_or_else(|| "the engine's rate limit is exceeded; try again later".to_owned());
        return BackendError::RateLimited {
            message,
            code,
            retry_after,
        };
    }
    let message =
        message.unwrap_or_else(|| format!("the engine refused the request with status {status}"));
    BackendError::Refused {
        status,
        message,
        param,
        code,
    }
}

fn from_status(
    status: u16,
    retry_after: Option<Duration>,
    told: EngineError,
    model: &str,
    backend: &str,
) -> BackendError {
    if (400..500).contains(&status)
        && let Some(overflow) = context::overflow(&told)
    {
        return too_long(overflow, told);
    }
    let named = told.field_in_its_words();
    let unread = told.field_it_cannot_read();
    match status {
        404 if told.says_that_there_is_no_model(model) => BackendError::model_not_found(model),
        404 if told.is_about_the_model(model) => passed_on(status, retry_after, told),
        503 => BackendError::Busy { retry_after },
        401..=403 | 408 | 409 | 422 | 429 => passed_on(status, retry_after, told),
        // llama-server answers 501 if its model or its build does not support the request.
        400 | 413 | 501 => BackendError::InvalidRequest {
            message: told
                .message
                .unwrap_or_else(|| format!("the engine refused the request with status {status}")),
            param: told.param.or(named).or(unread.map(str::to_owned)),
            code: told.code,
        },
        500 if unread.is_some() => BackendError::InvalidRequest {
            param: unread.map(str::to_owned),
            message: told.message.unwrap_or_default(),
            code: None,
        },
        500..=599 => BackendError::Engine {
            message: told
                .message
                .unwrap_or_else(|| format!("the engine failed with status {status}")),
        },
        404 | 405 => bad(
            backend,
            format!("status {status}; check that its URL is the base of an OpenAI API"),
        ),
        _ => bad(backend, format!("status {status}")),
    }
}

/// Returns whether llama-server reports that the model supports only embeddings.
pub(super) fn is_about_no_text(error: &BackendError) -> bool {
    matches!(error, BackendError::Engine { message } if message.contains("does not support logits computation"))
}

/// Sets the field of an error about a schema. llama-server does not report which schema it cannot
/// read.
pub(super) fn about_schemas_of(field: &str, error: BackendError) -> BackendError {
    match error {
        BackendError::InvalidRequest {
            message,
            param: Some(param),
            code,
        } if param == FORMAT => BackendError::InvalidRequest {
            message,
            param: Some(field.to_owned()),
            code,
        },
        other => other,
    }
}

/// Translates a refusal of embeddings. Engines without embeddings report it in many ways.
pub(super) fn of_embeddings(
    status: u16,
    retry_after: Option<Duration>,
    body: &[u8],
    request: &EmbeddingRequest,
    backend: &str,
) -> BackendError {
    let told = EngineError::read(body).unwrap_or_default();
    if told.is_about_no_embeddings()
        || (matches!(status, 404 | 405 | 501) && !told.is_about_the_model(&request.model))
    {
        return BackendError::Unsupported {
            work: WorkKind::Embeddings,
        };
    }
    // With a single input, it is clear which one is too long.
    let index = (request.input.count() == 1).then_some(0);
    if let Some(Overflow {
        prompt_tokens,
        context,
    }) = context::overflow_of_a_batch(&told)
    {
        return BackendError::InputTooLong {
            index,
            tokens: prompt_tokens,
            most: context,
        };
    }
    match from_status(status, retry_after, told, &request.model, backend) {
        BackendError::ContextLengthExceeded {
            prompt_tokens,
            context,
        } => BackendError::InputTooLong {
            index,
            tokens: prompt_tokens,
            most: context,
        },
        other => other,
    }
}

/// If only the requested answer is too long, keeps the engine's message, which is more accurate
/// than "your messages are too long".
fn too_long(overflow: Overflow, told: EngineError) -> BackendError {
    let Overflow {
        prompt_tokens,
        context,
    } = overflow;
    match (prompt_tokens, context, told.message) {
        (Some(prompt), Some(context), Some(message)) if prompt < context => {
            BackendError::InvalidRequest {
                message,
                param: Some("max_tokens".to_owned()),
                code: Some("context_length_exceeded".to_owned()),
            }
        }
        _ => BackendError::ContextLengthExceeded {
            prompt_tokens,
            context,
        },
    }
}

fn bad(backend: &str, what: String) -> BackendError {
    BackendError::BadAnswer {
        backend: backend.to_owned(),
        what,
    }
}
