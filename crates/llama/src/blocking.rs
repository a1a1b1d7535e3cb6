//! Moves work that takes milliseconds off the async threads.

use loggia_backend::BackendError;

/// The maximum size of an input, in bytes, that is tokenized on an async thread. Tokenizing a
/// longer one takes milliseconds.
const LONG_INPUT: usize = 16 << 10;

/// Runs a function that tokenizes an input of `size` bytes: directly if the input is short, on a
/// blocking thread if it is long. `what` names the input in an error.
pub(crate) async fn run_by_size<T: Send + 'static>(
    size: usize,
    what: &str,
    tokenize: impl FnOnce() -> Result<T, BackendError> + Send + 'static,
) -> Result<T, BackendError> {
    if size <= LONG_INPUT {
        return tokenize();
    }
    tokio::task::spawn_blocking(tokenize)
        .await
        .map_err(|_| BackendError::Engine {
            message: format!("{what} could not be tokenized"),
        })?
}
