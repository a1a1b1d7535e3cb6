//! The tool `file_search`: a function that the model calls and the server answers, by searching the
//! vector stores that the request names. The model cites what it has read by markers, which become
//! annotations of the text.

mod citations;

use loggia_wire::openai::responses::{ResponseRequest, ResponseTool};
use loggia_wire::openai::{RankingOptions, VectorStoreSearchResult};
use serde_json::{Value, json};

use crate::admit::checks::{missing, too_long};
use crate::admit::parse::{typed, wrong_at};
use crate::store::Owner;
use crate::stored::vector_stores::search::{SearchOptions, check_queries};
use crate::stored::vector_stores::{StoredVectorStore, VectorStores};
use crate::{ApiError, Door};

pub(crate) use citations::{Citations, Cited};

/// The type of the tool, and the name of its function.
pub(crate) const FILE_SEARCH: &str = "file_search";

/// The value of `include` that asks for the results.
pub(crate) const RESULTS: &str = "file_search_call.results";

/// The most vector stores of one request.
const MOST_STORES: usize = 16;

/// The number of results if the request does not say. OpenAI's is 20; local models have less room.
const USUAL_RESULTS: i64 = 5;

/// The maximum number of queries of one call. The model may write more.
const MOST_QUERIES: usize = 5;

/// The longest query that is searched, in characters.
const LONGEST_QUERY: usize = 1000;

/// The vector stores that a request names, and how they are searched.
#[derive(Clone)]
pub(crate) struct FileSearch {
    access: VectorStores,
    stores: Vec<StoredVectorStore>,
    options: SearchOptions,
    /// Whether the client gets the results.
    pub(crate) shows_results: bool,
}

/// A passage that the model may cite.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Passage {
    pub(crate) file_id: String,
    pub(crate) filename: String,
    /// The text that the model reads.
    pub(crate) told: String,
}

impl std::fmt::Debug for FileSearch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileSearch").finish_non_exhaustive()
    }
}

impl FileSearch {
    /// Finds the vector stores of a request. `None` if the request has no such tool, or if the door
    /// has no files.
    ///
    /// # Errors
    /// A 404 for a vector store that the caller does not have, a 400 for a wrong field.
    pub(crate) async fn of(
        door: &Door,
        owner: Owner,
        request: &ResponseRequest,
    ) -> Result<Option<Self>, ApiError> {
        let tools = request.tools.iter().flatten().enumerate();
        let mut tools = tools.filter(|(_, tool)| tool.kind == FILE_SEARCH);
        let Some((index, tool)) = tools.next() else {
            return Ok(None);
        };
        let Some(files) = door.files_of(owner) else {
            return Ok(None);
        };
        if let Some((second, _)) = tools.next() {
            let message =
                "A request may have one 'file_search' tool, which can name several vector stores.";
            let param = format!("tools[{second}]");
            return Err(ApiError::invalid(param, "invalid_value", message));
        }
        let place = format!("tools[{index}].");
        let access = door.vector_stores(files);
        let ids: Vec<String> = read(&place, "vector_store_ids", tool)?
            .ok_or_else(|| missing(format!("{place}vector_store_ids")))?;
        let at = format!("{place}vector_store_ids");
        if ids.is_empty() {
            return Err(missing(at));
        }
        if ids.len() > MOST_STORES {
            return Err(too_long(&at, MOST_STORES, ids.len()));
        }
        let mut stores = Vec::with_capacity(ids.len());
        for (number, id) in ids.iter().enumerate() {
            let store = access.find_usable(id).await;
            stores.push(store.map_err(|error| error.about(format!("{at}[{number}]")))?);
        }
        let filters = tool
            .extra
            .get("filters")
            .filter(|filters| !filters.is_null());
        let ranking: Option<RankingOptions> = read(&place, "ranking_options", tool)?;
        let most: Option<i64> = read(&place, "max_num_results", tool)?;
        let most = Some(most.unwrap_or(USUAL_RESULTS));
        Ok(Some(Self {
            access,
            stores,
            options: SearchOptions::read(&place, filters, most, ranking.as_ref())?,
            shows_results: request.includes(RESULTS),
        }))
    }

    /// Searches. Returns the results of all queries, the best first.
    pub(crate) async fn search(
        &self,
        queries: &[String],
    ) -> Result<Vec<VectorStoreSearchResult>, ApiError> {
        check_queries(queries)?;
        self.access
            .results(&self.stores, queries, &self.options)
            .await
    }
}

/// Reads a field of the tool.
fn read<T: serde::de::DeserializeOwned>(
    place: &str,
    field: &str,
    tool: &ResponseTool,
) -> Result<Option<T>, ApiError> {
    let Some(value) = tool.extra.get(field).filter(|value| !value.is_null()) else {
        return Ok(None);
    };
    let read = typed(value.clone());
    let place = format!("{place}{field}");
    read.map(Some).map_err(|error| wrong_at(&place, error))
}

/// The longest query, in characters, that an engine which keeps to a schema lets a model write. A
/// small model may repeat itself forever within a text.
const LONGEST_HELD_QUERY: usize = 200;

/// Returns the schema of the function.
pub(crate) fn parameters() -> Value {
    json!({"type": "object", "properties": {
        "queries": {"type": "array", "minItems": 1, "maxItems": MOST_QUERIES,
            "items": {"type": "string", "maxLength": LONGEST_HELD_QUERY},
            "description": "What to look for: short questions or key words."}
    }, "required": ["queries"], "additionalProperties": false})
}

/// The description of the function, for the model.
pub(crate) const DESCRIPTION: &str = "Searches the files that the user has uploaded, and returns the passages that fit best. Use it for every question that these files may answer.";

/// Returns the queries of a call. A small model may write one text instead of a list.
pub(crate) fn queries(arguments: &str) -> Vec<String> {
    let arguments: Value = serde_json::from_str(arguments).unwrap_or_default();
    let named = |name: &str| arguments.get(name).filter(|value| !value.is_null());
    let value = named("queries").or_else(|| named("query"));
    let texts: Vec<&str> = match value {
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(texts)) => texts.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let texts = texts
        .into_iter()
        .map(str::trim)
        .filter(|text| !text.is_empty());
    let short = |text: &str| text.chars().take(LONGEST_QUERY).collect();
    texts.take(MOST_QUERIES).map(short).collect()
}

/// Returns results as the model reads them. `first` is the number of the first.
pub(crate) fn passages(first: usize, results: &[VectorStoreSearchResult]) -> Vec<Passage> {
    let numbered = (first..).zip(results);
    let passage = |(number, result): (usize, &VectorStoreSearchResult)| {
        let texts = result.content.iter().map(|content| content.text.as_str());
        let text = texts.collect::<Vec<&str>>().join("\n");
        Passage {
            file_id: result.file_id.clone(),
            filename: result.filename.clone(),
            told: format!("【{number}】 {}:\n{}", result.filename, text.trim()),
        }
    };
    numbered.map(passage).collect()
}

/// Returns the answer to a call as the model reads it.
pub(crate) fn told(passages: &[Passage]) -> String {
    if passages.is_empty() {
        return "No passage was found.".to_owned();
    }
    let texts: Vec<&str> = passages
        .iter()
        .map(|passage| passage.told.as_str())
        .collect();
    format!(
        "{}\n\nAfter each sentence that uses a passage, write its marker, such as 【1】.",
        texts.join("\n\n")
    )
}

/// Returns a result as the item of the call shows it.
pub(crate) fn shown(result: &VectorStoreSearchResult) -> Value {
    let texts = result.content.iter().map(|content| content.text.as_str());
    json!({"file_id": result.file_id, "filename": result.filename, "score": result.score,
        "attributes": result.attributes, "text": texts.collect::<Vec<&str>>().join("\n")})
}
