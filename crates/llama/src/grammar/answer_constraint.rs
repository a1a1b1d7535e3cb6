//! The constraint of one answer: its grammar, and the point at which the grammar begins.
//!
//! Reasoning is unconstrained: the grammar begins after it, or with the first token if there is
//! none. Optional calls are constrained from the marker that begins one.

use std::collections::VecDeque;
use std::sync::Arc;

use llguidance::toktrie::SimpleVob;

use super::compiled::Grammar;
use super::machine::Machine;
use super::vocabulary::Vocabulary;
use crate::Token;
use crate::sample::{Constraint, Stuck};
use crate::syntax::{Begins, Tags, Trigger};

/// When the grammar begins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Beginning {
    /// The tags around reasoning, if the model reasons.
    pub(crate) reasoning: Option<Tags>,
    /// The beginning of the answer.
    pub(crate) begins: Begins,
    /// The marker that starts the grammar; `None` if the grammar covers everything but the
    /// reasoning.
    pub(crate) trigger: Option<Trigger>,
}

/// The constraint of one answer, with its state.
#[derive(Clone)]
pub(crate) struct AnswerConstraint {
    vocabulary: Arc<Vocabulary>,
    grammar: Grammar,
    machine: Machine,
    beginning: Beginning,
    at: At,
    /// The tokens that the grammar allowed last.
    allowed: SimpleVob,
    /// The tokens that must come next. `None` if that has not been computed yet.
    forced: Option<VecDeque<Token>>,
    /// Tokens that contain a whole marker and more, or a marker that is not allowed.
    crossing: Arc<[Token]>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum At {
    /// At the beginning of the answer. It is either a part of the reasoning tag (with this number
    /// of bytes), or the answer's own text.
    Opening { tag: usize, itself: bool },
    /// In the reasoning, with the last bytes of its text.
    Reasoning(Vec<u8>),
    /// After the reasoning; a line break may follow.
    Between,
    /// In unconstrained text before a marker, with the last bytes of the text.
    Free(Vec<u8>),
    /// In the text that the grammar constrains.
    Grammar,
}

impl std::fmt::Debug for AnswerConstraint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AnswerConstraint")
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

impl AnswerConstraint {
    pub(crate) fn new(
        vocabulary: &Arc<Vocabulary>,
        grammar: Grammar,
        beginning: Beginning,
    ) -> Self {
        let at = match (beginning.reasoning, beginning.begins) {
            (Some(_), Begins::Reasoning) => At::Reasoning(Vec::new()),
            (Some(_), Begins::Text) => At::Opening {
                tag: 0,
                itself: true,
            },
            (None, _) if beginning.trigger.is_some() => At::Free(Vec::new()),
            (None, _) => At::Grammar,
        };
        let machine = grammar.begin();
        let crossing = if at == At::Grammar {
            Arc::default()
        } else {
            crossing(vocabulary, &beginning)
        };
        let vocabulary = Arc::clone(vocabulary);
        Self {
            vocabulary,
            machine,
            grammar,
            beginning,
            at,
            allowed: SimpleVob::new(),
            forced: None,
            crossing,
        }
    }

    /// Lowers the limits of texts and lists.
    #[cfg(test)]
    pub(super) fn ending_sooner(mut self, entries: u32, characters: u32) -> Self {
        if let Machine::Guided(guided) = &mut self.machine {
            guided.ends.end_sooner(entries, characters);
        }
        self
    }

    fn tags(&self) -> Tags {
        self.beginning.reasoning.unwrap_or(Tags {
            open: "",
            close: "",
        })
    }

    /// The tokens that are allowed in addition to those of the grammar.
    fn also(&self) -> Vec<Token> {
        match self.at {
            At::Opening { tag, .. } => self
                .vocabulary
                .beginnings(&self.tags().open.as_bytes()[tag..])
                .collect(),
            At::Between if !self.tags().open.starts_with("<|") => {
                self.vocabulary.beginnings(b"\n\n").collect()
            }
            _ => Vec::new(),
        }
    }

    /// Forbids tokens that would complete a marker and contain more, and those that complete a
    /// forbidden marker. `end` is the last part of the text, which may be the beginning of a
    /// marker.
    fn keep_to_markers(&self, end: &[u8], marks: impl Iterator<Item = Mark>, row: &mut [f32]) {
        self.crossing.iter().for_each(|&token| forbid(row, token));
        for mark in marks {
            let bytes = mark.text.as_bytes();
            let longest = end.len().min(bytes.len() - 1);
            for begun in (1..=longest).filter(|&begun| end.ends_with(&bytes[..begun])) {
                self.vocabulary
                    .all_that(|word| mark.is_crossed(&bytes[begun..], word))
                    .for_each(|token| forbid(row, token));
            }
        }
    }

    /// Records a token of unconstrained text. Returns whether the marker is complete.
    fn read(&mut self, token: Token, mark: &str) -> bool {
        let (At::Reasoning(end) | At::Free(end)) = &mut self.at else {
            return false;
        };
        end.extend_from_slice(self.vocabulary.text(token));
        if end
            .windows(mark.len())
            .any(|window| window == mark.as_bytes())
        {
            return true;
        }
        let longest = 64.max(mark.len());
        if end.len() > longest {
            end.drain(..end.len() - longest);
        }
        false
    }

    /// Starts the grammar, or the unconstrained text before it.
    fn begin(&mut self) {
        self.machine = self.grammar.begin();
        self.at = match self.beginning.trigger {
            Some(_) => At::Free(Vec::new()),
            None => At::Between,
        };
    }

    /// Continues at the beginning of the answer, where the tag and the answer may have the same
    /// first characters.
    fn open(&mut self, token: Token, tag: usize, itself: bool) -> Result<(), Stuck> {
        let open = self.tags().open.as_bytes();
        let text = self.vocabulary.text(token);
        let in_tag = !text.is_empty() && open[tag..].starts_with(text);
        if in_tag && tag + text.len() == open.len() {
            self.at = At::Reasoning(Vec::new());
            return Ok(());
        }
        let tag_now = tag + text.len();
        if self.beginning.trigger.is_some() {
            self.at = if in_tag {
                At::Opening {
                    tag: tag_now,
                    itself,
                }
            } else {
                At::Free(open[..tag].to_vec())
            };
            return if in_tag { Ok(()) } else { self.accept(token) };
        }
        let itself = itself && self.is_allowed(token);
        if itself {
            self.machine.accept(token)?;
        }
        self.at = if in_tag {
            At::Opening {
                tag: tag_now,
                itself,
            }
        } else {
            At::Grammar
        };
        Ok(())
    }

    fn is_allowed(&self, token: Token) -> bool {
        (token as usize) < self.allowed.len() && self.allowed.is_allowed(token)
    }

    /// The markers to look for in unconstrained text.
    fn marks(&self) -> impl Iterator<Item = Mark> + use<> {
        marks(&self.beginning)
    }

    fn mask_by_grammar(&mut self, row: &mut [f32], also: &[Token]) -> Result<(), Stuck> {
        self.allowed = self.machine.allowed()?;
        let kept: Vec<(Token, f32)> = also
            .iter()
            .filter_map(|&token| Some((token, *row.get(token as usize)?)))
            .collect();
        for (word, logits) in self.allowed.as_slice().iter().zip(row.chunks_mut(32)) {
            if *word == u32::MAX {
                continue;
            }
            for (bit, logit) in logits.iter_mut().enumerate() {
                *logit = if word >> bit & 1 == 1 {
                    *logit
                } else {
                    f32::NEG_INFINITY
                };
            }
        }
        // The row may be longer than the vocabulary; tokens beyond the vocabulary are not allowed.
        row.iter_mut()
            .skip(self.vocabulary.len())
            .for_each(|logit| *logit = f32::NEG_INFINITY);
        for (token, logit) in kept {
            row[token as usize] = logit;
        }
        Ok(())
    }
}

impl Constraint for AnswerConstraint {
    fn mask(&mut self, row: &mut [f32]) -> Result<(), Stuck> {
        let waits = self.beginning.trigger.is_some();
        match &self.at {
            At::Reasoning(end) => {
                let close = Mark {
                    text: self.tags().close,
                    may_come: true,
                };
                self.keep_to_markers(end, std::iter::once(close), row);
                if !waits {
                    self.vocabulary
                        .all_ends()
                        .iter()
                        .for_each(|&token| forbid(row, token));
                }
                Ok(())
            }
            At::Free(end) => {
                self.keep_to_markers(end, self.marks(), row);
                Ok(())
            }
            At::Opening { tag, .. } if waits => {
                self.keep_to_markers(&self.tags().open.as_bytes()[..*tag], self.marks(), row);
                Ok(())
            }
            At::Opening { itself: false, .. } => {
                let also = self.also();
                let kept: Vec<(Token, f32)> = also
                    .iter()
                    .filter_map(|&token| Some((token, *row.get(token as usize)?)))
                    .collect();
                row.fill(f32::NEG_INFINITY);
                for (token, logit) in kept {
                    row[token as usize] = logit;
                }
                Ok(())
            }
            At::Opening { .. } | At::Between => {
                let also = self.also();
                self.mask_by_grammar(row, &also)
            }
            At::Grammar => self.mask_by_grammar(row, &[]),
        }
    }

    fn forced(&mut self) -> &[Token] {
        if self.forced.is_none() && self.at == At::Grammar {
            self.forced = Some(self.machine.forced().into());
        }
        match &mut self.forced {
            Some(forced) => forced.make_contiguous(),
            None => &[],
        }
    }

    fn accept(&mut self, token: Token) -> Result<(), Stuck> {
        let is_forced = |forced: &mut VecDeque<Token>| forced.pop_front() == Some(token);
        self.forced
            .take_if(|forced| !is_forced(forced) || forced.is_empty());
        match self.at {
            At::Opening { tag, itself } => return self.open(token, tag, itself),
            At::Reasoning(_) => {
                if self.read(token, self.tags().close) {
                    self.begin();
                }
                return Ok(());
            }
            At::Free(_) => {
                if let Some(trigger) = self.beginning.trigger
                    && self.read(token, trigger.mark)
                {
                    self.machine = self.grammar.begin();
                    self.at = At::Grammar;
                }
                return Ok(());
            }
            At::Between if !self.is_allowed(token) => {
                self.at = At::Grammar;
                return Ok(());
            }
            At::Between | At::Grammar => self.machine.accept(token)?,
        }
        self.at = At::Grammar;
        if self.beginning.trigger.is_some_and(|trigger| !trigger.ends) && self.machine.is_over() {
            self.at = At::Free(Vec::new());
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        let ends = self.beginning.trigger.is_none_or(|trigger| trigger.ends);
        ends && self.at == At::Grammar && self.machine.is_over()
    }
}

/// A marker in unconstrained text.
#[derive(Debug, Clone, Copy)]
struct Mark {
    text: &'static str,
    may_come: bool,
}

impl Mark {
    /// Whether a token completes the `missing` part of the marker in a way that is not allowed.
    fn is_crossed(self, missing: &[u8], word: &[u8]) -> bool {
        word.strip_prefix(missing)
            .is_some_and(|beyond| !self.may_come || !beyond.trim_ascii().is_empty())
    }
}

fn marks(beginning: &Beginning) -> impl Iterator<Item = Mark> + use<> {
    beginning.trigger.into_iter().flat_map(|trigger| {
        let others = trigger.others.iter().map(|&text| Mark {
            text,
            may_come: false,
        });
        others.chain([Mark {
            text: trigger.mark,
            may_come: true,
        }])
    })
}

/// The tokens that contain a whole marker and are not allowed. They are computed once, not for
/// every token.
fn crossing(vocabulary: &Vocabulary, beginning: &Beginning) -> Arc<[Token]> {
    let close = beginning.reasoning.map(|tags| Mark {
        text: tags.close,
        may_come: true,
    });
    let all: Vec<Mark> = marks(beginning).chain(close).collect();
    let stands = |word: &[u8]| {
        all.iter().any(|mark| {
            (0..word.len()).any(|at| mark.is_crossed(mark.text.as_bytes(), &word[at..]))
        })
    };
    vocabulary.all_that(stands).collect()
}

fn forbid(row: &mut [f32], token: Token) {
    if let Some(logit) = row.get_mut(token as usize) {
        *logit = f32::NEG_INFINITY;
    }
}
