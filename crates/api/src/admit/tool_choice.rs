//! Handles `tool_choice` and `function_call` if tools are missing. A choice that requires a call is
//! refused if no tool is left; any other choice is dropped.

use loggia_backend::{Abilities, Ability};
use loggia_wire::openai::{ChatCompletionRequest as Request, ToolChoice};
use serde_json::Value;

use crate::{ApiError, Strictness};

/// Handles a choice without tools, whatever the model supports. Returns the names of the dropped
/// fields.
pub(crate) fn settle_without_tools(
    request: &mut Request,
    strictness: Strictness,
) -> Result<Vec<String>, ApiError> {
    let mut dropped = Vec::new();
    if !has_tools(request) && request.tool_choice.is_some() {
        if request.must_call() || strictness == Strictness::Strict {
            lenient_or(strictness, without("tool_choice", "tools"))?;
        }
        // Without tools, `none` is the default.
        let asked = request
            .tool_choice
            .take()
            .filter(|choice| *choice != ToolChoice::None);
        dropped.extend(asked.map(|_| "tool_choice".to_owned()));
    }
    if !has_functions(request) && request.function_call.is_some() {
        if wants_function(request) || strictness == Strictness::Strict {
            lenient_or(strictness, without("function_call", "functions"))?;
        }
        let asked = request
            .function_call
            .take()
            .filter(|choice| choice != "none");
        dropped.extend(asked.map(|_| "function_call".to_owned()));
    }
    Ok(dropped)
}

/// Handles the choice after tools that the backend cannot offer were dropped. Returns the names of
/// the dropped fields.
pub(crate) fn settle_rest(
    request: &mut Request,
    can: &Abilities,
    strictness: Strictness,
) -> Result<Vec<String>, ApiError> {
    if can.has(Ability::HostedFields) {
        return settle_without_tools(request, strictness);
    }
    if let Some(ToolChoice::Other(choice)) = &request.tool_choice {
        lenient_or(strictness, of_another_type(choice))?;
    } else if request.must_call() && request.callable_functions().is_empty() {
        lenient_or(strictness, nothing_to_call())?;
    } else {
        return settle_without_tools(request, strictness);
    }
    request.tool_choice = None;
    Ok(vec!["tool_choice".to_owned()])
}

/// Returns whether `allowed_tools` contains tools of types other than `function`.
pub(crate) fn allows_others(request: &Request) -> bool {
    matches!(&request.tool_choice, Some(ToolChoice::Allowed { others, .. }) if !others.is_empty())
}

/// Keeps only functions in `allowed_tools`.
pub(crate) fn drop_others(request: &mut Request) {
    if let Some(ToolChoice::Allowed { others, .. }) = &mut request.tool_choice {
        others.clear();
    }
}

fn has_tools(request: &Request) -> bool {
    request
        .tools
        .as_ref()
        .is_some_and(|tools| !tools.is_empty())
}

fn has_functions(request: &Request) -> bool {
    request
        .functions
        .as_ref()
        .is_some_and(|functions| !functions.is_empty())
}

fn wants_function(request: &Request) -> bool {
    request.function_call.as_ref().is_some_and(Value::is_object)
}

fn lenient_or(strictness: Strictness, error: ApiError) -> Result<(), ApiError> {
    if strictness == Strictness::Lenient {
        Ok(())
    } else {
        Err(error)
    }
}

fn without(param: &str, other: &str) -> ApiError {
    let message = format!("'{param}' is only allowed when '{other}' are specified.");
    ApiError::invalid(param, "invalid_value", message)
}

fn of_another_type(choice: &Value) -> ApiError {
    let kind = choice
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let message = format!(
        "Invalid value: '{kind}'. Supported values are: 'function', 'allowed_tools'. Tools of other types are not available with this model."
    );
    ApiError::invalid("tool_choice.type", "invalid_value", message)
}

fn nothing_to_call() -> ApiError {
    let message = "Invalid value for 'tool_choice': it requires a call, but none of the tools that it allows is available with this model. \
                   Only tools of type 'function' are.";
    ApiError::invalid("tool_choice", "invalid_value", message)
}
