//! What has been said so far, and what of the call under way has left already.

use super::Said;
use super::json::Json;

/// When a call leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Its name as soon as its arguments begin, and of these each value as soon as it is whole.
    /// What has left cannot be taken back: the arguments of a call that breaks off are closed, so
    /// that they are JSON, and its text follows as text.
    AsItComes,
    /// When it is whole. One that is not is text and nothing else.
    Whole,
}

/// Gathers what is said, neighbours of a kind in one.
#[derive(Debug)]
pub(super) struct Calls {
    said: Vec<Said>,
    pace: Pace,
    /// The number of the call under way, or of the next.
    index: u32,
    /// The call under way, where it has begun: what of its arguments has been said.
    begun: Option<usize>,
    /// Where the call under way begins in `said`; what is said from there on waits under
    /// [`Pace::Whole`].
    start: usize,
    made: u32,
}

impl Calls {
    pub(super) fn new(pace: Pace) -> Self {
        Self {
            said: Vec::new(),
            pace,
            index: 0,
            begun: None,
            start: 0,
            made: 0,
        }
    }

    /// How many whole calls were made.
    pub(super) fn made(&self) -> u32 {
        self.made
    }

    /// What may leave now.
    pub(super) fn take(&mut self) -> Vec<Said> {
        if self.begun.is_some() && self.pace == Pace::Whole {
            let rest = self.said.split_off(self.start);
            self.start = 0;
            return std::mem::replace(&mut self.said, rest);
        }
        std::mem::take(&mut self.said)
    }

    pub(super) fn text(&mut self, more: &str) {
        match self.said.last_mut() {
            _ if more.is_empty() => {}
            Some(Said::Text(text)) => text.push_str(more),
            _ => self.said.push(Said::Text(more.to_owned())),
        }
    }

    pub(super) fn reasoning(&mut self, more: &str) {
        match self.said.last_mut() {
            _ if more.is_empty() => {}
            Some(Said::Reasoning(text)) => text.push_str(more),
            _ => self.said.push(Said::Reasoning(more.to_owned())),
        }
    }

    /// The name of the call is known, and its arguments are an object: as much of it as is whole
    /// can leave.
    pub(super) fn arguments(&mut self, name: &str, json: &Json) {
        self.arguments_so_far(name, json.whole());
    }

    /// The same for arguments whose text is given; it must begin with what was given before.
    pub(super) fn arguments_so_far(&mut self, name: &str, text: &str) {
        let sent = *self.begun.get_or_insert_with(|| {
            self.start = self.said.len();
            self.said.push(Said::CallBegun {
                index: self.index,
                name: name.to_owned(),
            });
            0
        });
        self.more(&text[sent.min(text.len())..]);
        self.begun = Some(text.len());
    }

    /// The call is whole.
    pub(super) fn done(&mut self) {
        self.begun = None;
        self.index += 1;
        self.made += 1;
    }

    /// The call is none after all: `closing` makes JSON of what has left of its arguments, and
    /// `text` is what the model wrote.
    pub(super) fn broken(&mut self, closing: &str, text: &str) {
        if self.begun.is_some() {
            match self.pace {
                Pace::Whole => self.said.truncate(self.start),
                Pace::AsItComes => {
                    self.more(closing);
                    self.index += 1;
                }
            }
            self.begun = None;
        }
        self.text(text);
    }

    fn more(&mut self, more: &str) {
        let current = self.index;
        match self.said.last_mut() {
            _ if more.is_empty() => {}
            Some(Said::CallArguments { index, more: text }) if *index == current => {
                text.push_str(more);
            }
            _ => self.said.push(Said::CallArguments {
                index: current,
                more: more.to_owned(),
            }),
        }
    }
}
