//! The parser of calls with the input of a custom tool, whose grammar is for the text itself and
//! not for its spelling in a JSON string.
//!
//! So the escapes within an input are decoded before the parser reads them, and the quotes around
//! it are replaced by two bytes that no text contains: its grammar needs no change, and an escape
//! cannot be mistaken for a part of another terminal. All else is read as it is.

use std::sync::Arc;

use llguidance::earley::{BiasComputer, Parser, ParserRecognizer, SlicedBiasComputer};
use llguidance::panic_utils::catch_unwind;
use llguidance::toktrie::{Recognizer, SimpleVob, TokTrie};

use super::vocabulary::Vocabulary;
use crate::Token;

/// The bytes in place of the quote before an input, and of the quote after it.
const OPENING: u8 = 0xf8;
const CLOSING: u8 = 0xf9;

/// The first of the bytes that no text contains.
const NO_TEXT: u8 = 0xf8;

/// The names of the grammars of the two quotes, and their rules.
pub(super) const QUOTES: [(&str, &str); 2] =
    [("opening", QUOTE_RULES[0]), ("closing", QUOTE_RULES[1])];
const QUOTE_RULES: [&str; 2] = [
    "%llguidance {\"allow_invalid_utf8\": true}\nstart: /\\xf8/",
    "%llguidance {\"allow_invalid_utf8\": true}\nstart: /\\xf9/",
];

/// The characters with a short escape, by its letter.
const SHORT: [(u8, u8); 8] = [
    (b'"', b'"'),
    (b'\\', b'\\'),
    (b'/', b'/'),
    (b'b', 0x08),
    (b'f', 0x0c),
    (b'n', b'\n'),
    (b'r', b'\r'),
    (b't', b'\t'),
];

/// The tokens of a vocabulary, divided by whether they need decoding.
pub(super) struct Tries {
    vocabulary: Arc<Vocabulary>,
    /// Tokens that are the same within an input and elsewhere.
    plain: SlicedBiasComputer,
    /// Tokens with a quote, a backslash or a control character.
    special: TokTrie,
}

impl Tries {
    /// Divides a vocabulary, in some milliseconds.
    pub(super) fn of(vocabulary: &Arc<Vocabulary>) -> Result<Self, String> {
        let trie = vocabulary.trie();
        let (mut plain, mut special) = (trie.alloc_token_set(), trie.alloc_token_set());
        let is_plain = |byte: &u8| (0x20..NO_TEXT).contains(byte) && !matches!(byte, b'"' | b'\\');
        for token in (0..).take(vocabulary.len()) {
            if trie.token(token).iter().all(is_plain) {
                plain.allow_token(token);
            } else {
                special.allow_token(token);
            }
        }
        let plain = vocabulary.part_of(&plain);
        let slices = SlicedBiasComputer::general_slices();
        Ok(Self {
            plain: SlicedBiasComputer::new(&plain, &slices).map_err(|error| error.to_string())?,
            special: trie.filter(&special),
            vocabulary: Arc::clone(vocabulary),
        })
    }
}

/// The state of an answer.
pub(super) struct InputParser {
    parser: Parser,
    tries: Arc<Tries>,
    mode: Mode,
    /// Whether the input has ended, so that no character may follow.
    is_over: bool,
}

/// How the next byte is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// The parser reads the byte unchanged.
    Outside,
    /// The byte is a part of an input.
    Inside,
    /// The byte is the letter of an escape.
    Escape,
    /// The byte is a digit of an escape such as `\u001b`, with the value and the number of the
    /// digits before it.
    Digits { value: u32, count: u32 },
}

impl InputParser {
    pub(super) fn new(parser: Parser, tries: Arc<Tries>) -> Self {
        Self {
            parser,
            tries,
            mode: Mode::Outside,
            is_over: false,
        }
    }

    /// Copies the state, with its own tables.
    pub(super) fn deep_clone(&self) -> Self {
        Self {
            parser: self.parser.deep_clone(),
            tries: Arc::clone(&self.tries),
            ..*self
        }
    }

    pub(super) fn compute_mask(&mut self) -> Result<SimpleVob, String> {
        self.guarded(|it| {
            // The parser does not know the mode, so its cached mask may belong to another mode.
            it.parser.invalidate_bias_cache();
            let masks = Masks {
                tries: &it.tries,
                mode: it.mode,
            };
            let mut mask = it.parser.compute_bias(&masks, &[]);
            if let Some(error) = it.parser.get_error() {
                return Err(error.message());
            }
            if it.is_accepting() {
                for &end in it.tries.vocabulary.all_ends() {
                    mask.allow_token(end);
                }
            }
            if mask.is_zero() {
                return Err("no token is allowed".to_owned());
            }
            Ok(mask)
        })
    }

    pub(super) fn consume_token(&mut self, token: Token) -> Result<(), String> {
        self.guarded(|it| {
            if it.tries.vocabulary.ends(token) {
                it.is_over = it.parser.scan_eos() || it.is_accepting();
                return if it.is_over {
                    Ok(())
                } else {
                    Err("the answer cannot end here".to_owned())
                };
            }
            let tries = Arc::clone(&it.tries);
            let bytes = tries.vocabulary.trie().token(token);
            // A marker is not text.
            if bytes.first() == Some(&TokTrie::SPECIAL_TOKEN_MARKER) {
                it.apply(bytes, token)?;
            } else {
                let (read, mode) = it.decoded(bytes)?;
                if !read.is_empty() {
                    it.apply(&read, token)?;
                }
                it.mode = mode;
            }
            it.is_over = it.is_accepting() && !it.parser.can_advance();
            Ok(())
        })
    }

    /// Whether the input has ended, so that no character may follow.
    pub(super) fn is_stopped(&self) -> bool {
        self.is_over
    }

    fn is_accepting(&mut self) -> bool {
        self.mode == Mode::Outside && self.parser.is_accepting()
    }

    /// The bytes that the parser reads of a token, and how the next one is read.
    fn decoded(&mut self, bytes: &[u8]) -> Result<(Vec<u8>, Mode), String> {
        let mode = self.mode;
        self.parser.with_recognizer(|parser| {
            parser.trie_started("token");
            let mut decoding = Decoding::new(parser, mode);
            let is_read = bytes.iter().all(|byte| decoding.try_push_byte(*byte));
            let read = decoding.steps.iter().filter_map(|step| step.read);
            let decoded = (read.collect(), decoding.mode());
            decoding.pop_bytes(decoding.steps.len());
            parser.trie_finished();
            if is_read {
                Ok(decoded)
            } else {
                Err("the token is not allowed".to_owned())
            }
        })
    }

    fn apply(&mut self, bytes: &[u8], token: Token) -> Result<(), String> {
        match self.parser.apply_token(bytes, token) {
            Ok(0) => Ok(()),
            Ok(_) => Err("the parser wants to go back".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Turns a panic of the parser into an error.
    fn guarded<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, String>,
    ) -> Result<T, String> {
        let mut answer = None;
        let guarded = catch_unwind(std::panic::AssertUnwindSafe(|| {
            answer = Some(work(self));
            Ok(())
        }));
        match (guarded, answer) {
            (Ok(()), Some(answer)) => answer,
            _ => Err("the parser failed".to_owned()),
        }
    }
}

/// Computes masks in one mode.
struct Masks<'a> {
    tries: &'a Tries,
    mode: Mode,
}

impl BiasComputer for Masks<'_> {
    fn compute_bias(&self, parser: &mut ParserRecognizer<'_>, start: &[u8]) -> SimpleVob {
        let mut walk = |trie: &TokTrie, mask: &mut SimpleVob| {
            trie.add_bias(&mut Decoding::new(parser, self.mode), mask, start);
        };
        match self.mode {
            Mode::Outside | Mode::Inside => {
                let mut special = self.trie().alloc_token_set();
                walk(&self.tries.special, &mut special);
                let mut mask = self.tries.plain.compute_bias(parser, start);
                mask.or(&special);
                mask
            }
            Mode::Escape | Mode::Digits { .. } => {
                let mut mask = self.trie().alloc_token_set();
                walk(self.trie(), &mut mask);
                mask
            }
        }
    }

    fn trie(&self) -> &TokTrie {
        self.tries.vocabulary.trie()
    }
}

/// Decodes bytes on their way to a parser.
struct Decoding<'a, R> {
    parser: &'a mut R,
    mode: Mode,
    steps: Vec<Step>,
}

/// The result of decoding one byte.
struct Step {
    /// The byte that the parser has read.
    read: Option<u8>,
    /// How the next byte is read.
    then: Mode,
}

impl<'a, R: Recognizer> Decoding<'a, R> {
    fn new(parser: &'a mut R, mode: Mode) -> Self {
        Self {
            parser,
            mode,
            steps: Vec::new(),
        }
    }

    fn mode(&self) -> Mode {
        self.steps.last().map_or(self.mode, |step| step.then)
    }

    fn step(&mut self, byte: u8) -> Option<Step> {
        let then = |read: Option<u8>, then: Mode| Some(Step { read, then });
        match (self.mode(), byte) {
            (_, NO_TEXT..) => None,
            (Mode::Outside, b'"') if self.parser.try_push_byte(OPENING) => {
                then(Some(OPENING), Mode::Inside)
            }
            (Mode::Outside, _) => self.reads(byte, Mode::Outside),
            (Mode::Inside, b'"') => {
                let is_read = self.parser.try_push_byte(CLOSING);
                is_read.then_some(Step {
                    read: Some(CLOSING),
                    then: Mode::Outside,
                })
            }
            (Mode::Inside, b'\\') if self.can_escape() => then(None, Mode::Escape),
            (Mode::Inside, b'\\' | ..0x20) => None,
            (Mode::Inside, _) => self.reads(byte, Mode::Inside),
            (Mode::Escape, b'u') => self.digits(0, 0),
            (Mode::Escape, letter) => {
                let (_, character) = SHORT.iter().find(|(it, _)| *it == letter)?;
                self.reads(*character, Mode::Inside)
            }
            (Mode::Digits { value, count }, digit) => {
                let digit = char::from(digit).to_digit(16)?;
                self.digits(value << 4 | digit, count + 1)
            }
        }
    }

    fn reads(&mut self, byte: u8, then: Mode) -> Option<Step> {
        self.parser.try_push_byte(byte).then_some(Step {
            read: Some(byte),
            then,
        })
    }

    /// Whether the grammar allows a character that is written with an escape.
    fn can_escape(&mut self) -> bool {
        SHORT.iter().any(|(_, it)| self.parser.byte_allowed(*it)) || self.can_be(0, 0)
    }

    /// Whether the grammar allows a character whose code begins with these digits.
    fn can_be(&mut self, value: u32, count: u32) -> bool {
        let rest = 4 * (4 - count);
        let is_short = |code: u8| SHORT.iter().any(|(_, it)| *it == code);
        (0..0x20_u8)
            .filter(|code| u32::from(*code) >> rest == value && !is_short(*code))
            .any(|code| self.parser.byte_allowed(code))
    }

    /// Continues the escape of a control character.
    fn digits(&mut self, value: u32, count: u32) -> Option<Step> {
        if !self.can_be(value, count) {
            return None;
        }
        match (u8::try_from(value), count) {
            (Ok(code), 4) => self.reads(code, Mode::Inside),
            _ => Some(Step {
                read: None,
                then: Mode::Digits { value, count },
            }),
        }
    }
}

impl<R: Recognizer> Recognizer for Decoding<'_, R> {
    fn pop_bytes(&mut self, count: usize) {
        let kept = self.steps.len().saturating_sub(count);
        let read = self.steps.drain(kept..).filter(|step| step.read.is_some());
        let read = read.count();
        self.parser.pop_bytes(read);
    }

    fn collapse(&mut self) {
        self.parser.collapse();
    }

    fn trie_started(&mut self, label: &str) {
        self.parser.trie_started(label);
    }

    fn trie_finished(&mut self) {
        self.parser.trie_finished();
    }

    fn try_push_byte(&mut self, byte: u8) -> bool {
        let step = self.step(byte);
        let is_allowed = step.is_some();
        self.steps.extend(step);
        is_allowed
    }

    fn save_stats(&mut self, nodes_walked: usize) {
        self.parser.save_stats(nodes_walked);
    }
}
