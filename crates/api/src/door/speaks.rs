//! Which API a client uses: OpenAI's, Anthropic's or Ollama's. It decides about routes that both APIs have,
//! and about the format of errors.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};

use crate::door::routes::Route;
use crate::ollama;
use crate::{ApiError, Body, RequestId};

/// The header with the version of Anthropic's API. Its clients send it with every request.
const ANTHROPIC_VERSION: HeaderName = HeaderName::from_static("anthropic-version");

/// The header with the names of features that its clients want to try.
const ANTHROPIC_BETA: HeaderName = HeaderName::from_static("anthropic-beta");

/// The header of an answer that names the defaults that were used.
const ASSUMED: HeaderName = HeaderName::from_static("x-loggia-assumed");

/// The version that is assumed if a request has none. All versions get the same answers.
const VERSION: &str = "anthropic-version 2023-06-01";

/// The id of a request in answers of Anthropic's API. The server adds `x-request-id` itself.
const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");

/// The paths of Anthropic's API that OpenAI's does not have.
const PATHS: &[&str] = &["/v1/messages", "/v1/complete", "/api/hello"];

/// The paths of Ollama's own API begin with this.
const OLLAMA: &str = "/api/";

/// The API that a client uses.
#[derive(Clone, Debug)]
pub(crate) enum Speaks {
    OpenAi,
    Anthropic {
        /// The id of the request, if it has one.
        id: Option<Arc<str>>,
        /// Whether the client names the version of the API.
        has_version: bool,
    },
    Ollama,
}

impl Speaks {
    /// Finds the API by the path and the headers of a request. `has_ollama_api`: whether the server
    /// passes on routes of Ollama's own API.
    pub(crate) fn of<B>(request: &Request<B>, has_ollama_api: bool) -> Self {
        let path = request.uri().path();
        let is_passed_on = || has_ollama_api && !Route::is_open(path);
        // The first letters are compared first, because this is asked for every request.
        if path.starts_with(OLLAMA) && (is_passed_on() || Route::is_of_ollama(path)) {
            Self::Ollama
        } else if speaks_anthropic(request.uri().path(), request.headers()) {
            let id = request.extensions().get::<RequestId>();
            Self::Anthropic {
                id: id.map(|id| Arc::clone(&id.0)),
                has_version: request.headers().contains_key(ANTHROPIC_VERSION),
            }
        } else {
            Self::OpenAi
        }
    }

    /// Returns whether the client uses Anthropic's API.
    pub(crate) fn is_anthropic(&self) -> bool {
        matches!(self, Self::Anthropic { .. })
    }

    /// Gives an answer the form of the API: the format of errors, and the header with the request's
    /// id.
    pub(crate) fn finished(self, mut response: Response<Body>) -> Response<Body> {
        let error = response.extensions_mut().remove::<ApiError>();
        let (id, has_version) = match self {
            Self::OpenAi => return response,
            Self::Ollama => {
                return match error {
                    Some(error) => response.map(|_| ollama::error(&error)),
                    None => response,
                };
            }
            Self::Anthropic { id, has_version } => (id, has_version),
        };
        if let Some(error) = error {
            let (parts, openai) = response.into_parts();
            let (status, body) = error.anthropic(id.as_deref());
            response = Response::from_parts(parts, body.about_model(openai.model()));
            *response.status_mut() = status;
        }
        if !has_version {
            let version = HeaderValue::from_static(VERSION);
            response.headers_mut().insert(ASSUMED, version);
        }
        if let Some(Ok(id)) = id.map(|id| HeaderValue::from_str(&id)) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        response
    }
}

/// Returns whether the client of a request uses Anthropic's API.
pub(crate) fn speaks_anthropic(path: &str, headers: &HeaderMap) -> bool {
    let is_below = |known: &str| {
        path.strip_prefix(known)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    if PATHS.iter().any(|known| is_below(known)) {
        return true;
    }
    let names_api = [ANTHROPIC_VERSION, ANTHROPIC_BETA];
    names_api.iter().any(|name| headers.contains_key(name)) && !Route::is_of_openai(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_or_the_version_shows_whose_api_a_client_speaks() {
        let versioned =
            HeaderMap::from_iter([(ANTHROPIC_VERSION, HeaderValue::from_static("2026-10-21"))]);
        let beta = HeaderMap::from_iter([(
            ANTHROPIC_BETA,
            HeaderValue::from_static("files-api-2025-04-14"),
        )]);
        for (path, without, with) in [
            ("/v1/messages", true, true),
            ("/v1/messages/count_tokens", true, true),
            ("/v1/messages/batches/1", true, true),
            ("/v1/messagesandmore", false, true),
            ("/api/hello", true, true),
            ("/v1/models", false, true),
            ("/v1/models/a/b", false, true),
            ("/v1/files", false, true),
            ("/v1/files/file-1/content", false, true),
            ("/v1/uploads", false, false),
            ("/v1/nothing", false, true),
            ("/v1/chat/completions", false, false),
            ("/v1/responses", false, false),
            ("/v1/embeddings", false, false),
        ] {
            assert_eq!(speaks_anthropic(path, &HeaderMap::new()), without, "{path}");
            assert_eq!(speaks_anthropic(path, &versioned), with, "{path}");
            assert_eq!(speaks_anthropic(path, &beta), with, "{path}");
        }
    }
}
