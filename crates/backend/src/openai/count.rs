//! Counts the tokens of a chat's prompt. llama-server and vLLM have endpoints for that. From other
//! engines, an answer of one token is requested, whose usage has the number. The same is done for
//! those two engines if their endpoint may differ from a chat: for images and audio, whose tokens
//! it does not count, and for fields that it does not read.

use std::sync::Arc;

use bytes::Bytes;
use http::header::SERVER;
use http::{StatusCode, Uri};
use loggia_wire::openai::{ChatCompletionRequest, Content, PartKind};
use serde_json::{Map, Value, json};

use super::engine::{ANSWER_LIMIT, OpenAi, to_json};
use super::known::Tokenizer;
use crate::conversation::retry;
use crate::count::by_answer::{by_answer, prompt_of};
use crate::count::cache;
use crate::http::read;
use crate::{BackendError, ChatCall, ServedBy, TokenCount};

/// The fields of a chat that vLLM's `/tokenize` reads.
const TOKENIZE_FIELDS: [&str; 9] = [
    "model",
    "messages",
    "tools",
    "add_generation_prompt",
    "continue_final_message",
    "add_special_tokens",
    "chat_template",
    "chat_template_kwargs",
    "mm_processor_kwargs",
];

/// Fields that change the prompt of a chat and that `/tokenize` does not read.
const UNREAD: [&str; 2] = ["documents", "include_reasoning"];

impl OpenAi {
    /// Counts the prompt of a chat as it would be sent.
    pub(super) async fn count_chat(&self, mut call: ChatCall) -> Result<TokenCount, BackendError> {
        let mut changed = self.adapt(&mut call);
        if let Some(facts) = self.llama_server(&call.work.model) {
            if let Some(request) = facts.kept(&call.work) {
                call.work = Arc::new(request);
            }
            if let Some(way) = facts.calling(&call.work) {
                call.work = Arc::new(way.asked(&call.work));
            }
        }
        self.fit_format(&mut call);
        let mut count = if self.takes_text(&call.work.model) {
            self.count_once(call).await?
        } else {
            retry::or_plainer(call, |call| self.count_once(call)).await?
        };
        changed.append(&mut count.served_by.changed);
        count.served_by.changed = changed;
        Ok(count)
    }

    async fn count_once(&self, call: ChatCall) -> Result<TokenCount, BackendError> {
        let request = &*call.work;
        let known = self.listed(&request.model).and_then(|its| its.recall());
        let tokenizer = known.map_or(Tokenizer::None, |known| known.tokenizer.clone());
        let counted = match tokenizer {
            _ if has_media(request) => None,
            Tokenizer::None => None,
            Tokenizer::Chat(uri) => match tokenizable(request) {
                Some(chat) => self.asked_for(&uri, &chat, "count", request).await?,
                None => None,
            },
            Tokenizer::LlamaServer {
                apply_template,
                tokenize,
            } => {
                let uri = &self.input_tokens;
                match self
                    .asked_for(uri, request, "input_tokens", request)
                    .await?
                {
                    None => self.rendered(&apply_template, &tokenize, request).await?,
                    counted => counted,
                }
            }
        };
        match counted {
            Some(count) => Ok(count),
            None => self.count_by_answer(call).await,
        }
    }

    /// Counts by an answer of one token, unless the same prompt was counted before.
    async fn count_by_answer(&self, call: ChatCall) -> Result<TokenCount, BackendError> {
        let prompt = cache::prompt(&call.work.model, &to_json(&prompt_of(&call.work))?);
        if let Some(count) = self.counts.find(&prompt) {
            let served_by = self.served_by(call.work.model.as_str().into(), None, "");
            return Ok(TokenCount::exact(count, served_by));
        }
        let count = by_answer(call, |call| self.start_once(call)).await?;
        if count.is_exact {
            self.counts.keep(prompt, count.input_tokens);
        }
        Ok(count)
    }

    /// Renders the conversation and tokenizes it: two requests, for older versions of llama-server.
    async fn rendered(
        &self,
        apply_template: &Uri,
        tokenize: &Uri,
        request: &ChatCompletionRequest,
    ) -> Result<Option<TokenCount>, BackendError> {
        let Some((rendered, _)) = self.ask(apply_template, to_json(request)?, request).await?
        else {
            return Ok(None);
        };
        let Some(prompt) = rendered.get("prompt").and_then(Value::as_str) else {
            return Ok(None);
        };
        // llama-server tokenizes a chat with these settings.
        let text = json!({"model": request.model, "content": prompt, "add_special": true,
            "parse_special": true});
        let Some((tokenized, served_by)) = self.ask(tokenize, to_json(&text)?, request).await?
        else {
            return Ok(None);
        };
        let tokens = tokenized.get("tokens").and_then(Value::as_array);
        Ok(tokens.map(|tokens| TokenCount::exact(tokens.len() as u64, served_by)))
    }

    /// Requests a count, which the answer has in this field. Returns `None` if the engine has no
    /// such endpoint.
    async fn asked_for(
        &self,
        uri: &Uri,
        question: &(impl serde::Serialize + Sync),
        field: &str,
        request: &ChatCompletionRequest,
    ) -> Result<Option<TokenCount>, BackendError> {
        let answer = self.ask(uri, to_json(question)?, request).await?;
        Ok(answer.and_then(|(answer, served_by)| {
            let count = answer.get(field)?.as_u64()?;
            Some(TokenCount::exact(count, served_by))
        }))
    }

    /// Sends JSON, and returns the JSON of the answer. Returns `None` if the engine has no such
    /// endpoint.
    async fn ask(
        &self,
        uri: &Uri,
        question: Bytes,
        request: &ChatCompletionRequest,
    ) -> Result<Option<(Value, ServedBy)>, BackendError> {
        let sent = self
            .upstream
            .post_json(uri, question, "application/json", None);
        let response = sent.await.map_err(|error| self.failed(error))?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND
            | StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::NOT_IMPLEMENTED => return Ok(None),
            _ => return Err(self.refused(response, &request.model).await),
        }
        let server = response.headers().get(SERVER);
        let server = server.and_then(|server| server.to_str().ok());
        let served_by = self.served_by(
            request.model.as_str().into(),
            None,
            server.unwrap_or_default(),
        );
        let body = read(response.into_body(), ANSWER_LIMIT).await;
        let body = body.map_err(|error| self.failed(error))?;
        let answer = serde_json::from_slice(&body);
        let answer = answer.map_err(|_| self.bad_answer("it is not a number of tokens"))?;
        Ok(Some((answer, served_by)))
    }
}

/// Returns the part of a chat that `/tokenize` reads. Returns `None` if another field may change
/// the prompt.
fn tokenizable(request: &ChatCompletionRequest) -> Option<Value> {
    let extra = |field: &&str| request.extra.get(*field);
    let mut unread = UNREAD.iter().filter_map(extra);
    // gpt-oss has a prompt format of its own, which its chat template only resembles.
    if request.reasoning_effort.is_some()
        || unread.any(|value| !value.is_null())
        || request.model.contains("gpt-oss")
    {
        return None;
    }
    let Ok(Value::Object(mut chat)) = serde_json::to_value(request) else {
        return None;
    };
    let kept: Map<String, Value> = TOKENIZE_FIELDS
        .into_iter()
        .filter_map(|field| Some((field.to_owned(), chat.remove(field)?)))
        .collect();
    Some(Value::Object(kept))
}

fn has_media(request: &ChatCompletionRequest) -> bool {
    let contents = request.messages.iter().flat_map(|message| &message.content);
    let mut parts = contents.flat_map(Content::parts);
    parts.any(|part| !matches!(part.kind, PartKind::Text(_) | PartKind::Refusal(_)))
}
