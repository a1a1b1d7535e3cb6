//! Where logs go and how much is said: text on standard error, from `LOGGIA_LOG`, or `RUST_LOG`
//! where that is not set.

use std::fmt::Debug;
use std::io::IsTerminal as _;
use std::sync::OnceLock;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, fmt, registry};

/// What is logged by a server that nobody told otherwise: of llama.cpp's own words, which are some
/// hundred lines a model, only warnings; of its binding's, which warn of llama.cpp's progress dots,
/// only errors.
pub(crate) const SERVING: &str = "info,llama-cpp-2=warn,llama_cpp_2=error";

/// The filter that holds where neither variable is set.
static DEFAULT: OnceLock<&str> = OnceLock::new();

/// What `LOGGIA_LOG` must be for a process of ours to log as this one does, where nothing else
/// tells it.
pub(crate) fn for_other_processes() -> Option<&'static str> {
    let is_set = ["LOGGIA_LOG", "RUST_LOG"]
        .into_iter()
        .any(|name| crate::config::environment(name).is_some());
    DEFAULT.get().copied().filter(|_| !is_set)
}

/// Starts logging; `otherwise` is the filter where neither variable is set. An invalid filter is
/// reported, and does not stop the program.
pub(crate) fn start(otherwise: &'static str) {
    let _ = DEFAULT.set(otherwise);
    let wanted =
        crate::config::environment("LOGGIA_LOG").or_else(|| crate::config::environment("RUST_LOG"));
    let filter = EnvFilter::try_new(wanted.as_deref().unwrap_or(otherwise));
    if let Err(error) = &filter {
        eprintln!("loggia: LOGGIA_LOG cannot be read ({error}); `{otherwise}` it is");
    }
    let filter = filter.unwrap_or_else(|_| EnvFilter::new(otherwise));
    let ansi = std::io::stderr().is_terminal() && crate::config::environment("NO_COLOR").is_none();
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(ansi);
    registry()
        .with(filter)
        .with(WithoutPoolSize)
        .with(lines)
        .init();
}

/// Leaves out one warning of llama.cpp's: that its context is longer than what the model was
/// trained for. The context there is the pool of all requests that are answered at once; none of
/// them gets more than its part, and a part that is too long is our own warning.
struct WithoutPoolSize;

impl<S: Subscriber> Layer<S> for WithoutPoolSize {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let mut said = SaysPoolSize(false);
        if event.metadata().target() == "llama-cpp-2" {
            event.record(&mut said);
        }
        !said.0
    }
}

/// Whether an event is that warning.
struct SaysPoolSize(bool);

impl Visit for SaysPoolSize {
    fn record_str(&mut self, field: &Field, text: &str) {
        if field.name() == "message" {
            self.0 = text.contains("n_ctx_seq (") && text.contains("> n_ctx_train (");
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn the_size_of_the_pool_is_no_warning_and_all_others_stay() {
        let written = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&written);
        let lines = fmt::layer()
            .with_ansi(false)
            .with_writer(move || Lines(Arc::clone(&into)));
        tracing::subscriber::with_default(registry().with(WithoutPoolSize).with(lines), || {
            let pool =
                "n_ctx_seq (16384) > n_ctx_train (8192) -- possible training context overflow";
            tracing::warn!(target: "llama-cpp-2", "{pool}");
            tracing::warn!(target: "llama-cpp-2", message = pool);
            tracing::warn!(target: "llama-cpp-2", "n_ctx_seq (1024) < n_ctx_train (8192)");
            tracing::warn!("{pool}");
        });
        let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(
            text.contains("n_ctx_seq (1024) < n_ctx_train")
                && !text.contains("llama-cpp-2: n_ctx_seq (16384)")
        );
    }

    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
}
