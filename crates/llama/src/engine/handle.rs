//! The interface for callers: starts the engine's thread, passes requests to it, and ends it.

use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use super::generation::Generation;
use super::inbox::{Inbox, Job};
use super::output_stream::{self, OutputStream};
use super::prompt_cache::{Disk, identity};
use super::read_ahead::ReadAhead;
use super::sizes::Sizes;
use super::worker;
use crate::error::{EngineError, LoadError};
use crate::model::Model;
use crate::options::LlamaOptions;

/// A running engine. Dropping it ends its thread after the current step.
#[derive(Debug)]
pub(crate) struct Engine {
    inbox: Arc<Inbox>,
    thread: Option<JoinHandle<()>>,
    context: usize,
    reader_buffer: usize,
}

impl Engine {
    /// Starts the engine's thread, and waits until it can compute.
    pub(crate) fn start(model: Arc<Model>, options: &LlamaOptions) -> Result<Self, LoadError> {
        let sizes = Sizes::of(options, model.facts.trained_context)?;
        let inbox = Arc::new(Inbox::new(options.queue(), sizes.parallel as usize));
        let ahead = ReadAhead::of(options);
        let (ready, started) = mpsc::sync_channel(1);
        let for_thread = Arc::clone(&inbox);
        let open = |disk| Disk::open(disk, identity(&model, options, sizes));
        let disk = options.cache_disk.as_ref().map(open);
        let thread = std::thread::Builder::new()
            .name("loggia-engine".to_owned())
            .spawn(move || worker::run(&model, sizes, ahead, &for_thread, disk, &ready))
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
                "the engine stopped while it was starting; see the log for the reason".to_owned(),
            )),
        }
    }

    /// Queues requests that belong together, such as the choices of one request. Accepts all of
    /// them or none.
    pub(crate) fn generate(
        &self,
        generations: Vec<Generation>,
    ) -> Result<Vec<OutputStream>, EngineError> {
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

    fn job(&self, generation: Generation) -> (Job, OutputStream) {
        let (sender, answer) = output_stream::channel(self.reader_buffer, Arc::clone(&self.inbox));
        (Job { generation, sender }, answer)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.inbox.stop();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the engine's thread panicked");
        }
    }
}
