//! Where a JSON value has to end although its grammar would let it go on: numbers, brackets within
//! brackets, and, far off, strings and lists.
//!
//! A grammar says which tokens may come next; of those, the ones that lead past a limit are taken
//! out, as long as others are left. What a schema bounds itself, or `bounds` bounds in it, never
//! comes here.

use llguidance::toktrie::SimpleVob;

use super::vocabulary::Vocabulary;

/// How long the parts of a value may be.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Digits before the point: any 64-bit integer but the largest.
    integer: u32,
    /// Digits after the point: more than a double tells apart, and as many as the smallest unit of
    /// any currency has.
    fraction: u32,
    /// The exponent: with that many digits before the point, a double still holds the number.
    exponent: u32,
    /// Open brackets: parsers give up at 128.
    depth: usize,
    /// Entries of one list or object.
    entries: u32,
    /// Characters of one string.
    characters: u32,
}

/// Texts and lists may be long: what bounds them in practice is the context of the model.
const LIMITS: Limits = Limits {
    integer: 19,
    fraction: 18,
    exponent: 280,
    depth: 64,
    entries: 100_000,
    characters: 1 << 20,
};

/// The most that one token adds to a count.
const STRIDE: u32 = 1000;

/// The most brackets that a token opens which is not among the lengthy ones.
const BRACKETS: usize = 8;

/// The most digits in a row of a token which is not among the lengthy ones.
const DIGITS: usize = 18;

/// The most bytes before the values that are kept: a header with a function's name in it.
const LONGEST_HEAD: usize = 512;

/// Where in an answer its values begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Scope {
    /// All of it is values, but for what stands around calls.
    AtOnce,
    /// After the key of a call's arguments; before that it may be any text.
    AfterKey,
    /// After a header that names a function; other messages are any text.
    AfterHeader,
}

impl Scope {
    /// Whether values begin after this text, which is without spaces. Takes off what will not be
    /// needed.
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

/// One answer on its way.
#[derive(Debug, Clone)]
pub(super) struct Ends {
    scope: Scope,
    /// The end of what came before the values, without spaces, where values do not begin at once.
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

    /// With texts and lists that end sooner.
    #[cfg(test)]
    pub(super) fn end_sooner(&mut self, entries: u32, characters: u32) {
        self.value.limits = Limits {
            entries,
            characters,
            ..LIMITS
        };
    }

    /// Takes note of a token's text.
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

    /// Takes the tokens out that lead past a limit, and says whether others are left; if not, all
    /// are.
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

/// Whether a number may go on with this text.
pub(super) fn goes_on_with_a_number(text: &[u8]) -> bool {
    text.first()
        .is_some_and(|first| first.is_ascii_digit() || b".eE+-".contains(first))
}

/// Whether a text may lead past a limit where a value has only begun.
pub(super) fn is_lengthy(text: &[u8]) -> bool {
    let digits = text
        .split(|byte| !byte.is_ascii_digit())
        .map(<[u8]>::len)
        .max();
    let brackets = text
        .iter()
        .filter(|byte| matches!(byte, b'[' | b'{'))
        .count();
    digits.is_some_and(|digits| digits > DIGITS) || brackets > BRACKETS
}

/// What is open of a value.
#[derive(Debug, Clone)]
struct Value {
    limits: Limits,
    at: At,
    /// The open brackets: how many entries each has had.
    open: Vec<u32>,
}

#[derive(Debug, Clone, Copy)]
enum At {
    Between,
    /// In a string, of so many characters.
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

    /// Whether a token could lead past a limit that is not about numbers.
    fn is_near(&self) -> bool {
        let near = |count: u32, most: u32| count.saturating_add(STRIDE) > most;
        let is_long = matches!(self.at, At::Text { characters, .. } if near(characters, self.limits.characters));
        // A token of so many brackets is among the lengthy ones.
        let is_deep = self.open.len() + BRACKETS > self.limits.depth;
        is_long
            || is_deep
            || self
                .open
                .last()
                .is_some_and(|&entries| near(entries, self.limits.entries))
    }

    /// Goes on by a byte. Says whether that is past a limit.
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

/// What has been written of a number.
#[derive(Debug, Clone, Copy, Default)]
struct Number {
    part: Part,
    /// Of the part.
    digits: u32,
    /// Of the exponent.
    value: u32,
    /// The first digit.
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

    /// Whether it is past a limit with this byte; nothing where the byte is no part of it.
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
            // Of as many digits as the largest integer of 64 bits has, those that begin with a 9
            // may be larger.
            Part::Integer => self.digits > limits.integer - u32::from(self.first == b'9'),
            Part::Fraction => self.digits > limits.fraction,
            Part::Exponent => self.value > limits.exponent || self.digits > 3,
        }
    }
}
