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
    /// The route of a request; 404 where OpenAI's API (as far as Loggia has it) has none, 405 where
    /// it has another method.
    pub fn of(method: &Method, uri: &Uri) -> Result<Self, ApiError> {
        let path = uri.path();
        let unknown = || ApiError::unknown_route(method, path, meant(path));
        let (route, allowed) = match path
            .strip_prefix("/v1/")
            .ok_or_else(unknown)?
            .trim_end_matches('/')
        {
            "chat/completions" => (Self::Chat, POST),
            "completions" => (Self::Completions, POST),
            "embeddings" => (Self::Embeddings, POST),
            "models" => (Self::Models, GET),
            rest => {
                let id = rest.strip_prefix("models/").ok_or_else(unknown)?;
                let id = percent_decode_str(id).decode_utf8_lossy().into_owned();
                let is_deletion = *method == Method::DELETE;
                (
                    if is_deletion {
                        Self::DeleteModel(id)
                    } else {
                        Self::Model(id)
                    },
                    GET_OR_DELETE,
                )
            }
        };
        if allowed.contains(method) {
            Ok(route)
        } else {
            Err(ApiError::wrong_method(method, path, allowed))
        }
    }
}

/// What stands in paths that were meant for a route: OpenAI's own words, those of its other APIs,
/// and those of Ollama's. The first that is found decides.
const MEANT: [(&str, &[&str]); 4] = [
    ("/v1/chat/completions", &["chat", "responses", "messages"]),
    (
        "/v1/completions",
        &["completions", "completion", "generate"],
    ),
    ("/v1/embeddings", &["embeddings", "embedding", "embed"]),
    ("/v1/models", &["models", "model", "tags", "show"]),
];

/// The longest part of a path that may be a mistyped word, and the most letters that may be wrong
/// in it.
const LONGEST_WORD: usize = 16;
const MISTYPED: usize = 2;

/// The route that an unknown path looks like: without `/v1`, with too much of it, with a slash too
/// many, mistyped.
fn meant(path: &str) -> Option<&'static str> {
    let parts = || {
        path.split('/')
            .filter(|part| !part.is_empty() && part.len() <= LONGEST_WORD)
    };
    let has =
        |word: &str, wrong| parts().any(|part| is_like(&part.to_ascii_lowercase(), word, wrong));
    if has("chat", MISTYPED) && has("completions", MISTYPED) {
        return Some(MEANT[0].0);
    }
    let find = |wrong| {
        MEANT
            .iter()
            .find(|(_, words)| words.iter().any(|word| has(word, wrong)))
    };
    find(0).or_else(|| find(MISTYPED)).map(|(route, _)| *route)
}

/// Whether a part of a path is a word with so many letters wrong, of a short word fewer.
fn is_like(part: &str, word: &str, wrong: usize) -> bool {
    part == word || wrong > 0 && strsim::osa_distance(part, word) <= wrong.min(word.len() / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_path_is_told_the_route_that_it_looks_like() {
        for (path, route) in [
            ("/chat/completions", "/v1/chat/completions"),
            ("//v1/chat/completions", "/v1/chat/completions"),
            ("/v1//chat/completions", "/v1/chat/completions"),
            ("/v1/v1/chat/completions", "/v1/chat/completions"),
            (
                "/v1/chat/completions/chat/completions",
                "/v1/chat/completions",
            ),
            (
                "/openai/deployments/m/chat/completions",
                "/v1/chat/completions",
            ),
            ("/api/chat", "/v1/chat/completions"),
            ("/v1/responses", "/v1/chat/completions"),
            ("/v1/messages", "/v1/chat/completions"),
            ("/v1/messages/count_tokens", "/v1/chat/completions"),
            ("/v1/chat", "/v1/chat/completions"),
            ("/v1/caht/completions", "/v1/chat/completions"),
            ("/v1/chat/completion", "/v1/chat/completions"),
            ("/V1/Chat/Completions", "/v1/chat/completions"),
            ("/completions", "/v1/completions"),
            ("/v1/engines/davinci/completions", "/v1/completions"),
            ("/completion", "/v1/completions"),
            ("/v1/complettions", "/v1/completions"),
            ("/api/generate", "/v1/completions"),
            ("/embeddings", "/v1/embeddings"),
            ("/v1/v1/embeddings", "/v1/embeddings"),
            ("/api/embed", "/v1/embeddings"),
            ("/models", "/v1/models"),
            ("/v1/v1/models/m", "/v1/models"),
            ("/v1/model", "/v1/models"),
            ("/api/tags", "/v1/models"),
        ] {
            let error = Route::of(&Method::POST, &path.parse().expect("a path")).expect_err(path);
            let message = format!(
                "Invalid URL (POST {path}). Did you mean {route}? The base URL of a client ends in '/v1'."
            );
            assert_eq!((error.status.as_u16(), error.error.message), (404, message));
            assert_eq!(error.error.code.as_deref(), Some("unknown_url"));
        }
        for path in [
            "/",
            "/v1",
            "/v1/",
            "/favicon.ico",
            "/v1/files",
            "/v1/audio/speech",
            "/v1/images/generations",
            "/v1/moderations",
        ] {
            let error = Route::of(&Method::GET, &path.parse().expect("a path")).expect_err(path);
            assert_eq!(error.error.message, format!("Invalid URL (GET {path})"));
        }
    }

    #[test]
    fn a_models_id_may_hold_slashes_and_colons_encoded_or_not() {
        for path in ["/v1/models/a/b:1", "/v1/models/a%2Fb%3A1"] {
            let route = Route::of(&Method::GET, &path.parse().expect("a path")).expect("a route");
            assert_eq!(route, Route::Model("a/b:1".to_owned()));
            let route =
                Route::of(&Method::DELETE, &path.parse().expect("a path")).expect("a route");
            assert_eq!(route, Route::DeleteModel("a/b:1".to_owned()));
        }
    }
}
