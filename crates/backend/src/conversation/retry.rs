//! Retries a chat once with a simplified conversation if the chat template behind the engine
//! refuses it.
//!
//! Ollama, llama-server and similar engines render the template themselves. They refuse before they
//! compute anything, so the retry is cheap.

use std::sync::Arc;

use loggia_wire::openai::{ChatCompletionRequest, ToolCall};

use super::{Change, plain};
use crate::tool_calls::call_as_text;
use crate::{BackendError, ChatCall, Reply, TokenCount};

/// The sets of changes to try: those that keep most of the conversation, then all.
const FORMS: [&[Change]; 2] = [
    &[
        Change::SystemMoved,
        Change::EmptyDropped,
        Change::Merged,
        Change::UserFirst,
        Change::AnswerBetween,
        Change::SystemAsUser,
        Change::ResultsAsText,
    ],
    &Change::PLAINER,
];

/// Words in the errors of engines whose template refuses a conversation or fails at it, in lower
/// case.
const TEMPLATE_WORDS: [&str; 8] = [
    "template",
    "jinja",
    "while executing",
    "alternate",
    "role",
    "system message",
    "user query",
    "raise_exception",
];

/// The result of an engine for a conversation, with the changes that were made in it.
pub(crate) trait HasChanges {
    /// Returns the list of changes.
    fn changes(&mut self) -> &mut Vec<Change>;
}

impl HasChanges for Reply {
    fn changes(&mut self) -> &mut Vec<Change> {
        &mut self.served_by.changed
    }
}

impl HasChanges for TokenCount {
    fn changes(&mut self) -> &mut Vec<Change> {
        &mut self.served_by.changed
    }
}

/// Sends the chat. If the model's template refuses it, sends it again with a simplified
/// conversation.
pub(crate) async fn or_plainer<F, T: HasChanges>(
    call: ChatCall,
    ask: impl Fn(ChatCall) -> F,
) -> Result<T, BackendError>
where
    F: Future<Output = Result<T, BackendError>>,
{
    if !plain::is_odd(&call.work.messages) {
        return ask(call).await.map_err(as_refusal);
    }
    let mut error = match ask(call.clone()).await {
        Err(error) if is_of_a_template(&error) => error,
        reply => return reply,
    };
    let mut before = Vec::new();
    for form in FORMS {
        let (plainer, needed) = with(&call.work, form);
        if needed == before {
            continue;
        }
        before.clone_from(&needed);
        match ask(ChatCall {
            head: call.head.clone(),
            work: Arc::new(plainer),
        })
        .await
        {
            Ok(mut given) => {
                tracing::debug!(
                    id = &*call.head.id,
                    "the conversation was simplified because the model's chat template refused it"
                );
                given.changes().extend(needed);
                return Ok(given);
            }
            Err(again) if is_of_a_template(&again) => error = again,
            Err(other) => return Err(other),
        }
    }
    Err(as_refusal(error))
}

/// Returns the request with these changes applied, and the changes that had an effect.
pub(crate) fn with(
    request: &ChatCompletionRequest,
    form: &[Change],
) -> (ChatCompletionRequest, Vec<Change>) {
    let write = |calls: &[ToolCall]| {
        calls
            .iter()
            .map(|call| call_as_text(&call.function.name, &call.function.arguments))
            .collect::<String>()
    };
    let (messages, needed) = plain::changed(&request.messages, form, write);
    (
        ChatCompletionRequest {
            messages,
            ..request.clone()
        },
        needed,
    )
}

/// Returns whether an error is about the template. An error about a field other than the messages
/// is not.
fn is_of_a_template(error: &BackendError) -> bool {
    let message = match error {
        BackendError::InvalidRequest { message, param, .. }
            if param.as_deref().is_none_or(|it| it == "messages") =>
        {
            message
        }
        BackendError::Engine { message } => message,
        _ => return false,
    };
    let message = message.to_lowercase();
    TEMPLATE_WORDS.iter().any(|word| message.contains(word))
}

/// Turns the error about the template into a refusal of the messages with the template's own words.
/// Clients would retry the engine's 500 in vain.
fn as_refusal(error: BackendError) -> BackendError {
    let (BackendError::InvalidRequest {
        message,
        param: None,
        ..
    }
    | BackendError::Engine { message }) = &error
    else {
        return error;
    };
    // llama.cpp's error: the position in the template, then the template's message.
    let of_llama_cpp = message.split_once("Jinja Exception: ").or_else(|| {
        let is_failure = message.contains("While executing");
        message.split_once("\nError: ").filter(|_| is_failure)
    });
    let words = match of_llama_cpp {
        Some((_, words)) => words.lines().next().unwrap_or_default(),
        // Go's error, which Ollama passes on.
        None if message.starts_with("template: ") => message,
        None => return error,
    };
    BackendError::InvalidRequest {
        message: format!("This model's chat template refuses these messages: {words}"),
        param: Some("messages".to_owned()),
        code: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_that_refuses_is_told_from_other_errors() {
        let engine = |message: &str| BackendError::Engine {
            message: message.to_owned(),
        };
        let about = |param: &str| BackendError::InvalidRequest {
            message: "no such template".to_owned(),
            param: Some(param.to_owned()),
            code: None,
        };
        assert!(is_of_a_template(&engine(
            "\n---\nWhile executing CallExpression\nError: Jinja Exception: No."
        )));
        assert!(is_of_a_template(&engine(
            "template: :3:5: executing \"\" at <.X>: error"
        )));
        assert!(is_of_a_template(&about("messages")) && !is_of_a_template(&about("tools")));
        assert!(
            !is_of_a_template(&engine("out of memory"))
                && !is_of_a_template(&BackendError::Unfinished)
        );
    }

    #[test]
    fn a_refusal_is_told_in_the_templates_words() {
        let message = "\n---\nWhile executing CallExpression in source:\n..raise..\nError: Jinja Exception: Turns must alternate.";
        let expected = BackendError::InvalidRequest {
            message: "This model's chat template refuses these messages: Turns must alternate."
                .to_owned(),
            param: Some("messages".to_owned()),
            code: None,
        };
        assert_eq!(
            as_refusal(BackendError::Engine {
                message: message.to_owned()
            }),
            expected
        );
    }
}
