//! The engine in this process: its models under one name, from before they are loaded.
//!
//! The server listens while a model is being loaded, which may take minutes: `/v1/models` has it, `/readyz` says that it is loading,
//! and a chat waits for it.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Context as _;
use futures_util::future::BoxFuture;
use loggia_backend::{Abilities, Backend, BackendError, ChatCall, Reply};
use loggia_llama::{Llama, LlamaOptions};
use loggia_wire::openai::Model;
use tokio::sync::SetOnce;

use super::local::Local;
use crate::config::Config;

/// The models of this process.
pub(crate) struct Embedded {
    models: Vec<Resident>,
}

/// One model, loaded or about to be.
struct Resident {
    options: LlamaOptions,
    llama: SetOnce<Arc<Llama>>,
}

impl Embedded {
    /// Models that are still to be loaded.
    pub(super) fn new(models: &[Local], config: &Config) -> Self {
        let options = |model: &Local| LlamaOptions {
            context: config.context.map(NonZeroU32::get),
            parallel: config.parallel.get(),
            threads: config.threads.map(NonZeroU32::get),
            ..LlamaOptions::new(&model.file, &model.name)
        };
        let resident = |model| Resident { options: options(model), llama: SetOnce::new() };
        Embedded { models: models.iter().map(resident).collect() }
    }

    /// Loads them all, one after the other: they would only wait for the same disk. Fails with the first that cannot be loaded.
    pub(crate) async fn load(&self) -> anyhow::Result<()> {
        for model in &self.models {
            let options = model.options.clone();
            tracing::info!(model = options.name, file = %options.path.display(), "loading a model");
            let opened = tokio::task::spawn_blocking(move || Llama::open(&options)).await?;
            let llama = opened.with_context(|| format!("cannot load {}", model.options.path.display()))?;
            // Nobody else sets it.
            let _ = model.llama.set(Arc::new(llama));
        }
        Ok(())
    }

    async fn loaded(&self, name: &str) -> Result<&Arc<Llama>, BackendError> {
        let model = self.models.iter().find(|model| model.options.name == name);
        Ok(model.ok_or_else(|| BackendError::model_not_found(name))?.llama.wait().await)
    }
}

impl Backend for Embedded {
    fn abilities<'a>(&'a self, model: &'a str) -> BoxFuture<'a, Result<Arc<Abilities>, BackendError>> {
        Box::pin(async move { self.loaded(model).await?.abilities(model).await })
    }

    fn chat(&self, call: ChatCall) -> BoxFuture<'_, Result<Reply, BackendError>> {
        Box::pin(async move { self.loaded(&call.request.model).await?.chat(call).await })
    }

    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, BackendError>> {
        Box::pin(async move {
            let mut cards = Vec::new();
            for model in &self.models {
                match model.llama.get() {
                    Some(llama) => cards.extend(llama.models().await?),
                    None => cards.push(unloaded(&model.options)),
                }
            }
            Ok(cards)
        })
    }

    fn ready(&self) -> BoxFuture<'_, Result<(), BackendError>> {
        Box::pin(async move {
            for model in &self.models {
                let loading = || BackendError::Engine { message: format!("{} is being loaded", model.options.name) };
                model.llama.get().ok_or_else(loading)?.ready().await?;
            }
            Ok(())
        })
    }
}

/// What is known of a model before it is loaded.
fn unloaded(options: &LlamaOptions) -> Model {
    let modified = std::fs::metadata(&options.path).and_then(|metadata| metadata.modified()).ok();
    let age = modified.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
    Model::new(options.name.as_str(), age.map_or(0, |age| age.as_secs()), "embedded")
}
