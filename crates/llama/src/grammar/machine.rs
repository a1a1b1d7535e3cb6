//! A compiled grammar on its way through one answer: which tokens may come next, and whether any may.

use llguidance::Matcher;
use llguidance::toktrie::SimpleVob;

use super::gbnf;
use crate::Token;
use crate::sample::Stuck;

/// Where an answer is in its grammar.
pub(super) enum Machine {
    Guided(Box<Matcher>),
    Gbnf(Box<gbnf::Machine>),
}

impl Clone for Machine {
    /// With tables of its own: what one answer adds to them goes when it ends.
    fn clone(&self) -> Self {
        match self {
            Self::Guided(matcher) => Self::Guided(Box::new(matcher.deep_clone())),
            Self::Gbnf(machine) => Self::Gbnf(machine.clone()),
        }
    }
}

impl Machine {
    /// The tokens that may come next; those that end the answer are among them where it may end.
    pub(super) fn allowed(&mut self) -> Result<SimpleVob, Stuck> {
        match self {
            Self::Guided(matcher) => matcher.compute_mask().map_err(|error| Stuck(first_line(&error.to_string()))),
            Self::Gbnf(machine) => machine.allowed(),
        }
    }

    /// Goes on with a token that is allowed.
    pub(super) fn accept(&mut self, token: Token) -> Result<(), Stuck> {
        match self {
            Self::Guided(matcher) => {
                matcher.consume_token(token).map_err(|error| Stuck(first_line(&error.to_string())))
            }
            Self::Gbnf(machine) => machine.accept(token),
        }
    }

    /// Whether nothing can follow.
    pub(super) fn is_over(&self) -> bool {
        match self {
            Self::Guided(matcher) => matcher.is_stopped(),
            Self::Gbnf(machine) => machine.is_over(),
        }
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(200).collect()
}
