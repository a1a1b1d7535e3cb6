//! Counts the prompt of a chat. Ollama has no endpoint for that: the last line of an answer has the
//! number, so an answer of one token is requested.
//!
//! Ollama keeps the processed prompt, so a chat that follows with the same beginning need not
//! process it again. A prompt that exceeds the context is refused with its number of tokens before
//! anything is computed.

use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;

use super::chats::{changes, question};
use super::client::{Ollama, OllamaService};
use super::models::ModelProperties;
use super::sized::{NeededTokens, Question};
use super::transport::to_json;
use crate::conversation::retry;
use crate::count::cache;
use crate::count::estimate::estimate;
use crate::tool_calls::calling::Calling;
use crate::{BackendError, ChatCall, Profile, ServedBy, TokenCount};

impl<S, B> Ollama<S, B>
where
    S: OllamaService<B>,
    B: From<Bytes> + Send + 'static,
{
    /// Counts the prompt of a chat as [`start_chat`](Self::start_chat) would send it.
    pub(super) async fn count_chat(&self, mut call: ChatCall) -> Result<TokenCount, BackendError> {
        let known = self.known(&call.work.model).await?;
        let is_original = call.head.profile == Profile::Original;
        match Calling::needed(&call.work, known.knows_tools) {
            Some(Calling::CallOrAnswer) if is_original => {}
            Some(way) => call.work = Arc::new(way.asked(&call.work)),
            None => {}
        }
        retry::or_plainer(call, |call| self.count_once(call)).await
    }

    async fn count_once(&self, call: ChatCall) -> Result<TokenCount, BackendError> {
        let asked = &*call.work;
        let known = self.known(&asked.model).await?;
        let (mut question, room) = question(asked, &known, call.head.profile)?;
        limit_to_one_token(&mut question);
        let served_by = ServedBy {
            changed: changes(asked, call.head.profile),
            ..self.served_by(&asked.model, &known)
        };
        let prompt = match &question {
            Question::Chat(request) => {
                cache::prompt(&known.fingerprint, &to_json(request, &self.name)?)
            }
            Question::Generate(_) => return Err(self.bad("a completion to count")),
        };
        let counted = match self.counts.find(&prompt) {
            Some(count) => Some(count),
            None => self.counted(&mut question, &known, room, &call).await?,
        };
        let Some(input_tokens) = counted else {
            return Ok(TokenCount {
                input_tokens: estimate(asked),
                is_exact: false,
                served_by,
            });
        };
        self.counts.keep(prompt, input_tokens);
        Ok(TokenCount {
            input_tokens,
            is_exact: known.counts_prompts,
            served_by,
        })
    }

    /// Requests the answer. Returns the number of tokens, if Ollama reports it.
    async fn counted(
        &self,
        question: &mut Question,
        known: &ModelProperties,
        room: NeededTokens,
        call: &ChatCall,
    ) -> Result<Option<u64>, BackendError> {
        let response = match self.ask_sized(question, known, room, &call.head).await {
            Err(BackendError::ContextLengthExceeded {
                prompt_tokens: Some(count),
                ..
            }) => return Ok(Some(count)),
            response => response?,
        };
        let body = self.collect(response).await?;
        let line: LastLine = serde_json::from_slice(&body)
            .map_err(|_| self.bad("JSON that is not in Ollama's format"))?;
        Ok(line.prompt_eval_count.filter(|&count| count > 0))
    }
}

/// The only field of a complete answer that is used here.
#[derive(Deserialize)]
struct LastLine {
    #[serde(default)]
    prompt_eval_count: Option<u64>,
}

/// Limits the answer to one token, and drops the fields that change only the answer, so that equal
/// prompts have equal requests.
fn limit_to_one_token(question: &mut Question) {
    if let Question::Chat(request) = question {
        request.stream = false;
        request.logprobs = None;
        request.top_logprobs = None;
    }
    let options = question.options();
    options.num_predict = Some(1);
    options.others.remove("num_predict");
    options.stop.clear();
    options.seed = None;
    options.temperature = None;
}
