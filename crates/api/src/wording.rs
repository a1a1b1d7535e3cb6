//! Words the errors of backends in the terms of the request (a chat's messages, a completion's
//! prompt, the input of embeddings), and in OpenAI's own words if it has some.

use std::sync::Arc;

use loggia_backend::WorkKind;

use crate::{messages, responses::names};

/// The endpoint whose terms an error uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Chat,
    Completions,
    Embeddings,
    Responses,
    Messages,
    /// Transcriptions and translations of recordings.
    Recordings,
    Speech,
}

/// Returns the field that contains the model's input.
pub(crate) fn prompt(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Chat | Dialect::Messages => "messages",
        Dialect::Completions => "prompt",
        Dialect::Embeddings | Dialect::Responses | Dialect::Speech => "input",
        Dialect::Recordings => "file",
    }
}

/// Where the fields of a chat come from that was made of a request of another dialect.
#[derive(Clone, Debug, Default)]
pub(crate) enum Origins {
    /// Of another kind of request, or not known.
    #[default]
    Unknown,
    Response(Arc<names::Places>),
    Messages(Arc<messages::names::Places>),
}

/// Converts the path of an invalid field, which backends report in the terms of a chat.
pub(crate) fn param(dialect: Dialect, origins: &Origins, param: String) -> String {
    match (dialect, origins) {
        (_, Origins::Response(places)) => names::of_response(&param, places),
        (_, Origins::Messages(places)) => messages::names::of_messages(&param, places),
        (Dialect::Responses, _) => names::of_response(&param, &names::Places::default()),
        (Dialect::Messages, _) => {
            messages::names::of_messages(&param, &messages::names::Places::default())
        }
        _ if param == "messages" => prompt(dialect).to_owned(),
        _ => param,
    }
}

pub(crate) fn empty_prompt(dialect: Dialect) -> String {
    let (noun, are) = (prompt(dialect), are(dialect));
    format!("The {noun} {are} empty: there is nothing to answer.")
}

pub(crate) fn context_exceeded(
    dialect: Dialect,
    prompt_tokens: Option<u64>,
    context: Option<u64>,
) -> String {
    let (noun, are) = (prompt(dialect), are(dialect));
    if dialect == Dialect::Messages {
        return prompt_too_long(prompt_tokens, context);
    }
    match (prompt_tokens, context) {
        (Some(tokens), Some(context)) => format!(
            "This model's maximum context length is {context} tokens. However, your {noun} resulted in {tokens} tokens. \
             Please reduce the length of the {noun}."
        ),
        (None, Some(context)) => format!(
            "This model's maximum context length is {context} tokens, and your {noun} {are} longer. Please reduce the length of the {noun}."
        ),
        (_, None) => format!(
            "Your {noun} {are} longer than this model's context. Please reduce the length of the {noun}."
        ),
    }
}

/// Uses Anthropic's words: Claude Code recognizes them, and compacts the conversation.
fn prompt_too_long(prompt_tokens: Option<u64>, context: Option<u64>) -> String {
    match (prompt_tokens, context) {
        (Some(tokens), Some(context)) => {
            format!("prompt is too long: {tokens} tokens > {context} maximum")
        }
        (None, Some(context)) => {
            format!("prompt is too long: it has more than {context} tokens, the maximum")
        }
        (_, None) => "prompt is too long: it has more tokens than this model reads".to_owned(),
    }
}

fn are(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Chat | Dialect::Messages => "are",
        Dialect::Completions
        | Dialect::Embeddings
        | Dialect::Responses
        | Dialect::Recordings
        | Dialect::Speech => "is",
    }
}

/// Returns the path of one of several inputs.
pub(crate) fn input(index: Option<usize>) -> String {
    index.map_or_else(|| "input".to_owned(), |index| format!("input[{index}]"))
}

pub(crate) fn input_too_long(param: &str, tokens: Option<u64>, most: Option<u64>) -> String {
    match (tokens, most) {
        (Some(tokens), Some(most)) => format!(
            "Invalid '{param}': maximum input length is {most} tokens, but it has {tokens}. Loggia does not truncate it."
        ),
        (None, Some(most)) => format!(
            "Invalid '{param}': maximum input length is {most} tokens, and it has more. Loggia does not truncate it."
        ),
        (_, None) => format!(
            "Invalid '{param}': it is longer than this model reads at once. Loggia does not truncate it."
        ),
    }
}

/// Returns OpenAI's message for a model that does not support this work, and where to find one that
/// does.
pub(crate) fn unsupported(work: WorkKind, dialect: Dialect) -> &'static str {
    match work {
        WorkKind::Chat if dialect == Dialect::Responses => {
            "This model is not supported in the v1/responses endpoint. Did you mean to use v1/embeddings? `capabilities` in \
             GET /v1/models/{id} shows what a model supports."
        }
        WorkKind::Chat if dialect == Dialect::Messages => {
            "This model is not supported in the v1/messages endpoint: it is not a chat model. `capabilities` in \
             GET /v1/models/{id} tells what a model is made for."
        }
        WorkKind::Chat => {
            "This is not a chat model and thus not supported in the v1/chat/completions endpoint. Did you mean to use \
             v1/embeddings? `capabilities` in GET /v1/models/{id} shows what a model supports."
        }
        WorkKind::Completions => {
            "This model is not supported in the v1/completions endpoint. Did you mean to use v1/chat/completions or \
             v1/embeddings? `capabilities` in GET /v1/models/{id} shows what a model supports."
        }
        WorkKind::Embeddings => {
            "You are not allowed to generate embeddings from this model: it is not an embedding model. `capabilities` in \
             GET /v1/models/{id} shows what a model supports."
        }
    }
}
