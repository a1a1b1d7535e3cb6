//! Parses the part of a text that has calls: from a marker or a bracket to where something else
//! begins.

use super::calls::Calls;
use super::json::{Json, Step};
use super::marks::begins;
use super::object::ObjectCall;
use super::offered::Offered;
use super::xml::TaggedCall;

/// The maximum size of a call in bytes, because a call has to be kept in memory. A longer one
/// becomes text.
pub(super) const LONGEST_CALL: usize = 256 << 10;

/// The maximum number of bytes between a marker and the arguments.
const LONGEST_HEADER: usize = 512;

/// The form of the calls that follow a marker.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    pub(super) mark: &'static str,
    head: Head,
    /// Texts without a meaning that may follow a call, each once and in this order.
    pub(super) tail: &'static [&'static str],
    in_list: bool,
    /// Whether only the names of offered functions make a call. This is needed if nothing else
    /// distinguishes a call from other JSON.
    only_offered: bool,
    /// Whether the first key of an object must be `name`.
    name_first: bool,
}

/// The text between the marker and the arguments.
#[derive(Debug, Clone, Copy)]
pub(super) enum Head {
    /// No text: after the marker follows one object that is the call, or a list of such objects.
    Objects,
    /// No text: after the marker follows one object that is the call, a list of such objects, or a
    /// call in tags.
    ObjectsOrTags,
    /// No text: the marker itself begins a call in tags.
    Tags,
    /// The name, which this function extracts from the text before the arguments.
    Name(fn(&str) -> Option<&str>),
    /// Objects as in `Objects`, or a name as in `Name`.
    ObjectsOrName(fn(&str) -> Option<&str>),
}

impl Form {
    pub(super) const fn new(mark: &'static str, head: Head, tail: &'static [&'static str]) -> Self {
        Self {
            mark,
            head,
            tail,
            in_list: false,
            only_offered: false,
            name_first: false,
        }
    }

    /// The marker opens a list.
    pub(super) const fn in_list(self) -> Self {
        Self {
            in_list: true,
            ..self
        }
    }

    pub(super) const fn of_offered(self) -> Self {
        Self {
            only_offered: true,
            ..self
        }
    }

    pub(super) const fn name_first(self) -> Self {
        Self {
            name_first: true,
            ..self
        }
    }
}

/// A part with calls that is being parsed.
#[derive(Debug)]
pub(super) struct Region {
    form: &'static Form,
    /// The text since the last complete call. It is released as text if it turns out not to be a
    /// call.
    raw: String,
    state: State,
    in_list: bool,
    /// The number of texts of the form's `tail` that were read.
    passed: usize,
}

#[derive(Debug)]
enum State {
    Head(String),
    Object(ObjectCall),
    Tagged(TaggedCall),
    Named { name: String, json: Json },
    Tail(String),
}

/// The result of parsing one character.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Continue,
    /// The part with calls has ended. This text does not belong to it.
    Ended(String),
    /// The text is not a call.
    NotACall,
}

impl Region {
    pub(super) fn new(form: &'static Form) -> Self {
        let state = match form.head {
            Head::Tags => State::Tagged(TaggedCall::begun()),
            _ => State::Head(String::new()),
        };
        Self {
            form,
            raw: form.mark.to_owned(),
            state,
            in_list: form.in_list,
            passed: 0,
        }
    }

    /// Sets the spaces before the call. They become text if it is not a call.
    pub(super) fn after(self, spaces: String) -> Self {
        Self {
            raw: spaces + self.form.mark,
            ..self
        }
    }

    /// Begins a call after a header that names the function.
    pub(super) fn named(form: &'static Form, name: &str, header: String) -> Self {
        let state = State::Named {
            name: name.to_owned(),
            json: Json::new(),
        };
        Self {
            raw: header,
            state,
            ..Self::new(form)
        }
    }

    pub(super) fn push(&mut self, c: char, offered: &Offered, calls: &mut Calls) -> Outcome {
        if let State::Tail(_) = self.state {
            return self.tail(c);
        }
        self.raw.push(c);
        if self.raw.len() > LONGEST_CALL {
            return Outcome::NotACall;
        }
        let only_offered = self.form.only_offered;
        let step = match &mut self.state {
            State::Head(_) => return self.head(c, offered, calls),
            State::Object(call) => call.push(c, &|name| !only_offered || offered.has(name), calls),
            State::Tagged(call) => call.push(c, offered, calls),
            State::Named { name, json } => arguments(c, name, json, calls),
            State::Tail(_) => Step::More,
        };
        match step {
            Step::More => Outcome::Continue,
            Step::Broken => Outcome::NotACall,
            Step::Done | Step::Over => {
                self.raw.clear();
                self.state = State::Tail(String::new());
                if step == Step::Over {
                    self.tail(c)
                } else {
                    Outcome::Continue
                }
            }
        }
    }

    /// Ends the text. An incomplete call is released as text.
    pub(super) fn finish(mut self, calls: &mut Calls) {
        let whole = match &mut self.state {
            State::Tail(_) => true,
            State::Object(call) => call.finish(calls),
            _ => false,
        };
        if !whole {
            self.broken(calls);
        }
    }

    /// Ends a part that turned out not to be a call.
    pub(super) fn broken(self, calls: &mut Calls) {
        let closing = match &self.state {
            State::Object(call) => call.closing(),
            State::Tagged(call) => call.closing().to_owned(),
            State::Named { json, .. } => json.closing(),
            State::Head(_) | State::Tail(_) => String::new(),
        };
        calls.broken(&closing, &self.raw);
    }

    fn head(&mut self, c: char, offered: &Offered, calls: &mut Calls) -> Outcome {
        let State::Head(header) = &mut self.state else {
            return Outcome::NotACall;
        };
        if header.is_empty() {
            match (self.form.head, c) {
                (_, c) if c.is_whitespace() => return Outcome::Continue,
                (Head::Objects | Head::ObjectsOrTags | Head::ObjectsOrName(_), '{') => {
                    return self.begin(
                        State::Object(ObjectCall::new(self.form.name_first)),
                        c,
                        offered,
                        calls,
                    );
                }
                (Head::Objects | Head::ObjectsOrTags | Head::ObjectsOrName(_), '[')
                    if !self.in_list && !self.form.only_offered =>
                {
                    self.in_list = true;
                    return Outcome::Continue;
                }
                (Head::ObjectsOrTags, '<') => {
                    return self.begin(State::Tagged(TaggedCall::new()), c, offered, calls);
                }
                _ => {}
            }
        }
        match self.form.head {
            Head::Name(find) | Head::ObjectsOrName(find) if c == '{' => {
                match find(header).filter(|name| is_name(name)) {
                    Some(name) => {
                        let name = name.to_owned();
                        self.begin(
                            State::Named {
                                name,
                                json: Json::new(),
                            },
                            c,
                            offered,
                            calls,
                        )
                    }
                    None => Outcome::NotACall,
                }
            }
            Head::Name(_) | Head::ObjectsOrName(_) if header.len() < LONGEST_HEADER => {
                header.push(c);
                Outcome::Continue
            }
            _ => Outcome::NotACall,
        }
    }

    /// Begins a call. `c` is its first character, and is already in `raw`.
    fn begin(&mut self, state: State, c: char, offered: &Offered, calls: &mut Calls) -> Outcome {
        self.state = state;
        self.raw.pop();
        self.push(c, offered, calls)
    }

    fn tail(&mut self, c: char) -> Outcome {
        let State::Tail(held) = &mut self.state else {
            return Outcome::NotACall;
        };
        if held.is_empty() {
            match c {
                c if c.is_whitespace() => return Outcome::Continue,
                ',' if self.in_list => {
                    self.raw.push(c);
                    self.state = State::Head(String::new());
                    return Outcome::Continue;
                }
                ']' if self.in_list => {
                    self.in_list = false;
                    return Outcome::Continue;
                }
                _ => {}
            }
        }
        held.push(c);
        for (number, &mark) in self.form.tail.iter().enumerate().skip(self.passed) {
            if held == mark {
                self.passed = number + 1;
                held.clear();
                return Outcome::Continue;
            }
            if begins(held, mark) {
                return Outcome::Continue;
            }
        }
        Outcome::Ended(std::mem::take(held))
    }
}

/// Parses one character of arguments that follow the name of their function.
fn arguments(c: char, name: &str, json: &mut Json, calls: &mut Calls) -> Step {
    let step = json.push(c);
    if step == Step::Broken || !json.whole().is_empty() && !json.whole().starts_with('{') {
        return Step::Broken;
    }
    if json.whole().starts_with('{') {
        calls.arguments(name, json);
    }
    if step == Step::Done {
        calls.done();
    }
    step
}

/// Whether a text before arguments looks like a name. Other texts are not accepted as one.
fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.contains(|c: char| c.is_whitespace() || c.is_control() || "<>[]{}\"".contains(c))
}
