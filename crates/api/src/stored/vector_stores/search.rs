//! Searches in vector stores: by the meaning of a query (its vector) and by its words.

use std::collections::{BTreeMap, HashMap, HashSet};

use http::{Response, StatusCode};
use loggia_backend::BackendError;
use loggia_wire::openai::{
    Queries, RankingOptions, SearchVectorStore, TextContent, VectorStorePage,
    VectorStoreSearchResult,
};

use super::files::{StoredStoreFile, file_of, stored_file};
use super::filter::AttributeFilter;
use super::{StoredVectorStore, VectorStores, labels};
use crate::admit::checks::{between, one_of, too_long, within};
use crate::admit::parse::tracked;
use crate::store::{ChunkSearch, Filter, FoundChunk, Kind, Metadata, Order, Page, StoreError};
use crate::stored::files::{Head, answered};
use crate::{ApiError, Body};

/// The usual number of results, and the most.
const USUAL: i64 = 10;
const MOST: i64 = 50;

/// How many chunks each way to search finds, before they are put together.
const CANDIDATES: usize = 50;

/// The maximum number of queries of one search, and the longest in bytes.
const MOST_QUERIES: usize = 10;
const LONGEST_QUERY: usize = 32 << 10;

/// The maximum number of words of a query that are looked for.
const MOST_WORDS: usize = 32;

/// The weight of words beside that of the vector, if the request does not say.
const WORDS: f64 = 0.5;

/// The number of letters above which a longer word does not count more.
const LONGEST_WORD: usize = 12;

/// How many files of a vector store are read at once, to find those that pass a filter.
const FILES_AT_ONCE: usize = 1000;

/// How a search selects and orders its results.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SearchOptions {
    pub(crate) filter: Option<AttributeFilter>,
    pub(crate) most: usize,
    ranking: Ranking,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Ranking {
    least_score: f64,
    by_vector: f64,
    by_words: f64,
}

impl SearchOptions {
    /// Checks the options of a request. `place` is the path of its fields, with a period, or empty.
    pub(crate) fn read(
        place: &str,
        filters: Option<&serde_json::Value>,
        most: Option<i64>,
        ranking: Option<&RankingOptions>,
    ) -> Result<Self, ApiError> {
        let at = |field: &str| format!("{place}{field}");
        between(&at("max_num_results"), most, 1, MOST)?;
        let filter = filters.map(|filter| AttributeFilter::read(&at("filters"), filter));
        Ok(Self {
            filter: filter.transpose()?,
            most: usize::try_from(most.unwrap_or(USUAL)).unwrap_or_default(),
            ranking: Ranking::read(&at("ranking_options"), ranking)?,
        })
    }
}

impl Ranking {
    fn read(param: &str, options: Option<&RankingOptions>) -> Result<Self, ApiError> {
        let options = options.cloned().unwrap_or_default();
        let rankers = ["none", "auto", "default-2024-11-15"];
        let ranker = options.ranker.as_deref();
        one_of(format_args!("{param}.ranker"), ranker, &rankers)?;
        let threshold = format!("{param}.score_threshold");
        within(&threshold, options.score_threshold, 0.0, 1.0)?;
        let weights = options.hybrid_search;
        if let Some(weights) = weights {
            let place = format!("{param}.hybrid_search");
            let (vector, words) = (weights.embedding_weight, weights.text_weight);
            within(
                &format!("{place}.embedding_weight"),
                Some(vector),
                0.0,
                f64::MAX,
            )?;
            within(&format!("{place}.text_weight"), Some(words), 0.0, f64::MAX)?;
            if vector <= 0.0 && words <= 0.0 {
                let message = format!("Invalid '{place}': one of the weights must be more than 0.");
                return Err(ApiError::invalid(place, "invalid_value", message));
            }
        }
        let (by_vector, by_words) = match weights {
            Some(weights) => {
                let most = weights.embedding_weight.max(weights.text_weight);
                (weights.embedding_weight / most, weights.text_weight / most)
            }
            None if ranker == Some("none") => (1.0, 0.0),
            None => (1.0, WORDS),
        };
        Ok(Self {
            least_score: options.score_threshold.unwrap_or(0.0),
            by_vector,
            by_words,
        })
    }

    /// Returns the score of a chunk, from 0 to 1: that of its meaning, which the words that it shares
    /// with the query can raise.
    fn score(&self, chunk: &FoundChunk, words: &[String]) -> f64 {
        let by_vector = self.by_vector * f64::from(chunk.similarity.clamp(0.0, 1.0));
        let by_words = if self.by_words > 0.0 {
            self.by_words * coverage(&chunk.text, words)
        } else {
            0.0
        };
        1.0 - (1.0 - by_vector) * (1.0 - by_words)
    }
}

/// Returns how much of the words of a query a text has, from 0 to 1. Long words count more: short
/// ones are in every text.
fn coverage(text: &str, words: &[String]) -> f64 {
    let weight = |word: &&String| word.chars().count().clamp(2, LONGEST_WORD) - 1;
    let all: usize = words.iter().map(|word| weight(&word)).sum();
    let lower = text.to_lowercase();
    let in_text: HashSet<&str> = lower.split(|one: char| !one.is_alphanumeric()).collect();
    let found = words.iter().filter(|word| in_text.contains(word.as_str()));
    let found: usize = found.map(|word| weight(&word)).sum();
    #[expect(clippy::cast_precision_loss, reason = "a few hundred letters")]
    let coverage = found as f64 / all.max(1) as f64;
    coverage
}

/// A chunk and its score.
struct Ranked {
    chunk: FoundChunk,
    score: f64,
}

impl VectorStores {
    /// `POST /v1/vector_stores/{vector_store_id}/search`.
    pub(super) async fn search(
        &self,
        head: &Head<'_>,
        body: &[u8],
    ) -> Result<Response<Body>, ApiError> {
        let SearchVectorStore {
            query,
            filters,
            max_num_results,
            ranking_options,
            rewrite_query,
            mut extra,
        } = tracked(body)?;
        if rewrite_query == Some(true) {
            extra.insert("rewrite_query".to_owned(), true.into());
        }
        let ignored = head.unknown(&extra)?;
        let queries = match query {
            Queries::One(query) => vec![query],
            Queries::Several(queries) => queries,
        };
        check_queries(&queries)?;
        let options = SearchOptions::read(
            "",
            filters.as_ref(),
            max_num_results,
            ranking_options.as_ref(),
        )?;
        let store = self.find_usable(head.route.id()).await?;
        let results = self.results(&[store], &queries, &options).await?;
        let page = VectorStorePage {
            object: "vector_store.search_results.page",
            search_query: Some(queries),
            data: results,
            has_more: false,
            next_page: None,
        };
        answered(&page, &ignored)
    }

    /// Searches some texts in vector stores. The best results come first.
    pub(crate) async fn results(
        &self,
        stores: &[StoredVectorStore],
        queries: &[String],
        options: &SearchOptions,
    ) -> Result<Vec<VectorStoreSearchResult>, ApiError> {
        let mut ranked: Vec<Ranked> = Vec::new();
        let mut vectors: HashMap<&str, Vec<Vec<f32>>> = HashMap::new();
        let texts: Vec<&str> = queries.iter().map(String::as_str).collect();
        for store in stores {
            let files = match &options.filter {
                Some(filter) => Some(self.passing(store, filter).await?),
                None => None,
            };
            if !vectors.contains_key(store.model.as_str()) {
                let made = self.embedder.vectors(&store.model, &texts).await;
                let made = made.map_err(|error| not_embedded(&store.model, error))?;
                vectors.insert(&store.model, made);
            }
            let vectors = vectors.get(store.model.as_str()).into_iter().flatten();
            for (query, vector) in queries.iter().zip(vectors) {
                let by_words = options.ranking.by_words > 0.0;
                let words = if by_words { words(query) } else { Vec::new() };
                let search = ChunkSearch {
                    vector: vector.clone(),
                    words,
                    files: files.clone(),
                    limit: CANDIDATES.max(options.most),
                };
                let at = self.files.at(Kind::VectorStore, &store.id);
                let found = self.files.store.search(at, &search).await;
                let found = found
                    .map_err(|error| self.files.worded(&error, Kind::VectorStore, &store.id))?;
                ranked.extend(found.into_iter().map(|chunk| Ranked {
                    score: options.ranking.score(&chunk, &search.words),
                    chunk,
                }));
            }
            self.touch(store).await;
        }
        ranked.retain(|one| one.score >= options.ranking.least_score);
        ranked.sort_by(|one, other| other.score.total_cmp(&one.score));
        // A chunk that several queries find is one result.
        let mut seen = HashSet::new();
        ranked.retain(|one| seen.insert((one.chunk.file.clone(), one.chunk.number)));
        self.shown_results(ranked, options.most).await
    }

    /// Returns the results as the client sees them. Results whose file has been deleted are left
    /// out.
    async fn shown_results(
        &self,
        ranked: Vec<Ranked>,
        most: usize,
    ) -> Result<Vec<VectorStoreSearchResult>, ApiError> {
        let mut files: BTreeMap<String, Option<StoredStoreFile>> = BTreeMap::new();
        let mut results = Vec::with_capacity(most);
        for Ranked { chunk, score } in ranked {
            if results.len() == most {
                break;
            }
            if !files.contains_key(&chunk.file) {
                let at = self.files.at(Kind::VectorStoreFile, &chunk.file);
                let stored = match self.files.store.object(at).await {
                    Ok(object) => Some(stored_file(&object)?),
                    Err(StoreError::NotFound) => None,
                    Err(error) => return Err(self.files.failed(&error)),
                };
                files.insert(chunk.file.clone(), stored);
            }
            if let Some(Some(file)) = files.get(&chunk.file) {
                results.push(VectorStoreSearchResult {
                    file_id: file_of(&chunk.file).to_owned(),
                    filename: file.filename.clone(),
                    score,
                    attributes: file.attributes.clone(),
                    content: vec![TextContent::new(chunk.text)],
                });
            }
        }
        Ok(results)
    }

    /// Returns the ids of the objects of all files that pass a filter.
    async fn passing(
        &self,
        store: &StoredVectorStore,
        filter: &AttributeFilter,
    ) -> Result<Vec<String>, ApiError> {
        let of = Filter {
            model: None,
            metadata: Metadata::from([(labels::VECTOR_STORE.to_owned(), store.id.clone())]),
        };
        let mut page = Page {
            after: None,
            limit: FILES_AT_ONCE,
            order: Order::Ascending,
        };
        let mut passing = Vec::new();
        loop {
            let owner = &self.files.owner;
            let kind = Kind::VectorStoreFile;
            let found = self.files.store.objects(owner, kind, &of, &page).await;
            let found = match found {
                // The last file was deleted in the meantime: from the beginning.
                Err(StoreError::AfterNotFound) => {
                    page.after = None;
                    passing.clear();
                    continue;
                }
                found => found.map_err(|error| self.files.failed(&error))?,
            };
            for object in &found.data {
                if filter.passes(&stored_file(object)?.attributes) {
                    passing.push(object.id.clone());
                }
            }
            page.after = found.data.last().map(|object| object.id.clone());
            if !found.has_more {
                return Ok(passing);
            }
        }
    }
}

/// Checks the texts of a search.
pub(crate) fn check_queries(queries: &[String]) -> Result<(), ApiError> {
    if queries.len() > MOST_QUERIES {
        return Err(too_long("query", MOST_QUERIES, queries.len()));
    }
    if queries.is_empty() || queries.iter().any(|query| query.trim().is_empty()) {
        let message = "Invalid 'query': empty string. Expected a string with minimum length 1.";
        return Err(ApiError::invalid("query", "empty_string", message));
    }
    if queries.iter().any(|query| query.len() > LONGEST_QUERY) {
        let message = format!("Invalid 'query': a query may have {LONGEST_QUERY} bytes.");
        return Err(ApiError::invalid(
            "query",
            "string_above_max_length",
            message,
        ));
    }
    Ok(())
}

/// Returns the words of a query: letters and digits in lower case, each word once.
fn words(query: &str) -> Vec<String> {
    let lower = query.to_lowercase();
    let mut words: Vec<String> = Vec::new();
    for word in lower.split(|one: char| !one.is_alphanumeric()) {
        if !word.is_empty() && words.len() < MOST_WORDS && !words.iter().any(|one| one == word) {
            words.push(word.to_owned());
        }
    }
    words
}

/// Returns the error for a query whose vector cannot be computed.
fn not_embedded(model: &str, error: BackendError) -> ApiError {
    let is_missing = matches!(
        error,
        BackendError::ModelNotFound { .. } | BackendError::Unsupported { .. }
    );
    if is_missing {
        let message = format!(
            "The embedding model '{model}', with which this vector store was made, is not available on this server: {error}."
        );
        return ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message)
            .coded("embedding_model_unavailable");
    }
    error.into()
}

#[cfg(test)]
mod tests {
    use loggia_wire::openai::HybridSearch;

    use super::*;

    /// A score in thousandths.
    fn score(similarity: f32, text: &str, query: &str, options: Option<&RankingOptions>) -> i64 {
        let chunk = FoundChunk {
            file: String::new(),
            number: 0,
            text: text.to_owned(),
            similarity,
            vector_rank: None,
            word_rank: None,
        };
        let ranking = Ranking::read("ranking_options", options).expect("options");
        #[expect(clippy::cast_possible_truncation, reason = "at most 1000")]
        let thousandths = (ranking.score(&chunk, &words(query)) * 1000.0).round() as i64;
        thousandths
    }

    #[test]
    fn words_raise_the_score_of_the_vector_and_short_ones_little() {
        assert_eq!(score(0.4, "nothing of it", "fuel", None), 400);
        assert_eq!(score(0.0, "part XK-4711", "XK-4711", None), 500);
        assert_eq!(score(0.4, "Fuel!", "fuel", None), 700);
        assert_eq!(score(-0.2, "no", "fuel", None), 0);
        let by_meaning = score(0.3, "kerosene", "fuel of spacecraft", None);
        let by_a_short_word = score(0.1, "most of the day", "fuel of spacecraft", None);
        assert!(by_meaning > by_a_short_word + 100, "{by_a_short_word}");
    }

    #[test]
    fn the_request_sets_the_weights() {
        let weights = |embedding_weight, text_weight| RankingOptions {
            hybrid_search: Some(HybridSearch {
                embedding_weight,
                text_weight,
            }),
            ..RankingOptions::default()
        };
        assert_eq!(score(0.4, "fuel", "fuel", Some(&weights(0.0, 3.0))), 1000);
        assert_eq!(score(0.4, "none", "fuel", Some(&weights(0.0, 3.0))), 0);
        assert_eq!(score(0.4, "fuel", "fuel", Some(&weights(2.0, 0.0))), 400);
        let none = RankingOptions {
            ranker: Some("none".to_owned()),
            ..RankingOptions::default()
        };
        assert_eq!(score(0.4, "fuel", "fuel", Some(&none)), 400);
    }
}
