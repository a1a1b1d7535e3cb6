//! An engine's errors → [`BackendError`]: as a status and a body, or in the middle of a stream.
//!
//! Every engine has a shape of its own (`{"error": {…}}` with codes that are numbers or words,
//! `{"object": "error", …}`, `FastAPI`'s `detail`, plain text), and some wrap one in another.

use std::time::Duration;

use loggia_wire::openai::EmbeddingRequest;
use serde_json::Value;

use super::context::{self, Overflow};
use super::error_body::{EngineError, FORMAT, WRAPPED};
use crate::{BackendError, WorkKind};

/// A refusal before the answer.
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

/// An error in place of an answer, or in the middle of one: its own code must stand in for the
/// status.
pub(super) fn instead(error: &Value, model: &str, backend: &str) -> BackendError {
    let told = EngineError::from_value(error, WRAPPED).unwrap_or_default();
    from_status(told.status(), None, told, model, backend)
}

/// The same, not read yet.
pub(super) fn instead_unread(error: &[u8], model: &str, backend: &str) -> BackendError {
    let told = EngineError::read(error).unwrap_or_default();
    from_status(told.status(), None, told, model, backend)
}

/// Statuses that clients act on, or that tell a person what to do: 401 to 403 (a subscription, a
/// sign-in), 408, 409, 422, 429. An Ollama, or a proxy before it, sends them too.
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
        let message = message.unwrap_or_else(|| {
            "the engine limits how often it may be asked; try again later".to_owned()
        });
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
        // 501 is llama-server's word for what its model, or its build, cannot do.
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

/// llama-server's word for a model that makes embeddings and no text.
pub(super) fn is_about_no_text(error: &BackendError) -> bool {
    matches!(error, BackendError::Engine { message } if message.contains("does not support logits computation"))
}

/// The same error, about this field where it is about a schema: llama-server does not say whose
/// schema it cannot read.
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

/// A refusal of embeddings: an engine that makes none says so in one of many ways.
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
    // With one input it is plain which one is too long.
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

/// Where only the answer asked for is too long, the engine's own words say so better than "your
/// messages are too long" would.
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
