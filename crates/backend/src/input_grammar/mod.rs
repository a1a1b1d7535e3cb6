//! Grammars of custom tools: checks a definition, and rewrites it for llguidance.
//!
//! Reading order: [`rules`], `tokens` and `lark` (the reader of Lark), `reach` (the definitions that
//! are used), `pattern` (regular expressions), `write` (the grammar for llguidance). All functions
//! are pure, and what they cost is bounded.

mod common;
mod lark;
mod pattern;
mod reach;
mod tokens;
mod write;

use std::fmt;

use loggia_wire::openai::{GrammarSyntax, InputGrammar};

/// The maximum length of a definition in bytes.
const LONGEST_DEFINITION: usize = 64 << 10;

/// A definition that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GrammarError {
    /// The definition is not a grammar, for this reason.
    Invalid(String),
    /// The definition may be a grammar, but cannot be enforced here, for this reason.
    Unsupported(String),
}

impl GrammarError {
    fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }

    fn unsupported(message: impl Into<String>) -> Self {
        Self::Unsupported(message.into())
    }
}

impl fmt::Display for GrammarError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(message) | Self::Unsupported(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for GrammarError {}

/// Returns a grammar in llguidance's dialect of Lark, in which no text is anything but UTF-8 and
/// every rule can end.
///
/// # Errors
/// Fails if the definition is not a grammar, or cannot be enforced.
pub fn rules(grammar: &InputGrammar) -> Result<String, GrammarError> {
    if grammar.definition.len() > LONGEST_DEFINITION {
        return Err(GrammarError::unsupported(format!(
            "it is longer than {LONGEST_DEFINITION} bytes"
        )));
    }
    match grammar.syntax {
        GrammarSyntax::Lark => write::lark(&lark::read(&grammar.definition)?),
        GrammarSyntax::Regex => write::regex(&grammar.definition),
    }
}

/// Checks that a definition is a grammar.
///
/// # Errors
/// Returns the reason if it is not. A grammar that is valid, but cannot be enforced here, is not an
/// error.
pub fn check(grammar: &InputGrammar) -> Result<(), String> {
    match rules(grammar) {
        Err(GrammarError::Invalid(message)) => Err(message),
        Ok(_) | Err(GrammarError::Unsupported(_)) => Ok(()),
    }
}

#[cfg(test)]
mod tests;
