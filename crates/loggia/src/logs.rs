//! Where logs go and how much is said: text on standard error, from `LOGGIA_LOG`, or `RUST_LOG` where that is not set.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// What is logged by a server that nobody told otherwise: of llama.cpp's own words, which are some hundred lines a model, only warnings;
/// of its binding's, which warn of llama.cpp's progress dots, only errors.
pub(crate) const SERVING: &str = "info,llama-cpp-2=warn,llama_cpp_2=error";

/// Starts logging; `otherwise` holds where neither variable is set. A filter that cannot be read is said, and does not stop the program.
pub(crate) fn start(otherwise: &str) {
    let wanted = crate::config::environment("LOGGIA_LOG").or_else(|| crate::config::environment("RUST_LOG"));
    let filter = EnvFilter::try_new(wanted.as_deref().unwrap_or(otherwise));
    if let Err(error) = &filter {
        eprintln!("loggia: LOGGIA_LOG cannot be read ({error}); `{otherwise}` it is");
    }
    let filter = filter.unwrap_or_else(|_| EnvFilter::new(otherwise));
    let ansi = std::io::stderr().is_terminal() && crate::config::environment("NO_COLOR").is_none();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(ansi).init();
}
