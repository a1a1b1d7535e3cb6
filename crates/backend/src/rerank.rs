//! [`Rerank`]: a query and documents, which a reranking model orders by relevance.

use serde::Serialize;

use crate::{Call, ServedBy};

/// A call for reranking.
pub type RerankCall = Call<Rerank>;

/// The query and the documents of a call.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rerank {
    /// The backend's own name for the model.
    pub model: String,
    /// The query.
    pub query: String,
    /// The texts to compare with the query.
    pub documents: Vec<String>,
}

/// The scores of a call.
#[derive(Clone, Debug, PartialEq)]
pub struct Reranked {
    /// The backend and model that computed the scores.
    pub served_by: ServedBy,
    /// The relevance of each document, in the order of the documents. Higher is better; the range is
    /// the model's own.
    pub scores: Vec<f64>,
    /// The number of tokens of all texts.
    pub prompt_tokens: u64,
}
