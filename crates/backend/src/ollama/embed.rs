//! Embeddings through `/api/embed`.

use bytes::Bytes;
use http::StatusCode;
use loggia_wire::ollama::{EmbedAnswer, EmbedRequest, Options};
use loggia_wire::openai::{EmbeddingRequest, OnePrompt};
use serde_json::Value;

use super::client::{Ollama, OllamaService};
use super::context;
use super::models::ModelProperties;
use super::transport::{post, to_json};
use crate::embedding::name_the_too_long;
use crate::{BackendError, CallHead, EmbeddingCall, Embeddings, ServedBy};

impl<S, B> Ollama<S, B>
where
    S: OllamaService<B>,
    B: From<Bytes> + Send + 'static,
{
    pub(super) async fn start_embedding(
        &self,
        call: EmbeddingCall,
    ) -> Result<Embeddings, BackendError> {
        let (request, head) = (&*call.work, &call.head);
        let known = self.known(&request.model).await?;
        let options = self.options_for(request, &known).await;
        let options = &options;
        let answer = match self.ask_embedding(request, options, head).await {
            // Ollama does not report which text is too long.
            Err(too_long @ BackendError::InputTooLong { .. }) => {
                let ask =
                    |one| async move { self.ask_embedding(&one, options, head).await.map(drop) };
                return Err(name_the_too_long(request, ask).await.unwrap_or(too_long));
            }
            answer => answer?,
        };
        let served_by = ServedBy {
            backend: self.name.clone(),
            model: request.model.as_str().into(),
            node: None,
            fingerprint: known.fingerprint.clone(),
            changed: Vec::new(),
            ignored: Vec::new(),
        };
        let prompt_tokens = answer.prompt_eval_count.unwrap_or(0);
        Embeddings {
            served_by,
            vectors: answer.embeddings,
            prompt_tokens,
        }
        .checked(request)
    }

    /// Returns the client's options, with a context size if Loggia may choose it: large enough for
    /// the longest text, because each text is read separately.
    async fn options_for(&self, request: &EmbeddingRequest, known: &ModelProperties) -> Options {
        let mut options = Options::default();
        if let Some(Value::Object(others)) = request.extra.get("options") {
            options.others.clone_from(others);
        }
        if options.others.contains_key("num_ctx") {
            return options;
        }
        let need = |one| match one {
            OnePrompt::Text(text) => context::of_text(text),
            OnePrompt::Tokens(_) => 0,
        };
        let longest = request.input.each().map(need).max().unwrap_or(0);
        if let Some(size) = self.choose_size(&request.model, longest, known).await {
            known.keep_context(size);
            options.num_ctx = Some(size);
        }
        options
    }

    async fn ask_embedding(
        &self,
        request: &EmbeddingRequest,
        options: &Options,
        head: &CallHead,
    ) -> Result<EmbedAnswer, BackendError> {
        let asked = EmbedRequest {
            model: &request.model,
            input: &texts(request)?,
            truncate: false,
            dimensions: request.dimensions,
            options: options.clone(),
            keep_alive: request
                .extra
                .get("keep_alive")
                .filter(|value| !value.is_null()),
        };
        let response = self
            .send(post("/api/embed", to_json(&asked, &self.name)?, Some(head)))
            .await?;
        if response.status() != StatusCode::OK {
            return Err(Box::pin(self.refused(response, &request.model)).await);
        }
        let body = self.collect(response).await?;
        serde_json::from_slice(&body).map_err(|_| self.bad("JSON that is not in Ollama's format"))
    }
}

/// Returns the input texts. Ollama accepts only texts and answers 400 to tokens
/// (`fixtures/ollama/embed/tokens`).
fn texts(request: &EmbeddingRequest) -> Result<Vec<&str>, BackendError> {
    let text = |one| match one {
        OnePrompt::Text(text) => Ok(text),
        OnePrompt::Tokens(_) => Err(BackendError::InvalidRequest {
            message: "Unsupported value: Ollama does not accept tokens as 'input'; send strings."
                .to_owned(),
            param: Some("input".to_owned()),
            code: Some("unsupported_value".to_owned()),
        }),
    };
    request.input.each().map(text).collect()
}
