//! Whisper models in the pool: their memory, their process, their queue.

use std::fmt::Write as _;

use bytesize::ByteSize;
use loggia_wire::openai::Model;

use super::super::whisper::Files;
use super::model_spec::ModelSpec;

/// Adds what clients may know of a model that has not been loaded.
#[cfg(feature = "whisper")]
pub(super) fn describe(_: &Files, card: &mut Model) {
    loggia_whisper::describe(card);
}

#[cfg(not(feature = "whisper"))]
pub(super) fn describe(files: &Files, _: &mut Model) {
    match *files {}
}

/// The lines of `loggia check`.
pub(super) fn report(specs: &[ModelSpec]) -> String {
    let mut text = String::new();
    for spec in specs.iter().filter(|spec| spec.whisper.is_some()) {
        let name = &spec.name;
        let _ = match spec.forecast() {
            Ok(forecast) => {
                let memory = ByteSize(forecast.bytes()).display().iec();
                let minutes = spec.longest_recording.as_secs() / 60;
                writeln!(
                    text,
                    "# {name} transcribes recordings of up to {minutes} minutes, with {memory} of memory"
                )
            }
            Err(why) => writeln!(text, "# {name} CANNOT BE LOADED: {why}"),
        };
    }
    text
}

#[cfg(feature = "whisper")]
mod process {
    use std::sync::Arc;

    use loggia_backend::queue::Queue;
    use loggia_backend::{Backend, process::Remote};
    use loggia_whisper::{LoadError, Whisper, WhisperOptions};
    use tokio::process::Command;

    use super::{Files, ModelSpec};

    /// Lets the process of a model compute with its number of threads.
    pub(in super::super) fn set_threads(command: &mut Command, spec: &ModelSpec) {
        if spec.whisper.is_some() {
            // Candle reads this variable of its library for threads.
            command.env("RAYON_NUM_THREADS", spec.options().threads().to_string());
        }
    }

    /// Puts a queue before the process: it transcribes one recording at a time, with all threads, and
    /// the API keys take turns.
    pub(in super::super) fn queued(remote: Remote, spec: &ModelSpec) -> Arc<dyn Backend> {
        let remote = Arc::new(remote);
        if spec.whisper.is_some() {
            Arc::new(Queue::new(remote, 1, spec.recordings_waiting))
        } else {
            remote
        }
    }

    /// Opens the model, in its process.
    pub(in super::super) fn open(
        files: &Files,
        spec: &ModelSpec,
    ) -> Result<Arc<dyn Backend>, LoadError> {
        let options = WhisperOptions {
            name: spec.name.clone(),
            files: files.clone(),
            longest: spec.longest_recording,
        };
        Ok(Arc::new(Whisper::open(&options)?))
    }

    /// How much more than twice its forecast the process may use.
    const SLACK: u64 = 1 << 30;

    /// Limits the memory of this process, so that neither weights nor a recording take the machine's.
    pub(in super::super) fn limit(files: &Files) {
        #[cfg(unix)]
        {
            use rlimit::Resource;
            // The error of an unreadable file comes from loading it.
            let Ok(memory) = files.memory() else {
                return;
            };
            // Weights in the file's format and as 32-bit numbers are in memory together while they
            // are loaded.
            let needed = memory.weights.saturating_add(memory.compute);
            let most = needed.saturating_mul(2).saturating_add(SLACK);
            // Not the address space: the allocator reserves much of it for each thread.
            let _ = Resource::DATA.set(most, most);
            let _ = Resource::CORE.set(0, 0);
        }
        #[cfg(not(unix))]
        let _ = files;
    }
}

#[cfg(not(feature = "whisper"))]
mod process {
    use std::sync::Arc;

    use loggia_backend::{Backend, process::Remote};
    use tokio::process::Command;

    use super::{Files, ModelSpec};

    pub(in super::super) fn set_threads(_: &mut Command, _: &ModelSpec) {}

    pub(in super::super) fn queued(remote: Remote, _: &ModelSpec) -> Arc<dyn Backend> {
        Arc::new(remote)
    }

    pub(in super::super) fn open(files: &Files, _: &ModelSpec) -> Result<Arc<dyn Backend>, String> {
        match *files {}
    }

    pub(in super::super) fn limit(files: &Files) {
        match *files {}
    }
}

pub(super) use process::{limit, open, queued, set_threads};
