//! Collects the parsed output, and tracks how much of the current call has been released.

use super::json::Json;
use super::parsed::Parsed;

/// When the parts of a call are released.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallRelease {
    /// The name is released when the arguments begin, and each value of the arguments when it is
    /// complete. Released parts cannot be taken back: if the call turns out to be incomplete, its
    /// arguments are closed to form valid JSON, and the text of the call follows as text.
    Incremental,
    /// The whole call is released when it is complete. An incomplete call is only text.
    Complete,
}

/// Collects the output, and merges neighbouring pieces of the same kind.
#[derive(Debug)]
pub(super) struct Calls {
    output: Vec<Parsed>,
    release: CallRelease,
    /// The index of the current call, or of the next one.
    index: u32,
    /// The number of bytes of the current call's arguments in the output. `None` if no call has
    /// begun.
    begun: Option<usize>,
    /// The index in `output` where the current call begins. With [`CallRelease::Complete`], nothing
    /// from there on is released yet.
    start: usize,
    made: u32,
}

impl Calls {
    pub(super) fn new(release: CallRelease) -> Self {
        Self {
            output: Vec::new(),
            release,
            index: 0,
            begun: None,
            start: 0,
            made: 0,
        }
    }

    /// The number of complete calls.
    pub(super) fn made(&self) -> u32 {
        self.made
    }

    /// Takes the output that may be released now.
    pub(super) fn take(&mut self) -> Vec<Parsed> {
        if self.begun.is_some() && self.release == CallRelease::Complete {
            let rest = self.output.split_off(self.start);
            self.start = 0;
            return std::mem::replace(&mut self.output, rest);
        }
        std::mem::take(&mut self.output)
    }

    pub(super) fn text(&mut self, more: &str) {
        match self.output.last_mut() {
            _ if more.is_empty() => {}
            Some(Parsed::Text(text)) => text.push_str(more),
            _ => self.output.push(Parsed::Text(more.to_owned())),
        }
    }

    pub(super) fn reasoning(&mut self, more: &str) {
        match self.output.last_mut() {
            _ if more.is_empty() => {}
            Some(Parsed::Reasoning(text)) => text.push_str(more),
            _ => self.output.push(Parsed::Reasoning(more.to_owned())),
        }
    }

    /// Releases the arguments of a call, as far as they are complete. The name must be known, and
    /// the arguments must be an object.
    pub(super) fn arguments(&mut self, name: &str, json: &Json) {
        self.arguments_so_far(name, json.whole());
    }

    /// Releases the new part of the arguments of a call. `text` is the text of the arguments so
    /// far; it must begin with the text that was passed last.
    pub(super) fn arguments_so_far(&mut self, name: &str, text: &str) {
        let sent = *self.begun.get_or_insert_with(|| {
            self.start = self.output.len();
            self.output.push(Parsed::CallBegun {
                index: self.index,
                name: name.to_owned(),
            });
            0
        });
        self.more(&text[sent.min(text.len())..]);
        self.begun = Some(text.len());
    }

    /// Ends a complete call.
    pub(super) fn done(&mut self) {
        self.begun = None;
        self.index += 1;
        self.made += 1;
    }

    /// Ends a call that turned out not to be one. `closing` completes the released arguments to
    /// valid JSON, and `text` is the model's original text.
    pub(super) fn broken(&mut self, closing: &str, text: &str) {
        if self.begun.is_some() {
            match self.release {
                CallRelease::Complete => self.output.truncate(self.start),
                CallRelease::Incremental => {
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
        match self.output.last_mut() {
            _ if more.is_empty() => {}
            Some(Parsed::CallArguments { index, more: text }) if *index == current => {
                text.push_str(more);
            }
            _ => self.output.push(Parsed::CallArguments {
                index: current,
                more: more.to_owned(),
            }),
        }
    }
}
