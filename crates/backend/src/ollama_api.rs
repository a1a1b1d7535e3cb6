//! [`OllamaRequest`]: a request of Ollama's own API, which the Ollama server that has the model
//! answers.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use futures_core::stream::BoxStream;
use http::Method;
use loggia_wire::Extra;
use loggia_wire::openai::CompletionUsage;
use thiserror::Error;

use crate::{BackendError, Call, ServedBy};

/// A call of Ollama's own API.
pub type OllamaCall = Call<OllamaRequest>;

/// The work of a call of Ollama's own API.
#[derive(Clone, Debug)]
pub struct OllamaRequest {
    /// The route.
    pub route: OllamaRoute,
    /// The backend's own name for the model. `None` if the [route](OllamaRoute::model_field) needs
    /// no model.
    pub model: Option<String>,
    /// The fields of the request, without the one that names the model.
    pub fields: Extra,
}

/// A route of Ollama's own API that can be passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OllamaRoute {
    /// `POST /api/chat`.
    Chat,
    /// `POST /api/generate`.
    Generate,
    /// `POST /api/embed`.
    Embed,
    /// `POST /api/embeddings`, the older form of `/api/embed`.
    Embeddings,
    /// `POST /api/show`: the properties of a model.
    Show,
    /// `GET /api/ps`: the loaded models.
    Ps,
    /// `POST /api/copy`: another name for a model.
    Copy,
    /// `POST /api/create`: a new model.
    Create,
    /// `POST /api/push`: uploads a model.
    Push,
    /// `DELETE /api/delete`.
    Delete,
}

/// The path is no route that can be passed on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "`{0}` is not a route of Ollama's API that can be passed on; these are: {list}",
    list = OllamaRoute::ALL.map(OllamaRoute::path).join(", ")
)]
pub struct UnknownOllamaRoute(String);

impl OllamaRoute {
    /// All routes.
    pub const ALL: [Self; 10] = [
        Self::Chat,
        Self::Generate,
        Self::Embed,
        Self::Embeddings,
        Self::Show,
        Self::Ps,
        Self::Copy,
        Self::Create,
        Self::Push,
        Self::Delete,
    ];

    /// Returns the path.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Chat => "/api/chat",
            Self::Generate => "/api/generate",
            Self::Embed => "/api/embed",
            Self::Embeddings => "/api/embeddings",
            Self::Show => "/api/show",
            Self::Ps => "/api/ps",
            Self::Copy => "/api/copy",
            Self::Create => "/api/create",
            Self::Push => "/api/push",
            Self::Delete => "/api/delete",
        }
    }

    /// Returns the method.
    pub const fn method(self) -> Method {
        match self {
            Self::Ps => Method::GET,
            Self::Delete => Method::DELETE,
            _ => Method::POST,
        }
    }

    /// Returns whether the model computes an answer.
    pub const fn generates(self) -> bool {
        matches!(
            self,
            Self::Chat | Self::Generate | Self::Embed | Self::Embeddings
        )
    }

    /// Returns whether the route changes the models of the server, or sends them elsewhere.
    pub const fn changes_models(self) -> bool {
        matches!(self, Self::Copy | Self::Create | Self::Push | Self::Delete)
    }

    /// Returns the field with the name of a model that the server has. `None` if there is none: then
    /// the first Ollama server answers.
    pub const fn model_field(self) -> Option<&'static str> {
        match self {
            Self::Ps | Self::Create => None,
            Self::Copy => Some("source"),
            _ => Some("model"),
        }
    }
}

impl FromStr for OllamaRoute {
    type Err = UnknownOllamaRoute;

    fn from_str(path: &str) -> Result<Self, UnknownOllamaRoute> {
        let mut all = Self::ALL.into_iter();
        let found = all.find(|route| route.path() == path);
        found.ok_or_else(|| UnknownOllamaRoute(path.to_owned()))
    }
}

impl fmt::Display for OllamaRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.path())
    }
}

/// The answer to a call of Ollama's own API, which has begun.
pub struct OllamaReply {
    /// The backend and model that answer.
    pub served_by: ServedBy,
    /// The media type of the answer. Streams have `application/x-ndjson`.
    pub media_type: String,
    /// The answer. No piece follows an error.
    pub pieces: BoxStream<'static, Result<OllamaPiece, BackendError>>,
}

impl OllamaReply {
    /// Returns whether the answer is a stream of lines.
    pub fn is_stream(&self) -> bool {
        is_of_lines(&self.media_type)
    }
}

/// Returns whether answers of this media type consist of lines.
pub(crate) fn is_of_lines(media_type: &str) -> bool {
    media_type.starts_with("application/x-ndjson")
}

impl fmt::Debug for OllamaReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OllamaReply")
            .field("served_by", &self.served_by)
            .field("media_type", &self.media_type)
            .finish_non_exhaustive()
    }
}

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum OllamaPiece {
    /// Bytes of the answer. In a stream, whole lines.
    Bytes(Bytes),
    /// The number of tokens used, which follows the bytes that tell it.
    Usage(CompletionUsage),
}
