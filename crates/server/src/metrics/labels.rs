//! The values of labels. Clients and engines choose some of them, so their number and form are
//! limited.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use http::StatusCode;

/// The label value for everything without a value of its own.
pub(super) const OTHER: &str = "other";

/// The maximum number of codes of errors. Engines have codes of their own.
const MOST_CODES: usize = 100;

/// The longest code of an error.
const LONGEST_CODE: usize = 64;

/// The codes of errors so far.
#[derive(Debug, Default)]
pub(super) struct Codes(Mutex<HashSet<Box<str>>>);

impl Codes {
    /// Returns the value for a code.
    pub(super) fn label<'a>(&self, code: &'a str) -> &'a str {
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        if code.is_empty() || code.len() > LONGEST_CODE || !code.bytes().all(is_word) {
            return OTHER;
        }
        let mut codes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if codes.contains(code) {
            return code;
        }
        if codes.len() >= MOST_CODES {
            return OTHER;
        }
        codes.insert(code.into());
        code
    }
}

/// Returns the value for a status; `none` if the client left before there was one.
pub(super) fn status(status: Option<StatusCode>) -> String {
    status.map_or_else(|| "none".to_owned(), |status| status.as_u16().to_string())
}
