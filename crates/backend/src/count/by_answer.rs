//! Counts a prompt with an answer of one token, whose usage has the number. The engine processes
//! the prompt for that, and usually keeps it in its cache for the chat that follows.

use std::sync::Arc;

use futures_util::StreamExt as _;
use loggia_wire::openai::ChatCompletionRequest;

use super::TokenCount;
use super::estimate::estimate;
use crate::{BackendError, ChatCall, Event, Reply};

/// Counts the prompt of a chat. `start` starts the chat, whose length is limited to one token.
pub(crate) async fn by_answer<F>(
    call: ChatCall,
    start: impl Fn(ChatCall) -> F,
) -> Result<TokenCount, BackendError>
where
    F: Future<Output = Result<Reply, BackendError>>,
{
    let with_limit = |limit| ChatCall {
        head: call.head.clone(),
        work: Arc::new(limited(&call.work, limit)),
    };
    // The older name is tried first: engines that do not know the newer one ignore it and would
    // answer to the end.
    let reply = match start(with_limit(Limit::Older)).await {
        Err(error) if is_about(&error, "max_tokens") => start(with_limit(Limit::Newer)).await,
        reply => reply,
    };
    counted(reply?, &call.work).await
}

/// Returns the count of a prompt whose answer has begun.
async fn counted(
    mut reply: Reply,
    request: &ChatCompletionRequest,
) -> Result<TokenCount, BackendError> {
    while let Some(event) = reply.events.next().await {
        if let Event::Usage(usage) = event?
            && usage.prompt_tokens > 0
        {
            return Ok(TokenCount::exact(usage.prompt_tokens, reply.served_by));
        }
    }
    Ok(TokenCount {
        input_tokens: estimate(request),
        is_exact: false,
        served_by: reply.served_by,
    })
}

/// The field for the maximum length of an answer.
#[derive(Clone, Copy)]
enum Limit {
    /// `max_tokens`.
    Older,
    /// `max_completion_tokens`.
    Newer,
}

/// Returns the request without the fields that change only the answer, so that equal prompts have
/// equal requests.
pub(crate) fn prompt_of(request: &ChatCompletionRequest) -> ChatCompletionRequest {
    ChatCompletionRequest {
        max_tokens: None,
        max_completion_tokens: None,
        stream: None,
        stream_options: None,
        temperature: None,
        top_p: None,
        n: None,
        stop: None,
        presence_penalty: None,
        frequency_penalty: None,
        seed: None,
        logit_bias: None,
        logprobs: None,
        top_logprobs: None,
        prediction: None,
        ..request.clone()
    }
}

/// Returns the request with a limit of one token, and not streamed.
fn limited(request: &ChatCompletionRequest, limit: Limit) -> ChatCompletionRequest {
    let (older, newer) = match limit {
        Limit::Older => (Some(1), None),
        Limit::Newer => (None, Some(1)),
    };
    ChatCompletionRequest {
        max_tokens: older,
        max_completion_tokens: newer,
        ..prompt_of(request)
    }
}

fn is_about(error: &BackendError, field: &str) -> bool {
    matches!(
        error,
        BackendError::InvalidRequest { param: Some(param), .. } if param == field
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures_util::stream;
    use loggia_wire::openai::CompletionUsage;
    use serde_json::{Value, json};

    use super::*;
    use crate::ServedBy;

    fn call(fields: &Value) -> ChatCall {
        let mut request = json!({"model": "m", "messages": [{"role": "user", "content": "Hi"}]});
        request
            .as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        ChatCall::new("1", Arc::new(serde_json::from_value(request).unwrap()))
    }

    fn reply(usage: Option<u64>) -> Reply {
        let usage = usage.map(|tokens| Ok(Event::Usage(CompletionUsage::new(tokens, 1))));
        Reply {
            served_by: ServedBy::new("b", "m"),
            events: Box::pin(stream::iter(usage)),
        }
    }

    #[tokio::test]
    async fn one_token_is_asked_for_and_its_usage_is_the_count() {
        let asked = Mutex::new(Vec::new());
        let fields = json!({"stream": true, "stream_options": {"include_usage": true}, "n": 3,
            "max_completion_tokens": 500, "stop": ["x"], "logprobs": true, "top_logprobs": 2});
        let count = by_answer(call(&fields), async |call: ChatCall| {
            asked
                .lock()
                .unwrap()
                .push(serde_json::to_value(&*call.work).unwrap());
            Ok(reply(Some(9)))
        });
        assert_eq!(
            count.await.unwrap(),
            TokenCount::exact(9, ServedBy::new("b", "m"))
        );
        let wanted = json!({"model": "m", "messages": [{"role": "user", "content": "Hi"}],
            "max_tokens": 1});
        assert_eq!(asked.into_inner().unwrap(), [wanted]);
    }

    /// OpenAI's own reasoning models refuse the older name of the limit.
    #[tokio::test]
    async fn an_engine_that_refuses_the_older_limit_gets_the_newer_one() {
        let count = by_answer(call(&json!({})), async |call: ChatCall| {
            if call.work.max_tokens.is_some() {
                return Err(BackendError::InvalidRequest {
                    message: "Unsupported parameter: 'max_tokens'".to_owned(),
                    param: Some("max_tokens".to_owned()),
                    code: None,
                });
            }
            assert_eq!(call.work.max_completion_tokens, Some(1));
            Ok(reply(Some(9)))
        });
        assert_eq!(count.await.unwrap().input_tokens, 9);
    }

    #[tokio::test]
    async fn an_answer_without_usage_gives_an_estimate_that_says_so() {
        let count = by_answer(call(&json!({})), async |_| Ok(reply(None)));
        let count = count.await.unwrap();
        assert!(!count.is_exact && count.input_tokens > 0);
    }

    #[tokio::test]
    async fn any_other_refusal_is_the_result() {
        let count = by_answer(call(&json!({})), async |_| Err(BackendError::NoModels));
        assert_eq!(count.await, Err(BackendError::NoModels));
    }
}
