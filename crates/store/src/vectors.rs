//! The vectors of complete sets of chunks, in memory and rounded to 16 bits, and the search among
//! them. [Decision 36](../../../docs/decisions/0036-vector-stores.md) says why.
//!
//! The search is exact: rounding changes a product by a known bound at most, and every chunk that is
//! within the bound of the last wanted one is returned, for the caller to compare exactly.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::try_join_all;
use loggia_api::store::StoreError;

/// The maximum number of bytes of vectors that stay in memory. Others are read again for each
/// search.
const MOST_BYTES: usize = 256 << 20;

/// The integer that represents 1. The vectors have a length of at most 1, so that no product of two
/// of them has more than 28 bits.
const ONE: f32 = 16_384.0;

/// How many numbers one thread compares at least.
const NUMBERS_OF_A_THREAD: usize = 4 << 20;

/// The maximum number of threads of one search.
const MOST_THREADS: usize = 4;

/// The vectors of a complete set of chunks.
#[derive(Debug)]
pub(crate) struct Segment {
    set: i64,
    /// The numbers of a vector. 0 if there are no chunks.
    pub(crate) dimensions: usize,
    /// The places of the chunks in the database.
    seqs: Vec<i64>,
    /// The rounded vectors, one after the other.
    codes: Vec<i16>,
}

impl Segment {
    pub(crate) fn new(set: i64) -> Self {
        Self {
            set,
            dimensions: 0,
            seqs: Vec::new(),
            codes: Vec::new(),
        }
    }

    /// Adds the vector of a chunk. The vectors of a file are of one model, and have one length.
    pub(crate) fn add(&mut self, seq: i64, vector: &[f32]) {
        if self.seqs.is_empty() {
            self.dimensions = vector.len();
        }
        if !vector.is_empty() && vector.len() == self.dimensions {
            self.seqs.push(seq);
            self.codes.extend(rounded(vector));
        }
    }

    fn bytes(&self) -> usize {
        size_of_val(&self.seqs[..]) + size_of_val(&self.codes[..]) + size_of::<Self>()
    }
}

/// The vectors that are in memory.
#[derive(Debug, Default)]
pub(crate) struct Vectors {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    segments: HashMap<i64, Used>,
    bytes: usize,
    /// How often segments were asked for.
    uses: u64,
}

#[derive(Debug)]
struct Used {
    segment: Arc<Segment>,
    /// The number of the last use, which grows with every search.
    last: u64,
}

impl Vectors {
    pub(crate) fn get(&self, set: i64) -> Option<Arc<Segment>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.uses += 1;
        let now = kept.uses;
        let used = kept.segments.get_mut(&set)?;
        used.last = now;
        Some(Arc::clone(&used.segment))
    }

    /// Keeps the vectors of a set, if necessary in place of those that were not used for the longest
    /// time.
    pub(crate) fn keep(&self, segment: Segment) -> Arc<Segment> {
        let segment = Arc::new(segment);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if segment.bytes() > MOST_BYTES {
            return segment;
        }
        kept.uses += 1;
        let used = Used {
            segment: Arc::clone(&segment),
            last: kept.uses,
        };
        kept.bytes += segment.bytes();
        if let Some(before) = kept.segments.insert(segment.set, used) {
            kept.bytes -= before.segment.bytes();
        }
        while kept.bytes > MOST_BYTES {
            let oldest = kept.segments.iter().min_by_key(|(_, used)| used.last);
            let Some(set) = oldest.map(|(set, _)| *set) else {
                break;
            };
            if let Some(used) = kept.segments.remove(&set) {
                kept.bytes -= used.segment.bytes();
            }
        }
        segment
    }
}

/// Some rows of a segment.
type Part = (Arc<Segment>, Range<usize>);

/// A chunk whose vector is near that of the query: the product of the rounded vectors, and its place.
type Near = (i32, i64);

/// Returns the places of all chunks that can be among the nearest to a vector; all segments have
/// vectors of its length.
pub(crate) async fn nearest(
    segments: Vec<Arc<Segment>>,
    query: &[f32],
    limit: usize,
) -> Result<Vec<i64>, StoreError> {
    if limit == 0 || query.is_empty() {
        return Ok(Vec::new());
    }
    let codes: Arc<[i16]> = rounded(query).collect();
    let slack = slack(query.len());
    let parts = parts(segments, query.len()).into_iter().map(|part| {
        let codes = Arc::clone(&codes);
        // The search takes milliseconds, for which no other task of this thread should wait.
        tokio::task::spawn_blocking(move || nearest_of(&part, &codes, limit, slack))
    });
    let near = try_join_all(parts).await;
    let near = near.map_err(|error| StoreError::Unavailable {
        cause: error.to_string(),
    })?;
    let near = within(near.concat(), limit, slack);
    Ok(near.into_iter().map(|(_, seq)| seq).collect())
}

/// Divides the rows of segments among threads.
fn parts(segments: Vec<Arc<Segment>>, dimensions: usize) -> Vec<Vec<Part>> {
    let rows: usize = segments.iter().map(|segment| segment.seqs.len()).sum();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = rows * dimensions / NUMBERS_OF_A_THREAD;
    let threads = threads.clamp(1, cores.min(MOST_THREADS));
    let most = rows.div_ceil(threads).max(1);
    let (mut parts, mut part, mut room) = (Vec::new(), Vec::new(), most);
    for segment in segments {
        let mut next = 0;
        while next < segment.seqs.len() {
            let end = segment.seqs.len().min(next + room);
            room -= end - next;
            part.push((Arc::clone(&segment), next..end));
            next = end;
            if room == 0 {
                parts.push(std::mem::take(&mut part));
                room = most;
            }
        }
    }
    parts.push(part);
    parts
}

fn nearest_of(parts: &[Part], query: &[i16], limit: usize, slack: i32) -> Vec<Near> {
    let rows = parts.iter().flat_map(|(segment, rows)| {
        let width = segment.dimensions;
        let codes = &segment.codes[rows.start * width..rows.end * width];
        codes.chunks_exact(width).zip(&segment.seqs[rows.clone()])
    });
    let near = rows.map(|(codes, seq)| (product(codes, query), *seq));
    within(near.collect(), limit, slack)
}

/// Keeps the `limit` nearest, and those whose distance is so close that the rounding may have
/// changed their order.
fn within(mut near: Vec<Near>, limit: usize, slack: i32) -> Vec<Near> {
    if near.len() > limit {
        let (_, (last, _), _) = near.select_nth_unstable_by(limit - 1, |a, b| b.0.cmp(&a.0));
        let bound = *last - slack;
        near.retain(|(product, _)| *product >= bound);
    }
    near
}

/// The product of two rounded vectors. The types are those of the instruction that multiplies and
/// adds numbers of 16 bits, which every x86-64 and ARM processor has.
fn product(one: &[i16], other: &[i16]) -> i32 {
    let products = one.iter().zip(other);
    products.fold(0, |sum, (a, b)| {
        i32::wrapping_add(sum, i32::from(*a) * i32::from(*b))
    })
}

/// Returns twice the most by which the product of rounded vectors can differ from that of the vectors
/// themselves. Each number of a vector of length 1 is rounded by at most half a unit, so that the
/// vector is moved by at most √n / 2 units.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "vectors have a few thousand numbers"
)]
fn slack(dimensions: usize) -> i32 {
    let moved = (dimensions as f32).sqrt() / 2.0;
    (2.0 * (2.0 * moved * ONE + moved * moved)).ceil() as i32 + 1
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "numbers of a vector of length 1 are at most 1"
)]
fn rounded(vector: &[f32]) -> impl Iterator<Item = i16> {
    vector.iter().map(|number| (number * ONE).round() as i16)
}

/// Reads the numbers of a vector.
pub(crate) fn numbers(bytes: &[u8]) -> Vec<f32> {
    let (numbers, _) = bytes.as_chunks();
    numbers
        .iter()
        .map(|number| f32::from_le_bytes(*number))
        .collect()
}

#[cfg(test)]
mod tests {
    use loggia_api::store::similarity;

    use super::*;

    /// Vectors of length 1 that look random, from a fixed seed.
    fn vectors(count: usize, dimensions: usize) -> Vec<Vec<f32>> {
        let mut state = 88_172_645_463_325_252_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            f32::from(u16::try_from(state >> 48).expect("16 bits")) / 32_768.0 - 1.0
        };
        let vector = |_| {
            let vector: Vec<f32> = (0..dimensions).map(|_| next()).collect();
            let length = vector.iter().map(|one| one * one).sum::<f32>().sqrt();
            vector.into_iter().map(|one| one / length).collect()
        };
        (0..count).map(vector).collect()
    }

    #[tokio::test]
    async fn every_chunk_that_is_among_the_nearest_is_found() {
        for (count, dimensions) in [(500, 1), (500, 3), (500, 384), (60, 4096)] {
            let all = vectors(count, dimensions);
            let mut segments: Vec<Segment> = (0..3).map(Segment::new).collect();
            for (index, vector) in all.iter().enumerate() {
                let seq = i64::try_from(index).expect("a number");
                segments[index % 3].add(seq, vector);
            }
            let segments: Vec<Arc<Segment>> = segments.into_iter().map(Arc::new).collect();
            for query in &vectors(count + 3, dimensions)[count..] {
                let exact = all.iter().map(|one| similarity(one, query));
                let exact: Vec<f32> = exact.collect();
                let mut order: Vec<usize> = (0..all.len()).collect();
                order.sort_by(|a, b| exact[*b].total_cmp(&exact[*a]));
                let found = nearest(segments.clone(), query, 10).await.expect("chunks");
                for seq in &order[..10] {
                    let seq = i64::try_from(*seq).expect("a number");
                    assert!(found.contains(&seq), "{dimensions}");
                }
            }
        }
    }

    #[test]
    fn the_memory_of_vectors_is_limited_and_the_last_used_stay() {
        let vectors = Vectors::default();
        let large = |set| Segment {
            set,
            dimensions: 1,
            seqs: Vec::new(),
            codes: vec![0; MOST_BYTES / 5],
        };
        for set in 1..=2 {
            vectors.keep(large(set));
        }
        assert!(vectors.get(1).is_some());
        vectors.keep(large(3));
        let kept: Vec<bool> = (1..=3).map(|set| vectors.get(set).is_some()).collect();
        assert_eq!(kept, [true, false, true]);
    }
}
