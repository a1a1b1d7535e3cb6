//! Custom tools, which take free text instead of JSON. Engines know only functions: each custom tool
//! becomes a function with one text argument, and a call of it becomes a call of the tool again.
//!
//! Chats and Responses share this file. `answer/custom_calls.rs` has the calls in a chat's stream.

use std::sync::Arc;

use loggia_backend::input_grammar;
use loggia_wire::Extra;
use loggia_wire::openai::{
    ChatCompletionRequest, FunctionDefinition, FunctionName, GrammarSyntax, InputGrammar, Tool,
    ToolCall, ToolChoice,
};
use serde_json::{Value, json};

use crate::ApiError;
use crate::admit::checks::{check_name, is_object, missing};

/// The argument of a function that carries a custom tool's text.
pub(crate) const INPUT: &str = InputGrammar::ARGUMENT;

/// The type of a custom tool, of its calls and of choices of it; also the name of the field that
/// contains the tool.
pub(crate) const CUSTOM: &str = "custom";

/// The names of the custom tools of a chat.
#[derive(Clone, Debug, Default)]
pub(crate) struct CustomTools(Option<Arc<[String]>>);

impl CustomTools {
    /// Returns the custom tools whose functions are in a chat.
    pub(crate) fn of(chat: &ChatCompletionRequest) -> Self {
        let functions = chat.tools.iter().flatten();
        let functions = functions.filter_map(|tool| tool.function.as_ref());
        let custom = functions.filter(|function| function.stands_for_custom);
        let names: Arc<[String]> = custom.map(|function| function.name.clone()).collect();
        Self((!names.is_empty()).then_some(names))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Whether a call of this function is one of a custom tool.
    pub(crate) fn has(&self, function: &str) -> bool {
        let names = self.0.iter().flat_map(|names| names.iter());
        names.clone().any(|name| name == function)
    }
}

/// Turns the custom tools of a chat into functions; and the choices of them, and earlier calls, into
/// choices and calls of those.
///
/// # Errors
/// A 400 for a tool that cannot be read.
pub(crate) fn as_functions(chat: &mut ChatCompletionRequest) -> Result<(), ApiError> {
    let tools = chat.tools.iter_mut().flatten().enumerate();
    for (index, tool) in tools.filter(|(_, tool)| tool.kind == CUSTOM) {
        *tool = as_function(&format!("tools[{index}].{CUSTOM}"), tool)?;
    }
    // Also without a custom tool: a client may leave its tools out to get a text.
    let calls = chat.messages.iter_mut();
    let calls = calls.flat_map(|message| message.tool_calls.iter_mut().flatten());
    calls
        .filter(|call| call.is_custom())
        .for_each(ToolCall::as_function);
    match &mut chat.tool_choice {
        Some(ToolChoice::Other(choice)) if is_custom(choice) => {
            let name = chosen("tool_choice", choice)?;
            chat.tool_choice = Some(ToolChoice::Function(name));
        }
        Some(ToolChoice::Allowed {
            functions, others, ..
        }) => {
            let (custom, rest) = std::mem::take(others).into_iter().partition(is_custom);
            *others = rest;
            let custom: Vec<Value> = custom;
            for choice in custom {
                functions.push(chosen("tool_choice.allowed_tools.tools[]", &choice)?);
            }
        }
        _ => {}
    }
    Ok(())
}

fn is_custom(choice: &Value) -> bool {
    choice.get("type").and_then(Value::as_str) == Some(CUSTOM)
}

/// The name in a choice of a custom tool.
fn chosen(place: &str, choice: &Value) -> Result<FunctionName, ApiError> {
    let name = choice.get(CUSTOM).and_then(|custom| custom.get("name"));
    let name = name.and_then(Value::as_str).map(str::to_owned);
    let name = name.ok_or_else(|| missing(format!("{place}.{CUSTOM}.name")))?;
    Ok(FunctionName { name })
}

fn as_function(place: &str, tool: &Tool) -> Result<Tool, ApiError> {
    let fields = match tool.extra.get(CUSTOM) {
        None | Some(Value::Null) => return Err(missing(place.to_owned())),
        fields => fields,
    };
    is_object(place, fields)?;
    let nothing = Value::Null;
    let fields = fields.unwrap_or(&nothing);
    let name = needed_text(place, fields, "name")?;
    check_name(&format!("{place}.name"), name)?;
    let description = fields.get("description").and_then(Value::as_str);
    let grammar = input_grammar(place, fields.get("format"), Some("grammar"))?;
    let function = FunctionDefinition {
        name: name.to_owned(),
        ..definition(description.unwrap_or_default(), grammar)
    };
    Ok(Tool {
        kind: "function".to_owned(),
        function: Some(function),
        extra: Extra::new(),
    })
}

/// Returns the function that represents a custom tool, without its name.
pub(crate) fn definition(description: &str, grammar: Option<InputGrammar>) -> FunctionDefinition {
    let mut input =
        json!({"type": "string", "description": "The whole input of the tool, as plain text."});
    let mut description = description.to_owned();
    if let Some(InputGrammar { syntax, definition }) = &grammar {
        input["description"] =
            json!("The whole input of the tool, as plain text that keeps to its grammar.");
        let syntax = syntax.as_str();
        description =
            format!("{description}\n\nThe input keeps to this grammar ({syntax}):\n{definition}");
    }
    let parameters = json!({"type": "object", "properties": {INPUT: input},
        "required": [INPUT], "additionalProperties": false});
    FunctionDefinition {
        name: String::new(),
        description: Some(description.trim().to_owned()).filter(|text| !text.is_empty()),
        parameters: Some(parameters),
        exact_parameters: None,
        input_grammar: grammar,
        stands_for_custom: true,
        strict: None,
        extra: Extra::new(),
    }
}

/// Returns the grammar in the `format` of a custom tool, if there is one. `within` is the field of
/// the format that has its syntax and definition, if the format itself has not.
pub(crate) fn input_grammar(
    place: &str,
    format: Option<&Value>,
    within: Option<&str>,
) -> Result<Option<InputGrammar>, ApiError> {
    let mut place = format!("{place}.format");
    let mut format = match format {
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
            return Err(unknown(
                &format!("{place}.type"),
                other,
                "'text' and 'grammar'",
            ));
        }
    }
    if let Some(within) = within {
        place = format!("{place}.{within}");
        format = format.get(within).ok_or_else(|| missing(place.clone()))?;
        is_object(&place, Some(format))?;
    }
    let syntax = match needed_text(&place, format, "syntax")? {
        "lark" => GrammarSyntax::Lark,
        "regex" => GrammarSyntax::Regex,
        other => {
            return Err(unknown(
                &format!("{place}.syntax"),
                other,
                "'lark' and 'regex'",
            ));
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

fn unknown(param: &str, word: &str, known: &str) -> ApiError {
    let message = format!("Invalid value: '{word}'. Supported values are: {known}.");
    ApiError::invalid(param, "invalid_value", message)
}

/// Returns the input of a call of a custom tool. It accepts calls in which the model did not keep to
/// the argument `input`.
pub(crate) fn input_of(arguments: &str) -> String {
    match serde_json::from_str(arguments) {
        Ok(Value::String(input)) => input,
        Ok(Value::Object(mut fields)) => {
            let only = if fields.len() == 1 {
                fields
                    .values()
                    .next()
                    .and_then(Value::as_str)
                    .map(str::to_owned)
            } else {
                None
            };
            match fields.remove(INPUT) {
                Some(Value::String(input)) => input,
                _ => only.unwrap_or_else(|| arguments.to_owned()),
            }
        }
        _ => arguments.to_owned(),
    }
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
