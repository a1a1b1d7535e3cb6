//! Parses a call in the form of a JSON object: the function's name is under `name`, the arguments
//! are under `arguments` or `parameters`.

use super::calls::Calls;
use super::json::{Json, Step};

/// The maximum length of a name in bytes. Names are short; a longer text is not a name.
const LONGEST_NAME: usize = 256;

/// A call in the form of a JSON object that is being parsed.
#[derive(Debug)]
pub(super) struct ObjectCall {
    state: State,
    json: Json,
    key: Key,
    name: Option<String>,
    arguments: Option<String>,
    /// Whether the first key of the object must be `name`.
    name_first: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Key,
    Colon,
    Value,
    Next,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Name,
    Arguments,
    /// Other fields that some models write and that are ignored: an id of their own, `"type":
    /// "function"`.
    Other,
}

impl ObjectCall {
    pub(super) fn new(name_first: bool) -> Self {
        Self {
            state: State::Open,
            json: Json::new(),
            key: Key::Other,
            name: None,
            arguments: None,
            name_first,
        }
    }

    /// Parses one character. `is_name` reports whether a function with this name may be called.
    pub(super) fn push(
        &mut self,
        c: char,
        is_name: &dyn Fn(&str) -> bool,
        calls: &mut Calls,
    ) -> Step {
        match self.state {
            State::Value => self.value(c, is_name, calls),
            State::Key if self.json.whole().is_empty() && c == '}' => self.end(calls),
            State::Key => self.key(c),
            _ if c.is_ascii_whitespace() => Step::More,
            State::Open if c == '{' => self.go(State::Key),
            State::Colon if c == ':' => self.go(State::Value),
            State::Next if c == ',' => self.go(State::Key),
            State::Next if c == '}' => self.end(calls),
            // The last bracket is missing, but the name and the arguments are complete.
            State::Next if self.name.is_some() && self.arguments.is_some() => match self.end(calls)
            {
                Step::Done => Step::Over,
                other => other,
            },
            _ => Step::Broken,
        }
    }

    /// Ends the text. Returns whether the call is complete, except for its last bracket.
    pub(super) fn finish(&mut self, calls: &mut Calls) -> bool {
        let whole = self.state == State::Next && self.name.is_some() && self.arguments.is_some();
        whole && self.end(calls) == Step::Done
    }

    /// The text that closes the released arguments.
    pub(super) fn closing(&self) -> String {
        if self.arguments.is_none() && self.key == Key::Arguments {
            self.json.closing()
        } else {
            String::new()
        }
    }

    fn go(&mut self, state: State) -> Step {
        self.state = state;
        self.json = Json::new();
        Step::More
    }

    fn key(&mut self, c: char) -> Step {
        match self.json.push(c) {
            Step::Done => {}
            Step::More => return Step::More,
            _ => return Step::Broken,
        }
        self.key = match serde_json::from_str::<String>(self.json.whole()).as_deref() {
            Ok("name" | "function") if self.name.is_none() => Key::Name,
            Ok("arguments" | "parameters") if self.arguments.is_none() => Key::Arguments,
            Ok("id" | "call_id" | "type") => Key::Other,
            _ => return Step::Broken,
        };
        if self.name_first && self.name.is_none() && self.json.whole() != "\"name\"" {
            return Step::Broken;
        }
        self.go(State::Colon)
    }

    fn value(&mut self, c: char, is_name: &dyn Fn(&str) -> bool, calls: &mut Calls) -> Step {
        let step = self.json.push(c);
        match (step, &self.name) {
            (Step::Broken, _) => return Step::Broken,
            (Step::More, Some(name))
                if self.key == Key::Arguments && self.json.whole().starts_with('{') =>
            {
                calls.arguments(name, &self.json);
                return Step::More;
            }
            (Step::More, _) => return Step::More,
            (Step::Done | Step::Over, _) => {}
        }
        if !self.value_done(is_name, calls) {
            return Step::Broken;
        }
        self.go(State::Next);
        if step == Step::Over {
            self.push(c, is_name, calls)
        } else {
            Step::More
        }
    }

    fn value_done(&mut self, is_name: &dyn Fn(&str) -> bool, calls: &mut Calls) -> bool {
        let value = self.json.whole();
        match self.key {
            Key::Other => return true,
            Key::Name => match serde_json::from_str::<String>(value) {
                Ok(name) if !name.is_empty() && name.len() <= LONGEST_NAME && is_name(&name) => {
                    self.name = Some(name);
                }
                _ => return false,
            },
            Key::Arguments => match object_of(value) {
                Some(object) => self.arguments = Some(object),
                None => return false,
            },
        }
        if let (Some(name), Some(arguments)) = (&self.name, &self.arguments) {
            calls.arguments_so_far(name, arguments);
        }
        true
    }

    fn end(&mut self, calls: &mut Calls) -> Step {
        let Some(name) = &self.name else {
            return Step::Broken;
        };
        if self.arguments.is_none() {
            calls.arguments_so_far(name, "{}");
        }
        calls.done();
        Step::Done
    }
}

/// Converts arguments to an object: some models write the object as a string, or `null` instead of
/// an empty object.
fn object_of(value: &str) -> Option<String> {
    if value.starts_with('{') {
        return Some(value.to_owned());
    }
    if value == "null" {
        return Some("{}".to_owned());
    }
    let text: String = serde_json::from_str(value).ok()?;
    if text.trim().is_empty() {
        return Some("{}".to_owned());
    }
    let mut json = Json::new();
    let mut step = Step::More;
    for c in text.trim().chars() {
        step = json.push(c);
        if step == Step::Broken {
            return None;
        }
    }
    (step == Step::Done && json.whole().starts_with('{')).then(|| json.whole().to_owned())
}
