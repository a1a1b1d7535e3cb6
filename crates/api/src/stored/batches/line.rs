//! One line of a batch without a store, for `loggia batch run`.

use bytes::Bytes;
use serde::Deserialize;

use super::ENDPOINTS;
use super::input::parse;
use super::output::not_made;
use crate::Door;

/// A line of a batch that was made, or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnsweredLine {
    /// The line of the output file, or of the error file.
    pub json: String,
    /// Whether it belongs to the output file.
    pub is_answer: bool,
}

#[derive(Deserialize)]
struct Url {
    url: String,
}

impl Door {
    /// Makes the request of a line of a batch, as a background batch does. The line itself names the
    /// route.
    pub async fn answer_batch_line(&self, text: Bytes) -> AnsweredLine {
        let url = serde_json::from_slice::<Url>(&text);
        let known = |url: Url| ENDPOINTS.iter().find(|endpoint| **endpoint == url.url);
        let endpoint = url
            .ok()
            .and_then(known)
            .unwrap_or(&"one of those for batches");
        let done = match parse(Some(&text), endpoint) {
            Ok(request) => self.make_line(0, request, endpoint, None).await,
            Err(wrong) => not_made(0, wrong.custom_id.as_deref(), wrong.code, &wrong.message),
        };
        done.into()
    }
}
