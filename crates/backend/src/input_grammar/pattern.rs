//! Checks regular expressions: their syntax, whether llguidance can use them, and their cost.

use regex_syntax::ast::{self, Ast, ClassSetItem, Flag, Flags, GroupKind, Visitor};
use regex_syntax::hir::translate::TranslatorBuilder;
use regex_syntax::hir::{Hir, HirKind, Look};

use super::GrammarError;
use super::tokens::Pattern;

/// The maximum length of one regular expression in bytes.
const LONGEST: usize = 16 << 10;

/// The maximum cost of all regular expressions of a grammar, in units of one character. The limit
/// is some ten milliseconds.
const MOST_COST: usize = 100_000;

/// The cost of a class, which may have hundreds of ranges.
const CLASS_COST: usize = 100;

/// How many times dearer everything is without regard to case.
const FOLDING_COST: usize = 20;

/// Checks regular expressions, as many as a budget allows.
#[derive(Debug)]
pub(super) struct Patterns {
    cost_left: usize,
}

impl Patterns {
    pub(super) fn new() -> Self {
        Self {
            cost_left: MOST_COST,
        }
    }

    /// Checks a regular expression.
    pub(super) fn check(&mut self, pattern: &Pattern) -> Result<(), GrammarError> {
        if pattern.source.len() > LONGEST {
            let message = format!("a regular expression is longer than {LONGEST} bytes");
            return Err(GrammarError::unsupported(message));
        }
        let has = |flag: char| pattern.flags.contains(flag);
        let ast = ast::parse::ParserBuilder::new()
            .ignore_whitespace(has('x'))
            .build()
            .parse(&pattern.source)
            .map_err(|error| invalid(error.kind()))?;
        self.pay(&ast, has('i'))?;
        let hir = TranslatorBuilder::new()
            .case_insensitive(has('i'))
            .multi_line(has('m'))
            .dot_matches_new_line(has('s'))
            .build()
            .translate(&pattern.source, &ast)
            .map_err(|error| invalid(error.kind()))?;
        check_anchors(&hir, Ends::BOTH)
    }

    fn pay(&mut self, ast: &Ast, folds: bool) -> Result<(), GrammarError> {
        let counted = Counted {
            units: 0,
            folds,
            has_stop: false,
        };
        let Ok(counted) = ast::visit(ast, counted);
        if counted.has_stop {
            // llguidance reads a group with the name `stop` as a lookahead.
            return Err(GrammarError::unsupported(
                "a group cannot have the name 'stop'",
            ));
        }
        let times = if counted.folds { FOLDING_COST } else { 1 };
        let left = self
            .cost_left
            .checked_sub(counted.units.saturating_mul(times));
        self.cost_left = left
            .ok_or_else(|| GrammarError::unsupported("its regular expressions are too complex"))?;
        Ok(())
    }
}

fn invalid(message: impl std::fmt::Display) -> GrammarError {
    GrammarError::invalid(format!("invalid regular expression: {message}"))
}

/// The properties of a regular expression that are checked before it is translated.
struct Counted {
    units: usize,
    folds: bool,
    has_stop: bool,
}

impl Counted {
    fn note(&mut self, flags: &Flags) {
        self.folds |= flags.flag_state(Flag::CaseInsensitive) == Some(true);
    }
}

impl Visitor for Counted {
    type Output = Self;
    type Err = std::convert::Infallible;

    fn finish(self) -> Result<Self::Output, Self::Err> {
        Ok(self)
    }

    fn visit_pre(&mut self, ast: &Ast) -> Result<(), Self::Err> {
        match ast {
            Ast::Flags(flags) => self.note(&flags.flags),
            Ast::Group(group) => match &group.kind {
                GroupKind::CaptureName { name, .. } => self.has_stop |= name.name == "stop",
                GroupKind::NonCapturing(flags) => self.note(flags),
                GroupKind::CaptureIndex(_) => {}
            },
            _ => {}
        }
        self.units += match ast {
            Ast::ClassUnicode(_) | Ast::ClassPerl(_) | Ast::ClassBracketed(_) => CLASS_COST,
            _ => 1,
        };
        Ok(())
    }

    fn visit_class_set_item_pre(&mut self, item: &ClassSetItem) -> Result<(), Self::Err> {
        self.units += match item {
            ClassSetItem::Unicode(_) | ClassSetItem::Perl(_) | ClassSetItem::Bracketed(_) => {
                CLASS_COST
            }
            _ => 1,
        };
        Ok(())
    }
}

/// Whether a part stands at the beginning and at the end of the whole: only there, anchors are
/// possible, and have no effect.
#[derive(Clone, Copy)]
struct Ends {
    start: bool,
    end: bool,
}

impl Ends {
    const BOTH: Self = Self {
        start: true,
        end: true,
    };
    const NONE: Self = Self {
        start: false,
        end: false,
    };
}

fn check_anchors(hir: &Hir, ends: Ends) -> Result<(), GrammarError> {
    match hir.kind() {
        HirKind::Look(Look::Start) if ends.start => Ok(()),
        HirKind::Look(Look::End) if ends.end => Ok(()),
        HirKind::Look(_) => Err(invalid(
            "an anchor is possible at the beginning and at the end only, a word boundary nowhere",
        )),
        HirKind::Empty | HirKind::Literal(_) | HirKind::Class(_) => Ok(()),
        HirKind::Repetition(repetition) => check_anchors(&repetition.sub, Ends::NONE),
        HirKind::Capture(capture) => check_anchors(&capture.sub, ends),
        HirKind::Alternation(all) => all.iter().try_for_each(|one| check_anchors(one, ends)),
        HirKind::Concat(all) => {
            let is_not = |look: Look| move |part: &Hir| !matches!(part.kind(), HirKind::Look(it) if *it == look);
            let first = all.iter().position(is_not(Look::Start));
            let last = all.iter().rposition(is_not(Look::End));
            all.iter().enumerate().try_for_each(|(at, part)| {
                let its = Ends {
                    start: ends.start && first.is_none_or(|first| at <= first),
                    end: ends.end && last.is_none_or(|last| at >= last),
                };
                check_anchors(part, its)
            })
        }
    }
}
