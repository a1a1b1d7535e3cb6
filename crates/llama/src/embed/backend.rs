//! The embedding engine as a [`Backend`]: one model under one name, in the caller's process.

use std::sync::Arc;

use futures_core::future::BoxFuture;
use loggia_backend::{
    Abilities, Ability, AbilitySet, Backend, BackendError, Call, EmbeddingCall, Embeddings, Reply,
    ServedBy,
};
use loggia_wire::openai::{EmbeddingRequest, Model as ModelCard, OnePrompt};
use serde_json::json;

use super::engine::Engine;
use super::model::EmbeddingModel;
use crate::Token;
use crate::blocking::run_by_size;
use crate::error::{EngineError, LoadError};
use crate::identity::{bare_card, served_by};
use crate::options::LlamaOptions;
use crate::processor;

/// The embedded backend of an embedding model.
pub struct LlamaEmbedder {
    model: Arc<EmbeddingModel>,
    engine: Engine,
    served_by: ServedBy,
    abilities: Arc<Abilities>,
    card: ModelCard,
}

impl std::fmt::Debug for LlamaEmbedder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LlamaEmbedder")
            .field("served_by", &self.served_by)
            .finish_non_exhaustive()
    }
}

impl LlamaEmbedder {
    /// Loads a model and starts an engine for it. It blocks for seconds; call it on a thread that
    /// may block.
    pub fn open(options: &LlamaOptions) -> Result<Self, LoadError> {
        let model = Arc::new(EmbeddingModel::load(options)?);
        if options.mmproj.is_some() {
            tracing::warn!(
                model = options.name,
                "embedding models do not accept images or sounds; the projector has no effect"
            );
        }
        let engine = Engine::start(
            Arc::clone(&model),
            options.parallel.max(1) as usize + options.queue(),
        )?;
        let served_by = served_by(options, &[&model.facts.identity]);
        let sizes = model.sizes;
        tracing::info!(
            model = options.name,
            context = sizes.context,
            batch = sizes.batch,
            threads = sizes.threads,
            pooling = model.pooling.name(),
            dimensions = model.dimensions(),
            devices = model.devices,
            instructions = processor::instructions(),
            "the embedding engine is ready"
        );
        let can =
            AbilitySet::of(&[Ability::Embeddings, Ability::TokenPrompts]).without(Ability::Chat);
        let abilities = Abilities {
            can,
            context_length: Some(u64::from(sizes.context)),
            ..Abilities::default()
        };
        let card = card(options, &model);
        Ok(Self {
            model,
            engine,
            served_by,
            abilities: Arc::new(abilities),
            card,
        })
    }

    fn check_name(&self, name: &str) -> Result<(), BackendError> {
        if *name == *self.served_by.model {
            Ok(())
        } else {
            Err(BackendError::model_not_found(name))
        }
    }

    /// Tokenizes all inputs, or returns an error about the first invalid one.
    async fn tokens(
        &self,
        request: &Arc<EmbeddingRequest>,
    ) -> Result<Vec<Vec<Token>>, BackendError> {
        let bytes: usize = request.input.each().map(length).sum();
        let (model, request) = (Arc::clone(&self.model), Arc::clone(request));
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
        Box::pin(async move { self.check_name(model).map(|()| Arc::clone(&self.abilities)) })
    }

    fn start(&self, call: Call) -> BoxFuture<'_, Result<Reply, BackendError>> {
        Box::pin(std::future::ready(Err(call.work.unsupported())))
    }

    fn embed(&self, call: EmbeddingCall) -> BoxFuture<'_, Result<Embeddings, BackendError>> {
        Box::pin(async move {
            self.check_name(&call.work.model)?;
            let place = self
                .engine
                .place()
                .map_err(|error| error.to_backend_error())?;
            let inputs = self.tokens(&call.work).await?;
            let prompt_tokens = inputs.iter().map(|input| input.len() as u64).sum();
            let vectors = self
                .engine
                .embed(place, inputs)
                .await
                .map_err(|error| error.to_backend_error())?;
            Embeddings {
                served_by: self.served_by.clone(),
                vectors,
                prompt_tokens,
            }
            .checked(&call.work)
        })
    }

    fn models(&self) -> BoxFuture<'_, Result<Vec<ModelCard>, BackendError>> {
        Box::pin(std::future::ready(Ok(vec![self.card.clone()])))
    }

    fn ready(&self) -> BoxFuture<'_, Result<(), BackendError>> {
        let ready = if self.engine.is_running() {
            Ok(())
        } else {
            Err(EngineError::Stopped.to_backend_error())
        };
        Box::pin(std::future::ready(ready))
    }
}

/// The card of the model in `GET /v1/models`, with Ollama's names for its capabilities.
fn card(options: &LlamaOptions, model: &EmbeddingModel) -> ModelCard {
    let mut card = bare_card(options, &model.facts);
    let own = [
        ("context_length", json!(model.sizes.context)),
        ("capabilities", json!(["embedding"])),
        ("embedding_length", json!(model.dimensions())),
        ("pooling", json!(model.pooling.name())),
    ];
    card.extra
        .extend(own.map(|(name, value)| (name.to_owned(), value)));
    card
}
