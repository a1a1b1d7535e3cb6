//! [`Caller`]: the holder of an API key, as the server reports it to the door. The server manages
//! the keys.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use futures_core::future::BoxFuture;
use http::request::Parts;
use loggia_backend::{
    Abilities, AudioCall, AudioReply, Backend, BackendError, Call, ChatCall, EmbeddingCall,
    Embeddings, OllamaCall, OllamaReply, Reply, RerankCall, Reranked, TokenCount, Wrap,
};
use loggia_wire::openai::Model;
use thiserror::Error;

use crate::Strictness;

/// The holder of the API key of a request. A server with keys adds it to the request's extensions.
/// A request without one is handled as the [`Policy`](crate::Policy) says and may use every model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The name of the key, for logs. Never the key itself.
    pub name: Arc<str>,
    /// The strictness for this caller's requests. Takes precedence over that of the model and of
    /// the server.
    pub strictness: Option<Strictness>,
    /// The models that this caller may use, by the names that it sends. `None` means all.
    pub models: Option<Arc<[ModelPattern]>>,
    /// Whether this caller may delete the models that it may use.
    pub may_delete_models: bool,
    /// Whether `service_tier: priority` lets this caller's requests run before those of others.
    pub may_have_priority: bool,
}

impl Caller {
    /// Returns the name of the API key of a request, if it has one.
    pub(crate) fn name_of(parts: &Parts) -> Option<Arc<str>> {
        let caller = parts.extensions.get::<Self>()?;
        Some(Arc::clone(&caller.name))
    }
}

/// The name of a model, or a pattern: one `*` stands for any text, as in an alias (`gpt-*`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelPattern(String);

/// An invalid pattern.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "`{0}` is not a valid model pattern; write a model name, with at most one `*` for any text: smollm2:135m, gpt-*, *"
)]
pub struct BadModelPattern(String);

impl ModelPattern {
    /// Returns whether the pattern matches this name.
    pub fn fits(&self, model: &str) -> bool {
        match self.0.split_once('*') {
            Some((before, after)) => model
                .strip_prefix(before)
                .is_some_and(|rest| rest.ends_with(after)),
            None => self.0 == model,
        }
    }
}

impl FromStr for ModelPattern {
    type Err = BadModelPattern;

    fn from_str(text: &str) -> Result<Self, BadModelPattern> {
        if text.is_empty() || text.matches('*').count() > 1 {
            return Err(BadModelPattern(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for ModelPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A wrapper that hides models which the caller may not use. It wraps the backend for all routes,
/// so that no route can forget it.
pub(crate) struct Only {
    backend: Arc<dyn Backend>,
    models: Arc<[ModelPattern]>,
}

impl Only {
    pub(crate) fn new(backend: Arc<dyn Backend>, models: Arc<[ModelPattern]>) -> Self {
        Self { backend, models }
    }

    fn has(&self, model: &str) -> bool {
        self.models.iter().any(|pattern| pattern.fits(model))
    }

    /// Returns the error for an unknown model, because the caller need not learn that the model
    /// exists.
    fn find(&self, model: &str) -> Result<&dyn Backend, BackendError> {
        if self.has(model) {
            Ok(&*self.backend)
        } else {
            Err(BackendError::model_not_found(model))
        }
    }
}

impl Wrap for Only {
    fn inner(&self) -> &dyn Backend {
        &*self.backend
    }

    fn abilities<'a>(
        &'a self,
        model: &'a str,
    ) -> BoxFuture<'a, Result<Arc<Abilities>, BackendError>> {
        Box::pin(async move { self.find(model)?.abilities(model).await })
    }

    fn start(&self, call: Call) -> BoxFuture<'_, Result<Reply, BackendError>> {
        Box::pin(async move { self.find(call.work.model())?.start(call).await })
    }

    fn embed(&self, call: EmbeddingCall) -> BoxFuture<'_, Result<Embeddings, BackendError>> {
        Box::pin(async move { self.find(&call.work.model)?.embed(call).await })
    }

    fn rerank(&self, call: RerankCall) -> BoxFuture<'_, Result<Option<Reranked>, BackendError>> {
        Box::pin(async move { self.find(&call.work.model)?.rerank(call).await })
    }

    fn audio(&self, call: AudioCall) -> BoxFuture<'_, Result<Option<AudioReply>, BackendError>> {
        Box::pin(async move { self.find(&call.work.model)?.audio(call).await })
    }

    /// A call without a model is about all of them; the door refuses it with the reason.
    fn ollama_api(
        &self,
        call: OllamaCall,
    ) -> BoxFuture<'_, Result<Option<OllamaReply>, BackendError>> {
        Box::pin(async move {
            let Some(model) = &call.work.model else {
                return Err(BackendError::NoModels);
            };
            self.find(model)?.ollama_api(call).await
        })
    }

    fn count_tokens(&self, call: ChatCall) -> BoxFuture<'_, Result<TokenCount, BackendError>> {
        Box::pin(async move { self.find(&call.work.model)?.count_tokens(call).await })
    }

    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, BackendError>> {
        Box::pin(async move {
            let mut models = self.backend.models().await?;
            models.retain(|model| self.has(&model.id));
            Ok(models)
        })
    }

    fn model<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Model, BackendError>> {
        Box::pin(async move { self.find(id)?.model(id).await })
    }

    fn delete_model<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), BackendError>> {
        Box::pin(async move { self.find(id)?.delete_model(id).await })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text_and_nothing_else_does() {
        let fits = |pattern: &str, model: &str| {
            pattern
                .parse::<ModelPattern>()
                .is_ok_and(|one| one.fits(model))
        };
        assert!(
            fits("gpt-*", "gpt-4o")
                && fits("gpt-*", "gpt-")
                && fits("*", "anything/at:all")
                && fits("a*z", "abz")
        );
        assert!(fits("m:1", "m:1") && fits("*:135m", "smollm2:135m"));
        assert!(
            !fits("gpt-*", "GPT-4o")
                && !fits("gpt-*", "my-gpt-4o")
                && !fits("m:1", "m:10")
                && !fits("ab*ba", "aba")
        );
        for wrong in ["", "**", "a*b*"] {
            assert_eq!(
                wrong.parse::<ModelPattern>(),
                Err(BadModelPattern(wrong.to_owned()))
            );
        }
    }
}
