//! [`Rerank`]: a query and documents, which a reranking model orders by relevance.

use serde::{Deserialize, Serialize};

use crate::count::estimate;
use crate::{Call, ServedBy};

/// A call for reranking.
pub type RerankCall = Call<Rerank>;

/// The query and the documents of a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rerank {
    /// The backend's own name for the model.
    pub model: String,
    /// The query.
    pub query: String,
    /// The texts to compare with the query.
    pub documents: Vec<String>,
}

impl Rerank {
    /// Returns an estimate of the tokens of all texts, without the model's tokenizer.
    pub fn estimated_tokens(&self) -> u64 {
        let texts = self.documents.iter().chain([&self.query]);
        texts.map(|text| estimate::of_text(text)).sum()
    }
}

/// The scores of a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reranked {
    /// The backend and model that computed the scores.
    pub served_by: ServedBy,
    /// The relevance of each document, in the order of the documents. Higher is better; the range is
    /// the model's own.
    pub scores: Vec<f64>,
    /// The number of tokens that the model read. A model that reads the query with each document
    /// counts it each time.
    pub prompt_tokens: u64,
}
