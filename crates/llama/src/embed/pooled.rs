//! What the backends of embedding and of reranking models share: one model under one name, in the
//! caller's process, with its engine.

use std::sync::Arc;

use loggia_backend::{Abilities, AbilitySet, BackendError, ServedBy};
use loggia_wire::openai::Model as ModelCard;
use serde_json::{Value, json};

use super::engine::Engine;
use super::job::QueuePlace;
use super::model::PooledModel;
use crate::Token;
use crate::error::{EngineError, LoadError};
use crate::gguf::{Gguf, Pooling};
use crate::identity::{bare_card, served_by};
use crate::options::LlamaOptions;
use crate::processor;

pub(super) struct Pooled {
    pub(super) model: Arc<PooledModel>,
    pub(super) served_by: ServedBy,
    pub(super) abilities: Arc<Abilities>,
    engine: Engine,
    card: ModelCard,
}

impl std::fmt::Debug for Pooled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pooled")
            .field("served_by", &self.served_by)
            .finish_non_exhaustive()
    }
}

impl Pooled {
    /// Loads a model and starts an engine for it. It blocks for seconds; call it on a thread that
    /// may block.
    pub(super) fn open(
        options: &LlamaOptions,
        gguf: &Gguf,
        pooling: Pooling,
        can: AbilitySet,
    ) -> Result<Self, LoadError> {
        let model = Arc::new(PooledModel::load(options, gguf, pooling)?);
        if options.mmproj.is_some() {
            tracing::warn!(
                model = options.name,
                "embedding and reranking models do not accept images or sounds; the projector has no effect"
            );
        }
        let engine = Engine::start(
            Arc::clone(&model),
            options.parallel.max(1) as usize + options.queue(),
        )?;
        let sizes = model.sizes;
        tracing::info!(
            model = options.name,
            context = sizes.context,
            batch = sizes.batch,
            threads = sizes.threads,
            pooling = pooling.name(),
            dimensions = model.dimensions(),
            devices = model.devices,
            instructions = processor::instructions(),
            "the engine for embeddings or reranking is ready"
        );
        let mut card = bare_card(options, &model.facts);
        let own = [
            ("context_length", json!(sizes.context)),
            ("pooling", json!(pooling.name())),
        ];
        card.extra
            .extend(own.map(|(name, value)| (name.to_owned(), value)));
        Ok(Self {
            served_by: served_by(options, &[&model.facts.identity]),
            abilities: Arc::new(Abilities {
                can,
                context_length: Some(u64::from(sizes.context)),
                ..Abilities::default()
            }),
            model,
            engine,
            card,
        })
    }

    /// Adds a field to the model's card in `GET /v1/models`.
    pub(super) fn describe(&mut self, name: &str, value: Value) {
        self.card.extra.insert(name.to_owned(), value);
    }

    pub(super) fn check_name(&self, name: &str) -> Result<(), BackendError> {
        if *name == *self.served_by.model {
            Ok(())
        } else {
            Err(BackendError::model_not_found(name))
        }
    }

    /// Reserves a place in the engine's queue.
    pub(super) fn place(&self) -> Result<QueuePlace, BackendError> {
        self.engine
            .place()
            .map_err(|error| error.to_backend_error())
    }

    /// Computes the vectors of inputs. Dropping the future removes them from the queue.
    pub(super) async fn compute(
        &self,
        place: QueuePlace,
        inputs: Vec<Vec<Token>>,
    ) -> Result<Vec<Vec<f32>>, BackendError> {
        let computed = self.engine.compute(place, inputs).await;
        computed.map_err(|error| error.to_backend_error())
    }

    pub(super) fn models(&self) -> Vec<ModelCard> {
        vec![self.card.clone()]
    }

    pub(super) fn ready(&self) -> Result<(), BackendError> {
        if self.engine.is_running() {
            Ok(())
        } else {
            Err(EngineError::Stopped.to_backend_error())
        }
    }
}

/// The pooling of a model, or why it cannot be served.
pub(super) fn pooling_of(
    options: &LlamaOptions,
    gguf: &Gguf,
    is_fit: impl Fn(Pooling) -> bool,
    otherwise: &str,
) -> Result<Pooling, LoadError> {
    let found = Pooling::of(gguf).and_then(|pooling| {
        pooling
            .filter(|&pooling| is_fit(pooling))
            .ok_or_else(|| otherwise.to_owned())
    });
    found.map_err(LoadError::kind(&options.path))
}
