//! Steps through the rules byte by byte, over the trie of the vocabulary. Computed steps are
//! cached, so that in a part of a grammar without nesting a step is a table lookup.

use std::collections::HashMap;
use std::sync::Arc;

use llguidance::toktrie::{Recognizer, SimpleVob};

use super::closure::{END, Place, Places};
use super::rules::Rules;
use crate::Token;
use crate::grammar::vocabulary::Vocabulary;
use crate::sample::Stuck;

/// The number of a state. A state is the set of all simultaneous places, and the bytes of an
/// incomplete character.
type State = u32;

/// The state from which nothing can follow.
const DEAD: State = u32::MAX;

/// The maximum number of states of one answer.
const MOST_STATES: usize = 50_000;

/// The maximum number of places in all states together. Each takes four bytes.
const MOST_STORED: usize = 2_000_000;

/// The maximum number of cached steps. Other steps are computed again.
const MOST_STEPS: usize = 500_000;

/// The maximum number of cached masks. Each takes some KiB.
const MOST_MASKS: usize = 256;

/// The maximum length of a forced text in bytes.
const LONGEST_FORCED: usize = 4096;

/// An incomplete character: its bits so far, and the number of missing bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
struct PartialChar {
    bits: u32,
    missing: u8,
    /// The minimum code point. A smaller one would be an overlong encoding, which is not valid
    /// UTF-8.
    least: u32,
}

/// The state of one answer in a grammar.
#[derive(Clone)]
pub(in crate::grammar) struct Machine {
    vocabulary: Arc<Vocabulary>,
    table: Table,
    at: State,
    /// The token that was accepted last.
    last: Option<Token>,
    masks: HashMap<State, SimpleVob>,
}

#[derive(Clone)]
struct Table {
    places: Places,
    states: Vec<(Arc<[Place]>, PartialChar)>,
    known: HashMap<(Arc<[Place]>, PartialChar), State>,
    steps: HashMap<(State, u8), State>,
    /// The number of places in all states together.
    stored: usize,
    /// Whether a state could not be stored, so that results since then are invalid.
    is_full: bool,
}

impl Machine {
    pub(in crate::grammar) fn new(rules: Rules, vocabulary: Arc<Vocabulary>) -> Self {
        let mut table = Table {
            places: Places::new(rules),
            states: Vec::new(),
            known: HashMap::new(),
            steps: HashMap::new(),
            stored: 0,
            is_full: false,
        };
        let first = table.places.first();
        table.is_full = first.is_none();
        let at = table.state(first.unwrap_or_default().into(), PartialChar::default());
        Self {
            vocabulary,
            table,
            at,
            last: None,
            masks: HashMap::new(),
        }
    }

    pub(in crate::grammar) fn allowed(&mut self) -> Result<SimpleVob, Stuck> {
        if let Some(known) = self.masks.get(&self.at) {
            return Ok(known.clone());
        }
        let vocabulary = Arc::clone(&self.vocabulary);
        let mut mask = vocabulary.trie().alloc_token_set();
        vocabulary.trie().add_bias(
            &mut Walk {
                table: &mut self.table,
                path: vec![self.at],
            },
            &mut mask,
            &[],
        );
        if self.table.is_full {
            return Err(Stuck(
                "the grammar has too many ways to read the same text".to_owned(),
            ));
        }
        if self.may_end() {
            vocabulary
                .all_ends()
                .iter()
                .for_each(|&token| mask.allow_token(token));
        }
        if mask.num_set() == 0 {
            return Err(Stuck(
                "the grammar goes on in a way that the model has no tokens for".to_owned(),
            ));
        }
        if self.masks.len() >= MOST_MASKS {
            self.masks.clear();
        }
        self.masks.insert(self.at, mask.clone());
        Ok(mask)
    }

    /// The tokens that must come next.
    pub(in crate::grammar) fn forced(&mut self) -> Vec<Token> {
        let (mut text, mut at) = (Vec::new(), self.at);
        while text.len() < LONGEST_FORCED
            && let Some((byte, to)) = self.table.only_step(at)
        {
            text.push(byte);
            at = to;
        }
        let vocabulary = Arc::clone(&self.vocabulary);
        let mut after = Walk {
            table: &mut self.table,
            path: vec![at],
        };
        vocabulary.forced(self.last, &text, &mut after)
    }

    pub(in crate::grammar) fn accept(&mut self, token: Token) -> Result<(), Stuck> {
        if self.vocabulary.ends(token) {
            return Ok(());
        }
        self.last = Some(token);
        for &byte in self.vocabulary.text(token) {
            self.at = self.table.step(self.at, byte);
            if self.at == DEAD {
                return Err(Stuck(
                    "the grammar does not allow what was chosen".to_owned(),
                ));
            }
        }
        Ok(())
    }

    pub(in crate::grammar) fn is_over(&self) -> bool {
        self.table
            .states
            .get(self.at as usize)
            .is_some_and(|(places, partial)| **places == [END] && partial.missing == 0)
    }

    fn may_end(&self) -> bool {
        self.table.may_end(self.at)
    }
}

impl Table {
    fn state(&mut self, places: Arc<[Place]>, partial: PartialChar) -> State {
        let key = (places, partial);
        if let Some(&known) = self.known.get(&key) {
            return known;
        }
        self.stored += key.0.len();
        let has_room = self.states.len() < MOST_STATES && self.stored <= MOST_STORED;
        let Some(number) = State::try_from(self.states.len()).ok().filter(|_| has_room) else {
            self.is_full = true;
            return DEAD;
        };
        self.states.push(key.clone());
        self.known.insert(key, number);
        number
    }

    fn may_end(&self, at: State) -> bool {
        self.states
            .get(at as usize)
            .is_some_and(|(places, partial)| places.contains(&END) && partial.missing == 0)
    }

    /// The only byte that may follow, with the state after it. Returns `None` if several may, or
    /// if the text may end.
    fn only_step(&mut self, from: State) -> Option<(u8, State)> {
        if self.may_end(from) {
            return None;
        }
        let mut only = None;
        for byte in 0..=u8::MAX {
            let to = self.step(from, byte);
            if to != DEAD && only.replace((byte, to)).is_some() {
                return None;
            }
        }
        only
    }

    fn step(&mut self, from: State, byte: u8) -> State {
        // With full tables the result will be refused, so nothing more is computed.
        if self.is_full {
            return DEAD;
        }
        if let Some(&known) = self.steps.get(&(from, byte)) {
            return known;
        }
        let to = self.work_out(from, byte).unwrap_or(DEAD);
        if self.steps.len() < MOST_STEPS {
            self.steps.insert((from, byte), to);
        }
        to
    }

    fn work_out(&mut self, from: State, byte: u8) -> Option<State> {
        let (places, partial) = self.states.get(from as usize)?.clone();
        let partial = partial.with(byte)?;
        if partial.missing > 0 {
            let (first, last) = partial.range();
            return self
                .places
                .any(&places, first, last)
                .then(|| self.state(places, partial));
        }
        if !self.places.any(&places, partial.bits, partial.bits) {
            return None;
        }
        let Some(after) = self.places.after(&places, partial.bits) else {
            self.is_full = true;
            return None;
        };
        Some(self.state(after.into(), PartialChar::default()))
    }
}

impl PartialChar {
    /// Returns the character with one more byte. Returns `None` if that is not valid UTF-8.
    fn with(self, byte: u8) -> Option<Self> {
        let bits = u32::from(byte);
        if self.missing > 0 {
            let partial = Self {
                bits: self.bits << 6 | bits & 0x3f,
                missing: self.missing - 1,
                least: self.least,
            };
            let (_, last) = partial.range();
            return (byte & 0xc0 == 0x80 && last >= partial.least).then_some(partial);
        }
        match byte {
            0..=0x7f => Some(Self {
                bits,
                missing: 0,
                least: 0,
            }),
            0xc2..=0xdf => Some(Self {
                bits: bits & 0x1f,
                missing: 1,
                least: 0x80,
            }),
            0xe0..=0xef => Some(Self {
                bits: bits & 0x0f,
                missing: 2,
                least: 0x800,
            }),
            0xf0..=0xf4 => Some(Self {
                bits: bits & 0x07,
                missing: 3,
                least: 0x1_0000,
            }),
            _ => None,
        }
    }

    /// The range of characters that the incomplete character may become.
    fn range(self) -> (u32, u32) {
        let shift = 6 * u32::from(self.missing);
        let first = self.bits << shift;
        (first.max(self.least), first | ((1 << shift) - 1))
    }
}

/// A walk over the trie.
struct Walk<'a> {
    table: &'a mut Table,
    path: Vec<State>,
}

impl Recognizer for Walk<'_> {
    fn pop_bytes(&mut self, count: usize) {
        self.path
            .truncate(self.path.len().saturating_sub(count).max(1));
    }

    fn collapse(&mut self) {
        self.path.drain(..self.path.len() - 1);
    }

    fn trie_finished(&mut self) {
        self.path.truncate(1);
    }

    fn try_push_byte(&mut self, byte: u8) -> bool {
        let Some(&from) = self.path.last() else {
            return false;
        };
        let to = self.table.step(from, byte);
        if to != DEAD {
            self.path.push(to);
        }
        to != DEAD
    }
}
