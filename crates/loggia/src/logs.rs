//! The log: lines on standard error. `LOGGIA_LOG` sets the level, or `RUST_LOG` if it is not set;
//! the setting `log_format` makes each line a JSON object.

use std::fmt::Debug;
use std::io::IsTerminal as _;
use std::sync::OnceLock;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, fmt, registry};

use crate::config::{LogFormat, environment};

/// The default levels of `serve`: only warnings of llama.cpp, which logs some hundred lines per
/// model, and only errors of its Rust binding, which warns about llama.cpp's progress dots.
pub(crate) const SERVING: &str = "info,llama-cpp-2=warn,llama_cpp_2=error";

/// The variable with the levels.
pub(crate) const LEVELS: &str = "LOGGIA_LOG";

/// The variable of the setting `log_format`. An engine's process reads it too.
#[cfg(feature = "embedded")]
const FORMAT: &str = "LOGGIA_LOG_FORMAT";

/// How this process logs.
struct Started {
    /// The levels if neither variable is set.
    #[cfg(feature = "embedded")]
    otherwise: &'static str,
    format: LogFormat,
}

static STARTED: OnceLock<Started> = OnceLock::new();

/// The variables for child processes, so that they log as this process does. They inherit variables
/// with levels.
#[cfg(feature = "embedded")]
pub(crate) fn for_other_processes() -> Vec<(&'static str, String)> {
    let Some(Started { otherwise, format }) = STARTED.get() else {
        return Vec::new();
    };
    let is_set = [LEVELS, "RUST_LOG"]
        .into_iter()
        .any(|name| environment(name).is_some());
    let levels = (!is_set).then(|| (LEVELS, (*otherwise).to_owned()));
    levels
        .into_iter()
        .chain([(FORMAT, format.to_string())])
        .collect()
}

/// Starts logging in the format that the parent process has chosen.
#[cfg(feature = "embedded")]
pub(crate) fn start_in_engine() {
    let format = environment(FORMAT).and_then(|format| format.parse().ok());
    start_as(format.unwrap_or(LogFormat::Text), SERVING);
}

/// Starts logging as text, with the levels `otherwise` if neither variable is set.
pub(crate) fn start(otherwise: &'static str) {
    start_as(LogFormat::Text, otherwise);
}

/// Starts logging, with the levels `otherwise` if neither variable is set. An invalid value is
/// reported and replaced by them.
pub(crate) fn start_as(format: LogFormat, otherwise: &'static str) {
    let _ = STARTED.set(Started {
        #[cfg(feature = "embedded")]
        otherwise,
        format,
    });
    let wanted = environment(LEVELS).or_else(|| environment("RUST_LOG"));
    let filter = EnvFilter::try_new(wanted.as_deref().unwrap_or(otherwise));
    if let Err(error) = &filter {
        eprintln!("loggia: LOGGIA_LOG is invalid ({error}); using `{otherwise}`");
    }
    let filter = filter.unwrap_or_else(|_| EnvFilter::new(otherwise));
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = match format {
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
        LogFormat::Text => {
            let ansi = std::io::stderr().is_terminal() && environment("NO_COLOR").is_none();
            lines.with_ansi(ansi).boxed()
        }
    };
    registry()
        .with(filter)
        .with(WithoutPoolSize)
        .with(lines)
        .init();
}

/// Writes the error that ends the program: to the log if its lines are JSON, so that every line is.
pub(crate) fn write_last_error(error: &anyhow::Error) {
    let is_json = STARTED
        .get()
        .is_some_and(|started| started.format == LogFormat::Json);
    if is_json {
        tracing::error!("{error:#}");
    } else {
        eprintln!("loggia: {error:#}");
    }
}

/// Drops one warning of llama.cpp: that its context is longer than the model was trained for. That
/// context is the sum over all slots. If one slot's context is too long, Loggia warns itself.
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

/// Whether an event is this warning.
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
