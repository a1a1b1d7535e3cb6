//! The engine: one thread that owns llama.cpp's context and answers several requests in one batch.
//!
//! Reading order: [`Engine`] (the interface for callers), `answer` (the output for a reader, and
//! how the engine notices that the reader left), `inbox` (the queue), `worker` (the loop: admit,
//! share, plan, compute, choose), `passage` (the prompt), `slots` (the assignment of the cache),
//! `plan` (how a step is divided among prompts), `work` (one request in progress), `score`
//! (log-probabilities of its prompt), `draft` (speculative decoding), `cache` (the calls into
//! llama.cpp).
//!
//! No HTTP here, and no templates: tokens in, text out.

mod answer;
mod cache;
mod draft;
mod inbox;
mod passage;
mod plan;
mod score;
mod slots;
mod work;
mod worker;

use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

#[cfg(test)]
pub(crate) use answer::End;
pub(crate) use answer::{Answer, Finish, Output, Piece, Usage};
pub(crate) use passage::{Builder, Passage};
pub(crate) use score::{MOST_ROWS, Scored, ScoredPiece};

use crate::error::{EngineError, LoadError};
use crate::grammar::Held;
use crate::model::Model;
use crate::options::{DEFAULT_CONTEXT, LlamaOptions};
use crate::sample::Sampling;
use inbox::{Inbox, Job};

/// The minimum context. A smaller one is useless for a conversation.
const SMALLEST_CONTEXT: u32 = 16;

/// One text to continue.
#[derive(Debug, Clone)]
pub(crate) struct Generation {
    pub(crate) prompt: Passage,
    /// The maximum number of tokens, prompt and answer together; at most the engine's context.
    pub(crate) context: usize,
    /// The maximum number of tokens to generate. Without it, only the context limits the answer.
    /// With 0, only the prompt is read.
    pub(crate) max_tokens: Option<usize>,
    /// Stop strings. They are not part of the answer.
    pub(crate) stop: Vec<String>,
    pub(crate) sampling: Sampling,
    /// The constraint of the answer.
    pub(crate) held: Option<Held>,
    /// The number of alternatives for each token, if log-probabilities are requested.
    pub(crate) top_logprobs: Option<usize>,
    /// Whether the log-probabilities include the token that ends the answer.
    pub(crate) shows_end: bool,
    /// The part of the prompt whose log-probabilities are also requested.
    pub(crate) scored: Option<Scored>,
}

impl Generation {
    /// Whether the request must give the same text when it is repeated: it samples at random, and
    /// sets a seed.
    fn is_to_be_reproducible(&self) -> bool {
        self.sampling.seed.is_some() && self.sampling.temperature > 0.0
    }
}

/// A running engine. Dropping it ends its thread after the current step.
#[derive(Debug)]
pub(crate) struct Engine {
    inbox: Arc<Inbox>,
    thread: Option<JoinHandle<()>>,
    context: usize,
    reader_buffer: usize,
}

/// The sizes that follow from the options and the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sizes {
    /// The context of one request, in tokens: prompt and answer.
    pub(crate) context: u32,
    /// The number of parallel requests.
    pub(crate) parallel: u32,
    /// The maximum number of tokens per prompt in a step while answers are generated: the option,
    /// and one more, which is computed together with those of the answers.
    pub(crate) piece: u32,
    /// The maximum number of prompt tokens in a step otherwise.
    pub(crate) alone: u32,
    /// The maximum number of tokens in any step.
    pub(crate) batch: u32,
    pub(crate) threads: i32,
}

impl Engine {
    /// Starts the engine's thread, and waits until it can compute.
    pub(crate) fn start(model: Arc<Model>, options: &LlamaOptions) -> Result<Self, LoadError> {
        let sizes = Sizes::of(options, model.facts.trained_context)?;
        let inbox = Arc::new(Inbox::new(options.queue(), sizes.parallel as usize));
        let (ready, started) = mpsc::sync_channel(1);
        let for_thread = Arc::clone(&inbox);
        let thread = std::thread::Builder::new()
            .name("loggia-engine".to_owned())
            .spawn(move || worker::run(&model, sizes, &for_thread, &ready))
            .map_err(LoadError::Thread)?;
        let engine = Self {
            inbox,
            thread: Some(thread),
            context: sizes.context as usize,
            reader_buffer: options.reader_buffer.max(2),
        };
        match started.recv() {
            Ok(Ok(())) => Ok(engine),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(LoadError::Setting(
                "the engine ended while it was starting; the log has the reason".to_owned(),
            )),
        }
    }

    /// Accepts requests that belong together (the choices of one): all or none.
    pub(crate) fn generate(
        &self,
        generations: Vec<Generation>,
    ) -> Result<Vec<Answer>, EngineError> {
        for generation in &generations {
            self.check(generation)?;
        }
        let (jobs, answers) = generations
            .into_iter()
            .map(|generation| self.job(generation))
            .unzip();
        self.inbox.submit(jobs)?;
        Ok(answers)
    }

    /// The maximum number of tokens of one request, prompt and answer together.
    pub(crate) fn context(&self) -> usize {
        self.context
    }

    /// Whether the engine is still running.
    pub(crate) fn is_running(&self) -> bool {
        !self.inbox.has_stopped()
    }

    fn check(&self, generation: &Generation) -> Result<(), EngineError> {
        let prompt_tokens = generation.prompt.len();
        if prompt_tokens == 0 {
            return Err(EngineError::EmptyPrompt);
        }
        let context = generation.context.min(self.context);
        // An answer needs room for at least one token.
        let room = usize::from(generation.max_tokens != Some(0));
        if prompt_tokens + room > context {
            return Err(EngineError::ContextLengthExceeded {
                prompt_tokens,
                context,
            });
        }
        Ok(())
    }

    fn job(&self, generation: Generation) -> (Job, Answer) {
        let (outlet, answer) = answer::channel(self.reader_buffer, Arc::clone(&self.inbox));
        (Job { generation, outlet }, answer)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.inbox.stop();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the engine's thread had panicked");
        }
    }
}

impl Sizes {
    pub(crate) fn of(options: &LlamaOptions, trained: u32) -> Result<Self, LoadError> {
        // llama.cpp supports at most 256 sequences.
        if !(1..=256).contains(&options.parallel) {
            return Err(LoadError::Setting(format!(
                "parallel is {}; it can be 1 to 256",
                options.parallel
            )));
        }
        if options.piece == 0
            || options.batch == 0
            || options.batch > 8192
            || options.piece > options.batch
        {
            return Err(LoadError::Setting(
                "batch can be 1 to 8192, and piece 1 to batch".to_owned(),
            ));
        }
        let context = options.context.unwrap_or(DEFAULT_CONTEXT.min(trained));
        if context < SMALLEST_CONTEXT {
            return Err(LoadError::Setting(format!(
                "a context of {context} tokens is too small: it holds prompt and answer together and has at least {SMALLEST_CONTEXT}; \
                 --context 4096 is usual"
            )));
        }
        if u64::from(context) * u64::from(options.parallel) > 1 << 30 {
            return Err(LoadError::Setting(format!(
                "a context of {context} tokens for each of {} requests at once is more than llama.cpp can address; lower --context or \
                 --parallel",
                options.parallel
            )));
        }
        if context > trained {
            tracing::warn!(
                context,
                trained,
                "the context is longer than what the model was trained for; long answers may be poor"
            );
        }
        Ok(Self {
            context,
            parallel: options.parallel,
            piece: options.piece + 1,
            alone: options.batch,
            batch: options.batch.max(options.piece + 1 + options.parallel),
            threads: options.threads(),
        })
    }

    /// The cells of the cache: llama.cpp rounds those of each sequence up to a multiple of 256.
    pub(crate) fn cells(&self) -> u64 {
        u64::from(self.context).next_multiple_of(256) * u64::from(self.parallel)
    }

    /// The sizes for a draft model with this trained context. It drafts nothing beyond that.
    pub(crate) fn of_draft(self, trained: u32) -> Self {
        Self {
            context: self.context.min(trained),
            ..self
        }
    }
}

/// The `Retry-After` time for a client that the full queue refuses: the estimated time of the
/// requests before it, from the times of recent requests.
fn retry_after(waiting: usize, parallel: usize, usual: Duration) -> Duration {
    let rounds = u32::try_from(waiting / parallel.max(1) + 1).unwrap_or(u32::MAX);
    usual
        .saturating_mul(rounds)
        .clamp(Duration::from_secs(1), Duration::from_mins(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cells_of_small_contexts_are_counted_as_llama_cpp_reserves_them() {
        let cells = |context, parallel| {
            let options = LlamaOptions {
                context: Some(context),
                parallel,
                ..LlamaOptions::new("file", "name")
            };
            Sizes::of(&options, 8192).unwrap().cells()
        };
        assert_eq!(cells(4096, 4), 4 * 4096);
        assert_eq!(cells(100, 8), 8 * 256);
    }
}
