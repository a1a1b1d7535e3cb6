//! [`Wrap`]: a trait for wrappers around a backend, which define what changes and forward
//! everything else.

use std::sync::Arc;

use futures_core::future::BoxFuture;
use loggia_wire::openai::Model;

use crate::{
    Abilities, AudioCall, AudioReply, Backend, BackendError, Call, ChatCall, EmbeddingCall,
    Embeddings, OllamaCall, OllamaReply, Reply, RerankCall, Reranked, TokenCount,
};

/// A wrapper around a backend. Each method forwards to [`inner`](Self::inner) by default, so an
/// implementation defines only what it changes. Implementing `Wrap` implements [`Backend`].
///
/// For example, a wrapper that refuses one model:
///
/// ```
/// use std::sync::Arc;
/// use futures_core::future::BoxFuture;
/// use loggia_backend::{Backend, BackendError, Call, Reply, Wrap};
///
/// struct Without {
///     model: String,
///     inner: Arc<dyn Backend>,
/// }
///
/// impl Wrap for Without {
///     fn inner(&self) -> &dyn Backend {
///         &*self.inner
///     }
///
///     fn start(&self, call: Call) -> BoxFuture<'_, Result<Reply, BackendError>> {
///         if call.work.model() == self.model {
///             let error = BackendError::model_not_found(&*self.model);
///             return Box::pin(std::future::ready(Err(error)));
///         }
///         self.inner.start(call)
///     }
/// }
/// ```
pub trait Wrap: Send + Sync {
    /// Returns the wrapped backend.
    fn inner(&self) -> &dyn Backend;

    /// See [`Backend::abilities`].
    fn abilities<'a>(
        &'a self,
        model: &'a str,
    ) -> BoxFuture<'a, Result<Arc<Abilities>, BackendError>> {
        self.inner().abilities(model)
    }

    /// See [`Backend::start`].
    fn start(&self, call: Call) -> BoxFuture<'_, Result<Reply, BackendError>> {
        self.inner().start(call)
    }

    /// See [`Backend::embed`].
    fn embed(&self, call: EmbeddingCall) -> BoxFuture<'_, Result<Embeddings, BackendError>> {
        self.inner().embed(call)
    }

    /// See [`Backend::rerank`].
    fn rerank(&self, call: RerankCall) -> BoxFuture<'_, Result<Option<Reranked>, BackendError>> {
        self.inner().rerank(call)
    }

    /// See [`Backend::audio`].
    fn audio(&self, call: AudioCall) -> BoxFuture<'_, Result<Option<AudioReply>, BackendError>> {
        self.inner().audio(call)
    }

    /// See [`Backend::ollama_api`].
    fn ollama_api(
        &self,
        call: OllamaCall,
    ) -> BoxFuture<'_, Result<Option<OllamaReply>, BackendError>> {
        self.inner().ollama_api(call)
    }

    /// See [`Backend::count_tokens`].
    fn count_tokens(&self, call: ChatCall) -> BoxFuture<'_, Result<TokenCount, BackendError>> {
        self.inner().count_tokens(call)
    }

    /// See [`Backend::models`].
    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, BackendError>> {
        self.inner().models()
    }

    /// See [`Backend::loaded_models`].
    fn loaded_models(&self) -> BoxFuture<'_, Result<Option<Vec<String>>, BackendError>> {
        self.inner().loaded_models()
    }

    /// See [`Backend::model`].
    fn model<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Model, BackendError>> {
        self.inner().model(id)
    }

    /// See [`Backend::delete_model`].
    fn delete_model<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), BackendError>> {
        self.inner().delete_model(id)
    }

    /// See [`Backend::is_called`].
    fn is_called(&self, listed: &str, asked: &str) -> bool {
        self.inner().is_called(listed, asked)
    }

    /// See [`Backend::ready`].
    fn ready(&self) -> BoxFuture<'_, Result<(), BackendError>> {
        self.inner().ready()
    }
}

impl<W: Wrap> Backend for W {
    fn abilities<'a>(
        &'a self,
        model: &'a str,
    ) -> BoxFuture<'a, Result<Arc<Abilities>, BackendError>> {
        Wrap::abilities(self, model)
    }

    fn start(&self, call: Call) -> BoxFuture<'_, Result<Reply, BackendError>> {
        Wrap::start(self, call)
    }

    fn embed(&self, call: EmbeddingCall) -> BoxFuture<'_, Result<Embeddings, BackendError>> {
        Wrap::embed(self, call)
    }

    fn rerank(&self, call: RerankCall) -> BoxFuture<'_, Result<Option<Reranked>, BackendError>> {
        Wrap::rerank(self, call)
    }

    fn audio(&self, call: AudioCall) -> BoxFuture<'_, Result<Option<AudioReply>, BackendError>> {
        Wrap::audio(self, call)
    }

    fn ollama_api(
        &self,
        call: OllamaCall,
    ) -> BoxFuture<'_, Result<Option<OllamaReply>, BackendError>> {
        Wrap::ollama_api(self, call)
    }

    fn count_tokens(&self, call: ChatCall) -> BoxFuture<'_, Result<TokenCount, BackendError>> {
        Wrap::count_tokens(self, call)
    }

    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, BackendError>> {
        Wrap::models(self)
    }

    fn loaded_models(&self) -> BoxFuture<'_, Result<Option<Vec<String>>, BackendError>> {
        Wrap::loaded_models(self)
    }

    fn model<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Model, BackendError>> {
        Wrap::model(self, id)
    }

    fn delete_model<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), BackendError>> {
        Wrap::delete_model(self, id)
    }

    fn is_called(&self, listed: &str, asked: &str) -> bool {
        Wrap::is_called(self, listed, asked)
    }

    fn ready(&self) -> BoxFuture<'_, Result<(), BackendError>> {
        Wrap::ready(self)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures_util::FutureExt as _;

    use super::*;

    /// A backend that records which of its methods are called.
    #[derive(Default)]
    struct RecordingBackend(Mutex<Vec<&'static str>>);

    impl RecordingBackend {
        fn note<T: Send + 'static>(
            &self,
            method: &'static str,
        ) -> BoxFuture<'_, Result<T, BackendError>> {
            self.0.lock().unwrap().push(method);
            Box::pin(std::future::ready(Err(BackendError::NoModels)))
        }
    }

    impl Backend for RecordingBackend {
        fn abilities<'a>(
            &'a self,
            _: &'a str,
        ) -> BoxFuture<'a, Result<Arc<Abilities>, BackendError>> {
            self.note("abilities")
        }

        fn start(&self, _: Call) -> BoxFuture<'_, Result<Reply, BackendError>> {
            self.note("start")
        }

        fn embed(&self, _: EmbeddingCall) -> BoxFuture<'_, Result<Embeddings, BackendError>> {
            self.note("embed")
        }

        fn rerank(&self, _: RerankCall) -> BoxFuture<'_, Result<Option<Reranked>, BackendError>> {
            self.note("rerank")
        }

        fn audio(&self, _: AudioCall) -> BoxFuture<'_, Result<Option<AudioReply>, BackendError>> {
            self.note("audio")
        }

        fn ollama_api(
            &self,
            _: OllamaCall,
        ) -> BoxFuture<'_, Result<Option<OllamaReply>, BackendError>> {
            self.note("ollama_api")
        }

        fn count_tokens(&self, _: ChatCall) -> BoxFuture<'_, Result<TokenCount, BackendError>> {
            self.note("count_tokens")
        }

        fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, BackendError>> {
            self.note("models")
        }

        fn loaded_models(&self) -> BoxFuture<'_, Result<Option<Vec<String>>, BackendError>> {
            self.note("loaded_models")
        }

        fn model<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Model, BackendError>> {
            self.note("model")
        }

        fn delete_model<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<(), BackendError>> {
            self.note("delete_model")
        }

        fn is_called(&self, _: &str, _: &str) -> bool {
            self.0.lock().unwrap().push("is_called");
            true
        }

        fn ready(&self) -> BoxFuture<'_, Result<(), BackendError>> {
            self.note("ready")
        }
    }

    struct DefaultWrapper(Arc<RecordingBackend>);

    impl Wrap for DefaultWrapper {
        fn inner(&self) -> &dyn Backend {
            &*self.0
        }
    }

    /// A wrapper must also forward methods that have a default in `Backend`, because the default
    /// would answer instead of the inner backend. The test reads the methods from the source of
    /// `Backend`.
    #[test]
    fn a_wrapper_that_changes_nothing_forwards_every_method() {
        let noting = Arc::new(RecordingBackend::default());
        let wrapper: &dyn Backend = &DefaultWrapper(Arc::clone(&noting));
        let chat = serde_json::json!({"model": "m", "messages": []});
        let chat: loggia_wire::openai::ChatCompletionRequest =
            serde_json::from_value(chat).unwrap();
        let embedding = serde_json::json!({"model": "m", "input": "x"});
        let embedding: loggia_wire::openai::EmbeddingRequest =
            serde_json::from_value(embedding).unwrap();
        assert!(wrapper.is_called("m", "m"));
        let _ = wrapper.abilities("m").now_or_never().unwrap();
        let chat = Arc::new(chat);
        let _ = wrapper
            .start(Call::new("1", Arc::clone(&chat)))
            .now_or_never()
            .unwrap();
        let _ = wrapper
            .count_tokens(Call::new("3", chat))
            .now_or_never()
            .unwrap();
        let _ = wrapper
            .embed(EmbeddingCall::new("2", embedding))
            .now_or_never()
            .unwrap();
        let rerank = crate::Rerank {
            model: "m".to_owned(),
            query: "x".to_owned(),
            documents: Vec::new(),
        };
        let _ = wrapper
            .rerank(RerankCall::new("4", rerank))
            .now_or_never()
            .unwrap();
        let audio = crate::Audio {
            model: "m".to_owned(),
            task: crate::AudioTask::Speak(loggia_wire::Extra::default()),
        };
        let _ = wrapper
            .audio(AudioCall::new("5", audio))
            .now_or_never()
            .unwrap();
        let request = crate::OllamaRequest {
            route: crate::OllamaRoute::Ps,
            model: None,
            fields: loggia_wire::Extra::default(),
        };
        let _ = wrapper
            .ollama_api(OllamaCall::new("6", request))
            .now_or_never()
            .unwrap();
        let _ = wrapper.models().now_or_never().unwrap();
        let _ = wrapper.loaded_models().now_or_never().unwrap();
        let _ = wrapper.model("m").now_or_never().unwrap();
        let _ = wrapper.delete_model("m").now_or_never().unwrap();
        let _ = wrapper.ready().now_or_never().unwrap();

        let mut called = noting.0.lock().unwrap().clone();
        called.sort_unstable();
        let source = include_str!("backend.rs");
        let mut methods: Vec<_> = source
            .split("pub trait Backend")
            .nth(1)
            .unwrap()
            .split("\n    fn ")
            .skip(1)
            .map(|rest| rest.split(['(', '<']).next().unwrap())
            .collect();
        methods.sort_unstable();
        assert_eq!(called, methods);
    }
}
