//! Turns the arguments of an earlier call into a JSON object.
//!
//! OpenAI's API accepts any string there and returns whatever the model wrote: arguments that
//! `max_tokens` truncated, empty ones, `null`. Most chat templates, Ollama and llama-server fail at
//! a string that is not a JSON object, and the client sends it again in every turn.

use std::borrow::Cow;
use std::sync::Arc;

use loggia_wire::openai::{ChatCompletionRequest, FunctionCall, Message};
use serde_json::Value;

use super::Change;

/// The field that holds arguments which are not an object.
const FIELD: &str = "arguments";

/// The maximum nesting depth. Templates and engines process the levels recursively.
const MOST_LEVELS: usize = 96;

/// Returns the arguments as the text of a JSON object. Numbers keep their digits.
///
/// An empty text and `null` give `{}`. Truncated text is completed: open strings, lists and objects
/// are closed, and an entry without a value is dropped. An object that was encoded twice is decoded
/// once. Anything else becomes the only field of an object.
pub fn as_object(text: &str) -> Cow<'_, str> {
    as_object_or_in_one(text.trim(), true)
}

/// Returns whether [`as_object`] changes the meaning of these arguments. Empty arguments and `{}`
/// mean the same.
pub fn are_changed(text: &str) -> bool {
    let text = text.trim();
    !is_nothing(text) && as_object(text) != text
}

/// Returns whether an earlier call in these messages has arguments that [`as_object`] changes.
pub fn any_changed(messages: &[Message]) -> bool {
    calls(messages).any(|call| are_changed(&call.arguments))
}

/// Turns the arguments of all earlier calls into objects, and returns a change if their meaning
/// changed. Copies the request only if there is something to do and the request is shared.
pub(crate) fn mend_all(request: &mut Arc<ChatCompletionRequest>) -> Vec<Change> {
    if calls(&request.messages).all(|call| as_object(&call.arguments) == call.arguments) {
        return Vec::new();
    }
    let changed = any_changed(&request.messages).then_some(Change::Arguments);
    for message in &mut Arc::make_mut(request).messages {
        let newer = message
            .tool_calls
            .iter_mut()
            .flatten()
            .map(|call| &mut call.function);
        for call in newer.chain(&mut message.function_call) {
            call.arguments = as_object(&call.arguments).into_owned();
        }
    }
    changed.into_iter().collect()
}

fn calls(messages: &[Message]) -> impl Iterator<Item = &FunctionCall> {
    let newer = messages
        .iter()
        .flat_map(|message| message.tool_calls.iter().flatten())
        .map(|call| &call.function);
    newer.chain(
        messages
            .iter()
            .filter_map(|message| message.function_call.as_ref()),
    )
}

fn is_nothing(text: &str) -> bool {
    text.is_empty() || text == "null"
}

fn as_object_or_in_one(text: &str, may_be_encoded: bool) -> Cow<'_, str> {
    if is_nothing(text) {
        return Cow::Borrowed("{}");
    }
    let mut reader = Reader {
        text,
        at: 0,
        out: String::with_capacity(text.len() + 8),
    };
    let read = reader.value(MOST_LEVELS);
    // Models sometimes write one bracket too many. Any other text after the value means that the
    // value was parsed wrongly.
    let rest = text[reader.at..]
        .trim_start_matches(|after: char| after.is_whitespace() || matches!(after, '}' | ']'));
    if read.is_err() || !rest.is_empty() || reader.out.is_empty() {
        return Cow::Owned(in_one(&Value::from(text).to_string()));
    }
    match reader.out.as_bytes()[0] {
        b'{' if reader.out == text => Cow::Borrowed(text),
        b'{' => Cow::Owned(reader.out),
        b'"' if may_be_encoded => Cow::Owned(decoded(&reader.out)),
        _ => Cow::Owned(in_one(&reader.out)),
    }
}

/// Returns the content of a JSON string if it is an object, otherwise an object with the string as
/// its only field.
fn decoded(string: &str) -> String {
    let text: String = serde_json::from_str(string).unwrap_or_default();
    let text = text.trim();
    if text.starts_with('{') || is_nothing(text) {
        as_object_or_in_one(text, false).into_owned()
    } else {
        in_one(string)
    }
}

fn in_one(value: &str) -> String {
    format!("{{\"{FIELD}\": {value}}}")
}

/// How a value ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// The value is complete.
    Whole,
    /// The text ended before the value was complete. The output has been closed.
    Cut,
}

/// The text is not JSON, not even truncated JSON.
struct Invalid;

/// Copies JSON and completes it if the text ends too early.
struct Reader<'a> {
    text: &'a str,
    at: usize,
    out: String,
}

impl Reader<'_> {
    /// Copies a value. A value that was truncated before its first part is dropped.
    fn value(&mut self, levels: usize) -> Result<Ended, Invalid> {
        match self.next() {
            None => Ok(Ended::Cut),
            Some(b'{') => self.list(b'}', levels),
            Some(b'[') => self.list(b']', levels),
            Some(b'"') => self.string(),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            Some(_) => self.number(),
        }
    }

    /// Copies a list or an object that ends with `close`.
    fn list(&mut self, close: u8, levels: usize) -> Result<Ended, Invalid> {
        let levels = levels.checked_sub(1).ok_or(Invalid)?;
        self.copy(1);
        // The output up to here is complete, apart from the closing bracket.
        let mut whole = self.out.len();
        loop {
            self.spaces();
            if self.next() == Some(close) {
                if self.out[whole..].contains(',') {
                    self.out.truncate(whole);
                }
                self.copy(1);
                return Ok(Ended::Whole);
            }
            let ended = self.entry(close, levels)?;
            if let Some(Ended::Whole) = ended {
                whole = self.out.len();
                self.spaces();
            }
            match self.next() {
                Some(b',') => self.copy(1),
                Some(next) if next == close => {}
                Some(_) => return Err(Invalid),
                None => {
                    let kept = if ended == Some(Ended::Cut) {
                        self.out.len()
                    } else {
                        whole
                    };
                    self.out.truncate(kept);
                    self.out.push(char::from(close));
                    return Ok(Ended::Cut);
                }
            }
        }
    }

    /// Copies an entry of a list or an object. Returns `None` if it was truncated before its value.
    fn entry(&mut self, close: u8, levels: usize) -> Result<Option<Ended>, Invalid> {
        if close == b'}' {
            if self.next().is_some_and(|next| next != b'"') {
                return Err(Invalid);
            }
            if self.next().is_none() || self.string()? == Ended::Cut {
                return Ok(None);
            }
            self.spaces();
            match self.next() {
                None => return Ok(None),
                Some(b':') => self.copy(1),
                Some(_) => return Err(Invalid),
            }
            self.spaces();
        }
        let before = self.out.len();
        let ended = self.value(levels)?;
        Ok((self.out.len() > before).then_some(ended))
    }

    /// Copies a string. Escapes what models write and JSON does not allow in a string: line breaks
    /// and lone surrogates.
    fn string(&mut self) -> Result<Ended, Invalid> {
        self.copy(1);
        loop {
            let rest = &self.text[self.at..];
            let plain = rest
                .find(|c: char| c == '"' || c == '\\' || c < ' ')
                .unwrap_or(rest.len());
            self.copy(plain);
            match self.next() {
                None => {
                    self.out.push('"');
                    return Ok(Ended::Cut);
                }
                Some(b'"') => {
                    self.copy(1);
                    return Ok(Ended::Whole);
                }
                Some(b'\\') => self.escape()?,
                Some(control) => {
                    self.at += 1;
                    let escaped = Value::from(char::from(control).to_string()).to_string();
                    self.out.push_str(&escaped[1..escaped.len() - 1]);
                }
            }
        }
    }

    /// Copies an escape of a string. Drops a truncated one.
    fn escape(&mut self) -> Result<(), Invalid> {
        match self.text.as_bytes().get(self.at + 1) {
            None => self.at += 1,
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.copy(2),
            Some(b'u') => match self.code(self.at) {
                None => self.code_that_was_cut()?,
                Some(0xd800..=0xdbff) => match self.code(self.at + CODE) {
                    Some(0xdc00..=0xdfff) => self.copy(2 * CODE),
                    // The text ends within the escape: it is truncated.
                    _ if self.text[self.at + CODE..].len() < CODE
                        && !self.text[self.at + CODE..].contains('"') =>
                    {
                        self.at = self.text.len();
                    }
                    _ => self.half_a_character(),
                },
                Some(0xdc00..=0xdfff) => self.half_a_character(),
                Some(_) => self.copy(CODE),
            },
            Some(_) => return Err(Invalid),
        }
        Ok(())
    }

    /// Returns the code of an escape such as `\u00e9` at this position.
    fn code(&self, at: usize) -> Option<u32> {
        let digits = self.text.get(at..at + CODE)?.strip_prefix("\\u")?;
        digits
            .bytes()
            .all(|digit| digit.is_ascii_hexdigit())
            .then(|| u32::from_str_radix(digits, 16).ok())?
    }

    fn code_that_was_cut(&mut self) -> Result<(), Invalid> {
        let rest = &self.text[self.at + 2..];
        if rest.len() < CODE - 2 && rest.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            self.at = self.text.len();
            return Ok(());
        }
        Err(Invalid)
    }

    fn half_a_character(&mut self) {
        self.at += CODE;
        self.out.push(char::REPLACEMENT_CHARACTER);
    }

    fn word(&mut self, word: &str) -> Result<Ended, Invalid> {
        let rest = &self.text[self.at..];
        if rest.starts_with(word) {
            self.copy(word.len());
            Ok(Ended::Whole)
        } else if word.starts_with(rest) {
            self.at = self.text.len();
            Ok(Ended::Cut)
        } else {
            Err(Invalid)
        }
    }

    /// Copies a number. Of a truncated one, copies the digits that form a number.
    fn number(&mut self) -> Result<Ended, Invalid> {
        let rest = &self.text[self.at..];
        let length = rest
            .find(|c: char| !matches!(c, '0'..='9' | '+' | '-' | '.' | 'e' | 'E'))
            .unwrap_or(rest.len());
        if is_number(&rest[..length]) {
            self.copy(length);
            return Ok(Ended::Whole);
        }
        // `-`, `1.`, `1e`, `1e+`: at most two trailing characters lack their digits.
        let whole = (length.saturating_sub(2)..length)
            .rev()
            .find(|&shorter| is_number(&rest[..shorter]));
        match whole {
            _ if length < rest.len() || length == 0 => Err(Invalid),
            Some(whole) => {
                self.out.push_str(&rest[..whole]);
                self.at = self.text.len();
                Ok(Ended::Cut)
            }
            None if rest == "-" => {
                self.at = self.text.len();
                Ok(Ended::Cut)
            }
            None => Err(Invalid),
        }
    }

    fn spaces(&mut self) {
        let rest = &self.text[self.at..];
        let spaces = rest.len() - rest.trim_start_matches([' ', '\n', '\r', '\t']).len();
        self.copy(spaces);
    }

    fn next(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn copy(&mut self, length: usize) {
        self.out.push_str(&self.text[self.at..self.at + length]);
        self.at += length;
    }
}

/// The length of an escape such as `\u00e9`, in bytes.
const CODE: usize = 6;

/// Returns whether a text is a JSON number, of any length.
fn is_number(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
    let (text, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (text, None),
    };
    let whole = whole.strip_prefix('-').unwrap_or(whole);
    let exponent = exponent.map(|exponent| exponent.strip_prefix(['+', '-']).unwrap_or(exponent));
    digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent.is_none_or(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_stays_as_it_is_to_the_letter() {
        for text in [
            "{}",
            "{\"b\":1,\"a\":\"<é>\"}",
            "{ \"a\" : [ 1 , {\"b\": null}, true,false ] }",
            "{\"id\": 25227143063332189585438, \"x\": 0.1234567890123456789, \"y\": 1e400, \"z\": -0.0}",
            "{\"a\": \"\\ud83d\\ude00 \\\"\\\\ \\u00e9\"}",
        ] {
            assert_eq!(as_object(text), text);
            assert!(!are_changed(text), "{text}");
        }
        assert_eq!(as_object(" {\"a\": 1}\n"), "{\"a\": 1}");
    }

    #[test]
    fn no_arguments_are_an_empty_object() {
        for text in ["", " \n", "null", " null ", "\"\"", "\"null\""] {
            assert_eq!(as_object(text), "{}", "{text:?}");
        }
        assert!(!are_changed("") && !are_changed("null"));
    }

    #[test]
    fn arguments_that_were_cut_are_completed_with_what_is_there() {
        for (cut, whole) in [
            ("{", "{}"),
            ("{\"pa", "{}"),
            ("{\"path\"", "{}"),
            ("{\"path\": ", "{}"),
            (
                "{\"path\": \"a.txt\", \"text\": \"Once upon",
                "{\"path\": \"a.txt\", \"text\": \"Once upon\"}",
            ),
            ("{\"path\": \"a.txt\", \"te", "{\"path\": \"a.txt\"}"),
            ("{\"a\": 1, ", "{\"a\": 1}"),
            ("{\"a\": [1, {\"b\": \"c", "{\"a\": [1, {\"b\": \"c\"}]}"),
            ("{\"a\": [1, 2", "{\"a\": [1, 2]}"),
            ("{\"a\": [1, ", "{\"a\": [1]}"),
            ("{\"a\": [", "{\"a\": []}"),
            ("{\"a\": 1, \"b\": tru", "{\"a\": 1}"),
            ("{\"a\": 12", "{\"a\": 12}"),
            ("{\"a\": 12.", "{\"a\": 12}"),
            ("{\"a\": 12e-", "{\"a\": 12}"),
            ("{\"a\": -", "{}"),
            ("{\"a\": \"b\\", "{\"a\": \"b\"}"),
            ("{\"a\": \"b\\u00", "{\"a\": \"b\"}"),
            ("{\"a\": \"b\\ud83d", "{\"a\": \"b\"}"),
            ("{\"a\": \"b\\ud83d\\ude", "{\"a\": \"b\"}"),
        ] {
            assert_eq!(as_object(cut), whole, "{cut}");
            assert!(are_changed(cut), "{cut}");
        }
    }

    #[test]
    fn wherever_arguments_are_cut_they_are_an_object() {
        let text = r#"{"path": "a\n\"b\u00e9\ud83d\ude00.txt", "lines": [1, -2.5e-3, {"x": null, "y": [true, false]}], "é": {}}"#;
        for (cut, _) in text.char_indices() {
            let whole = as_object(&text[..cut]);
            assert!(
                serde_json::from_str::<serde_json::Map<String, Value>>(&whole).is_ok(),
                "{cut}: {whole}"
            );
        }
    }

    #[test]
    fn other_arguments_are_the_only_field_of_an_object() {
        for (text, object) in [
            ("Paris", "{\"arguments\": \"Paris\"}"),
            ("[1, 2]", "{\"arguments\": [1, 2]}"),
            ("[1, {\"a\": ", "{\"arguments\": [1, {}]}"),
            (
                "25227143063332189585438",
                "{\"arguments\": 25227143063332189585438}",
            ),
            ("true", "{\"arguments\": true}"),
            ("\"Paris\"", "{\"arguments\": \"Paris\"}"),
            ("{'a': 1}", "{\"arguments\": \"{'a': 1}\"}"),
            ("{\"a\": NaN}", "{\"arguments\": \"{\\\"a\\\": NaN}\"}"),
            ("{}{\"a\": 1}", "{\"arguments\": \"{}{\\\"a\\\": 1}\"}"),
            ("{\"a\": 007}", "{\"arguments\": \"{\\\"a\\\": 007}\"}"),
        ] {
            assert_eq!(as_object(text), object, "{text}");
        }
    }

    #[test]
    fn arguments_that_were_encoded_twice_are_decoded_once() {
        assert_eq!(as_object(r#""{\"a\": 1}""#), "{\"a\": 1}");
        assert_eq!(as_object(r#""{\"a\": \"Once up"#), "{\"a\": \"Once up\"}");
        assert_eq!(as_object(r#""\"{}\"""#), r#"{"arguments": "\"{}\""}"#);
    }

    #[test]
    fn what_models_write_besides_json_is_mended() {
        assert_eq!(as_object("{\"a\": 1}}"), "{\"a\": 1}");
        assert_eq!(as_object("{\"a\": [1, ], }"), "{\"a\": [1]}");
        assert_eq!(as_object("{\"a\": \"b\nc\"}"), "{\"a\": \"b\\nc\"}");
        assert_eq!(as_object(r#"{"a": "\ud83d!"}"#), "{\"a\": \"\u{fffd}!\"}");
    }

    #[test]
    fn deep_nesting_is_bounded() {
        let deep = "[".repeat(1 << 20);
        assert!(as_object(&deep).starts_with("{\"arguments\": \"[["));
    }
}
