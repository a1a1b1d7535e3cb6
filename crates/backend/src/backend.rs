//! The seam: what every backend is.

use std::sync::Arc;

use futures_core::future::BoxFuture;
use loggia_wire::openai::Model;

use crate::{
    Abilities, BackendError, Call, EmbeddingCall, Embeddings, NotDeleted, Reply, WorkKind,
};

/// Something that can hold a chat: an engine in the process, a server at an address, or a wrapper
/// around one or many of these.
pub trait Backend: Send + Sync {
    /// What it can honour for this model. Asked before every chat: keep the answer.
    fn abilities<'a>(
        &'a self,
        model: &'a str,
    ) -> BoxFuture<'a, Result<Arc<Abilities>, BackendError>>;

    /// Starts the work of a call. Resolves once the engine has accepted it, so that a refusal can
    /// still be a status code. Dropping the reply, or this future, at any time tells the engine to
    /// stop.
    ///
    /// The answer of a completion is content and nothing else. A backend that does not do a kind of
    /// work answers [`Work::unsupported`](crate::Work::unsupported).
    fn start(&self, call: Call) -> BoxFuture<'_, Result<Reply, BackendError>>;

    /// Makes vectors of inputs. Dropping the future tells the engine to stop.
    ///
    /// A backend that overrides it says so by [`Ability::Embeddings`], model by model.
    fn embed(&self, _call: EmbeddingCall) -> BoxFuture<'_, Result<Embeddings, BackendError>> {
        Box::pin(std::future::ready(Err(BackendError::Unsupported {
            work: WorkKind::Embeddings,
        })))
    }

    /// The models it has.
    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, BackendError>>;

    /// One model, with all that is known of it.
    fn model<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Model, BackendError>> {
        Box::pin(async move {
            let models = self.models().await?;
            models
                .into_iter()
                .find(|model| model.id == id)
                .ok_or_else(|| BackendError::model_not_found(id))
        })
    }

    /// Deletes one model for good, with its files, and takes it off the list.
    ///
    /// By default no model can be deleted: [`BackendError::NotDeleted`], or
    /// [`BackendError::ModelNotFound`] for a name that no model has.
    fn delete_model<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), BackendError>> {
        Box::pin(async move {
            self.model(id).await?;
            Err(BackendError::NotDeleted {
                model: id.to_owned(),
                why: NotDeleted::EngineKeepsIt,
            })
        })
    }

    /// Whether `asked` is another spelling of the name of its model `listed`: in another case, or
    /// without a part that has a default.
    fn is_called(&self, _listed: &str, _asked: &str) -> bool {
        false
    }

    /// Whether a model could answer now.
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
