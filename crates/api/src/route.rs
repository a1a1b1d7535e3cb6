//! Which requests are OpenAI's API.

use http::{Method, Uri};
use percent_encoding::percent_decode_str;

use crate::ApiError;

/// A route of OpenAI's API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// `POST /v1/chat/completions`.
    Chat,
    /// `POST /v1/completions`.
    Completions,
    /// `POST /v1/embeddings`.
    Embeddings,
    /// `GET /v1/models`.
    Models,
    /// `GET /v1/models/{id}`; the id may hold slashes and colons, encoded or not.
    Model(String),
    /// `DELETE /v1/models/{id}`; the id as above.
    DeleteModel(String),
}

const GET: &[Method] = &[Method::GET];
const POST: &[Method] = &[Method::POST];
const GET_OR_DELETE: &[Method] = &[Method::GET, Method::DELETE];

impl Route {
    /// The route of a request; 404 where OpenAI's API (as far as Loggia has it) has none, 405 where it has another method.
    pub fn of(method: &Method, uri: &Uri) -> Result<Self, ApiError> {
        let path = uri.path();
        let unknown = || ApiError::unknown_route(method, path);
        let (route, allowed) = match path.strip_prefix("/v1/").ok_or_else(unknown)?.trim_end_matches('/') {
            "chat/completions" => (Self::Chat, POST),
            "completions" => (Self::Completions, POST),
            "embeddings" => (Self::Embeddings, POST),
            "models" => (Self::Models, GET),
            rest => {
                let id = rest.strip_prefix("models/").ok_or_else(unknown)?;
                let id = percent_decode_str(id).decode_utf8_lossy().into_owned();
                let is_deletion = *method == Method::DELETE;
                (if is_deletion { Self::DeleteModel(id) } else { Self::Model(id) }, GET_OR_DELETE)
            }
        };
        if allowed.contains(method) { Ok(route) } else { Err(ApiError::wrong_method(method, path, allowed)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_models_id_may_hold_slashes_and_colons_encoded_or_not() {
        for path in ["/v1/models/a/b:1", "/v1/models/a%2Fb%3A1"] {
            let route = Route::of(&Method::GET, &path.parse().expect("a path")).expect("a route");
            assert_eq!(route, Route::Model("a/b:1".to_owned()));
            let route = Route::of(&Method::DELETE, &path.parse().expect("a path")).expect("a route");
            assert_eq!(route, Route::DeleteModel("a/b:1".to_owned()));
        }
    }
}
