//! A part of a grammar that is compiled on its own: a JSON value with a schema, or the text of a
//! custom tool's input with its grammar. Pure.

use loggia_backend::input_grammar;
use loggia_backend::schema::{arguments, fitted};
use loggia_backend::{SchemaEngine, references};
use loggia_wire::openai::{FunctionDefinition, InputGrammar};
use serde_json::{Map, Value, json};

use super::bounds::bound;
use super::inputs::QUOTES;
use super::narrow::close;

/// A part of a grammar.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Part {
    /// The name of the part in the rules of the grammar.
    pub(crate) name: String,
    /// The path of the request field that has the schema or grammar.
    pub(crate) param: String,
    pub(super) text: PartText,
}

/// The text that a part is compiled from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum PartText {
    /// A JSON schema.
    Schema(String),
    /// Rules in llguidance's dialect of Lark.
    Rules(String),
}

/// The space between the parts of a value: one space, or a line break and an indentation. If more
/// were allowed, a small model would write spaces forever.
const SPACE: &str = " |\\n[ ]{0,16}";

/// Each character has only one spelling: otherwise a used property name could be repeated with
/// other escapes.
const ESCAPES: &str = "nrbtf\\\"";

impl Part {
    /// Creates the part for a JSON value whose schema is in a request field.
    pub(crate) fn new(name: impl Into<String>, param: impl Into<String>, schema: &Value) -> Self {
        let mut closed = fitted(schema, SchemaEngine::Llguidance);
        close(&mut closed);
        bound(&mut closed);
        let mut schema = match closed {
            Value::Object(fields) => fields,
            // `true` allows any value, `false` none.
            other => Map::from_iter([("allOf".to_owned(), json!([other]))]),
        };
        let how = json!({"whitespace_pattern": SPACE, "json_allowed_escapes": ESCAPES});
        schema.insert("x-guidance".to_owned(), how);
        Self {
            name: name.into(),
            param: param.into(),
            text: PartText::Schema(Value::Object(schema).to_string()),
        }
    }

    /// A call that is an object and the whole answer. As an alternative to another value it must
    /// have the same kind of rule: otherwise the grammar's lexer would assign their common first
    /// characters to the longer text, and could not return.
    pub(super) fn object_call(
        name: String,
        function: &FunctionDefinition,
        keeps_to_schema: bool,
        key: &str,
    ) -> Self {
        let mut arguments = arguments_schema(function, keeps_to_schema);
        arguments.retain(|keyword, _| !matches!(keyword.as_str(), "$id" | "$schema"));
        let arguments = references::moved(Value::Object(arguments), &format!("#/properties/{key}"));
        let schema = json!({"type": "object", "properties": {"name": {"const": function.name}, key: arguments},
            "required": ["name", key], "additionalProperties": false});
        Self::new(name, parameters_param(function), &schema)
    }

    /// Whether the part is the text of a custom tool's input.
    pub(super) fn is_input(&self) -> bool {
        matches!(self.text, PartText::Rules(_))
    }

    /// The size of the part's text in bytes.
    pub(super) fn size(&self) -> usize {
        match &self.text {
            PartText::Schema(text) | PartText::Rules(text) => text.len(),
        }
    }
}

/// The arguments of a call in the rules of a grammar.
pub(super) struct Arguments {
    /// The symbol that stands for the arguments.
    pub(super) symbol: String,
    /// The rules that define the symbol, if any are needed.
    pub(super) rules: String,
    pub(super) part: Part,
}

impl Arguments {
    /// The arguments of a function, which are always an object.
    pub(super) fn of(number: usize, function: &FunctionDefinition, keeps_to_schema: bool) -> Self {
        let name = format!("arguments{number}");
        if let Some(grammar) = &function.input_grammar
            && let Ok(rules) = input_grammar::rules(grammar)
        {
            return Self::of_input(number, name, function, rules);
        }
        let schema = Value::Object(arguments_schema(function, keeps_to_schema));
        Self {
            symbol: format!("@{name}"),
            rules: String::new(),
            part: Part::new(name, parameters_param(function), &schema),
        }
    }

    /// The only argument of a function, a string with a grammar.
    fn of_input(number: usize, name: String, function: &FunctionDefinition, rules: String) -> Self {
        let symbol = format!("input{number}");
        let key = InputGrammar::ARGUMENT;
        let [(opening, _), (closing, _)] = QUOTES;
        let rules_of_call = format!(
            r#"{symbol}: INPUT{number} @{opening} @{name} @{closing} INPUTEND{number}
INPUT{number}: /\{{({SPACE})?"{key}"({SPACE})?:({SPACE})?/
INPUTEND{number}: /({SPACE})?\}}/
"#
        );
        Self {
            symbol,
            rules: rules_of_call,
            part: Part {
                name,
                param: format!("tools[{}].format.definition", function.name),
                text: PartText::Rules(rules),
            },
        }
    }
}

/// The request field with the function's schema.
fn parameters_param(function: &FunctionDefinition) -> String {
    format!("tools[{}].function.parameters", function.name)
}

fn arguments_schema(function: &FunctionDefinition, keeps_to_schema: bool) -> Map<String, Value> {
    match arguments(function) {
        Value::Object(fields) if keeps_to_schema => fields,
        _ => Map::from_iter([("type".to_owned(), json!("object"))]),
    }
}
