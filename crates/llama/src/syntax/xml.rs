//! Parses a call in the form of tags: `<function=NAME><parameter=KEY>VALUE</parameter></function>`,
//! as in Qwen3-Coder.

use serde_json::Value;

use super::calls::Calls;
use super::json::Step;
use super::marks::begins;
use super::offered::Offered;

const FUNCTION: &str = "<function=";
const PARAMETER: &str = "<parameter=";
const END_PARAMETER: &str = "</parameter>";
const END_FUNCTION: &str = "</function>";
const LONGEST_NAME: usize = 256;

/// A call in the form of tags that is being parsed.
#[derive(Debug)]
pub(super) struct TaggedCall {
    state: State,
    /// The text so far of the name, key, value or marker that is being read.
    part: String,
    name: String,
    key: String,
    /// The arguments so far as JSON, without the last bracket. Empty before they begin.
    arguments: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Begin,
    Name,
    Between,
    Key,
    Value,
}

impl TaggedCall {
    pub(super) fn new() -> Self {
        let (part, name, key, arguments) = Default::default();
        Self {
            state: State::Begin,
            part,
            name,
            key,
            arguments,
        }
    }

    /// Begins a call after `<function=`, which the marker already contains.
    pub(super) fn begun() -> Self {
        Self {
            state: State::Name,
            ..Self::new()
        }
    }

    pub(super) fn push(&mut self, c: char, offered: &Offered, calls: &mut Calls) -> Step {
        match self.state {
            State::Begin | State::Between if self.part.is_empty() && c.is_whitespace() => {
                return Step::More;
            }
            State::Name | State::Key if c == '>' => return self.named(calls),
            _ => self.part.push(c),
        }
        match self.state {
            State::Begin => self.mark(FUNCTION, State::Name),
            State::Between if self.part == END_FUNCTION => self.end(calls),
            State::Between if begins(&self.part, END_FUNCTION) => Step::More,
            State::Between => self.mark(PARAMETER, State::Key),
            State::Name | State::Key if self.part.len() > LONGEST_NAME || c.is_control() => {
                Step::Broken
            }
            State::Name | State::Key => Step::More,
            State::Value => self.value(offered, calls),
        }
    }

    /// The text that closes the released arguments.
    pub(super) fn closing(&self) -> &'static str {
        if self.arguments.is_empty() { "" } else { "}" }
    }

    fn mark(&mut self, mark: &str, then: State) -> Step {
        if self.part == mark {
            self.go(then)
        } else if begins(&self.part, mark) {
            Step::More
        } else {
            Step::Broken
        }
    }

    fn go(&mut self, state: State) -> Step {
        self.state = state;
        self.part.clear();
        Step::More
    }

    fn named(&mut self, calls: &mut Calls) -> Step {
        let name = self.part.trim().to_owned();
        if name.is_empty() {
            return Step::Broken;
        }
        if self.state == State::Key {
            self.key = name;
            return self.go(State::Value);
        }
        self.name = name;
        self.arguments.push('{');
        calls.arguments_so_far(&self.name, &self.arguments);
        self.go(State::Between)
    }

    fn value(&mut self, offered: &Offered, calls: &mut Calls) -> Step {
        let Some(value) = self.part.strip_suffix(END_PARAMETER) else {
            return Step::More;
        };
        let value = value.strip_prefix('\n').unwrap_or(value);
        let value = value.strip_suffix('\n').unwrap_or(value);
        let json = as_json(value, offered.property(&self.name, &self.key));
        if self.arguments.len() > 1 {
            self.arguments.push(',');
        }
        self.arguments
            .push_str(&Value::from(self.key.as_str()).to_string());
        self.arguments.push(':');
        self.arguments.push_str(&json);
        calls.arguments_so_far(&self.name, &self.arguments);
        self.go(State::Between)
    }

    fn end(&mut self, calls: &mut Calls) -> Step {
        self.arguments.push('}');
        calls.arguments_so_far(&self.name, &self.arguments);
        calls.done();
        Step::Done
    }
}

/// Converts a value to JSON by its schema. If the schema allows a string, it is a string; else it
/// is the text itself, if that is valid JSON.
fn as_json(text: &str, schema: Option<&Value>) -> String {
    let kind = schema.and_then(|schema| schema.get("type"));
    let may_be_text = match kind {
        Some(Value::String(kind)) => kind == "string",
        Some(Value::Array(kinds)) => {
            kinds.iter().any(|kind| kind == "string") && text.trim() != "null"
        }
        _ => false,
    };
    let read = || serde_json::from_str::<Value>(text.trim()).ok();
    let value = if may_be_text {
        None
    } else {
        read().or_else(|| constant(text.trim()))
    };
    value.unwrap_or_else(|| Value::from(text)).to_string()
}

/// Python's constants.
fn constant(text: &str) -> Option<Value> {
    match text {
        "True" => Some(Value::Bool(true)),
        "False" => Some(Value::Bool(false)),
        "None" => Some(Value::Null),
        _ => None,
    }
}
