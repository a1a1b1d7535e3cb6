//! The thread of the engine of a model that pools. Its loop takes jobs, fills a batch, computes it,
//! and sends the vectors. The vector of a reranking model has the score as its first number.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::token::LlamaToken;

use super::job::Job;
use super::model::PooledModel;
use super::share::{BatchInput, fill};
use super::sizes::Sizes;
use crate::Token;
use crate::error::{EngineError, LoadError};
use crate::gguf::Pooling;
use crate::weights::backend;

/// Runs until all senders of jobs are dropped.
pub(super) fn run(
    model: &PooledModel,
    jobs: &Receiver<Job>,
    stopping: &AtomicBool,
    ready: &SyncSender<Result<(), LoadError>>,
) {
    let started = Batches::new(model).and_then(|mut batches| {
        let cannot = |what| {
            LoadError::Setting(format!(
                "the first computation with the model failed: {what}"
            ))
        };
        batches.warm_up().map_err(cannot).map(|()| batches)
    });
    let batches = match started {
        Ok(batches) => batches,
        Err(error) => {
            let _ = ready.send(Err(error));
            return;
        }
    };
    let mut worker = Worker {
        batches,
        running: Vec::new(),
    };
    if ready.send(Ok(())).is_ok() {
        while !stopping.load(Ordering::Relaxed) && worker.turn(jobs) {}
    }
}

/// A job that has begun.
struct RunningJob {
    job: Job,
    /// The number of tokens of each input.
    lengths: Vec<usize>,
    /// The finished vectors, in the order of the inputs. The remaining inputs are still to be
    /// computed.
    vectors: Vec<Vec<f32>>,
}

impl RunningJob {
    fn new(job: Job) -> Self {
        let lengths = job.inputs.iter().map(Vec::len).collect();
        Self {
            vectors: Vec::with_capacity(job.inputs.len()),
            job,
            lengths,
        }
    }

    fn left(&self) -> &[usize] {
        &self.lengths[self.vectors.len()..]
    }
}

struct Worker<'model> {
    batches: Batches<'model>,
    /// The jobs that have begun. The first one has the next turn.
    running: Vec<RunningJob>,
}

impl Worker<'_> {
    /// Runs one iteration of the loop. Returns whether to continue.
    fn turn(&mut self, jobs: &Receiver<Job>) -> bool {
        if self.running.is_empty() {
            let Ok(job) = jobs.recv() else { return false };
            self.running.push(RunningJob::new(job));
        }
        self.running.extend(jobs.try_iter().map(RunningJob::new));
        self.running.retain(|one| !one.job.answer.is_closed());
        if self.running.is_empty() {
            return true;
        }
        let lengths: Vec<&[usize]> = self.running.iter().map(RunningJob::left).collect();
        let places = fill(
            &lengths,
            self.batches.sizes.batch as usize,
            self.batches.sizes.inputs as usize,
        );
        match self.compute(&places) {
            Ok(vectors) => self.hand_out(&places, vectors),
            Err(what) => self.fail(&places, &what),
        }
        true
    }

    fn compute(&mut self, places: &[BatchInput]) -> Result<Vec<Vec<f32>>, String> {
        let input = |&(request, nth): &BatchInput| {
            let one = &self.running[request];
            one.job.inputs[one.vectors.len() + nth].as_slice()
        };
        let inputs: Vec<&[Token]> = places.iter().map(input).collect();
        self.batches.compute(&inputs)
    }

    /// Assigns the vectors to their requests, and sends those of finished requests. Within a
    /// request, the places are in the order of its inputs.
    fn hand_out(&mut self, places: &[BatchInput], vectors: Vec<Vec<f32>>) {
        for (&(request, _), vector) in places.iter().zip(vectors) {
            self.running[request].vectors.push(vector);
        }
        let (done, mut rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.running)
            .into_iter()
            .partition(|one| one.left().is_empty());
        for RunningJob { job, vectors, .. } in done {
            // The caller may have left.
            let _ = job.answer.send(Ok(vectors));
        }
        if !rest.is_empty() {
            rest.rotate_left(1);
        }
        self.running = rest;
    }

    /// Sends an error to the requests that had inputs in the failed batch. The others continue.
    fn fail(&mut self, places: &[BatchInput], what: &str) {
        tracing::error!(
            what,
            "a batch failed; all requests with inputs in it get an error"
        );
        let mut number = 0..;
        let (failed, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.running)
            .into_iter()
            .partition(|_| {
                number
                    .next()
                    .is_some_and(|at| places.iter().any(|&(request, _)| request == at))
            });
        for one in failed {
            let _ = one
                .job
                .answer
                .send(Err(EngineError::Compute(what.to_owned())));
        }
        self.running = rest;
    }
}

/// The calls into llama.cpp: a context with the model's pooling, and the batch.
struct Batches<'model> {
    context: LlamaContext<'model>,
    batch: LlamaBatch<'static>,
    sizes: Sizes,
    /// Whether the vectors get the length 1. Scores stay as they are.
    normalizes: bool,
}

impl<'model> Batches<'model> {
    /// Reserves the memory. The pooling is left unspecified, so llama.cpp uses the model's own. A
    /// batch is computed in one step, as bidirectional attention requires.
    fn new(model: &'model PooledModel) -> Result<Self, LoadError> {
        let sizes = model.sizes;
        let params = LlamaContextParams::default()
            .with_n_ctx(NonZeroU32::new(sizes.batch))
            .with_n_seq_max(sizes.inputs)
            .with_n_batch(sizes.batch)
            .with_n_ubatch(sizes.batch)
            .with_n_threads(sizes.threads)
            .with_n_threads_batch(sizes.threads)
            .with_embeddings(true)
            // All sequences share one pool of cells, so any mix of inputs fits that fits into the
            // batch.
            .with_kv_unified(true)
            .with_no_perf(true);
        let no_memory = |_| LoadError::Context {
            context: sizes.context,
            parallel: 1,
        };
        let context = model
            .llama
            .new_context(backend(), params)
            .map_err(no_memory)?;
        Ok(Self {
            context,
            batch: LlamaBatch::new(sizes.batch as usize, 1),
            sizes,
            normalizes: model.pooling != Pooling::Rank,
        })
    }

    /// Computes a trial input and discards the result. This brings the weights into memory, and
    /// proves that the model works.
    fn warm_up(&mut self) -> Result<(), String> {
        self.compute(&[&[0]]).map(drop)
    }

    /// Computes a vector for each input. Embeddings have the length 1, like OpenAI's.
    fn compute(&mut self, inputs: &[&[Token]]) -> Result<Vec<Vec<f32>>, String> {
        self.batch.clear();
        for (sequence, tokens) in (0_i32..).zip(inputs) {
            for (position, token) in (0_i32..).zip(*tokens) {
                let added =
                    self.batch
                        .add(LlamaToken(token.cast_signed()), position, &[sequence], true);
                added.map_err(|error| error.to_string())?;
            }
        }
        // Clears what the last batch left in the cache.
        if self.sizes.has_cache {
            self.context.clear_kv_cache();
        }
        // For an encoder, which has no cache, llama.cpp encodes here instead of decoding.
        self.context
            .decode(&mut self.batch)
            .map_err(|error| error.to_string())?;
        let vector = |sequence| {
            let mut vector = self
                .context
                .embeddings_seq_ith(sequence)
                .map_err(|error| error.to_string())?
                .to_vec();
            if self.normalizes {
                loggia_backend::normalise(&mut vector);
            }
            Ok(vector)
        };
        (0_i32..)
            .zip(inputs)
            .map(|(sequence, _)| vector(sequence))
            .collect()
    }
}
