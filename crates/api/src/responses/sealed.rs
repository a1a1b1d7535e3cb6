//! What a client carries for the server: reasoning and summaries that only a server with one of the
//! keys can read.

use loggia_seal::{Keys, NotOpened};

use crate::ApiError;

/// What is sealed. A text that was sealed as one of them does not open as the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sealed {
    /// The reasoning of a model.
    Reasoning,
    /// The summary of a conversation.
    Compaction,
}

impl Sealed {
    fn purpose(self) -> &'static str {
        match self {
            Self::Reasoning => "responses.reasoning",
            Self::Compaction => "responses.compaction",
        }
    }

    pub(crate) fn seal(self, keys: &Keys, text: &str) -> String {
        keys.seal(self.purpose(), text.as_bytes())
    }

    /// Opens what a client sent. Returns `None` for a text that another server made.
    ///
    /// # Errors
    /// A 400 for a text of Loggia's that was changed, or whose key is not here.
    pub(crate) fn open(
        self,
        keys: Option<&Keys>,
        sealed: &str,
        place: &str,
    ) -> Result<Option<String>, ApiError> {
        let Some(keys) = keys else { return Ok(None) };
        let why = match keys.open(self.purpose(), sealed) {
            Ok(text) => match String::from_utf8(text) {
                Ok(text) => return Ok(Some(text)),
                Err(_) => NotOpened::Changed,
            },
            Err(NotOpened::Malformed) => return Ok(None),
            Err(why) => why,
        };
        Err(not_opened(place, &why.to_string()))
    }
}

/// The error for a sealed text that cannot be opened.
pub(crate) fn not_opened(place: &str, why: &str) -> ApiError {
    let message = format!(
        "The encrypted content of '{place}' cannot be opened: {why}. Send the item without it, or leave the item out."
    );
    ApiError::invalid(
        format!("{place}.encrypted_content"),
        "invalid_encrypted_content",
        message,
    )
}
