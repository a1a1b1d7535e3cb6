//! Turns a call of the function that the model sees into the item of the tool that the client
//! knows.

use loggia_wire::openai::responses::{
    ApplyPatchCall, CustomToolCall, FunctionToolCall, ItemStatus, LocalShellCall, OutputItem,
    ShellCall, ToolSearchCall,
};
use serde_json::{Map, Value, json};

use crate::custom_tools::input_of;
use crate::responses::tools::{OfferedTool, ToolKind};

/// Returns the item of a finished call. If the arguments lack what the item needs, it is the item
/// of a function call, so that the client can tell the model what is wrong.
pub(crate) fn item(
    tool: &OfferedTool,
    call_id: String,
    arguments: &str,
    item_id: &dyn Fn(&str) -> String,
) -> OutputItem {
    if tool.kind == ToolKind::Custom {
        return OutputItem::CustomToolCall(CustomToolCall {
            id: item_id("ctc_"),
            status: ItemStatus::InProgress,
            call_id,
            name: tool.name.clone(),
            namespace: tool.namespace.clone(),
            input: input_of(arguments),
            is_async: tool.is_async,
        });
    }
    built_in(tool.kind, &call_id, arguments, item_id).unwrap_or_else(|| {
        OutputItem::FunctionCall(FunctionToolCall {
            id: item_id("fc_"),
            status: ItemStatus::InProgress,
            call_id,
            name: tool.name.clone(),
            namespace: tool.namespace.clone(),
            arguments: arguments.to_owned(),
            is_async: tool.is_async,
        })
    })
}

/// Returns the item of a call of one of OpenAI's own tools. `None` for other tools, and if the
/// arguments lack what the item needs.
fn built_in(
    kind: ToolKind,
    call_id: &str,
    arguments: &str,
    item_id: &dyn Fn(&str) -> String,
) -> Option<OutputItem> {
    let Ok(Value::Object(fields)) = serde_json::from_str(arguments) else {
        return None;
    };
    let call_id = call_id.to_owned();
    let status = ItemStatus::InProgress;
    Some(match kind {
        ToolKind::LocalShell => OutputItem::LocalShellCall(LocalShellCall {
            id: item_id("lsh_"),
            status,
            call_id,
            action: exec(fields)?,
        }),
        ToolKind::Shell => OutputItem::ShellCall(ShellCall {
            id: item_id("sh_"),
            status,
            call_id,
            action: commands(fields)?,
            environment: json!({"type": "local"}),
        }),
        ToolKind::ApplyPatch => OutputItem::ApplyPatchCall(ApplyPatchCall {
            id: item_id("apc_"),
            status,
            call_id,
            operation: operation(&fields)?,
        }),
        ToolKind::ToolSearch => OutputItem::ToolSearchCall(ToolSearchCall {
            id: item_id("tsc_"),
            status,
            call_id,
            execution: "client".to_owned(),
            arguments: Value::Object(fields),
        }),
        ToolKind::Function | ToolKind::Custom | ToolKind::Mcp | ToolKind::FileSearch => {
            return None;
        }
    })
}

/// Returns the action of a `local_shell_call`, the schema `LocalShellExecAction`.
fn exec(mut fields: Map<String, Value>) -> Option<Value> {
    let command = match fields.remove("command")? {
        Value::String(line) => json!(["bash", "-lc", line]),
        command if is_texts(&command) => command,
        _ => return None,
    };
    let mut action = json!({"type": "exec", "command": command, "env": {}});
    for key in ["working_directory", "timeout_ms"] {
        if let Some(value) = fields.remove(key) {
            action[key] = value;
        }
    }
    Some(action)
}

/// Returns the action of a `shell_call`, the schema `FunctionShellAction`.
fn commands(mut fields: Map<String, Value>) -> Option<Value> {
    let commands = match fields.remove("commands")? {
        Value::String(line) => json!([line]),
        commands if is_texts(&commands) => commands,
        _ => return None,
    };
    let mut number = |key| fields.remove(key).filter(Value::is_i64).unwrap_or_default();
    Some(
        json!({"commands": commands, "timeout_ms": number("timeout_ms"),
        "max_output_length": number("max_output_length")}),
    )
}

/// Returns the operation of an `apply_patch_call`.
fn operation(fields: &Map<String, Value>) -> Option<Value> {
    let text = |key: &str| fields.get(key).and_then(Value::as_str);
    let (kind, path) = (text("type")?, text("path")?);
    match kind {
        "delete_file" => Some(json!({"type": kind, "path": path})),
        "create_file" | "update_file" => {
            Some(json!({"type": kind, "path": path, "diff": text("diff")?}))
        }
        _ => None,
    }
}

fn is_texts(value: &Value) -> bool {
    let texts = value.as_array();
    texts.is_some_and(|texts| !texts.is_empty() && texts.iter().all(Value::is_string))
}
