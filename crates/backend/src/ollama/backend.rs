//! Implements [`Backend`] for Ollama: abilities, the list of models, and deletion.

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_core::future::BoxFuture;
use http::Method;
use loggia_wire::ollama::{self, RunningModels, Tags};
use loggia_wire::openai::Model;

use super::client::{Ollama, OllamaService};
use super::models::{self};
use super::names;
use super::transport::{post, to_json};
use crate::{
    Abilities, Backend, BackendError, Call, ChatCall, CompletionCall, EmbeddingCall, Embeddings,
    OllamaCall, OllamaReply, Reply, TokenCount, Work,
};

/// The time limit for unloading a model before it is deleted.
const UNLOADED_WITHIN: Duration = Duration::from_secs(10);

impl<S, B> Backend for Ollama<S, B>
where
    S: OllamaService<B>,
    B: From<Bytes> + Send + 'static,
{
    fn abilities<'a>(
        &'a self,
        model: &'a str,
    ) -> BoxFuture<'a, Result<Arc<Abilities>, BackendError>> {
        match self.known.recall(model) {
            Some(known) => Box::pin(ready(Ok(Arc::clone(&known.abilities)))),
            None => Box::pin(async move { Ok(Arc::clone(&self.known(model).await?.abilities)) }),
        }
    }

    fn start(&self, call: Call) -> BoxFuture<'_, Result<Reply, BackendError>> {
        let Call { head, work } = call;
        match work {
            Work::Chat(work) => Box::pin(self.start_chat(ChatCall { head, work })),
            Work::Completion(work) => {
                Box::pin(self.start_completion(CompletionCall { head, work }))
            }
        }
    }

    fn embed(&self, call: EmbeddingCall) -> BoxFuture<'_, Result<Embeddings, BackendError>> {
        Box::pin(self.start_embedding(call))
    }

    fn ollama_api(
        &self,
        call: OllamaCall,
    ) -> BoxFuture<'_, Result<Option<OllamaReply>, BackendError>> {
        Box::pin(async move { self.pass_on(call).await.map(Some) })
    }

    fn count_tokens(&self, call: ChatCall) -> BoxFuture<'_, Result<TokenCount, BackendError>> {
        Box::pin(self.count_chat(call))
    }

    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, BackendError>> {
        Box::pin(async move {
            let tags = self.get::<Tags>("/api/tags").await;
            Ok(models::list(
                &tags.map_err(|error| error.of_credentials(&self.name))?,
            ))
        })
    }

    fn loaded_models(&self) -> BoxFuture<'_, Result<Option<Vec<String>>, BackendError>> {
        Box::pin(async move {
            let running = self.get::<RunningModels>("/api/ps").await?;
            let names = running.models.into_iter().map(|model| model.name);
            Ok(Some(names.collect()))
        })
    }

    fn is_called(&self, listed: &str, asked: &str) -> bool {
        names::are_same(listed, asked)
    }

    fn model<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Model, BackendError>> {
        Box::pin(async move {
            let tags = self.get::<Tags>("/api/tags").await?;
            let listed =
                models::find(&tags, id).ok_or_else(|| BackendError::model_not_found(id))?;
            let show = self.show(id).await?;
            let running = self
                .get::<RunningModels>("/api/ps")
                .await
                .unwrap_or_default();
            let chosen = self.known.recall(id).and_then(|known| known.context_kept());
            Ok(models::described(id, listed, &show, &running, chosen))
        })
    }

    /// Deletes a model as `ollama rm` does: unloads it first, after its running answers.
    fn delete_model<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), BackendError>> {
        Box::pin(async move {
            let unload = to_json(&ollama::UnloadRequest::new(id), &self.name)?;
            // Unloading is optional. Ollama also deletes loaded models, but they then occupy memory
            // until their `keep_alive` ends.
            let _unloaded = tokio::time::timeout(
                UNLOADED_WITHIN,
                self.send(post("/api/generate", unload, None)),
            )
            .await;
            let mut request = post(
                "/api/delete",
                to_json(&ollama::DeleteRequest { model: id }, &self.name)?,
                None,
            );
            *request.method_mut() = Method::DELETE;
            let response = self.send(request).await?;
            self.known.forget(id);
            if response.status().is_success() {
                Ok(())
            } else {
                Err(self.refused(response, id).await)
            }
        })
    }
}
