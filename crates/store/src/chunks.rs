//! The chunks of vector stores as SQL: how they are added, and how a search finds them.
//!
//! By the vector: `vectors.rs` compares the query with rounded vectors in memory, and returns every
//! chunk that can be among the nearest; their exact vectors are read here. By words: FTS5 in SQLite,
//! `tsvector` in PostgreSQL.

use std::collections::{HashMap, HashSet};

use futures_util::TryStreamExt as _;
use loggia_api::store::{
    Chunk, ChunkSearch, Count, Filter, FoundChunk, Kind, ObjectRef, Owner, StoreError, similarity,
};

use crate::read::{Access, column, listed};
use crate::sealing::Place;
use crate::sql::{Row, Sql, Statement};
use crate::vectors::{Segment, Vectors, nearest, numbers};

/// The maximum number of rows that one statement adds or looks for.
const AT_ONCE: usize = 64;

/// The maximum number of chunks that are ranked by words. The words that fewest chunks have come
/// first, and a word that would add too many says little and is left out.
const MOST_RANKED: i64 = 4000;

/// The size of a row of the index of words beside the text, in bytes.
const ROW_BYTES: usize = 200;

/// Why a complete set cannot be continued: it may be in the memory of a server.
const COMPLETE: &str = "chunks cannot be added to a set that is complete";

impl Access<'_> {
    /// Adds chunks to a file.
    pub(crate) async fn add_chunks(
        &mut self,
        [file, store]: [ObjectRef<'_>; 2],
        first: u64,
        chunks: &[Chunk],
        is_last: bool,
    ) -> Result<(), StoreError> {
        let (place, store) = (self.place(file).await?, self.place(store).await?);
        let set = if first == 0 {
            self.new_set(place, store).await?
        } else {
            self.unfinished_set(place).await?
        };
        let mut numbered = (first..).zip(chunks);
        loop {
            let some: Vec<(u64, &Chunk)> = numbered.by_ref().take(AT_ONCE).collect();
            if some.is_empty() {
                break;
            }
            self.insert_chunks(file.id, [set, store], &some).await?;
        }
        let bytes = chunks.iter().map(bytes).sum::<usize>();
        let mut update = Statement::new("UPDATE chunk_sets SET is_complete = ");
        update.bind(i64::from(is_last)).push(", bytes = bytes + ");
        update.bind(i64::try_from(bytes).unwrap_or(i64::MAX));
        update.push(" WHERE seq = ").bind(set);
        self.sql.run(&update).await.map(|_| ())
    }

    /// Deletes the chunks of a file, and begins a new set.
    async fn new_set(&mut self, file: i64, store: i64) -> Result<i64, StoreError> {
        let delete = Statement::new("DELETE FROM chunk_sets WHERE file = $1").with(file);
        self.sql.run(&delete).await?;
        let insert = Statement::new(
            "INSERT INTO chunk_sets (store, file, is_complete, bytes) VALUES ($1, $2, 0, 0) \
            RETURNING seq",
        );
        let row = self.sql.row(&insert.with(store).with(file)).await?;
        row.ok_or(StoreError::NotFound)?.number("seq")
    }

    async fn unfinished_set(&mut self, file: i64) -> Result<i64, StoreError> {
        let find = Statement::new("SELECT seq FROM chunk_sets WHERE file = $1 AND is_complete = 0");
        let row = self.sql.row(&find.with(file)).await?;
        let row = row.ok_or_else(|| StoreError::Unavailable {
            cause: COMPLETE.to_owned(),
        })?;
        row.number("seq")
    }

    async fn insert_chunks(
        &mut self,
        file: &str,
        [set, store]: [i64; 2],
        chunks: &[(u64, &Chunk)],
    ) -> Result<(), StoreError> {
        let indexes_words = matches!(self.sql, Sql::Postgres(_));
        let mut insert = Statement::new("INSERT INTO chunks ");
        // SQLite has a trigger for the words.
        insert.push(match self.sql {
            Sql::Sqlite(_) => "(chunk_set, store, number, vector, body, sealed) VALUES ",
            Sql::Postgres(_) => "(chunk_set, store, number, vector, body, sealed, words) VALUES ",
        });
        for (index, (number, chunk)) in chunks.iter().enumerate() {
            let (body, sealed) = self
                .sealing
                .columns(Place::Chunk(file, *number), &chunk.text);
            let vector: Vec<u8> = chunk
                .vector
                .iter()
                .flat_map(|one| one.to_le_bytes())
                .collect();
            let vector = self.sealing.sealed(Place::Vector(file, *number), vector);
            insert.push(if index == 0 { "(" } else { ", (" });
            insert.bind(set).push(", ").bind(store).push(", ");
            insert.bind(i64::try_from(*number).unwrap_or(i64::MAX));
            insert.push(", ").bind(Some(vector)).push(", ").bind(body);
            let words = sealed.is_none().then(|| words(&chunk.text));
            insert.push(", ").bind(sealed);
            if indexes_words {
                insert.push(", to_tsvector('simple', ");
                insert.bind(words).push(")");
            }
            insert.push(")");
        }
        self.sql.run(&insert).await.map(|_| ())
    }

    pub(crate) async fn counts(
        &mut self,
        owner: &Owner,
        kind: Kind,
        filter: &Filter,
        name: &str,
    ) -> Result<Vec<Count>, StoreError> {
        let mut count = Statement::new(
            "SELECT labels.value AS value, COUNT(*) AS objects, \
            CAST(SUM(content) AS BIGINT) AS content FROM objects \
            JOIN labels ON labels.object = objects.seq AND labels.name = ",
        );
        count.bind(name).push(" WHERE owner = ");
        count.bind(column(owner)).push(" AND kind = ");
        count.bind(kind.as_str()).push(listed(kind));
        for (name, value) in &filter.metadata {
            count.push(" AND seq IN (SELECT object FROM labels WHERE name = ");
            count.bind(name.as_str()).push(" AND value = ");
            count.bind(value.as_str()).push(")");
        }
        count.push(" GROUP BY labels.value ORDER BY labels.value");
        let mut rows = self.sql.rows(&count);
        let mut counts = Vec::new();
        while let Some(row) = rows.try_next().await? {
            counts.push(Count {
                value: row.text("value")?,
                objects: u64::try_from(row.number("objects")?).unwrap_or(0),
                content: u64::try_from(row.number("content")?).unwrap_or(0),
            });
        }
        Ok(counts)
    }

    pub(crate) async fn search(
        &mut self,
        vectors: &Vectors,
        at: ObjectRef<'_>,
        search: &ChunkSearch,
    ) -> Result<Vec<FoundChunk>, StoreError> {
        let store = self.place(at).await?;
        let files = self.files_of_sets(store, search.files.as_deref()).await?;
        let mut near = Vec::new();
        for set in files.keys() {
            let segment = match vectors.get(*set) {
                Some(segment) => segment,
                None => vectors.keep(self.segment(*set, &files[set]).await?),
            };
            if segment.dimensions == search.vector.len() {
                near.push(segment);
            }
        }
        let seqs = nearest(near, &search.vector, search.limit).await?;
        let mut found = self.nearest_of(&seqs, &files, search).await?;
        for (rank, (_, one)) in found.iter_mut().enumerate() {
            one.vector_rank = Some(rank);
        }
        let worded = self.worded(store, &files, search).await?;
        let known: HashSet<i64> = found.iter().map(|(seq, _)| *seq).collect();
        let others: Vec<i64> = worded
            .iter()
            .filter(|seq| !known.contains(seq))
            .copied()
            .collect();
        found.extend(self.found(&others, &files, search).await?);
        let ranks: HashMap<i64, usize> = worded.into_iter().zip(0..).collect();
        let ranked = found.into_iter().map(|(seq, one)| FoundChunk {
            word_rank: ranks.get(&seq).copied(),
            ..one
        });
        Ok(ranked.collect())
    }

    /// Returns the complete sets of a vector store, with the ids of their objects.
    async fn files_of_sets(
        &mut self,
        store: i64,
        wanted: Option<&[String]>,
    ) -> Result<HashMap<i64, String>, StoreError> {
        let wanted: Option<HashSet<&str>> =
            wanted.map(|wanted| wanted.iter().map(String::as_str).collect());
        let find = Statement::new(
            "SELECT chunk_sets.seq AS seq, objects.id AS id FROM chunk_sets \
            JOIN objects ON objects.seq = chunk_sets.file \
            WHERE chunk_sets.store = $1 AND chunk_sets.is_complete = 1",
        )
        .with(store);
        let mut rows = self.sql.rows(&find);
        let mut files = HashMap::new();
        while let Some(row) = rows.try_next().await? {
            let id = row.text("id")?;
            if wanted
                .as_ref()
                .is_none_or(|wanted| wanted.contains(id.as_str()))
            {
                files.insert(row.number("seq")?, id);
            }
        }
        Ok(files)
    }

    /// Reads the vectors of a set.
    async fn segment(&mut self, set: i64, file: &str) -> Result<Segment, StoreError> {
        let sealing = self.sealing;
        let find = Statement::new(
            "SELECT seq, number, vector, sealed IS NOT NULL AS is_sealed FROM chunks \
            WHERE chunk_set = $1 ORDER BY number",
        )
        .with(set);
        let mut rows = self.sql.rows(&find);
        let mut segment = Segment::new(set);
        while let Some(row) = rows.try_next().await? {
            let place = Place::Vector(file, u64::try_from(row.number("number")?).unwrap_or(0));
            let vector = row.optional_bytes("vector")?.unwrap_or_default();
            let vector = if row.truth("is_sealed")? {
                numbers(&sealing.opened(place, vector)?)
            } else {
                numbers(vector)
            };
            segment.add(row.number("seq")?, &vector);
        }
        Ok(segment)
    }

    /// Reads chunks, and returns the nearest of them, the nearest first.
    async fn nearest_of(
        &mut self,
        seqs: &[i64],
        files: &HashMap<i64, String>,
        search: &ChunkSearch,
    ) -> Result<Vec<(i64, FoundChunk)>, StoreError> {
        let mut nearest: Vec<(i64, FoundChunk)> = Vec::new();
        for some in seqs.chunks(AT_ONCE) {
            nearest.extend(self.found(some, files, search).await?);
            nearest.sort_by(|(a, one), (b, other)| {
                let by_similarity = other.similarity.total_cmp(&one.similarity);
                by_similarity.then(a.cmp(b))
            });
            nearest.truncate(search.limit);
        }
        Ok(nearest)
    }

    /// Reads chunks.
    async fn found(
        &mut self,
        seqs: &[i64],
        files: &HashMap<i64, String>,
        search: &ChunkSearch,
    ) -> Result<Vec<(i64, FoundChunk)>, StoreError> {
        let mut found = Vec::with_capacity(seqs.len());
        for some in seqs.chunks(AT_ONCE) {
            let mut find = Statement::new(
                "SELECT seq, chunk_set, number, vector, body, sealed FROM chunks WHERE seq IN (",
            );
            for (index, seq) in some.iter().enumerate() {
                find.push(if index == 0 { "" } else { ", " }).bind(*seq);
            }
            find.push(")");
            let sealing = self.sealing;
            let mut rows = self.sql.rows(&find);
            while let Some(row) = rows.try_next().await? {
                if let Some(file) = files.get(&row.number("chunk_set")?) {
                    let seq = row.number("seq")?;
                    found.push((seq, chunk(&row, file, sealing, &search.vector)?));
                }
            }
        }
        Ok(found)
    }

    /// Returns the chunks that have words of a query, the best first.
    async fn worded(
        &mut self,
        store: i64,
        files: &HashMap<i64, String>,
        search: &ChunkSearch,
    ) -> Result<Vec<i64>, StoreError> {
        let words = self.rare_words(store, &search.words).await?;
        if words.is_empty() || search.limit == 0 {
            return Ok(Vec::new());
        }
        let mut find = Statement::new("SELECT seq, chunk_set FROM ");
        match self.sql {
            Sql::Sqlite(_) => {
                find.push(
                    "(SELECT rowid AS found, bm25(chunk_words, 0.0, 1.0) AS rank \
                    FROM chunk_words WHERE chunk_words MATCH ",
                );
                find.bind(match_of(store, &words));
                find.push(" ORDER BY rank LIMIT ").bind(most(search));
                find.push(") JOIN chunks ON chunks.seq = found ORDER BY rank, seq");
            }
            Sql::Postgres(_) => {
                find.push("chunks, to_tsquery('simple', ");
                find.bind(query_of(&words))
                    .push(") AS asked WHERE store = ");
                find.bind(store).push(" AND words @@ asked");
                find.push(" ORDER BY ts_rank(words, asked, 1) DESC, seq LIMIT ");
                find.bind(most(search));
            }
        }
        let mut rows = self.sql.rows(&find);
        let mut worded = Vec::new();
        while let Some(row) = rows.try_next().await? {
            if worded.len() < search.limit && files.contains_key(&row.number("chunk_set")?) {
                worded.push(row.number("seq")?);
            }
        }
        Ok(worded)
    }

    /// Returns the words of a query that few chunks have.
    async fn rare_words<'w>(
        &mut self,
        store: i64,
        words: &'w [String],
    ) -> Result<Vec<&'w str>, StoreError> {
        let mut counted = Vec::with_capacity(words.len());
        // A word without letters and digits is none to the databases, and an empty one an error.
        let words = words
            .iter()
            .filter(|word| word.contains(char::is_alphanumeric));
        for word in words {
            let mut count = Statement::new("SELECT COUNT(*) AS count FROM (SELECT 1 FROM ");
            match self.sql {
                Sql::Sqlite(_) => {
                    count.push("chunk_words WHERE chunk_words MATCH ");
                    count.bind(match_of(store, &[word]));
                }
                Sql::Postgres(_) => {
                    count.push("chunks WHERE store = ").bind(store);
                    count.push(" AND words @@ to_tsquery('simple', ");
                    count.bind(query_of(&[word])).push(")");
                }
            }
            count
                .push(" LIMIT ")
                .bind(MOST_RANKED + 1)
                .push(") AS counted");
            let row = self.sql.row(&count).await?;
            let chunks = row.map_or(Ok(0), |row| row.number("count"))?;
            if chunks > 0 {
                counted.push((chunks, word.as_str()));
            }
        }
        counted.sort_by_key(|(chunks, _)| *chunks);
        let mut sum = 0;
        counted.retain(|(chunks, _)| {
            sum += chunks;
            sum <= MOST_RANKED
        });
        Ok(counted.into_iter().map(|(_, word)| word).collect())
    }
}

/// Returns the words of a text with spaces between them, as `ChunkSearch::words` has them. PostgreSQL
/// itself would take `XK-4711` for a name and a negative number, and `a/b` for a path.
fn words(text: &str) -> String {
    let lower = text.to_lowercase();
    let words = lower.split(|one: char| !one.is_alphanumeric());
    words
        .filter(|word| !word.is_empty())
        .collect::<Vec<&str>>()
        .join(" ")
}

/// Returns how many chunks are read by their words: more than are wanted, if some may belong to files
/// that are not searched.
fn most(search: &ChunkSearch) -> i64 {
    match search.files {
        Some(_) => MOST_RANKED,
        None => i64::try_from(search.limit).unwrap_or(MOST_RANKED),
    }
}

/// Returns the query of FTS5 for chunks of a store with one of these words.
fn match_of(store: i64, words: &[impl AsRef<str>]) -> String {
    let words: Vec<String> = words
        .iter()
        .map(|word| quoted(word.as_ref(), '"'))
        .collect();
    format!("store : \"{store}\" AND body : ({})", words.join(" OR "))
}

/// Returns the query of PostgreSQL for chunks with one of these words.
fn query_of(words: &[impl AsRef<str>]) -> String {
    let words: Vec<String> = words
        .iter()
        .map(|word| quoted(word.as_ref(), '\''))
        .collect();
    words.join(" | ")
}

/// A word is made of letters and digits, so that a quote or a backslash is not part of it.
fn quoted(word: &str, quote: char) -> String {
    let word = word.replace(['"', '\'', '\\', '\0'], "");
    format!("{quote}{word}{quote}")
}

fn chunk(
    row: &Row,
    file: &str,
    sealing: &crate::sealing::Sealing,
    query: &[f32],
) -> Result<FoundChunk, StoreError> {
    let number = u64::try_from(row.number("number")?).unwrap_or(0);
    let vector = row.optional_bytes("vector")?.unwrap_or_default();
    let vector = match row.optional_bytes("sealed")? {
        Some(_) => numbers(&sealing.opened(Place::Vector(file, number), vector)?),
        None => numbers(vector),
    };
    let is_comparable = vector.len() == query.len();
    Ok(FoundChunk {
        file: file.to_owned(),
        number,
        text: sealing.body(Place::Chunk(file, number), row)?,
        similarity: if is_comparable {
            similarity(&vector, query)
        } else {
            0.0
        },
        vector_rank: None,
        word_rank: None,
    })
}

/// Returns about how many bytes of the database a chunk takes: its vector, its text, and the index
/// of its words.
pub(crate) fn bytes(chunk: &Chunk) -> usize {
    size_of_val(&chunk.vector[..]) + 2 * chunk.text.len() + ROW_BYTES
}
