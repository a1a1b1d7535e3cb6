//! `passed_on!`: what a wrapper leaves to the backend inside it, word for word.

/// Writes methods of [`Backend`](crate::Backend) that do no more than call those of the backend in
/// a field: `passed_on!(inner: complete embed models model delete_model ready);`.
macro_rules! passed_on {
    ($inner:ident: $($method:ident)+) => { $( $crate::passed_on::passed_on!(@ $inner $method); )+ };
    (@ $inner:ident complete) => {
        fn complete(
            &self,
            call: $crate::CompletionCall,
        ) -> futures_core::future::BoxFuture<'_, Result<$crate::Reply, $crate::BackendError>> {
            self.$inner.complete(call)
        }
    };
    (@ $inner:ident embed) => {
        fn embed(
            &self,
            call: $crate::EmbeddingCall,
        ) -> futures_core::future::BoxFuture<'_, Result<$crate::Embeddings, $crate::BackendError>> {
            self.$inner.embed(call)
        }
    };
    (@ $inner:ident models) => {
        fn models(
            &self,
        ) -> futures_core::future::BoxFuture<'_, Result<Vec<loggia_wire::openai::Model>, $crate::BackendError>> {
            self.$inner.models()
        }
    };
    (@ $inner:ident model) => {
        fn model<'a>(
            &'a self,
            id: &'a str,
        ) -> futures_core::future::BoxFuture<'a, Result<loggia_wire::openai::Model, $crate::BackendError>> {
            self.$inner.model(id)
        }
    };
    (@ $inner:ident delete_model) => {
        fn delete_model<'a>(
            &'a self,
            id: &'a str,
        ) -> futures_core::future::BoxFuture<'a, Result<(), $crate::BackendError>> {
            self.$inner.delete_model(id)
        }
    };
    (@ $inner:ident ready) => {
        fn ready(&self) -> futures_core::future::BoxFuture<'_, Result<(), $crate::BackendError>> {
            self.$inner.ready()
        }
    };
}

pub(crate) use passed_on;
