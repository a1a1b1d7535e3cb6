//! Printing an answer as it arrives.

use std::io::{IsTerminal as _, Write as _};

use anyhow::Context as _;

/// A piece of an answer: of its reasoning or its text.
#[derive(Clone, Copy)]
pub(super) enum Piece<'a> {
    Reasoning(&'a str),
    Text(&'a str),
}

/// Prints an answer.
pub(super) struct Screen {
    /// Whether the last piece was reasoning.
    reasons: bool,
    shows_reasoning: bool,
}

impl Screen {
    pub(super) fn new() -> Self {
        Self {
            reasons: false,
            shows_reasoning: std::io::stdout().is_terminal(),
        }
    }

    /// Reasoning is dimmed on a terminal, and left out elsewhere.
    pub(super) fn show(&mut self, piece: Piece<'_>) -> anyhow::Result<()> {
        match piece {
            Piece::Reasoning(_) if !self.shows_reasoning => Ok(()),
            Piece::Reasoning(text) => {
                let dim = if self.reasons { "" } else { "\x1b[2m" };
                self.reasons = true;
                write(&format!("{dim}{}", plain(text)))
            }
            Piece::Text(text) => {
                let end = if std::mem::take(&mut self.reasons) {
                    "\x1b[0m\n"
                } else {
                    ""
                };
                write(&format!("{end}{}", plain(text)))
            }
        }
    }

    pub(super) fn end(&mut self) -> anyhow::Result<()> {
        write(if std::mem::take(&mut self.reasons) {
            "\x1b[0m\n"
        } else {
            "\n"
        })
    }
}

/// Removes control characters from a model's text, so that it cannot move the cursor or change the
/// title of the terminal.
fn plain(text: &str) -> String {
    text.chars()
        .filter(|&letter| matches!(letter, '\n' | '\t') || !letter.is_control())
        .collect()
}

/// Writes to standard output at once.
pub(super) fn write(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .context("cannot write to standard output")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_cannot_command_the_terminal() {
        assert_eq!(
            plain("a\x1b]0;title\x07b\r\n\tc\u{9b}2J"),
            "a]0;titleb\n\tc2J"
        );
    }
}
