//! The state of a compiled grammar during one answer: the tokens that may come next, and whether
//! any may.

use std::sync::Arc;

use llguidance::Matcher;
use llguidance::toktrie::SimpleVob;

use super::ends::Ends;
use super::gbnf;
use super::inputs::InputParser;
use super::vocabulary::Vocabulary;
use crate::Token;
use crate::sample::Stuck;

/// The number of tokens to try, the shortest first, to find one after which a value may end.
const MOST_TRIED: usize = 300;

/// The state of an answer in its grammar.
#[derive(Clone)]
pub(super) enum Machine {
    Guided(Box<Guided>),
    Gbnf(Box<gbnf::Machine>),
}

/// The state in a grammar of llguidance.
pub(super) struct Guided {
    pub(super) matcher: Reading,
    pub(super) ends: Ends,
    pub(super) vocabulary: Arc<Vocabulary>,
}

/// How the text of an answer is read.
pub(super) enum Reading {
    /// The text is read unchanged.
    Plain(Box<Matcher>),
    /// With the inputs of custom tools decoded.
    Inputs(Box<InputParser>),
}

impl Reading {
    fn compute_mask(&mut self) -> Result<SimpleVob, Stuck> {
        let mask = match self {
            Self::Plain(matcher) => matcher.compute_mask().map_err(|error| error.to_string()),
            Self::Inputs(parser) => parser.compute_mask(),
        };
        mask.map_err(|error| Stuck(first_line(&error)))
    }

    fn consume_token(&mut self, token: Token) -> Result<(), Stuck> {
        let consumed = match self {
            Self::Plain(matcher) => matcher
                .consume_token(token)
                .map_err(|error| error.to_string()),
            Self::Inputs(parser) => parser.consume_token(token),
        };
        consumed.map_err(|error| Stuck(first_line(&error)))
    }

    /// The tokens that must come next. An error is reported by the next mask.
    fn forced(&mut self) -> Vec<Token> {
        match self {
            Self::Plain(matcher) => matcher.compute_ff_tokens(),
            Self::Inputs(_) => Vec::new(),
        }
    }

    fn is_stopped(&self) -> bool {
        match self {
            Self::Plain(matcher) => matcher.is_stopped(),
            Self::Inputs(parser) => parser.is_stopped(),
        }
    }

    fn deep_clone(&self) -> Self {
        match self {
            Self::Plain(matcher) => Self::Plain(Box::new(matcher.deep_clone())),
            Self::Inputs(parser) => Self::Inputs(Box::new(parser.deep_clone())),
        }
    }
}

impl Guided {
    fn allowed(&mut self) -> Result<SimpleVob, Stuck> {
        let mut allowed = self.matcher.compute_mask()?;
        if !self.ends.narrow(&mut allowed, &self.vocabulary) {
            self.look_ahead(&mut allowed);
        }
        Ok(allowed)
    }

    /// Called if every token exceeds a limit because the value is still incomplete. Allows the
    /// tokens after which the value may end, if there are any. For example, an excluded bound
    /// (`"exclusiveMinimum": 0`) needs a digit other than 0, and a pattern like `\S` needs a
    /// character other than a space.
    fn look_ahead(&self, allowed: &mut SimpleVob) {
        let mut tokens = allowed.to_list();
        tokens.sort_by_key(|token| self.vocabulary.text(*token).len());
        let ends = |token: &Token| {
            let mut next = self.clone();
            next.accept(*token).is_ok()
                && next
                    .matcher
                    .compute_mask()
                    .is_ok_and(|mut mask| next.ends.narrow(&mut mask, &next.vocabulary))
        };
        let ending: Vec<Token> = tokens.into_iter().take(MOST_TRIED).filter(ends).collect();
        if !ending.is_empty() {
            allowed.set_all(false);
            for token in ending {
                allowed.allow_token(token);
            }
        }
    }

    fn accept(&mut self, token: Token) -> Result<(), Stuck> {
        self.matcher.consume_token(token)?;
        self.ends.read(self.vocabulary.text(token));
        Ok(())
    }
}

impl Clone for Guided {
    /// Copies the tables too, so that the memory that one answer adds is freed when the answer
    /// ends.
    fn clone(&self) -> Self {
        Self {
            matcher: self.matcher.deep_clone(),
            ends: self.ends.clone(),
            vocabulary: Arc::clone(&self.vocabulary),
        }
    }
}

impl Machine {
    /// The tokens that may come next. They include the tokens that end the answer if it may end.
    pub(super) fn allowed(&mut self) -> Result<SimpleVob, Stuck> {
        match self {
            Self::Guided(guided) => guided.allowed(),
            Self::Gbnf(machine) => machine.allowed(),
        }
    }

    /// The tokens that must come next, because the grammar leaves only one continuation of the
    /// text. They are the tokens into which the model's tokenizer divides that continuation. A
    /// token at its end that could be longer with the text after it is not forced.
    pub(super) fn forced(&mut self) -> Vec<Token> {
        match self {
            Self::Guided(guided) => guided.matcher.forced(),
            Self::Gbnf(machine) => machine.forced(),
        }
    }

    /// Advances by an allowed token.
    pub(super) fn accept(&mut self, token: Token) -> Result<(), Stuck> {
        match self {
            Self::Guided(guided) => guided.accept(token),
            Self::Gbnf(machine) => machine.accept(token),
        }
    }

    /// Whether the text is complete, so that nothing may follow.
    pub(super) fn is_over(&self) -> bool {
        match self {
            Self::Guided(guided) => guided.matcher.is_stopped(),
            Self::Gbnf(machine) => machine.is_over(),
        }
    }
}

fn first_line(text: &str) -> String {
    text.lines()
        .next()
        .unwrap_or_default()
        .chars()
        .take(200)
        .collect()
}
