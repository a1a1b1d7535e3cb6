//! Chunks of the files of vector stores, and the results of a search among them.

/// A piece of the text of a file, and its vector.
#[derive(Clone, Debug, PartialEq)]
pub struct Chunk {
    /// The text.
    pub text: String,
    /// The embedding of the text. Its length is 1, or 0 if all numbers are 0.
    pub vector: Vec<f32>,
}

/// A search among the chunks of a vector store.
#[derive(Clone, Debug, PartialEq)]
pub struct ChunkSearch {
    /// The embedding of the query, of length 1. Chunks with vectors of another number of dimensions
    /// are not compared.
    pub vector: Vec<f32>,
    /// The words of the query in lower case: letters and digits, each word once. A store may leave
    /// out words that too many chunks have. If empty, nothing is found by words.
    pub words: Vec<String>,
    /// If given, only the chunks of the objects with these ids are searched.
    pub files: Option<Vec<String>>,
    /// The maximum number of chunks that are found by the vector, and the most that are found by
    /// words.
    pub limit: usize,
}

/// A chunk that a search has found.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundChunk {
    /// The id of the object that has it, a [`Kind::VectorStoreFile`](super::Kind).
    pub file: String,
    /// The chunk's number in the file.
    pub number: u64,
    /// The chunk's text.
    pub text: String,
    /// The cosine of the angle between its vector and that of the query, computed exactly.
    pub similarity: f32,
    /// The chunk's rank among those found by the vector, from 0.
    pub vector_rank: Option<usize>,
    /// The chunk's rank among those found by words, from 0.
    pub word_rank: Option<usize>,
}

/// Returns the product of two vectors of the same length; of vectors of length 1, the cosine of
/// their angle.
pub fn similarity(one: &[f32], other: &[f32]) -> f32 {
    // The number of partial sums, which the compiler can compute in parallel.
    const LANES: usize = 8;
    let mut sums = [0_f32; LANES];
    let (ones, others) = (one.chunks_exact(LANES), other.chunks_exact(LANES));
    let rest: f32 = ones
        .remainder()
        .iter()
        .zip(others.remainder())
        .map(|(a, b)| a * b)
        .sum();
    for (ones, others) in ones.zip(others) {
        for ((sum, a), b) in sums.iter_mut().zip(ones).zip(others) {
            *sum += a * b;
        }
    }
    sums.iter().sum::<f32>() + rest
}
