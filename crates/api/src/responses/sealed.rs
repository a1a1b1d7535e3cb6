//! Reasoning and summaries that a client keeps for the server. They are sealed, so that only a
//! server with one of the keys can read them.

use loggia_seal::{Keys, NotOpened};

use crate::ApiError;

/// The purpose of a sealed text. A text that was sealed for one purpose cannot be opened for
/// another.
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

    /// Opens a text that a client sent. Returns `None` if another server made it.
    ///
    /// # Errors
    /// A 400 for a text that this server made but that was changed, and for one whose key is
    /// missing.
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
