//! The source text that a grammar is compiled from. Pure.
//!
//! The cache of compiled grammars uses it as its key: equal sources give the same grammar.

use std::fmt::Write;

use loggia_wire::openai::FunctionDefinition;
use serde_json::Value;

use super::ends::Scope;
use super::part::{Arguments, Part};
use super::vocabulary::Vocabulary;
use crate::syntax::{CallForm, Syntax};

/// The source of a grammar.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    /// llguidance's language, with the parts that it refers to.
    Guided {
        /// Rules in llguidance's dialect of Lark.
        rules: String,
        /// The parts that the rules refer to.
        values: Vec<Part>,
        /// Where in the answer the values begin.
        scope: Scope,
    },
    /// The client's own grammar, in GBNF.
    Gbnf(String),
}

impl Source {
    /// The size of the source's text in bytes.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Guided { rules, values, .. } => {
                rules.len() + values.iter().map(Part::size).sum::<usize>()
            }
            Self::Gbnf(text) => text.len(),
        }
    }
}

/// The number of calls that may follow the first one in an answer. Without a limit, a small model
/// repeats the same call forever.
pub(super) const MORE_CALLS: &str = "{0,63}";

/// The functions that may be called.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Calls<'a> {
    pub(crate) functions: &'a [&'a FunctionDefinition],
    /// Whether an answer may have several calls.
    pub(crate) several: bool,
    /// Whether all arguments follow their schemas, or only those of functions that are `strict`.
    pub(crate) all_strict: bool,
}

/// Writes sources for one model.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Writer<'a> {
    pub(crate) syntax: &'a Syntax,
    pub(crate) vocabulary: &'a Vocabulary,
}

impl Writer<'_> {
    /// Writes the source of an answer that is a JSON value or, if `calls` is set, calls instead.
    pub(crate) fn answer(self, answer: Part, calls: Option<Calls<'_>>) -> Source {
        let either = if calls.is_some() {
            "(answer | calls)"
        } else {
            "answer"
        };
        let mut rules = format!("start: {}{either}", self.author());
        let mut values = vec![answer];
        if let Some(calls) = calls {
            match self.syntax.form().object_key() {
                Some(key) => object_calls_into(key, calls, &mut rules, &mut values),
                None => self.calls_into(calls, &mut rules, &mut values),
            }
        }
        let head = self.text(self.syntax.answer_head());
        let _ = write!(rules, "\nanswer: {head} @{}\n", values[0].name);
        Source::Guided {
            rules,
            values,
            scope: Scope::AtOnce,
        }
    }

    /// Writes the source of an answer that consists of calls.
    pub(crate) fn calls(self, calls: Calls<'_>) -> Source {
        let (mut rules, mut values) = (format!("start: {}calls", self.author()), Vec::new());
        self.calls_into(calls, &mut rules, &mut values);
        Source::Guided {
            rules,
            values,
            scope: Scope::AtOnce,
        }
    }

    /// Writes the source of the rest of calls whose first marker has been generated.
    pub(crate) fn rest_of_calls(self, calls: Calls<'_>, mark: &str) -> Source {
        let form = self.syntax.form();
        let rest = |text: &'static str| text.strip_prefix(mark).unwrap_or(text);
        let form = if form.head.is_empty() {
            CallForm {
                open: rest(form.open),
                between: None,
                ..form
            }
        } else {
            CallForm {
                head: rest(form.head),
                ..form
            }
        };
        let (mut rules, mut values) = ("start: calls".to_owned(), Vec::new());
        self.form_into(form, calls, &mut rules, &mut values);
        Source::Guided {
            rules,
            values,
            scope: Scope::AtOnce,
        }
    }

    fn calls_into(self, calls: Calls<'_>, rules: &mut String, values: &mut Vec<Part>) {
        self.form_into(self.syntax.form(), calls, rules, values);
    }

    fn form_into(
        self,
        form: CallForm,
        calls: Calls<'_>,
        rules: &mut String,
        values: &mut Vec<Part>,
    ) {
        let between = form.between.filter(|_| calls.several);
        let more = between
            .map(|between| format!(" ({} call){MORE_CALLS}", self.text(between)))
            .unwrap_or_default();
        let _ = write!(
            rules,
            "\ncalls: {} call{more} {}\ncall: ",
            self.text(form.head),
            self.text(form.tail)
        );
        let mut of_arguments = String::new();
        for (number, function) in calls.functions.iter().enumerate() {
            let or = if number == 0 { "" } else { " | " };
            let keeps = calls.all_strict || function.strict == Some(true);
            let arguments = Arguments::of(number, function, keeps);
            let before = format!(
                "{}{}{}",
                form.open,
                written_name(&function.name, form.quoted),
                form.middle
            );
            let _ = write!(
                rules,
                "{or}{} {} {}",
                self.text(&before),
                arguments.symbol,
                self.text(form.close)
            );
            of_arguments.push_str(&arguments.rules);
            values.push(arguments.part);
        }
        rules.push('\n');
        rules.push_str(&of_arguments);
    }

    /// Writes the author of a message after the first.
    fn author(self) -> String {
        self.syntax
            .author()
            .map(|author| format!("({})? ", self.text(author)))
            .unwrap_or_default()
    }

    /// Writes a text in the rules: markers become their tokens, and the rest becomes strings.
    pub(super) fn text(self, text: &str) -> String {
        let (mut written, mut plain) = (String::new(), String::new());
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            if let Some((length, token)) = self.vocabulary.marker_at(rest) {
                string_into(&mut written, &mut plain);
                let _ = write!(written, "<[{token}]> ");
                rest = &rest[length..];
            } else {
                plain.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
        string_into(&mut written, &mut plain);
        written.trim_end().to_owned()
    }
}

/// Writes a call that is an object and the whole answer.
fn object_calls_into(key: &str, calls: Calls<'_>, rules: &mut String, values: &mut Vec<Part>) {
    rules.push_str("\ncalls: ");
    for (number, function) in calls.functions.iter().enumerate() {
        let keeps = calls.all_strict || function.strict == Some(true);
        let call = Part::object_call(format!("call{number}"), function, keeps, key);
        let or = if number == 0 { "" } else { " | " };
        let _ = write!(rules, "{or}@{}", call.name);
        values.push(call);
    }
}

fn string_into(written: &mut String, plain: &mut String) {
    if !plain.is_empty() {
        let _ = write!(written, "{} ", Value::from(std::mem::take(plain)));
    }
}

/// Writes a name as it is in a call. In a JSON string, special characters are escaped.
fn written_name(name: &str, quoted: bool) -> String {
    if !quoted {
        return name.to_owned();
    }
    let string = Value::from(name).to_string();
    string[1..string.len() - 1].to_owned()
}
