//! Parses one JSON value character by character, and writes it as valid JSON.
//!
//! Models write almost-JSON: line breaks inside strings, escapes that JSON does not have, a comma
//! too many, Python's quotes and constants. The meaning of these is clear, so they are repaired;
//! anything else is invalid. Spaces outside strings are dropped.

use std::fmt::Write;

/// The result of parsing one character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The value is not complete yet.
    More,
    /// The value ends with this character.
    Done,
    /// The value ended before this character, which is not part of it.
    Over,
    /// The text is not a JSON value.
    Broken,
}

/// The maximum nesting of arrays and objects. JSON parsers have limits too; the strictest widely
/// used one is 128.
const DEPTH: usize = 64;

/// A value that is being parsed.
#[derive(Debug)]
pub(super) struct Json {
    out: String,
    /// The length of the part of `out` that closing brackets complete to valid JSON.
    whole: usize,
    open: Vec<char>,
    state: State,
    /// Whether a comma was read. It is written when another element follows.
    comma: bool,
}

#[derive(Debug)]
enum State {
    Value,
    Key,
    Text {
        text: Quoted,
        is_key: bool,
    },
    Colon,
    /// A number or a constant that began at this index of `out`.
    Word(usize),
    AfterValue,
    Done,
}

impl Json {
    pub(super) fn new() -> Self {
        Self {
            out: String::new(),
            whole: 0,
            open: Vec::new(),
            state: State::Value,
            comma: false,
        }
    }

    pub(super) fn push(&mut self, c: char) -> Step {
        match &mut self.state {
            State::Text { text, is_key } => {
                let is_key = *is_key;
                match text.push(c, &mut self.out) {
                    Step::Done if is_key => self.go(State::Colon),
                    Step::Done => self.value_done(),
                    other => other,
                }
            }
            State::Word(_) if c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.') => {
                self.out.push(c);
                Step::More
            }
            &mut State::Word(start) => self.word_done(start, c),
            State::Done => Step::Over,
            _ if c.is_ascii_whitespace() => Step::More,
            State::Value => self.value(c),
            State::Key => self.key(c),
            State::Colon if c == ':' => {
                self.out.push(':');
                self.go(State::Value)
            }
            State::AfterValue => self.after_value(c),
            State::Colon => Step::Broken,
        }
    }

    /// The part of the output that no further text can make invalid. It includes an inner value
    /// only when that value is complete.
    pub(super) fn whole(&self) -> &str {
        &self.out[..self.whole]
    }

    /// The text that completes [`Json::whole`] to a valid value.
    pub(super) fn closing(&self) -> String {
        self.open.iter().rev().map(|&open| closer(open)).collect()
    }

    fn go(&mut self, state: State) -> Step {
        self.state = state;
        Step::More
    }

    fn value(&mut self, c: char) -> Step {
        match c {
            '{' | '[' if self.open.len() < DEPTH => {
                self.separate();
                self.out.push(c);
                self.open.push(c);
                self.whole = self.out.len();
                self.go(if c == '{' { State::Key } else { State::Value })
            }
            // This closes an empty array, or an array with a trailing comma.
            ']' if self.open.last() == Some(&'[') => self.close(),
            '"' | '\'' => self.quote(c, false),
            '-' | '0'..='9' | 'A'..='Z' | 'a'..='z' => {
                self.separate();
                let start = self.out.len();
                self.out.push(c);
                self.go(State::Word(start))
            }
            _ => Step::Broken,
        }
    }

    fn key(&mut self, c: char) -> Step {
        match c {
            '"' | '\'' => self.quote(c, true),
            '}' => self.close(),
            _ => Step::Broken,
        }
    }

    fn quote(&mut self, quote: char, is_key: bool) -> Step {
        self.separate();
        self.out.push('"');
        self.go(State::Text {
            text: Quoted::new(quote),
            is_key,
        })
    }

    fn after_value(&mut self, c: char) -> Step {
        match (c, self.open.last()) {
            (',', Some(&open)) => {
                self.comma = true;
                self.go(if open == '{' {
                    State::Key
                } else {
                    State::Value
                })
            }
            ('}' | ']', Some(&open)) if closer(open) == c => self.close(),
            _ => Step::Broken,
        }
    }

    fn separate(&mut self) {
        if std::mem::take(&mut self.comma) {
            self.out.push(',');
        }
    }

    fn close(&mut self) -> Step {
        self.comma = false;
        if let Some(open) = self.open.pop() {
            self.out.push(closer(open));
        }
        self.value_done()
    }

    fn value_done(&mut self) -> Step {
        self.whole = self.out.len();
        if self.open.is_empty() {
            self.state = State::Done;
            Step::Done
        } else {
            self.go(State::AfterValue)
        }
    }

    fn word_done(&mut self, start: usize, next: char) -> Step {
        let mended = match &self.out[start..] {
            "True" => Some("true"),
            "False" => Some("false"),
            "None" => Some("null"),
            word if serde_json::from_str::<serde_json::Value>(word).is_ok() => None,
            _ => return Step::Broken,
        };
        if let Some(word) = mended {
            self.out.truncate(start);
            self.out.push_str(word);
        }
        match self.value_done() {
            Step::Done => Step::Over,
            _ => self.push(next),
        }
    }
}

fn closer(open: char) -> char {
    if open == '{' { '}' } else { ']' }
}

/// A string that is being parsed, after its opening quote.
#[derive(Debug)]
struct Quoted {
    quote: char,
    escape: Escape,
    /// The first half of a surrogate pair, from a `\u` escape.
    half: Option<u32>,
}

#[derive(Debug, Clone, Copy)]
enum Escape {
    None,
    Begun,
    Unicode { digits: u8, value: u32 },
}

impl Quoted {
    fn new(quote: char) -> Self {
        Self {
            quote,
            escape: Escape::None,
            half: None,
        }
    }

    fn push(&mut self, c: char, out: &mut String) -> Step {
        match self.escape {
            Escape::None if c == '\\' => self.escape = Escape::Begun,
            Escape::None if c == self.quote => {
                self.end_half(out);
                out.push('"');
                return Step::Done;
            }
            Escape::None => self.write(c, out),
            Escape::Begun => self.escaped(c, out),
            Escape::Unicode { digits, value } => {
                let Some(digit) = c.to_digit(16) else {
                    return Step::Broken;
                };
                let value = value << 4 | digit;
                if digits == 3 {
                    self.escape = Escape::None;
                    self.unit(value, out);
                } else {
                    self.escape = Escape::Unicode {
                        digits: digits + 1,
                        value,
                    };
                }
            }
        }
        Step::More
    }

    fn escaped(&mut self, c: char, out: &mut String) {
        self.escape = Escape::None;
        match c {
            'u' => {
                self.escape = Escape::Unicode {
                    digits: 0,
                    value: 0,
                }
            }
            'n' => self.write('\n', out),
            't' => self.write('\t', out),
            'r' => self.write('\r', out),
            'b' => self.write('\u{8}', out),
            'f' => self.write('\u{c}', out),
            '"' | '\'' | '\\' | '/' => self.write(c, out),
            // An escape that JSON does not have is taken literally: `\d`.
            other => {
                self.write('\\', out);
                self.write(other, out);
            }
        }
    }

    /// Writes a UTF-16 code unit: a character, or a half of a surrogate pair.
    fn unit(&mut self, unit: u32, out: &mut String) {
        match (self.half.take(), unit) {
            (Some(half), 0xDC00..=0xDFFF) => {
                let joined = 0x1_0000 + ((half - 0xD800) << 10) + (unit - 0xDC00);
                self.write(
                    char::from_u32(joined).unwrap_or(char::REPLACEMENT_CHARACTER),
                    out,
                );
            }
            (half, 0xD800..=0xDBFF) => {
                self.half = half;
                self.end_half(out);
                self.half = Some(unit);
            }
            (half, _) => {
                self.half = half;
                self.write(
                    char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER),
                    out,
                );
            }
        }
    }

    /// Writes U+FFFD for a half of a surrogate pair that has no other half.
    fn end_half(&mut self, out: &mut String) {
        if self.half.take().is_some() {
            out.push(char::REPLACEMENT_CHARACTER);
        }
    }

    fn write(&mut self, c: char, out: &mut String) {
        self.end_half(out);
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c < ' ' => {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Json, Step) {
        let mut json = Json::new();
        let mut step = Step::More;
        for c in text.chars() {
            step = json.push(c);
            if step != Step::More {
                break;
            }
        }
        (json, step)
    }

    #[test]
    fn a_value_loses_its_spaces_and_nothing_else() {
        let (json, step) = read(r#" { "a" : [ 1 , -2.5e3, true , null ], "ü" : { } } "#);
        assert_eq!(
            (json.whole(), step),
            (r#"{"a":[1,-2.5e3,true,null],"ü":{}}"#, Step::Done)
        );
    }

    #[test]
    fn what_is_plainly_meant_is_mended() {
        let mended = [
            ("{'a': True, 'b': None,}", r#"{"a":true,"b":null}"#),
            ("{\"a\": \"one\ntwo\\d\\'\"}", r#"{"a":"one\ntwo\\d'"}"#),
            (
                r#"{"a": "\ud83e\udd80 \u00e9 \ud83e"}"#,
                "{\"a\":\"🦀 é \u{fffd}\"}",
            ),
            ("[1, 2,]", "[1,2]"),
        ];
        for (text, expected) in mended {
            let (json, step) = read(text);
            assert_eq!((json.whole(), step), (expected, Step::Done), "{text}");
            assert!(serde_json::from_str::<serde_json::Value>(expected).is_ok());
        }
    }

    #[test]
    fn what_means_nothing_is_broken() {
        for text in [
            "{a: 1}",
            "{\"a\" 1}",
            "[1 2]",
            "{\"a\": nope }",
            "{\"a\": }",
            "[01 ]",
            "}",
            "{\"a\": 1]",
            "\"\\u12x\"",
        ] {
            assert_eq!(read(text).1, Step::Broken, "{text}");
        }
        assert_eq!(read(&"[".repeat(DEPTH + 1)).1, Step::Broken);
    }

    #[test]
    fn only_whole_values_leave_and_brackets_close_them() {
        let (json, _) = read(r#"{"a": "whole", "b": [1, {"c": "cut of"#);
        assert_eq!(
            json.whole().to_owned() + &json.closing(),
            r#"{"a":"whole","b":[1,{}]}"#
        );
    }
}
