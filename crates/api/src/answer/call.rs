//! [`Call`]: a call of a function as far as a writer has received it.

use loggia_backend::BackendError;

/// A call of a function, as far as it has arrived.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) index: u32,
    pub(crate) id: Option<String>,
    pub(crate) name: String,
    pub(crate) arguments: String,
    /// Whether the client has received the beginning of the call.
    pub(crate) is_shown: bool,
}

impl Call {
    /// Begins the call with this index. `next` is the lowest index that a new call can have.
    ///
    /// # Errors
    /// Fails for a piece of an earlier call: that call is finished, so no event can add to it.
    pub(crate) fn begin(index: u32, next: &mut u32) -> Result<Self, BackendError> {
        if index < *next {
            return Err(more_of_an_earlier_call());
        }
        *next = index.saturating_add(1);
        Ok(Self {
            index,
            id: None,
            name: String::new(),
            arguments: String::new(),
            is_shown: false,
        })
    }
}

/// Returns the error for a piece of a call that is finished.
pub(crate) fn more_of_an_earlier_call() -> BackendError {
    BackendError::Engine {
        message: "more of a call after the next one had begun".to_owned(),
    }
}
