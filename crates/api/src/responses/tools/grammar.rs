//! The grammar of a custom tool's text.

use loggia_backend::input_grammar;
use loggia_wire::openai::{GrammarSyntax, InputGrammar};
use serde_json::Value;

use crate::ApiError;
use crate::admit::checks::{is_object, missing};

/// Returns the grammar in the `format` of a custom tool, if there is one.
pub(super) fn of_format(
    place: &str,
    format: Option<&Value>,
) -> Result<Option<InputGrammar>, ApiError> {
    let place = format!("{place}.format");
    let format = match format {
        None | Some(Value::Null) => return Ok(None),
        Some(format) => {
            is_object(&place, Some(format))?;
            format
        }
    };
    match needed_text(&place, format, "type")? {
        "text" => return Ok(None),
        "grammar" => {}
        other => {
            let message =
                format!("Invalid value: '{other}'. Supported values are: 'text' and 'grammar'.");
            let param = format!("{place}.type");
            return Err(ApiError::invalid(param, "invalid_value", message));
        }
    }
    let syntax = match needed_text(&place, format, "syntax")? {
        "lark" => GrammarSyntax::Lark,
        "regex" => GrammarSyntax::Regex,
        other => {
            let message =
                format!("Invalid value: '{other}'. Supported values are: 'lark' and 'regex'.");
            let param = format!("{place}.syntax");
            return Err(ApiError::invalid(param, "invalid_value", message));
        }
    };
    let grammar = InputGrammar {
        syntax,
        definition: needed_text(&place, format, "definition")?.to_owned(),
    };
    input_grammar::check(&grammar).map_err(|wrong| {
        let param = format!("{place}.definition");
        let message = format!("Invalid grammar for '{param}': {wrong}.");
        ApiError::invalid(param, "invalid_value", message)
    })?;
    Ok(Some(grammar))
}

fn needed_text<'a>(place: &str, fields: &'a Value, key: &str) -> Result<&'a str, ApiError> {
    let param = || format!("{place}.{key}");
    match fields.get(key) {
        None | Some(Value::Null) => Err(missing(param())),
        Some(Value::String(text)) => Ok(text),
        Some(_) => {
            let message = format!("Invalid type for '{}': expected a string.", param());
            Err(ApiError::invalid(param(), "invalid_type", message))
        }
    }
}
