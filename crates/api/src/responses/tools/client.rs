//! The functions that represent tools which the client runs: a shell, patches, a search for tools.

use loggia_wire::Extra;
use loggia_wire::openai::FunctionDefinition;
use loggia_wire::openai::responses::ResponseTool;
use serde_json::{Value, json};

/// The function for `local_shell`. Its parameters are the fields of `local_shell_call.action`.
pub(super) fn local_shell() -> FunctionDefinition {
    let parameters = json!({"type": "object", "properties": {
        "command": {"type": "array", "items": {"type": "string"}, "description": "The program and its arguments."},
        "working_directory": {"type": "string"},
        "timeout_ms": {"type": "integer"}
    }, "required": ["command"], "additionalProperties": false});
    definition(
        "Runs a command on the user's machine and returns its output.",
        parameters,
    )
}

/// The function for `shell`. Its parameters are the fields of `shell_call.action`.
pub(super) fn shell() -> FunctionDefinition {
    let parameters = json!({"type": "object", "properties": {
        "commands": {"type": "array", "items": {"type": "string"}, "description": "Command lines, each for a shell."},
        "timeout_ms": {"type": "integer"},
        "max_output_length": {"type": "integer"}
    }, "required": ["commands"], "additionalProperties": false});
    definition(
        "Runs commands in a shell on the user's machine and returns their output.",
        parameters,
    )
}

/// The function for `apply_patch`. Its parameters are the fields of `apply_patch_call.operation`.
pub(super) fn apply_patch() -> FunctionDefinition {
    let parameters = json!({"type": "object", "properties": {
        "type": {"type": "string", "enum": ["create_file", "update_file", "delete_file"]},
        "path": {"type": "string"},
        "diff": {"type": "string", "description": "The change in the V4A diff format; of a new file, its lines with a + before each."}
    }, "required": ["type", "path"], "additionalProperties": false});
    definition(
        "Creates, changes or deletes a file on the user's machine.",
        parameters,
    )
}

pub(super) fn tool_search(tool: &ResponseTool) -> FunctionDefinition {
    let by_query = || json!({"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]});
    let parameters = tool.parameters.clone().filter(Value::is_object);
    let description = tool.description.as_deref();
    definition(
        description.unwrap_or("Searches for more tools that can be called."),
        parameters.unwrap_or_else(by_query),
    )
}

pub(super) fn definition(description: &str, parameters: Value) -> FunctionDefinition {
    FunctionDefinition {
        name: String::new(),
        description: Some(description.to_owned()).filter(|text| !text.is_empty()),
        parameters: Some(parameters),
        exact_parameters: None,
        input_grammar: None,
        stands_for_custom: false,
        strict: None,
        extra: Extra::new(),
    }
}
