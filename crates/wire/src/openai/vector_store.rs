//! Vector stores, their files and file batches: the requests, and the objects in answers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::object::object;

object! {
    /// The request of `POST /v1/vector_stores`.
    pub struct CreateVectorStore {
        /// The client's name for the vector store.
        optional name: String = "name",
        /// The purpose of the vector store, in words.
        optional description: String = "description",
        /// The ids of the first files.
        optional file_ids: Vec<String> = "file_ids",
        /// How the first files are divided.
        optional chunking_strategy: ChunkingStrategy = "chunking_strategy",
        /// When the vector store expires.
        optional expires_after: VectorStoreExpiry = "expires_after",
        /// Labels of the client.
        free metadata: BTreeMap<String, Value> = "metadata",
    }
}

object! {
    /// The request of `POST /v1/vector_stores/{vector_store_id}`.
    pub struct UpdateVectorStore {
        /// The new name.
        optional name: String = "name",
        /// When the vector store expires.
        optional expires_after: VectorStoreExpiry = "expires_after",
        /// Labels of the client, which replace the existing ones.
        free metadata: BTreeMap<String, Value> = "metadata",
    }
}

/// When a vector store expires.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VectorStoreExpiry {
    /// The time from which the days count: always `last_active_at`.
    pub anchor: String,
    /// The days.
    pub days: i64,
}

/// How the text of a file is divided into chunks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkingStrategy {
    /// `auto` or `static`; in answers always `static`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The sizes, for `static`.
    #[serde(rename = "static", skip_serializing_if = "Option::is_none")]
    pub sizes: Option<ChunkSizes>,
}

/// The sizes of chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkSizes {
    /// The maximum number of tokens of a chunk.
    pub max_chunk_size_tokens: i64,
    /// The tokens that a chunk has in common with the one before.
    pub chunk_overlap_tokens: i64,
}

object! {
    /// The request of `POST /v1/vector_stores/{vector_store_id}/files`, and a file of the request
    /// that adds several.
    pub struct AddVectorStoreFile {
        /// The id of the file.
        required file_id: String = "file_id",
        /// The client's names and values, by which searches can be filtered.
        free attributes: BTreeMap<String, Value> = "attributes",
        /// How the file is divided into chunks.
        optional chunking_strategy: ChunkingStrategy = "chunking_strategy",
    }
}

object! {
    /// The request of `POST /v1/vector_stores/{vector_store_id}/files/{file_id}`.
    pub struct UpdateVectorStoreFile {
        /// The client's names and values, which replace the existing ones.
        free attributes: BTreeMap<String, Value> = "attributes",
    }
}

object! {
    /// The request of `POST /v1/vector_stores/{vector_store_id}/file_batches`.
    pub struct CreateFileBatch {
        /// The ids of the files.
        optional file_ids: Vec<String> = "file_ids",
        /// The files, if each has attributes or a strategy of its own.
        optional files: Vec<AddVectorStoreFile> = "files",
        /// The attributes of all files of `file_ids`.
        free attributes: BTreeMap<String, Value> = "attributes",
        /// How all files of `file_ids` are divided.
        optional chunking_strategy: ChunkingStrategy = "chunking_strategy",
    }
}

object! {
    /// The request of `POST /v1/vector_stores/{vector_store_id}/search`.
    pub struct SearchVectorStore {
        /// One or several texts to search.
        required query: Queries = "query",
        /// The condition that the attributes of a file must meet.
        free filters: Value = "filters",
        /// The maximum number of results.
        optional max_num_results: i64 = "max_num_results",
        /// How results are ranked.
        optional ranking_options: RankingOptions = "ranking_options",
        /// Whether the query may be rewritten first.
        optional rewrite_query: bool = "rewrite_query",
    }
}

/// One or several texts to search.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Queries {
    /// One text.
    One(String),
    /// Several texts.
    Several(Vec<String>),
}

/// How results are ranked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RankingOptions {
    /// `none`, `auto` or the name of a ranker.
    pub ranker: Option<String>,
    /// The least score of a result, from 0 to 1.
    pub score_threshold: Option<f64>,
    /// The weights of both ways to search.
    pub hybrid_search: Option<HybridSearch>,
}

/// The weights of both ways to search.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct HybridSearch {
    /// The weight of the similarity in meaning.
    pub embedding_weight: f64,
    /// The weight of common words.
    pub text_weight: f64,
}

/// A vector store. Its `metadata` is not part of this type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VectorStore {
    /// The id.
    pub id: String,
    /// Always `vector_store`.
    pub object: &'static str,
    /// When the vector store was created, in Unix seconds, as all times here.
    pub created_at: u64,
    /// The client's name for the vector store.
    pub name: String,
    /// The purpose of the vector store, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The bytes that the chunks of the vector store take.
    pub usage_bytes: u64,
    /// How many files there are.
    pub file_counts: FileCounts,
    /// `expired`, `in_progress` or `completed`.
    pub status: &'static str,
    /// When the vector store expires.
    pub expires_after: Option<VectorStoreExpiry>,
    /// The time at which the vector store expires.
    pub expires_at: Option<u64>,
    /// When the vector store was searched or changed last.
    pub last_active_at: u64,
}

/// How many files of a vector store or of a batch there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FileCounts {
    /// The files that are being read.
    pub in_progress: u64,
    /// The files that can be searched.
    pub completed: u64,
    /// The files that could not be read.
    pub failed: u64,
    /// The files that were cancelled.
    pub cancelled: u64,
    /// All of them.
    pub total: u64,
}

/// A file of a vector store.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VectorStoreFile {
    /// The id of the file.
    pub id: String,
    /// Always `vector_store.file`.
    pub object: &'static str,
    /// The bytes that the chunks of the file take.
    pub usage_bytes: u64,
    /// When the file was added, in Unix seconds.
    pub created_at: u64,
    /// The id of the vector store.
    pub vector_store_id: String,
    /// `in_progress`, `completed`, `cancelled` or `failed`.
    pub status: String,
    /// The error, if the file could not be read.
    pub last_error: Option<VectorStoreFileError>,
    /// How the file is divided into chunks.
    pub chunking_strategy: ChunkingStrategy,
    /// The client's names and values.
    pub attributes: Map<String, Value>,
}

/// Why a file could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VectorStoreFileError {
    /// `server_error`, `unsupported_file` or `invalid_file`.
    pub code: String,
    /// The text of the error.
    pub message: String,
}

/// Files that were added to a vector store together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VectorStoreFileBatch {
    /// The id.
    pub id: String,
    /// Always `vector_store.file_batch`.
    pub object: &'static str,
    /// When the files were added, in Unix seconds.
    pub created_at: u64,
    /// The id of the vector store.
    pub vector_store_id: String,
    /// `in_progress`, `completed`, `cancelled` or `failed`.
    pub status: &'static str,
    /// How many files there are.
    pub file_counts: FileCounts,
}

/// The results of a search, or the text of a file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VectorStorePage<T> {
    /// `vector_store.search_results.page` or `vector_store.file_content.page`.
    pub object: &'static str,
    /// The queries of the search.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub search_query: Option<Vec<String>>,
    /// The entries.
    pub data: Vec<T>,
    /// Always `false`.
    pub has_more: bool,
    /// Always `None`.
    pub next_page: Option<String>,
}

/// A result of a search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VectorStoreSearchResult {
    /// The id of the file.
    pub file_id: String,
    /// The client's name for the file.
    pub filename: String,
    /// The similarity of the file's best chunk to the query, from 0 to 1.
    pub score: f64,
    /// The client's names and values of the file.
    pub attributes: Map<String, Value>,
    /// The text.
    pub content: Vec<TextContent>,
}

/// A piece of text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextContent {
    /// Always `text`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The text.
    pub text: String,
}

impl TextContent {
    /// Creates a piece of text.
    pub fn new(text: String) -> Self {
        Self {
            kind: "text".to_owned(),
            text,
        }
    }
}
