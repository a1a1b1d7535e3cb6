//! Limits on a JSON value that its grammar does not have: on numbers, nesting, and (with high
//! limits) strings and lists.
//!
//! A grammar says which tokens may come next. Of these, the tokens that exceed a limit are removed,
//! as long as others remain. Bounds in a schema, including those that `bounds` adds, are not
//! handled here.

use llguidance::toktrie::SimpleVob;

use super::token_kinds::BRACKETS;
use super::vocabulary::Vocabulary;

/// The maximum sizes of the parts of a value.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// The number of digits before the decimal point: enough for any 64-bit integer but the
    /// largest.
    integer: u32,
    /// The number of digits after the decimal point: more than a double can distinguish, and as
    /// many as the smallest unit of any currency has.
    fraction: u32,
    /// The exponent. Even with the maximum number of digits before the point, a double can still
    /// represent the number.
    exponent: u32,
    /// The number of open brackets. Parsers reject 128.
    depth: usize,
    /// The number of entries of one list or object.
    entries: u32,
    /// The number of characters of one string.
    characters: u32,
}

/// The limits of texts and lists are high: in practice the model's context bounds them.
const LIMITS: Limits = Limits {
    integer: 19,
    fraction: 18,
    exponent: 280,
    depth: 64,
    entries: 100_000,
    characters: 1 << 20,
};

/// The maximum number of characters or entries that one token adds.
const STRIDE: u32 = 1000;

/// The maximum number of bytes that are kept of the text before the values: a header with the name
/// of a function.
const LONGEST_HEAD: usize = 512;

/// Where the JSON values of an answer begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Scope {
    /// At the beginning: everything is a value, except for the markup around calls.
    AtOnce,
    /// After the key of a call's arguments; before it, any text is valid.
    AfterKey,
    /// After a header with the name of a function; other messages may be any text.
    AfterHeader,
}

impl Scope {
    /// Whether values begin after this text (without spaces). Removes the part of the text that is
    /// no longer needed.
    fn has_begun(self, before: &mut Vec<u8>) -> bool {
        let begun = match self {
            Self::AtOnce => true,
            Self::AfterKey => [&b"\"parameters\":"[..], b"\"arguments\":"]
                .iter()
                .any(|key| before.ends_with(key)),
            Self::AfterHeader => {
                let name = b"to=functions.";
                before.ends_with(b"<|message|>")
                    && before.windows(name.len()).any(|window| window == name)
            }
        };
        if self == Self::AfterHeader && before.ends_with(b"<|end|>") {
            before.clear();
        } else if before.len() > 2 * LONGEST_HEAD {
            before.drain(..before.len() - LONGEST_HEAD);
        }
        begun
    }
}

/// The state of the limits in one answer.
#[derive(Debug, Clone)]
pub(super) struct Ends {
    scope: Scope,
    /// The end of the text before the values, without spaces. `None` if values begin at once.
    before: Option<Vec<u8>>,
    value: Value,
}

impl Ends {
    pub(super) fn new(scope: Scope) -> Self {
        let before = (scope != Scope::AtOnce).then(Vec::new);
        Self {
            scope,
            before,
            value: Value::new(LIMITS),
        }
    }

    /// Lowers the limits of texts and lists.
    #[cfg(test)]
    pub(super) fn end_sooner(&mut self, entries: u32, characters: u32) {
        self.value.limits = Limits {
            entries,
            characters,
            ..LIMITS
        };
    }

    /// Records a token's text.
    pub(super) fn read(&mut self, text: &[u8]) {
        for &byte in text {
            match &mut self.before {
                None => {
                    self.value.step(byte);
                }
                Some(_) if byte.is_ascii_whitespace() => {}
                Some(before) => {
                    before.push(byte);
                    if self.scope.has_begun(before) {
                        self.before = None;
                    }
                }
            }
        }
    }

    /// Removes the tokens that exceed a limit. If no other tokens remain, it removes none and
    /// returns `false`.
    pub(super) fn narrow(&self, allowed: &mut SimpleVob, vocabulary: &Vocabulary) -> bool {
        if self.before.is_some() {
            return true;
        }
        let beyond: Vec<u32> = match self.value.at {
            _ if self.value.is_near() => (0..)
                .take(vocabulary.len())
                .filter(|&token| self.leads_beyond(token, allowed, vocabulary))
                .collect(),
            At::Number(number) => {
                let is_beyond = |token: &u32| {
                    allowed.is_allowed(*token)
                        && number.leads_beyond(vocabulary.text(*token), &self.value.limits)
                };
                vocabulary
                    .numeric()
                    .iter()
                    .copied()
                    .filter(is_beyond)
                    .collect()
            }
            _ => {
                let is_beyond = |token: &u32| self.leads_beyond(*token, allowed, vocabulary);
                vocabulary
                    .lengthy()
                    .iter()
                    .copied()
                    .filter(is_beyond)
                    .collect()
            }
        };
        let are_left = allowed.num_set() > beyond.len();
        if are_left {
            for token in beyond {
                allowed.disallow_token(token);
            }
        }
        are_left
    }

    fn leads_beyond(&self, token: u32, allowed: &SimpleVob, vocabulary: &Vocabulary) -> bool {
        if !allowed.is_allowed(token) {
            return false;
        }
        let mut value = self.value.clone();
        vocabulary.text(token).iter().any(|byte| value.step(*byte))
    }
}

/// The open parts of a value.
#[derive(Debug, Clone)]
struct Value {
    limits: Limits,
    at: At,
    /// The open brackets, each with the number of its entries.
    open: Vec<u32>,
}

#[derive(Debug, Clone, Copy)]
enum At {
    Between,
    /// In a string, with the number of its characters.
    Text {
        characters: u32,
        is_escaped: bool,
    },
    Number(Number),
}

impl Value {
    fn new(limits: Limits) -> Self {
        Self {
            limits,
            at: At::Between,
            open: Vec::new(),
        }
    }

    /// Whether a token could exceed a limit other than those of numbers.
    fn is_near(&self) -> bool {
        let near = |count: u32, most: u32| count.saturating_add(STRIDE) > most;
        let is_long = matches!(self.at, At::Text { characters, .. } if near(characters, self.limits.characters));
        // Tokens with that many brackets are "lengthy", and are checked separately.
        let is_deep = self.open.len() + BRACKETS > self.limits.depth;
        is_long
            || is_deep
            || self
                .open
                .last()
                .is_some_and(|&entries| near(entries, self.limits.entries))
    }

    /// Reads one byte. Returns whether it exceeds a limit.
    fn step(&mut self, byte: u8) -> bool {
        match &mut self.at {
            At::Text { is_escaped, .. } if *is_escaped => *is_escaped = false,
            At::Text { .. } if byte == b'"' => self.at = At::Between,
            At::Text {
                characters,
                is_escaped,
            } => {
                *is_escaped = byte == b'\\';
                let is_continued = byte & 0xc0 == 0x80;
                *characters += u32::from(!is_continued);
                return *characters > self.limits.characters;
            }
            At::Number(number) => match number.step(byte, &self.limits) {
                Some(is_beyond) => return is_beyond,
                None => return self.step_between(byte),
            },
            At::Between => return self.step_between(byte),
        }
        false
    }

    fn step_between(&mut self, byte: u8) -> bool {
        self.at = At::Between;
        match byte {
            b'"' => {
                self.at = At::Text {
                    characters: 0,
                    is_escaped: false,
                }
            }
            b'[' | b'{' => {
                self.open.push(0);
                return self.open.len() > self.limits.depth;
            }
            b']' | b'}' => {
                self.open.pop();
            }
            b',' => {
                let most = self.limits.entries;
                return self.open.last_mut().is_some_and(|entries| {
                    *entries += 1;
                    *entries >= most
                });
            }
            b'-' | b'0'..=b'9' => {
                let mut number = Number::default();
                number.step(byte, &self.limits);
                self.at = At::Number(number);
            }
            _ => {}
        }
        false
    }
}

/// A number that is being written.
#[derive(Debug, Clone, Copy, Default)]
struct Number {
    part: Part,
    /// The number of digits of the current part.
    digits: u32,
    /// The value of the exponent so far.
    value: u32,
    /// The first digit of the number.
    first: u8,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Part {
    #[default]
    Integer,
    Fraction,
    Exponent,
}

impl Number {
    fn leads_beyond(mut self, text: &[u8], limits: &Limits) -> bool {
        text.iter()
            .map_while(|byte| self.step(*byte, limits))
            .any(|is_beyond| is_beyond)
    }

    /// Returns whether the number exceeds a limit with this byte. Returns `None` if the byte is not
    /// part of the number.
    fn step(&mut self, byte: u8, limits: &Limits) -> Option<bool> {
        match (byte, self.part) {
            (b'0'..=b'9', _) => {
                self.digits += 1;
                if self.digits == 1 {
                    self.first = byte;
                }
                self.value = self
                    .value
                    .saturating_mul(10)
                    .saturating_add(u32::from(byte - b'0'));
                return Some(self.is_beyond(limits));
            }
            (b'.', Part::Integer) => self.begin(Part::Fraction),
            (b'e' | b'E', Part::Integer | Part::Fraction) => self.begin(Part::Exponent),
            (b'-', Part::Integer) | (b'+' | b'-', Part::Exponent) if self.digits == 0 => {}
            _ => return None,
        }
        Some(false)
    }

    fn begin(&mut self, part: Part) {
        *self = Self {
            part,
            ..Self::default()
        };
    }

    fn is_beyond(&self, limits: &Limits) -> bool {
        match self.part {
            // A number with as many digits as the largest 64-bit integer may be larger than it if
            // the number begins with a 9.
            Part::Integer => self.digits > limits.integer - u32::from(self.first == b'9'),
            Part::Fraction => self.digits > limits.fraction,
            Part::Exponent => self.value > limits.exponent || self.digits > 3,
        }
    }
}
