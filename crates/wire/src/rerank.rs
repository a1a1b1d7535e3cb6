//! `POST /v1/rerank`, which OpenAI's API does not have: the format of Jina and Cohere.

use serde_json::Value;

use crate::object::object;

object! {
    /// The request of `POST /v1/rerank`.
    pub struct RerankRequest {
        /// The name or an alias of the model.
        required model: String = "model",
        /// The text that the documents are compared with.
        required query: String = "query",
        /// The documents: texts, or objects with the field `text`.
        free documents: Value = "documents",
        /// The number of results. Default: all.
        optional top_n: i64 = "top_n",
        /// Whether the results contain the documents. Default: no.
        optional return_documents: bool = "return_documents",
    }
}
