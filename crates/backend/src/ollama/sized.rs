//! Sends a request to Ollama with a context that is large enough (`context.rs` computes the size).

use bytes::Bytes;
use http::{Response, StatusCode};
use loggia_wire::ollama::{self, RunningModels};

use super::client::{Ollama, OllamaService};
use super::context;
use super::models::{self, ModelProperties};
use super::transport::{post, to_json};
use crate::{BackendError, CallHead};

/// A request to Ollama.
pub(super) enum Question {
    Chat(ollama::ChatRequest),
    Generate(ollama::GenerateRequest),
}

impl Question {
    pub(super) fn model(&self) -> &str {
        match self {
            Self::Chat(request) => &request.model,
            Self::Generate(request) => &request.model,
        }
    }

    pub(super) fn options(&mut self) -> &mut ollama::Options {
        match self {
            Self::Chat(request) => &mut request.options,
            Self::Generate(request) => &mut request.options,
        }
    }
}

/// The number of tokens that prompt and answer need, and the part for the answer.
#[derive(Clone, Copy)]
pub(super) struct NeededTokens {
    pub(super) need: u64,
    pub(super) answer: u64,
}

impl<S, B> Ollama<S, B>
where
    S: OllamaService<B>,
    B: From<Bytes> + Send + 'static,
{
    /// Sends the request with a context large enough for the prompt. If the prompt is longer than
    /// estimated, sends it once more with a larger context.
    pub(super) async fn ask_sized(
        &self,
        question: &mut Question,
        known: &ModelProperties,
        room: NeededTokens,
        head: &CallHead,
    ) -> Result<Response<S::Body>, BackendError> {
        let chosen = self.choose_context(question, known, room).await;
        match self.ask_once(question, head).await {
            Err(BackendError::ContextLengthExceeded {
                prompt_tokens: Some(prompt),
                ..
            }) if chosen && grow_context(question, known, prompt, room.answer) => {
                Box::pin(self.ask_once(question, head)).await
            }
            response => response,
        }
    }

    pub(super) async fn ask_once(
        &self,
        question: &Question,
        head: &CallHead,
    ) -> Result<Response<S::Body>, BackendError> {
        let (path, body) = match question {
            Question::Chat(request) => ("/api/chat", to_json(request, &self.name)?),
            Question::Generate(request) => ("/api/generate", to_json(request, &self.name)?),
        };
        let response = self.send(post(path, body, Some(head))).await?;
        if response.status() == StatusCode::OK {
            Ok(response)
        } else {
            match Box::pin(self.refused(response, question.model())).await {
                // An error of Ollama's own runner, without numbers. It uses the same words for an
                // input of embeddings.
                BackendError::InputTooLong { .. } => Err(BackendError::ContextLengthExceeded {
                    prompt_tokens: None,
                    context: None,
                }),
                error => Err(error),
            }
        }
    }

    /// Sets the context size if the client sets none. Returns whether Loggia may choose the size.
    pub(super) async fn choose_context(
        &self,
        question: &mut Question,
        known: &ModelProperties,
        room: NeededTokens,
    ) -> bool {
        if known.context_most.is_none() || question.options().others.contains_key("num_ctx") {
            return false;
        }
        if let Some(size) = self.choose_size(question.model(), room.need, known).await {
            set_context(question, known, size);
        }
        true
    }

    /// Returns the context size to request for this number of tokens. `None` if Loggia may not
    /// choose it, or if the default is enough.
    pub(super) async fn choose_size(
        &self,
        model: &str,
        need: u64,
        known: &ModelProperties,
    ) -> Option<u64> {
        let most = known.context_most?;
        let loaded = if let Some(kept) = known.context_kept() {
            Some(kept)
        } else {
            let running = Box::pin(self.get::<RunningModels>("/api/ps")).await;
            running
                .ok()
                .and_then(|running| models::loaded_context(&running, model))
        };
        context::choose(need, loaded, most)
    }
}

/// Returns the token limit of the answer.
pub(super) fn limit(question: &mut Question, known: &ModelProperties) -> Option<u64> {
    let limit = question.options().limit().or(known.num_predict)?;
    // A negative number means no limit.
    u64::try_from(limit).ok()
}

fn set_context(question: &mut Question, known: &ModelProperties, size: u64) {
    question.options().num_ctx = Some(size);
    if known.keep_context(size) {
        tracing::info!(
            model = question.model(),
            num_ctx = size,
            "the context size that Ollama is asked for"
        );
    }
}

/// Increases the context size after the engine has reported the length of the prompt. Returns false
/// if no larger context can help.
fn grow_context(
    question: &mut Question,
    known: &ModelProperties,
    prompt: u64,
    answer: u64,
) -> bool {
    let most = known.context_most.unwrap_or(0);
    let before = question.options().num_ctx;
    match context::choose(prompt + answer, before, most) {
        Some(size) if size > prompt && Some(size) != before => {
            set_context(question, known, size);
            true
        }
        _ => false,
    }
}
