//! Applies the edits of `context_management`, which can depend on the number of tokens: the engine
//! counts them.

use std::sync::Arc;

use loggia_wire::openai::ChatCompletionRequest;

use crate::admit::ParsedRequest;
use crate::fit::{chat, count, most_tokens};
use crate::generated::Generate;
use crate::messages::edits::Edited;
use crate::{ApiError, Door};

/// Applies the edits of a request in their order.
///
/// # Errors
/// Fails if the engine cannot count the tokens of the prompt.
pub(crate) async fn apply<R: Generate>(
    door: &Door,
    asked: &mut ParsedRequest<R>,
) -> Result<(), ApiError> {
    if asked.request.edits().is_empty() {
        return Ok(());
    }
    // Boxed, because this is rare: every request would reserve the memory for it.
    Box::pin(apply_each(door, asked)).await
}

async fn apply_each<R: Generate>(
    door: &Door,
    asked: &mut ParsedRequest<R>,
) -> Result<(), ApiError> {
    let refusals = asked.refusals.clone();
    for edit in asked.request.edits().to_vec() {
        let whole = chat(R::work(Arc::clone(&asked.request)));
        let whole = whole.map_err(|error| refusals.refuse(error))?;
        if most_tokens(&whole).is_some_and(|most| most <= edit.trigger()) {
            continue;
        }
        let Some(Edited { messages, removed }) = edit.edited(&whole.messages) else {
            continue;
        };
        let tokens_of = async |chat: ChatCompletionRequest| {
            let tokens = count(door, asked.head.clone(), chat).await;
            tokens.map_err(|error| refusals.refuse(error))
        };
        let before = tokens_of(ChatCompletionRequest::clone(&whole)).await?;
        if before <= edit.trigger() {
            continue;
        }
        let shorter = ChatCompletionRequest {
            messages: messages.clone(),
            ..ChatCompletionRequest::clone(&whole)
        };
        // A short result can be shorter than its placeholder.
        let cleared = before.saturating_sub(tokens_of(shorter).await?);
        if cleared < edit.at_least() {
            continue;
        }
        drop(whole);
        let applied = edit.applied(removed, cleared);
        Arc::make_mut(&mut asked.request).edit(messages, applied, cleared);
    }
    Ok(())
}
