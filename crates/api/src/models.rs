//! `/v1/models`: lists the models, returns one model, deletes one. The lists of Anthropic's API are in
//! `messages/models.rs`.

use http::header::ORIGIN;
use http::request::Parts;
use http::{Response, Uri};
use loggia_backend::BackendError;
use loggia_wire::openai::{DeletedModel, ModelList};
use serde::Serialize;

use crate::answer::headers;
use crate::door::query::Query;
use crate::messages::models::{self as info, Offered};
use crate::wording::Dialect;
use crate::{ApiError, Body, Caller, Door};

impl Door {
    /// `GET /v1/models`.
    pub(crate) async fn models(&self) -> Response<Body> {
        self.json(self.backend.models().await.map(ModelList::new), "model")
    }

    /// `GET /v1/models/{id}`.
    pub(crate) async fn model(&self, id: &str) -> Response<Body> {
        let answer = match self.backend.model(id).await {
            Err(error) => Err(self.with_nearest(error).await),
            found => found,
        };
        self.json(answer, "model")
    }

    /// `GET /v1/models` of Anthropic's API.
    pub(crate) async fn model_page(&self, uri: &Uri) -> Response<Body> {
        match self.backend.models().await {
            Ok(models) => match info::page(&models, &Query::of(uri), self.offered()) {
                Ok(page) => self.json(Ok(page), "model"),
                Err(error) => self.refuse(error),
            },
            Err(error) => self.refuse(ApiError::worded(error, Dialect::Messages)),
        }
    }

    /// `GET /v1/models/{id}` of Anthropic's API.
    pub(crate) async fn model_info(&self, id: &str) -> Response<Body> {
        let answer = match self.backend.model(id).await {
            Err(error) => Err(self.with_nearest(error).await),
            found => found.map(|model| info::of(&model, self.offered())),
        };
        self.json(answer, "model")
    }

    /// Returns the features that this server adds to every model, for the lists of models.
    fn offered(&self) -> Offered {
        Offered {
            batches: self.store.is_some() && self.blobs.is_some(),
            pdfs: self.documents.is_some(),
        }
    }

    /// `DELETE /v1/models/{id}`.
    pub(crate) async fn delete_model(&self, id: &str, parts: &Parts) -> Response<Body> {
        if let Err(error) = self.may_delete(parts) {
            return self.refuse(error);
        }
        let answer = match self.backend.delete_model(id).await {
            Err(error) => Err(self.with_nearest(error).await),
            Ok(()) => Ok(DeletedModel::new(id)),
        };
        self.json(answer, "model")
    }

    /// Checks whether this request may delete models. Browsers send the origin of the page. Without
    /// this check, any open page could delete the models of a server on the same machine, by
    /// letting its own host name resolve to that machine.
    fn may_delete(&self, parts: &Parts) -> Result<(), ApiError> {
        match parts.extensions.get::<Caller>() {
            Some(caller) if caller.may_delete_models => Ok(()),
            Some(_) => Err(ApiError::may_not_delete()),
            None if !self.policy.deletes_without_key => Err(ApiError::deletes_for_keys_only()),
            None if parts.headers.contains_key(ORIGIN) => Err(ApiError::no_page_deletes()),
            None => Ok(()),
        }
    }

    /// Returns JSON, or the error. `param` is the field that an unknown model came from.
    fn json(&self, answer: Result<impl Serialize, BackendError>, param: &str) -> Response<Body> {
        let written = answer.map(|answer| serde_json::to_vec(&answer));
        match written {
            Ok(Ok(json)) => headers::json(Body::whole(json)),
            Ok(Err(_)) => {
                let error = BackendError::Engine {
                    message: "a list that cannot be written as JSON".to_owned(),
                };
                self.refuse(ApiError::from(error))
            }
            Err(error @ BackendError::ModelNotFound { .. }) => {
                self.refuse(ApiError::from(error).about(param))
            }
            Err(error) => self.refuse(ApiError::from(error)),
        }
    }
}
