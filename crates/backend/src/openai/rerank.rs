//! Reranking by an engine: llama-server with `--reranking`, vLLM with a reranking model. Both answer
//! in the format of Jina.

use http::StatusCode;
use http::header::SERVER;
use serde::Deserialize;

use super::engine::{ANSWER_LIMIT, OpenAi, to_json};
use super::error_body::EngineError;
use super::refusal;
use crate::http::read;
use crate::retry_after::retry_after;
use crate::{BackendError, RerankCall, Reranked};

impl OpenAi {
    /// Returns `None` if the engine does not rerank with this model.
    pub(super) async fn start_rerank(
        &self,
        call: RerankCall,
    ) -> Result<Option<Reranked>, BackendError> {
        let request = &call.work;
        let uri = self.upstream.uri("/rerank");
        let body = to_json(request)?;
        let sent =
            self.upstream
                .post_json(&uri, body, "application/json", call.head.trace.as_deref());
        let (head, body) = sent.await.map_err(|error| self.failed(error))?.into_parts();
        let body = read(body, ANSWER_LIMIT).await;
        let body = body.map_err(|error| self.failed(error))?;
        if head.status != StatusCode::OK {
            let status = head.status.as_u16();
            let told = EngineError::read(&body).unwrap_or_default();
            if status == 501
                || matches!(status, 404 | 405) && !told.is_about_the_model(&request.model)
                || told.is_about_no_reranking()
            {
                return Ok(None);
            }
            let wait = retry_after(&head.headers);
            let error = refusal::before_the_answer(status, wait, &body, &request.model, &self.name);
            return Err(self.about_the_key(error));
        }
        let list: List = serde_json::from_slice(&body)
            .map_err(|_| self.bad_answer("it is not a list of scores"))?;
        let mut scores = vec![None; request.documents.len()];
        for item in list.results {
            let place = scores.get_mut(item.index).filter(|place| place.is_none());
            let place = place.ok_or_else(|| self.bad_answer("its scores have invalid indexes"))?;
            *place = Some(item.relevance_score);
        }
        let scores: Option<Vec<f64>> = scores.into_iter().collect();
        let scores = scores.ok_or_else(|| self.bad_answer("a document has no score"))?;
        let server = head.headers.get(SERVER);
        let server = server.and_then(|server| server.to_str().ok());
        let usage = list.usage.unwrap_or_default();
        Ok(Some(Reranked {
            served_by: self.served_by(
                request.model.as_str().into(),
                None,
                server.unwrap_or_default(),
            ),
            scores,
            prompt_tokens: usage.prompt_tokens.or(usage.total_tokens).unwrap_or(0),
        }))
    }
}

/// The fields of an engine's answer that are used.
#[derive(Deserialize)]
struct List {
    results: Vec<Item>,
    #[serde(default)]
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Item {
    index: usize,
    relevance_score: f64,
}

#[derive(Default, Deserialize)]
struct Usage {
    #[serde(default)]
    prompt_tokens: Option<u64>,
    #[serde(default)]
    total_tokens: Option<u64>,
}
