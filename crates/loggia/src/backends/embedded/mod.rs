//! The embedded engine, as one backend: each loaded model has a process of its own.
//!
//! Weights are untrusted input, and llama.cpp aborts its process for some of them, for GPU errors,
//! and if memory runs out. With a process for each model, such an abort ends only the answers of
//! that model.
//!
//! Reading order: [`Embedded`] (the backend), `model_spec` (how a model is loaded), `pool` (which
//! models are loaded), `start` and `process` (one of them), `deletion`.

mod default_context;
mod deletion;
mod model_spec;
mod per_model;
mod pool;
mod process;
mod prompt_cache;
mod start;
mod whisper;

use std::sync::Arc;
use std::time::SystemTime;

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, stream};
use loggia_backend::{
    Abilities, AudioCall, AudioReply, Backend, BackendError, Call, ChatCall, EmbeddingCall,
    Embeddings, Reply, RerankCall, Reranked, TokenCount,
};
use loggia_llama::{Forecast, LlamaOptions, ModelKind};
use loggia_server::Reading;
use loggia_wire::Extra;
use loggia_wire::openai::Model;
use tokio::runtime::Handle;

use super::model_files::EmbeddedModel;
use crate::config::{Config, Count, KeepAlive, Size};
use deletion::Deletion;
use model_spec::ModelSpec;
pub(super) use per_model::check as check_per_model;
use pool::{Lease, Pool};
pub(crate) use process::run;

/// The embedded models.
pub(crate) struct Embedded {
    pool: Arc<Pool>,
    deletion: Deletion,
}

impl Embedded {
    /// Creates the backend. [`load`](Self::load) loads the models.
    pub(super) fn new(models: &[EmbeddedModel], config: &Config, runtime: &Handle) -> Self {
        let memory = config
            .memory
            .map(Size::bytes)
            .or_else(pool::memory_of_this_machine);
        let specs = specs(models, config, memory);
        let pool = Arc::new(Pool::new(
            specs,
            Arc::new(process::Processes),
            memory,
            *config.keep_alive,
            runtime.clone(),
        ));
        Embedded {
            pool,
            deletion: Deletion::of(models, config),
        }
    }

    /// Loads the models in order, as long as the memory suffices; others are loaded on request.
    /// Afterwards it starts the task that unloads idle models.
    ///
    /// # Errors
    ///
    /// The first model that cannot be loaded.
    pub(crate) async fn load(&self) -> anyhow::Result<()> {
        for (at, spec) in self.pool.specs().iter().enumerate() {
            let file = spec.file.display();
            match spec.forecast() {
                Ok(forecast) => self.pool.foresee(at, forecast),
                // The model was deleted in the meantime.
                Err(_) if !self.pool.has(at) => {}
                Err(error) => anyhow::bail!("cannot load {file}: {error}"),
            }
        }
        self.pool
            .load_what_fits()
            .await
            .map_err(anyhow::Error::msg)?;
        tokio::spawn(Arc::clone(&self.pool).unload_the_idle());
        Ok(())
    }

    /// Unloads all models, and waits for the ends of their processes.
    pub(crate) async fn unload(&self) {
        self.pool.unload_all().await;
    }

    /// Reads the metrics of the models.
    pub(super) fn readings(&self) -> Vec<Reading> {
        self.pool.readings()
    }

    /// Starts a call on the model's engine. If the process ends before the answer begins, tries
    /// once more.
    async fn ask<T, F>(
        &self,
        model: &str,
        extra: &Extra,
        start: F,
    ) -> Result<(T, Lease), BackendError>
    where
        F: for<'a> Fn(&'a dyn Backend) -> BoxFuture<'a, Result<T, BackendError>> + Send + Sync,
    {
        let at = self.pool.find(model)?;
        let keep_alive = keep_alive(extra)?;
        let mut tried = false;
        loop {
            let lease = self.pool.acquire(at, keep_alive).await?;
            match start(lease.backend()).await {
                Err(BackendError::CutShort { .. }) if !tried => {
                    tracing::warn!(
                        model,
                        "retrying a request whose engine ended before the answer began"
                    );
                    lease.is_lost();
                    tried = true;
                }
                begun => return begun.map(|begun| (begun, lease)),
            }
        }
    }
}

/// How each model is loaded. `memory` is the limit for all of them.
fn specs(models: &[EmbeddedModel], config: &Config, memory: Option<u64>) -> Vec<ModelSpec> {
    let specs = models.iter().map(|model| ModelSpec::of(model, config));
    let mut specs: Vec<_> = specs.collect();
    default_context::give_contexts(&mut specs, config, memory);
    prompt_cache::give_memory(&mut specs, config, memory);
    specs
}

/// The lines of `loggia check` about contexts and the prompt cache.
pub(super) fn report_caches(embedded: &Embedded, config: &Config) -> String {
    let specs = embedded.pool.specs();
    default_context::report(specs) + &prompt_cache::report(specs, config) + &whisper::report(specs)
}

/// The number of threads that a model computes with.
pub(crate) fn threads(config: &Config) -> i32 {
    let threads = config.threads.map(Count::get);
    LlamaOptions {
        threads,
        ..LlamaOptions::new("", "")
    }
    .threads()
}

/// Checks that each adapter fits its base model.
///
/// # Errors
///
/// The message about the first one that does not.
pub(super) fn check_adapters(models: &[EmbeddedModel], config: &Config) -> Result<(), String> {
    for model in models.iter().filter(|model| model.adapter.is_some()) {
        let spec = ModelSpec::of(model, config);
        spec.forecast()
            .map_err(|why| format!("lora.{}: {why}", model.name))?;
    }
    Ok(())
}

/// The request's own `keep_alive`.
fn keep_alive(extra: &Extra) -> Result<Option<KeepAlive>, BackendError> {
    let Some(value) = extra.get("keep_alive").filter(|value| !value.is_null()) else {
        return Ok(None);
    };
    KeepAlive::of(value).map(Some).ok_or_else(|| BackendError::InvalidRequest {
        message: "'keep_alive' must be a duration, such as \"5m\", or a number of seconds; negative means forever.".to_owned(),
        param: Some("keep_alive".to_owned()),
        code: Some("invalid_value".to_owned()),
    })
}

/// Waits for the first event of the answer: if the process ends before it, the call can be
/// repeated.
fn begun(
    starting: BoxFuture<'_, Result<Reply, BackendError>>,
) -> BoxFuture<'_, Result<Reply, BackendError>> {
    Box::pin(async move {
        let mut reply = starting.await?;
        let first = reply.first_word().await?;
        Ok(Reply {
            events: stream::iter(first.map(Ok)).chain(reply.events).boxed(),
            ..reply
        })
    })
}

/// Keeps the lease until the answer ends, so that the model is not unloaded.
fn holding<P: 'static>(pieces: BoxStream<'static, P>, lease: Lease) -> BoxStream<'static, P> {
    let holds = move |_: &P| {
        // Captured, so that it lives as long as the stream.
        let _lease = &lease;
    };
    pieces.inspect(holds).boxed()
}

impl Backend for Embedded {
    fn abilities<'a>(
        &'a self,
        model: &'a str,
    ) -> BoxFuture<'a, Result<Arc<Abilities>, BackendError>> {
        Box::pin(async move {
            let at = self.pool.find(model)?;
            // The abilities are known once the model has been loaded.
            self.pool.learn(at).await.map(|(_, abilities)| abilities)
        })
    }

    fn start(&self, call: Call) -> BoxFuture<'_, Result<Reply, BackendError>> {
        Box::pin(async move {
            let work = &call.work;
            let asked = self.ask(work.model(), work.extra(), |backend| {
                begun(backend.start(call.clone()))
            });
            asked.await.map(|(reply, lease)| Reply {
                events: holding(reply.events, lease),
                ..reply
            })
        })
    }

    fn embed(&self, call: EmbeddingCall) -> BoxFuture<'_, Result<Embeddings, BackendError>> {
        Box::pin(async move {
            let request = &call.work;
            let asked = self.ask(&request.model, &request.extra, |backend| {
                backend.embed(call.clone())
            });
            asked.await.map(|(embeddings, _)| embeddings)
        })
    }

    fn rerank(&self, call: RerankCall) -> BoxFuture<'_, Result<Option<Reranked>, BackendError>> {
        Box::pin(async move {
            let model = &call.work.model;
            let forecast = self.pool.forecast(self.pool.find(model)?);
            if forecast.is_none_or(|forecast| forecast.kind != ModelKind::Reranking) {
                return Ok(None);
            }
            let extra = Extra::default();
            let asked = self.ask(model, &extra, |backend| backend.rerank(call.clone()));
            asked.await.map(|(ranked, _)| ranked)
        })
    }

    fn audio(&self, call: AudioCall) -> BoxFuture<'_, Result<Option<AudioReply>, BackendError>> {
        Box::pin(async move {
            let model = &call.work.model;
            let at = self.pool.find(model)?;
            if self.pool.specs()[at].whisper.is_none() {
                return Ok(None);
            }
            let extra = Extra::default();
            let asked = self.ask(model, &extra, |backend| backend.audio(call.clone()));
            let (reply, lease) = asked.await?;
            Ok(reply.map(|reply| AudioReply {
                pieces: holding(reply.pieces, lease),
                ..reply
            }))
        })
    }

    fn count_tokens(&self, call: ChatCall) -> BoxFuture<'_, Result<TokenCount, BackendError>> {
        Box::pin(async move {
            let request = &call.work;
            let asked = self.ask(&request.model, &request.extra, |backend| {
                backend.count_tokens(call.clone())
            });
            asked.await.map(|(count, _)| count)
        })
    }

    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, BackendError>> {
        let specs = self.pool.specs().iter().enumerate();
        let card = |(at, spec)| {
            let known = self.pool.known(at).map(|(card, _)| card);
            let card = known.unwrap_or_else(|| unloaded(spec, self.pool.forecast(at)));
            with_base(card, spec)
        };
        let cards = specs
            .filter(|(at, _)| self.pool.has(*at))
            .map(card)
            .collect();
        Box::pin(std::future::ready(Ok(cards)))
    }

    fn delete_model<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), BackendError>> {
        Box::pin(async move {
            let at = self.pool.find(id)?;
            self.deletion.check(at, &self.pool)?;
            let (store, file) = (
                self.deletion.store.clone(),
                self.pool.specs()[at].file.clone(),
            );
            self.pool
                .delete(at, move || deletion::remove(&store, &file))
                .await
        })
    }

    fn ready(&self) -> BoxFuture<'_, Result<(), BackendError>> {
        Box::pin(std::future::ready(self.pool.ready()))
    }
}

/// The description of a model that has not been loaded.
fn unloaded(spec: &ModelSpec, forecast: Option<Forecast>) -> Model {
    let modified = std::fs::metadata(&spec.file)
        .and_then(|metadata| metadata.modified())
        .ok();
    let age = modified.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
    let mut card = Model::new(
        spec.name.as_str(),
        age.map_or(0, |age| age.as_secs()),
        "embedded",
    );
    if let Some(files) = &spec.whisper {
        whisper::describe(files, &mut card);
    } else if let Some(forecast) = forecast {
        card.extra
            .insert("context_length".to_owned(), forecast.context.into());
        let capability = match forecast.kind {
            ModelKind::Text => None,
            ModelKind::Embedding => Some("embedding"),
            ModelKind::Reranking => Some("rerank"),
        };
        if let Some(capability) = capability {
            card.extra
                .insert("capabilities".to_owned(), vec![capability].into());
        }
    }
    card
}

/// Adds the name of the base model of an adapter.
fn with_base(mut card: Model, spec: &ModelSpec) -> Model {
    if let Some(adapter) = &spec.adapter {
        card.extra
            .insert("base".to_owned(), adapter.base.as_str().into());
    }
    card
}
