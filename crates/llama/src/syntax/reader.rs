//! Parses a model's output piece by piece, and separates answer, reasoning and calls.
//!
//! The result does not depend on where the text is split. The parser holds back a possible
//! beginning of a marker, the spaces at the beginning of an answer (at most [`LONGEST_SPACE`]
//! bytes), and the incomplete part of a call.

use std::sync::Arc;

use super::calls::{CallRelease, Calls};
use super::family::{BARE, BARE_NAME_FIRST, Family, HEADER_END, HEADERS, MESSAGE, MESSAGE_ENDS};
use super::marks;
use super::offered::Offered;
use super::parsed::Parsed;
use super::recognize::{Begins, Syntax};
use super::region::{Form, Outcome, Region};

/// The maximum number of leading spaces, in bytes, that are held back until more text follows.
const LONGEST_SPACE: usize = 64;

/// The maximum length of a Harmony header in bytes.
const LONGEST_HEADER: usize = 512;

/// The parser of one answer.
#[derive(Debug)]
pub(crate) struct Reader {
    syntax: Syntax,
    offered: Arc<Offered>,
    state: State,
    /// The text that has arrived and is not parsed yet.
    held: String,
    space: Space,
    calls: Calls,
}

#[derive(Debug)]
enum State {
    Text,
    Reasoning,
    Header(String),
    Call(Region),
}

/// How spaces are treated in the current state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Space {
    /// At the beginning of the answer: spaces are text unless a marker follows.
    First,
    /// Between parts: spaces are dropped.
    Between,
    /// Spaces count as text.
    Counts,
}

impl Reader {
    /// Creates a parser. Without offered functions, nothing is parsed as a call.
    pub(crate) fn new(
        syntax: Syntax,
        offered: Arc<Offered>,
        begins: Begins,
        release: CallRelease,
    ) -> Self {
        let state = match begins {
            _ if syntax.headers => State::Header(String::new()),
            Begins::Text => State::Text,
            Begins::Reasoning => State::Reasoning,
        };
        let space = if begins == Begins::Reasoning {
            Space::Between
        } else {
            Space::First
        };
        Self {
            syntax,
            offered,
            state,
            held: String::new(),
            space,
            calls: Calls::new(release),
        }
    }

    /// Parses more text, and returns the output that is certain now.
    pub(crate) fn push(&mut self, more: &str) -> impl Iterator<Item = Parsed> + use<> {
        self.held.push_str(more);
        while self.step() {}
        self.calls.take().into_iter()
    }

    /// Ends the text, and returns everything that was held back.
    pub(crate) fn finish(&mut self) -> impl Iterator<Item = Parsed> + use<> {
        let held = std::mem::take(&mut self.held);
        match std::mem::replace(&mut self.state, State::Text) {
            State::Text => self.calls.text(&held),
            State::Reasoning => self.calls.reasoning(&held),
            State::Header(header) => self.calls.text(&(header + &held)),
            State::Call(region) => region.finish(&mut self.calls),
        }
        self.calls.take().into_iter()
    }

    /// Whether the text that was parsed last is reasoning.
    pub(crate) fn is_reasoning(&self) -> bool {
        matches!(self.state, State::Reasoning)
    }

    /// Whether the text that was parsed last belongs to the answer.
    pub(crate) fn is_text(&self) -> bool {
        matches!(self.state, State::Text)
    }

    /// The number of complete calls.
    pub(crate) fn calls_made(&self) -> u32 {
        self.calls.made()
    }

    /// Parses as far as one state goes. Returns whether there may be more to parse.
    fn step(&mut self) -> bool {
        match self.state {
            State::Text => self.text(),
            State::Reasoning => self.reasoning(),
            State::Header(_) => self.header(),
            State::Call(_) => self.call(),
        }
    }

    fn text(&mut self) -> bool {
        if self.space == Space::Between {
            drop_spaces(&mut self.held);
        }
        let spaces = self.held.len() - self.held.trim_start().len();
        if self.space == Space::First && spaces > LONGEST_SPACE {
            self.space = Space::Counts;
        }
        if self.space != Space::Counts {
            if spaces == self.held.len() {
                return false;
            }
            if let Some(went_on) = self.beginning(spaces) {
                return went_on;
            }
        }
        self.text_until_a_mark()
    }

    /// Parses an element that can only be at the beginning of an answer: a reasoning tag, or an
    /// object that is the whole answer. Returns `None` if the text begins with neither.
    fn beginning(&mut self, spaces: usize) -> Option<bool> {
        let rest = &self.held[spaces..];
        if let Some(tags) = self.syntax.reasoning_tags {
            if rest.starts_with(tags.open) {
                self.held.drain(..spaces + tags.open.len());
                self.space = Space::Between;
                self.state = State::Reasoning;
                return Some(true);
            }
            if marks::begins(rest, tags.open) {
                return Some(false);
            }
        }
        if self.family().is_some_and(Family::is_bare) && rest.starts_with('{') {
            let form = if self.syntax.name_first {
                &BARE_NAME_FIRST
            } else {
                &BARE
            };
            self.state = State::Call(Region::new(form).after(self.held.drain(..spaces).collect()));
            return Some(true);
        }
        None
    }

    fn text_until_a_mark(&mut self) -> bool {
        let forms = self.family().map_or(&[] as &[Form], Family::forms);
        let control = if self.syntax.headers {
            HEADERS.as_slice()
        } else {
            &[]
        };
        let ends = if self.syntax.headers {
            MESSAGE_ENDS.as_slice()
        } else {
            &[]
        };
        let all = || {
            forms
                .iter()
                .map(|form| form.mark)
                .chain(control.iter().copied())
                .chain(ends.iter().copied())
        };
        let Some((start, mark)) = marks::first(&self.held, all()) else {
            let leave = self.held.len() - marks::possible(&self.held, all());
            if self.space == Space::Counts || !self.held[..leave].trim().is_empty() {
                self.calls.text(&self.held[..leave]);
                self.held.drain(..leave);
                self.space = Space::Counts;
            }
            return false;
        };
        if self.space == Space::Counts || !self.held[..start].trim().is_empty() {
            self.calls.text(&self.held[..start]);
        }
        self.held.drain(..start + mark.len());
        self.space = Space::Between;
        if let Some(form) = forms.iter().find(|form| form.mark == mark) {
            self.state = State::Call(Region::new(form));
        } else if control.contains(&mark) {
            self.state = State::Header(mark.to_owned());
        }
        true
    }

    fn reasoning(&mut self) -> bool {
        if self.space == Space::Between {
            drop_spaces(&mut self.held);
            if self.held.is_empty() {
                return false;
            }
            self.space = Space::Counts;
        }
        let harmony = HEADERS
            .into_iter()
            .chain(MESSAGE_ENDS)
            .filter(|_| self.syntax.headers);
        let closers = || {
            self.syntax
                .reasoning_tags
                .map(|tags| tags.close)
                .into_iter()
                .chain(harmony.clone())
        };
        let Some((start, mark)) = marks::first(&self.held, closers()) else {
            let leave = self.held.len() - marks::possible(&self.held, closers());
            self.calls.reasoning(&self.held[..leave]);
            self.held.drain(..leave);
            return false;
        };
        self.calls.reasoning(&self.held[..start]);
        // In Harmony, the marker is parsed again: it also determines the meaning of the text after
        // it.
        let end = if self.syntax.headers {
            start
        } else {
            start + mark.len()
        };
        self.held.drain(..end);
        self.space = Space::Between;
        self.state = State::Text;
        true
    }

    /// Parses a Harmony header up to `<|message|>`, and chooses the next state by it.
    fn header(&mut self) -> bool {
        let State::Header(header) = &mut self.state else {
            return false;
        };
        let end = self.held.find(HEADER_END);
        let length = header.len() + end.unwrap_or(self.held.len());
        if end.is_none() && length <= LONGEST_HEADER {
            return false;
        }
        let mut header = std::mem::take(header);
        let Some(end) = end.filter(|_| length <= LONGEST_HEADER) else {
            self.calls.text(&header);
            self.space = Space::Counts;
            self.state = State::Text;
            return true;
        };
        header.push_str(&self.held[..end]);
        self.held.drain(..end + HEADER_END.len());
        self.go_by_header(header);
        true
    }

    fn go_by_header(&mut self, header: String) {
        self.space = Space::Counts;
        self.state = match Header::read(&header) {
            Some(Header {
                function: Some(name),
                ..
            }) if self.family().is_some() => {
                let name = name.to_owned();
                State::Call(Region::named(&MESSAGE, &name, header + HEADER_END))
            }
            Some(Header {
                function: None,
                is_analysis: true,
            }) => {
                self.space = Space::Between;
                State::Reasoning
            }
            Some(Header {
                function: None,
                is_analysis: false,
            }) => State::Text,
            _ => {
                self.calls.text(&(header + HEADER_END));
                State::Text
            }
        };
    }

    fn call(&mut self) -> bool {
        let State::Call(region) = &mut self.state else {
            return false;
        };
        let mut read = 0;
        for c in self.held.chars() {
            read += c.len_utf8();
            match region.push(c, &self.offered, &mut self.calls) {
                Outcome::Continue => {}
                Outcome::Ended(back) => {
                    self.held.replace_range(..read, &back);
                    self.space = Space::Between;
                    self.state = State::Text;
                    return true;
                }
                Outcome::NotACall => {
                    self.held.drain(..read);
                    if let State::Call(region) = std::mem::replace(&mut self.state, State::Text) {
                        region.broken(&mut self.calls);
                    }
                    self.space = Space::Counts;
                    return true;
                }
            }
        }
        self.held.clear();
        false
    }

    /// The family whose calls are parsed; `None` if no function is offered.
    fn family(&self) -> Option<Family> {
        self.syntax.calls.filter(|_| !self.offered.is_empty())
    }
}

/// A Harmony header: `assistant<|channel|>commentary to=functions.NAME <|constrain|>json`, in any
/// order of its parts.
struct Header<'a> {
    function: Option<&'a str>,
    is_analysis: bool,
}

impl<'a> Header<'a> {
    /// Returns `None` for other headers, such as a message to one of OpenAI's built-in tools, and
    /// for a text that is not a header.
    fn read(text: &'a str) -> Option<Self> {
        let mut header = Self {
            function: None,
            is_analysis: false,
        };
        for part in text.split("<|") {
            // Everything before `|>` is the name of a marker.
            let words = part.split_once("|>").map_or(part, |(_, words)| words);
            for word in words.split_whitespace() {
                match (word, word.strip_prefix("to=functions.")) {
                    (_, Some(name)) if !name.is_empty() => header.function = Some(name),
                    ("analysis", _) => header.is_analysis = true,
                    ("assistant" | "final" | "commentary" | "json", _) => {}
                    _ => return None,
                }
            }
        }
        Some(header)
    }
}

fn drop_spaces(held: &mut String) {
    let spaces = held.len() - held.trim_start().len();
    held.drain(..spaces);
}
