//! One line of a batch without a store, for `loggia batch run`.

use bytes::Bytes;
use serde::Deserialize;

use super::ENDPOINTS;
use super::finished_line::{FinishedLine, Outcome};
use super::input::parse;
use super::send::{Pauses, make_line};
use crate::Door;

/// A line of a batch that was made, or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnsweredLine {
    /// The line of the output file, or of the error file.
    pub json: String,
    /// Whether the line belongs to the output file.
    pub is_answer: bool,
}

impl From<FinishedLine> for AnsweredLine {
    fn from(line: FinishedLine) -> Self {
        Self {
            json: line.json(),
            is_answer: line.is_answer(),
        }
    }
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
        let url = url.map(|url| url.url).unwrap_or_default();
        let pauses = Pauses::default();
        let done = match parse(Some(&text), &url) {
            Ok(request) if ENDPOINTS.contains(&url.as_str()) => {
                let answer = self.answers_lines();
                make_line(&answer, 0, request, &url, None, &pauses).await
            }
            Ok(request) => {
                let routes = ENDPOINTS.join("', '");
                let message = format!("Invalid 'url': supported values are: '{routes}'.");
                FinishedLine {
                    number: 0,
                    custom_id: Some(request.custom_id),
                    outcome: Outcome::not_made("invalid_url", message),
                }
            }
            Err(wrong) => wrong.done(0),
        };
        done.into()
    }
}
