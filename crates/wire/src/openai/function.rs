//! A function that the model may call. The numbers in its schema keep all their digits.

use std::sync::Arc;

use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::Extra;
use crate::object::{object, words};

/// A function that the model may call.
#[derive(Clone, Debug, PartialEq)]
pub struct FunctionDefinition {
    /// The name of the function, which calls repeat.
    pub name: String,
    /// A description of the function, for the model.
    pub description: Option<String>,
    /// A JSON schema of the arguments.
    pub parameters: Option<Value>,
    /// The JSON text of `parameters`, if it contains a number with more digits than a `Value` can
    /// keep. It is written instead of `parameters`, unless `parameters` has changed since.
    pub exact_parameters: Option<Arc<str>>,
    /// The grammar of the only argument, if the function represents a `custom` tool with one.
    /// OpenAI's functions have none, so it is neither read from JSON nor written to it.
    pub input_grammar: Option<InputGrammar>,
    /// Whether the function represents a `custom` tool. It is neither read from JSON nor written to
    /// it.
    pub stands_for_custom: bool,
    /// Whether the arguments must match the schema exactly.
    pub strict: Option<bool>,
    /// Fields that OpenAI's API does not have, or that came later than this type.
    pub extra: Extra,
}

/// The grammar that the text of a `custom` tool must match.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct InputGrammar {
    /// The language of the definition.
    pub syntax: GrammarSyntax,
    /// The grammar.
    pub definition: String,
}

impl InputGrammar {
    /// The argument with the text, in a function that represents a `custom` tool.
    pub const ARGUMENT: &str = "input";
}

words! {
    /// The language of a grammar.
    pub enum GrammarSyntax {
        /// Lark, in the dialect of llguidance.
        Lark = "lark",
        /// A regular expression of Rust's crate `regex`, for the whole text.
        Regex = "regex",
    }
}

object! {
    /// The fields of a function, as they are parsed.
    struct FunctionFields {
        required name: String = "name",
        optional description: String = "description",
        free parameters: Value = "parameters",
        optional strict: bool = "strict",
    }
}

impl<'de> Deserialize<'de> for FunctionDefinition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        FunctionFields::deserialize(deserializer).map(|read| Self {
            name: read.name,
            description: read.description,
            parameters: read.parameters,
            exact_parameters: None,
            input_grammar: None,
            stands_for_custom: false,
            strict: read.strict,
            extra: read.extra,
        })
    }
}

impl Serialize for FunctionDefinition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", &self.name)?;
        if let Some(description) = &self.description {
            map.serialize_entry("description", description)?;
        }
        match (self.exact_json(), &self.parameters) {
            (Some(text), _) => map.serialize_entry("parameters", text)?,
            (None, Some(parameters)) => map.serialize_entry("parameters", parameters)?,
            (None, None) => {}
        }
        if let Some(strict) = &self.strict {
            map.serialize_entry("strict", strict)?;
        }
        for (key, value) in &self.extra {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl FunctionDefinition {
    /// Returns the parameters as JSON, with all the digits that the client sent. Without
    /// parameters, returns `{}`.
    pub fn parameters_text(&self) -> String {
        match (self.exact_json(), &self.parameters) {
            (Some(text), _) => text.get().to_owned(),
            (None, Some(parameters)) => parameters.to_string(),
            (None, None) => "{}".to_owned(),
        }
    }

    /// Returns `exact_parameters`, if it is set and still has the same value as `parameters`.
    fn exact_json(&self) -> Option<&RawValue> {
        let text = self.exact_parameters.as_deref()?;
        let value: Value = serde_json::from_str(text).ok()?;
        (Some(&value) == self.parameters.as_ref())
            .then(|| serde_json::from_str(text).ok())
            .flatten()
    }
}

impl FunctionDefinition {
    /// Sets `exact_parameters` if the parameters contain a long number. `json` must be the object
    /// that they were parsed from.
    pub fn keep_exact_parameters(&mut self, json: &str) {
        let parameters = serde_json::from_str::<ParametersText<'_>>(json)
            .ok()
            .and_then(|text| text.parameters)
            .map(RawValue::get);
        self.exact_parameters = parameters
            .filter(|text| has_long_number(text.as_bytes()))
            .map(|text| compact(text).into());
    }
}

/// Removes the white space between the tokens of `json`: a client may send megabytes of it.
fn compact(json: &str) -> String {
    let (mut in_string, mut escaped) = (false, false);
    let mut compact = String::new();
    for character in json.chars() {
        if in_string || !matches!(character, ' ' | '\n' | '\r' | '\t') {
            compact.push(character);
        }
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = in_string,
            '"' => in_string = !in_string,
            _ => {}
        }
    }
    compact
}

#[derive(serde::Deserialize)]
struct ParametersText<'a> {
    #[serde(borrow)]
    parameters: Option<&'a RawValue>,
}

/// The number of consecutive digits, decimal point included, from which a `Value` may round a
/// number. A `Value` keeps every shorter number exactly.
const LONG: usize = 16;

/// Returns whether `json` may contain a number of at least [`LONG`] digits. The digits may also
/// belong to a string.
pub(crate) fn has_long_number(json: &[u8]) -> bool {
    let is_part = |byte: &u8| byte.is_ascii_digit() || *byte == b'.';
    // A run of `LONG` digits includes a position that is a multiple of `LONG`.
    let mut at = LONG - 1;
    while let Some(byte) = json.get(at) {
        if !is_part(byte) {
            at += LONG;
            continue;
        }
        let before = json[..at]
            .iter()
            .rev()
            .take_while(|byte| is_part(byte))
            .count();
        let after = json[at..].iter().take_while(|byte| is_part(byte)).count();
        if before + after >= LONG {
            return true;
        }
        at += after.max(1);
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openai::ChatCompletionRequest;

    const NUMBERS: &str = r#"{"enum":[25227143063332189585438,0.1234567890123456789]}"#;

    fn request(parameters: &str) -> (ChatCompletionRequest, String) {
        let function = format!(r#"{{"name":"f","parameters":{parameters}}}"#);
        let json = format!(
            r#"{{"model":"m","messages":[],"tools":[{{"type":"web_search"}},{{"type":"function","function":{function}}}],"functions":[{function}]}}"#
        );
        let mut request: ChatCompletionRequest = serde_json::from_str(&json).unwrap();
        request.keep_long_numbers(json.as_bytes());
        (request, json)
    }

    #[test]
    fn long_numbers_in_parameters_are_written_as_they_were_read() {
        let (request, json) = request(NUMBERS);
        assert_eq!(serde_json::to_string(&request).unwrap(), json);
    }

    #[test]
    fn white_space_between_tokens_is_not_kept_and_that_in_strings_is() {
        let padded = format!(
            "{{{}\"description\" :\r\n\t\"a  b \\\\ \\\" c\",\n\"maximum\": 9007199254740993 }}",
            " ".repeat(1000)
        );
        let (request, _) = request(&padded);
        let functions = request.functions.unwrap();
        assert_eq!(
            functions[0].exact_parameters.as_deref(),
            Some(r#"{"description":"a  b \\ \" c","maximum":9007199254740993}"#)
        );
    }

    #[test]
    fn parameters_that_were_changed_are_written_as_they_are_now() {
        let (mut request, _) = request(NUMBERS);
        let functions = request.functions.as_mut().unwrap();
        functions[0].parameters = Some(serde_json::json!({"type": "object"}));
        assert_eq!(
            serde_json::to_string(&functions[0]).unwrap(),
            r#"{"name":"f","parameters":{"type":"object"}}"#
        );
    }

    #[test]
    fn texts_are_kept_only_where_a_number_is_long() {
        for (parameters, kept) in [
            (r#"{"maximum":9007199254740991}"#, true),
            (r#"{"maximum":123456789012345}"#, false),
            (r#"{"maximum":0.1,"minimum":1.25}"#, false),
            (r#"{"maximum":0.12345678901234567}"#, true),
            (
                r#"{"description":"1234 and 12345678, 123456789012"}"#,
                false,
            ),
        ] {
            let (request, _) = request(parameters);
            let functions = request.functions.unwrap();
            assert_eq!(
                functions[0].exact_parameters.is_some(),
                kept,
                "{parameters}"
            );
        }
        for before in 0..40 {
            let json = format!("{}{}", " ".repeat(before), "1".repeat(LONG));
            assert!(has_long_number(json.as_bytes()), "{before}");
            assert!(!has_long_number(&json.as_bytes()[1..][..before + LONG - 2]));
        }
    }
}
