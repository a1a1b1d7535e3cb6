//! `POST /v1/rerank`, in the format of Jina and Cohere: orders documents by their relevance to a
//! query. Engines with a reranking model compute the scores. For other models they are the cosines
//! of embeddings, which the header `x-loggia-reranked-by` says.

use std::pin::pin;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use http::{HeaderValue, Request, Response};
use loggia_backend::{
    Ability, BackendError, EmbeddingCall, Embeddings, Rerank, RerankCall, Reranked,
};
use loggia_wire::openai::{CompletionUsage, EmbeddingRequest};
use loggia_wire::rerank::RerankRequest;
use serde_json::{Value, json};

use crate::admit::ask::Parse;
use crate::admit::checks::{between, listed_unless_strict, missing};
use crate::admit::parse::parsed;
use crate::admit::{ParsedRequest, admit};
use crate::answer::ended::Outcome;
use crate::answer::headers::{self, name_server};
use crate::answer::id;
use crate::answer::ignored::listed;
use crate::door::meter::Tokens;
use crate::door::read;
use crate::generate::respond;
use crate::{ApiError, Body, Door};

const RERANKED_BY: &str = "x-loggia-reranked-by";

impl Door {
    /// `POST /v1/rerank`.
    pub(crate) async fn rerank<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data: Buf, Error: std::fmt::Display> + Send,
    {
        let (parts, body) = request.into_parts();
        let read = read::json_body(&parts.headers, body, &self.policy).await;
        let asked = read.and_then(|bytes| {
            let request: RerankRequest = parsed(&bytes)?;
            let texts = texts_of(&request, self.policy.ceilings.inputs)?;
            // The query and the documents as inputs of embeddings, so that they are limited alike.
            let inputs: Vec<&String> = std::iter::once(&request.query).chain(&texts).collect();
            let embedding = json!({"model": request.model, "input": inputs}).to_string();
            let parsed = EmbeddingRequest::parse(embedding.as_bytes(), &self.policy);
            let (embedding, profile) = parsed.map_err(renamed)?;
            Ok((request, texts, embedding, profile))
        });
        let (request, texts, embedding, profile) = match asked {
            Ok(asked) => asked,
            Err(error) => return self.refuse(error),
        };
        let asked = ParsedRequest::new(self, parts, embedding, profile);
        let refusals = asked.refusals.clone();
        let model = asked.progress.model();
        let mut ignored = String::new();
        let answered = {
            let answering = pin!(self.reranked(asked, request, texts, &mut ignored));
            self.in_time(&refusals, answering).await
        };
        respond(answered, profile, &ignored).map(|body| body.about_model(model))
    }

    async fn reranked(
        &self,
        mut asked: ParsedRequest<EmbeddingRequest>,
        request: RerankRequest,
        texts: Vec<String>,
        ignored: &mut String,
    ) -> Result<Response<Body>, ApiError> {
        let unknown = request.extra.keys().cloned().collect();
        *ignored = listed(&listed_unless_strict(unknown, asked.strictness)?);
        let refusals = asked.refusals.clone();
        let failed = |error| renamed(refusals.refuse(error));
        self.enter_rerank(&mut asked).await?;
        // Also finds the most similar name of an unknown model.
        let can = self.abilities(&request.model).await.map_err(failed)?;
        let by_model = self.backend.rerank(RerankCall {
            head: asked.head.clone(),
            work: Rerank {
                model: request.model.clone(),
                query: request.query.clone(),
                documents: texts.clone(),
            },
        });
        let (ranked, by) = match by_model.await.map_err(failed)? {
            Some(ranked) => (ranked, "model"),
            None if can.has(Ability::Embeddings) => {
                // No field of the client is dropped here, because the request has no fields of
                // embeddings.
                admit(self, &mut asked).await.map_err(renamed)?;
                match self.backend.embed(embedding_call(&asked)).await {
                    Ok(made) => (by_cosine(made), "embeddings"),
                    Err(BackendError::Unsupported { .. }) => return Err(cannot(&request.model)),
                    Err(error) => return Err(failed(error)),
                }
            }
            None => return Err(cannot(&request.model)),
        };
        let mut progress = asked.progress;
        progress.accepted(&ranked.served_by);
        progress.has_begun();
        progress.cost(CompletionUsage::new(ranked.prompt_tokens, 0));
        let json = Bytes::from(written(&request, &texts, &ranked).to_string());
        let mut response = headers::json(Body::ending(json, progress.end(Outcome::Complete)));
        name_server(&mut response, &ranked.served_by);
        let by = HeaderValue::from_static(by);
        response.headers_mut().insert(RERANKED_BY, by);
        Ok(response)
    }

    /// Counts the request against the limits of its key.
    async fn enter_rerank(
        &self,
        asked: &mut ParsedRequest<EmbeddingRequest>,
    ) -> Result<(), ApiError> {
        if self.meter.is_some() {
            let call = embedding_call(asked);
            let tokens = || Tokens {
                prompt: call.estimated_prompt_tokens(),
                answer: Some(0),
            };
            let model = &asked.request.model;
            let report = asked.report.as_ref();
            if let Some(entering) = self.enter(&call.head, model, &tokens, report) {
                asked.progress.hold(entering.await?);
            }
        }
        Ok(())
    }
}

fn embedding_call(asked: &ParsedRequest<EmbeddingRequest>) -> EmbeddingCall {
    EmbeddingCall {
        head: asked.head.clone(),
        work: Arc::clone(&asked.request),
    }
}

/// Returns the texts of the documents.
fn texts_of(request: &RerankRequest, most: usize) -> Result<Vec<String>, ApiError> {
    if request.query.is_empty() {
        return Err(ApiError::invalid(
            "query",
            "invalid_value",
            "Invalid 'query': it is empty.",
        ));
    }
    between("top_n", request.top_n, 1, i64::MAX)?;
    let documents = match &request.documents {
        Some(Value::Array(documents)) => documents,
        None | Some(Value::Null) => return Err(missing("documents".to_owned())),
        Some(_) => {
            let message = "Invalid type for 'documents': expected an array.";
            return Err(ApiError::invalid("documents", "invalid_type", message));
        }
    };
    // The query is an input too.
    let most = most.saturating_sub(1);
    if documents.is_empty() || documents.len() > most {
        let message = format!(
            "Invalid 'documents': expected 1 to {most}, but got {}.",
            documents.len()
        );
        return Err(ApiError::invalid("documents", "invalid_value", message));
    }
    let numbered = documents.iter().enumerate();
    let texts = numbered.map(|(index, document)| {
        let text = document.as_str().or_else(|| document.get("text")?.as_str());
        let place = format!("documents[{index}]");
        match text {
            Some("") => {
                let message = format!("Invalid '{place}': it is empty.");
                Err(ApiError::invalid(place, "invalid_value", message))
            }
            Some(text) => Ok(text.to_owned()),
            None => {
                let message = format!(
                    "Invalid type for '{place}': expected a text, or an object with the field 'text'."
                );
                Err(ApiError::invalid(place, "invalid_type", message))
            }
        }
    });
    texts.collect()
}

/// Compares the first vector, the query's, with the others.
fn by_cosine(made: Embeddings) -> Reranked {
    let mut vectors = made.vectors.iter();
    let query = vectors.next().map_or(&[][..], Vec::as_slice);
    Reranked {
        scores: vectors.map(|vector| cosine(query, vector)).collect(),
        served_by: made.served_by,
        prompt_tokens: made.prompt_tokens,
    }
}

fn cosine(one: &[f32], other: &[f32]) -> f64 {
    let product = |one: &[f32], other: &[f32]| -> f64 {
        let pairs = one.iter().zip(other);
        pairs
            .map(|(one, other)| f64::from(*one) * f64::from(*other))
            .sum()
    };
    let lengths = (product(one, one) * product(other, other)).sqrt();
    if lengths > 0.0 {
        product(one, other) / lengths
    } else {
        0.0
    }
}

/// Returns the answer: the most relevant documents first, documents of the same score in the order
/// of the request.
fn written(request: &RerankRequest, texts: &[String], ranked: &Reranked) -> Value {
    let mut order: Vec<(usize, f64)> = ranked.scores.iter().copied().enumerate().collect();
    order.sort_by(|(_, one), (_, other)| other.total_cmp(one));
    let most = request.top_n.and_then(|most| usize::try_from(most).ok());
    order.truncate(most.unwrap_or(usize::MAX));
    let results = order.into_iter().map(|(index, score)| {
        let mut result = json!({"index": index, "relevance_score": score});
        if request.return_documents == Some(true) {
            result["document"] = json!({"text": texts.get(index)});
        }
        result
    });
    let results: Vec<Value> = results.collect();
    json!({
        "id": id::item("rerank-"),
        "object": "list",
        "model": request.model,
        "results": results,
        "usage": {"prompt_tokens": ranked.prompt_tokens, "total_tokens": ranked.prompt_tokens},
    })
}

fn cannot(model: &str) -> ApiError {
    let message = format!(
        "The model '{model}' cannot rerank: its engine has no /v1/rerank for it, and it makes no embeddings. \
         Use a reranking model of llama-server or vLLM, or an embedding model."
    );
    ApiError::invalid("model", "unsupported_model", message)
}

/// Replaces the input of embeddings that an error is about by the client's name for it.
fn renamed(mut error: ApiError) -> ApiError {
    let Some(param) = error.error.param.clone() else {
        return error;
    };
    let name = match param.strip_prefix("input") {
        None => return error,
        Some("[0]") => "query".to_owned(),
        Some(place) => {
            let index = place
                .strip_prefix('[')
                .and_then(|rest| rest.strip_suffix(']'));
            match index.and_then(|index| index.parse::<usize>().ok()?.checked_sub(1)) {
                Some(index) => format!("documents[{index}]"),
                None => "documents".to_owned(),
            }
        }
    };
    error.error.message = error
        .error
        .message
        .replace(&format!("'{param}'"), &format!("'{name}'"));
    error.about(name)
}
