//! The trait [`Backend`], which every engine and every wrapper implements.

use std::sync::Arc;

use futures_core::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use loggia_wire::openai::Model;

use crate::count::by_answer::by_answer;
use crate::{
    Abilities, AudioCall, AudioReply, BackendError, Call, ChatCall, EmbeddingCall, Embeddings,
    NotDeleted, OllamaCall, OllamaReply, Reply, RerankCall, Reranked, TokenCount, WorkKind,
};

/// A backend answers chats: an engine in this process, a server at an address, or a wrapper around
/// one or several backends.
pub trait Backend: Send + Sync {
    /// Returns the abilities for this model. Called before every chat, so cache the result.
    fn abilities<'a>(
        &'a self,
        model: &'a str,
    ) -> BoxFuture<'a, Result<Arc<Abilities>, BackendError>>;

    /// Starts the work of a call. Resolves when the engine has accepted it, so that a refusal can
    /// still be a status code. Dropping the future or the reply at any time tells the engine to
    /// stop.
    ///
    /// The answer of a completion contains only content. A backend that does not support a kind of
    /// work returns [`Work::unsupported`](crate::Work::unsupported).
    fn start(&self, call: Call) -> BoxFuture<'_, Result<Reply, BackendError>>;

    /// Computes embeddings. Dropping the future tells the engine to stop.
    ///
    /// A backend that overrides this method reports [`Ability::Embeddings`](crate::Ability::Embeddings) for each model that
    /// supports it.
    fn embed(&self, _call: EmbeddingCall) -> BoxFuture<'_, Result<Embeddings, BackendError>> {
        Box::pin(std::future::ready(Err(BackendError::Unsupported {
            work: WorkKind::Embeddings,
        })))
    }

    /// Compares documents with a query. Returns `None` if the model does not rerank, so that its
    /// embeddings may be compared instead. In [`BackendError::InputTooLong`], the query is the first
    /// input, and the documents follow. Dropping the future tells the engine to stop.
    fn rerank(&self, _call: RerankCall) -> BoxFuture<'_, Result<Option<Reranked>, BackendError>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// Turns a recording into text, or text into speech. Resolves when the answer has begun. Returns
    /// `None` if the model does not do this, so that a chat model may hear instead. Dropping the
    /// future or the reply at any time tells the engine to stop.
    fn audio(&self, _call: AudioCall) -> BoxFuture<'_, Result<Option<AudioReply>, BackendError>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// Answers a request of Ollama's own API. Resolves when the answer has begun. Returns `None` if
    /// the backend is no Ollama server. Dropping the future or the reply at any time tells the engine
    /// to stop.
    fn ollama_api(
        &self,
        _call: OllamaCall,
    ) -> BoxFuture<'_, Result<Option<OllamaReply>, BackendError>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// Counts the tokens of a chat's prompt: what `prompt_tokens` of an answer to it would be. The
    /// prompt may be longer than the context. Dropping the future tells the engine to stop.
    ///
    /// By default starts the chat with a limit of one token and reads the usage, which costs the
    /// engine the processing of the prompt, and fails for a prompt that exceeds the context.
    fn count_tokens(&self, call: ChatCall) -> BoxFuture<'_, Result<TokenCount, BackendError>> {
        Box::pin(by_answer(call, |call| self.start(call.into())))
    }

    /// Lists the models.
    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, BackendError>>;

    /// Returns the names of the models that answer without being loaded first. `None` if the
    /// backend does not report them.
    fn loaded_models(&self) -> BoxFuture<'_, Result<Option<Vec<String>>, BackendError>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// Returns one model with all known properties.
    fn model<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Model, BackendError>> {
        Box::pin(async move {
            let models = self.models().await?;
            models
                .into_iter()
                .find(|model| model.id == id)
                .ok_or_else(|| BackendError::model_not_found(id))
        })
    }

    /// Deletes a model permanently, with its files, and removes it from the list.
    ///
    /// By default no model can be deleted: returns [`BackendError::NotDeleted`], or
    /// [`BackendError::ModelNotFound`] for an unknown name.
    fn delete_model<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), BackendError>> {
        Box::pin(async move {
            self.model(id).await?;
            Err(BackendError::NotDeleted {
                model: id.to_owned(),
                why: NotDeleted::EngineKeepsIt,
            })
        })
    }

    /// Returns whether `asked` is another spelling of the name of the model `listed`: a different
    /// case, or without a part that has a default.
    fn is_called(&self, _listed: &str, _asked: &str) -> bool {
        false
    }

    /// Checks whether a model could answer now.
    fn ready(&self) -> BoxFuture<'_, Result<(), BackendError>> {
        Box::pin(async move {
            if self.models().await?.is_empty() {
                Err(BackendError::NoModels)
            } else {
                Ok(())
            }
        })
    }
}

/// Waits until one of several backends is [ready](Backend::ready). If none is, returns the error of
/// the last one that answered.
pub(crate) async fn one_ready(
    answers: impl Iterator<Item = BoxFuture<'_, Result<(), BackendError>>>,
) -> Result<(), BackendError> {
    let mut answers: FuturesUnordered<_> = answers.collect();
    let mut why = BackendError::NoModels;
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(()) => return Ok(()),
            Err(error) => why = error,
        }
    }
    Err(why)
}
