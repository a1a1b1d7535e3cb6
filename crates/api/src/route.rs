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
}

impl Route {
    /// The route of a request; 404 where OpenAI's API (as far as Loggia has it) has none, 405 where it has another method.
    pub fn of(method: &Method, uri: &Uri) -> Result<Self, ApiError> {
        let path = uri.path();
        let (route, allowed) = match path.strip_prefix("/v1/").map(|rest| rest.trim_end_matches('/')) {
            Some("chat/completions") => (Self::Chat, Method::POST),
            Some("completions") => (Self::Completions, Method::POST),
            Some("embeddings") => (Self::Embeddings, Method::POST),
            Some("models") => (Self::Models, Method::GET),
            Some(rest) => match rest.strip_prefix("models/") {
                Some(id) => (Self::Model(percent_decode_str(id).decode_utf8_lossy().into_owned()), Method::GET),
                None => return Err(ApiError::unknown_route(method, path)),
            },
            None => return Err(ApiError::unknown_route(method, path)),
        };
        if *method == allowed { Ok(route) } else { Err(ApiError::wrong_method(method, path, &allowed)) }
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
        }
    }
}
