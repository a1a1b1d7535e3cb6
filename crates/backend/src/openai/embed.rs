//! Embeddings of an engine. They are requested as numbers, because not every engine supports
//! base64, and normalised.

use bytes::Bytes;
use http::StatusCode;
use http::header::SERVER;
use loggia_wire::openai::{EmbeddingRequest, EncodingFormat, OnePrompt, Vector};
use serde::Deserialize;

use super::engine::{ANSWER_LIMIT, OpenAi};
use crate::embedding::name_the_too_long;
use crate::http::read;
use crate::{BackendError, EmbeddingCall, Embeddings, Trace};

impl OpenAi {
    pub(super) async fn start_embedding(
        &self,
        call: EmbeddingCall,
    ) -> Result<Embeddings, BackendError> {
        let request = &*call.work;
        let trace = call.head.trace.as_deref();
        match self.ask_embedding(request, trace).await {
            Err(too_long @ BackendError::InputTooLong { index: None, .. }) => {
                let ask = |one| async move { self.ask_embedding(&one, trace).await.map(drop) };
                Err(name_the_too_long(request, ask).await.unwrap_or(too_long))
            }
            answer => answer,
        }
    }

    async fn ask_embedding(
        &self,
        request: &EmbeddingRequest,
        trace: Option<&Trace>,
    ) -> Result<Embeddings, BackendError> {
        let asked = EmbeddingRequest {
            encoding_format: Some(EncodingFormat::Float),
            ..request.clone()
        };
        let body = serde_json::to_vec(&asked).map(Bytes::from);
        let body = body.map_err(|_| BackendError::Engine {
            message: "the request could not be written as JSON".to_owned(),
        })?;
        let sent = self
            .upstream
            .post_json(&self.embeddings, body, "application/json", trace)
            .await;
        let response = sent.map_err(|error| self.failed(error))?;
        if response.status() != StatusCode::OK {
            return Err(self.embedding_refused(response, request).await);
        }
        let server = response
            .headers()
            .get(SERVER)
            .and_then(|server| server.to_str().ok())
            .unwrap_or_default();
        let server = server.to_owned();
        let body = read(response.into_body(), ANSWER_LIMIT)
            .await
            .map_err(|error| self.failed(error))?;
        let list: List = serde_json::from_slice(&body)
            .map_err(|_| self.bad_answer("it is not a list of embeddings"))?;
        let served_by = self.served_by(request.model.as_str().into(), None, &server);
        let prompt_tokens = list
            .usage
            .and_then(|usage| usage.prompt_tokens.or(usage.total_tokens));
        let prompt_tokens = prompt_tokens.unwrap_or_else(|| counted(request));
        let vectors = in_order(list.data)
            .ok_or_else(|| self.bad_answer("its embeddings have invalid indexes"))?;
        Embeddings {
            served_by,
            vectors,
            prompt_tokens,
        }
        .checked(request)
    }
}

/// The fields of `CreateEmbeddingResponse` that are used, parsed as leniently as engines write
/// them.
#[derive(Deserialize)]
struct List {
    data: Vec<Item>,
    #[serde(default)]
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Item {
    #[serde(default)]
    index: Option<usize>,
    embedding: Vector,
}

#[derive(Deserialize)]
struct Usage {
    #[serde(default)]
    prompt_tokens: Option<u64>,
    #[serde(default)]
    total_tokens: Option<u64>,
}

/// Returns the vectors ordered by index, or in the order of arrival if none has an index. `None` if
/// two have the same index.
fn in_order(items: Vec<Item>) -> Option<Vec<Vec<f32>>> {
    if items.iter().all(|item| item.index.is_none()) {
        return Some(
            items
                .into_iter()
                .map(|item| item.embedding.into_numbers())
                .collect(),
        );
    }
    let mut vectors: Vec<Option<Vec<f32>>> = items.iter().map(|_| None).collect();
    for item in items {
        let place = vectors.get_mut(item.index?)?;
        if place.replace(item.embedding.into_numbers()).is_some() {
            return None;
        }
    }
    vectors.into_iter().collect()
}

/// Counts the tokens of an input of tokens, for engines that report no usage.
fn counted(request: &EmbeddingRequest) -> u64 {
    let tokens = request.input.each().map(|one| match one {
        OnePrompt::Tokens(tokens) => tokens.len() as u64,
        OnePrompt::Text(_) => 0,
    });
    tokens.sum()
}
