//! An embedding model as a [`Backend`].

use std::sync::Arc;

use futures_core::future::BoxFuture;
use loggia_backend::{
    Abilities, Ability, AbilitySet, Backend, BackendError, Call, EmbeddingCall, Embeddings, Reply,
};
use loggia_wire::openai::{EmbeddingRequest, Model as ModelCard, OnePrompt};
use serde_json::json;

use super::pooled::{Pooled, pooling_of};
use crate::Token;
use crate::blocking::run_by_size;
use crate::error::LoadError;
use crate::gguf::{Gguf, Pooling};
use crate::options::LlamaOptions;

/// The embedded backend of an embedding model.
#[derive(Debug)]
pub struct LlamaEmbedder(Pooled);

impl LlamaEmbedder {
    /// Loads a model and starts an engine for it. It blocks for seconds; call it on a thread that
    /// may block.
    pub fn open(options: &LlamaOptions) -> Result<Self, LoadError> {
        let gguf = Gguf::read(&options.path)?;
        let embeds = |pooling| pooling != Pooling::Rank;
        let pooling = pooling_of(options, &gguf, embeds, "it is not an embedding model")?;
        let can =
            AbilitySet::of(&[Ability::Embeddings, Ability::TokenPrompts]).without(Ability::Chat);
        let mut pooled = Pooled::open(options, &gguf, pooling, can)?;
        // Ollama's name for what the model can do.
        pooled.describe("capabilities", json!(["embedding"]));
        pooled.describe("embedding_length", json!(pooled.model.dimensions()));
        Ok(Self(pooled))
    }

    /// Tokenizes all inputs, or returns an error about the first invalid one.
    async fn tokens(
        &self,
        request: &Arc<EmbeddingRequest>,
    ) -> Result<Vec<Vec<Token>>, BackendError> {
        let bytes: usize = request.input.each().map(length).sum();
        let (model, request) = (Arc::clone(&self.0.model), Arc::clone(request));
        let tokens = move || {
            request
                .input
                .each()
                .enumerate()
                .map(|(index, one)| model.tokens(index, one))
                .collect()
        };
        run_by_size(bytes, "the inputs", tokens).await
    }
}

fn length(one: OnePrompt<'_>) -> usize {
    match one {
        OnePrompt::Text(text) => text.len(),
        OnePrompt::Tokens(tokens) => tokens.len(),
    }
}

impl Backend for LlamaEmbedder {
    fn abilities<'a>(
        &'a self,
        model: &'a str,
    ) -> BoxFuture<'a, Result<Arc<Abilities>, BackendError>> {
        let known = self.0.check_name(model);
        Box::pin(std::future::ready(
            known.map(|()| Arc::clone(&self.0.abilities)),
        ))
    }

    fn start(&self, call: Call) -> BoxFuture<'_, Result<Reply, BackendError>> {
        Box::pin(std::future::ready(Err(call.work.unsupported())))
    }

    fn embed(&self, call: EmbeddingCall) -> BoxFuture<'_, Result<Embeddings, BackendError>> {
        Box::pin(async move {
            self.0.check_name(&call.work.model)?;
            let place = self.0.place()?;
            let inputs = self.tokens(&call.work).await?;
            let prompt_tokens = inputs.iter().map(|input| input.len() as u64).sum();
            let vectors = self.0.compute(place, inputs).await?;
            Embeddings {
                served_by: self.0.served_by.clone(),
                vectors,
                prompt_tokens,
            }
            .checked(&call.work)
        })
    }

    fn models(&self) -> BoxFuture<'_, Result<Vec<ModelCard>, BackendError>> {
        Box::pin(std::future::ready(Ok(self.0.models())))
    }

    fn ready(&self) -> BoxFuture<'_, Result<(), BackendError>> {
        Box::pin(std::future::ready(self.0.ready()))
    }
}
