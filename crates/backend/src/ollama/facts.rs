//! Queries the properties of a model and caches them for a while (`models.rs`).

use std::sync::Arc;

use bytes::Bytes;
use loggia_wire::ollama::{Show, ShowRequest, Tags, Version};

use super::client::{Ollama, OllamaService};
use super::models::{self, ModelProperties};
use super::transport::{post, to_json};
use crate::BackendError;

impl<S, B> Ollama<S, B>
where
    S: OllamaService<B>,
    B: From<Bytes> + Send + 'static,
{
    /// Returns the properties of a model, from the cache if possible.
    pub(super) async fn known(&self, model: &str) -> Result<Arc<ModelProperties>, BackendError> {
        if let Some(known) = self.known.recall(model) {
            return Ok(known);
        }
        let known = Arc::new(Box::pin(self.ask(model)).await?);
        self.known.keep(model, Arc::clone(&known));
        Ok(known)
    }

    /// Queries the properties of a model. If the service supports only `/api/chat`, nothing is
    /// known and all features are tried.
    pub(super) async fn ask(&self, model: &str) -> Result<ModelProperties, BackendError> {
        let show: Show = match self.show(model).await {
            Ok(show) => show,
            Err(error) if is_no_matter_of_show(&error) => return Err(error),
            Err(_) => return Ok(ModelProperties::nothing(&self.name, model)),
        };
        let digest = match self.get::<Tags>("/api/tags").await {
            Ok(tags) => models::digest(&tags, model).unwrap_or_default(),
            Err(_) => String::new(),
        };
        let version = self
            .get::<Version>("/api/version")
            .await
            .map(|version| version.version)
            .unwrap_or_default();
        if self.known.is_first_to_tell_old(&version) {
            tracing::warn!(
                backend = &*self.name,
                version,
                "this Ollama is older than 0.12.6: it silently truncates prompts that do not fit into the context, and silently drops the beginning of the context during long answers; update it"
            );
        }
        Ok(ModelProperties::from_show(
            &self.name, &show, &digest, &version,
        ))
    }

    pub(super) async fn show(&self, model: &str) -> Result<Show, BackendError> {
        let body = to_json(&ShowRequest { model }, &self.name)?;
        self.fetch(post("/api/show", body, None), model).await
    }
}

/// Returns whether a chat would fail too: the model does not exist, or the server does not answer.
fn is_no_matter_of_show(error: &BackendError) -> bool {
    use BackendError::{Busy, ModelNotFound, RateLimited, TimedOut, Tls, Unreachable};
    matches!(
        error,
        ModelNotFound { .. }
            | Unreachable { .. }
            | Tls { .. }
            | TimedOut { .. }
            | Busy { .. }
            | RateLimited { .. }
    )
}
