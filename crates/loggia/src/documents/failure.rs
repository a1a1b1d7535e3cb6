//! [`Failure`]: why a PDF cannot be read. The exit code of the process that reads it says so.

use std::fmt;

/// The maximum number of pages of a PDF, as in Anthropic's API.
pub(super) const MOST_PAGES: usize = 600;

/// The longest text, in bytes.
pub(super) const LONGEST_TEXT: usize = 8 << 20;

/// Why a PDF cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    Unreadable,
    Encrypted,
    TooManyPages,
    TooLong,
    WithoutText,
    TooManyImages,
    TooLarge,
}

impl Failure {
    const ALL: [Self; 7] = [
        Self::Unreadable,
        Self::Encrypted,
        Self::TooManyPages,
        Self::TooLong,
        Self::WithoutText,
        Self::TooManyImages,
        Self::TooLarge,
    ];

    /// The exit code. 1 and 2 are those of an error of the program, 101 of a panic.
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Unreadable => 10,
            Self::Encrypted => 11,
            Self::TooManyPages => 12,
            Self::TooLong => 13,
            Self::WithoutText => 14,
            Self::TooManyImages => 15,
            Self::TooLarge => 16,
        }
    }

    /// Returns the failure with an exit code.
    pub(super) fn of_code(code: i32) -> Self {
        let mut all = Self::ALL.into_iter();
        let found = all.find(|one| i32::from(one.code()) == code);
        found.unwrap_or(Self::Unreadable)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable => f.write_str("it is not a valid PDF, or it is damaged"),
            Self::Encrypted => f.write_str("it is encrypted"),
            Self::TooManyPages => write!(f, "it has more than {MOST_PAGES} pages"),
            Self::TooLong => write!(f, "its text is longer than {LONGEST_TEXT} bytes"),
            Self::WithoutText => f.write_str("it has no text"),
            Self::TooManyImages => f.write_str(
                "it has no text, and more pages than a request may have images; send fewer pages",
            ),
            Self::TooLarge => f.write_str(
                "it has no text, and its pages are too large as images; send fewer pages",
            ),
        }
    }
}
