//! Tools whose type Anthropic defines and the client runs: as functions with the input of that
//! type.

use loggia_wire::Extra;
use loggia_wire::anthropic::Tool;
use loggia_wire::openai::FunctionDefinition;
use serde_json::{Value, json};

/// Returns the function for a tool of this type. `None` for other types.
pub(crate) fn definition(kind: &str, tool: &Tool) -> Option<FunctionDefinition> {
    let (description, parameters) = if is_dated(kind, "bash_") {
        (BASH.to_owned(), bash())
    } else if is_dated(kind, "text_editor_") {
        (EDITOR.to_owned(), editor(kind))
    } else if is_dated(kind, "memory_") {
        (MEMORY.to_owned(), memory())
    } else if is_dated(kind, "computer_") {
        (computer_description(tool), computer(kind))
    } else {
        return None;
    };
    Some(FunctionDefinition {
        name: String::new(),
        description: Some(description),
        parameters: Some(parameters),
        exact_parameters: None,
        input_grammar: None,
        stands_for_custom: false,
        strict: tool.strict.filter(|strict| *strict),
        extra: Extra::new(),
    })
}

/// Returns whether the function of this type takes the field into account.
pub(crate) fn reads(kind: &str, field: &str) -> bool {
    is_dated(kind, "computer_") && matches!(field, "display_width_px" | "display_height_px")
}

/// Whether a type is this one with a date: `bash_20250124`.
fn is_dated(kind: &str, prefix: &str) -> bool {
    let date = kind.strip_prefix(prefix);
    date.is_some_and(|date| date.len() == 8 && date.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Whether a type has this date or a later one.
fn is_since(kind: &str, date: &str) -> bool {
    kind.rsplit('_').next().is_some_and(|own| own >= date)
}

const BASH: &str = "Runs a command in a bash shell on the user's machine and returns its output. \
    The shell keeps its state between calls.";

fn bash() -> Value {
    json!({"type": "object", "properties": {
        "command": {"type": "string", "description": "The command to run. Required unless the shell is restarted."},
        "restart": {"type": "boolean", "description": "Whether to restart the shell."}
    }})
}

const EDITOR: &str = "Views, creates and edits text files on the user's machine. \
    `view` shows a file with line numbers, or lists a directory. \
    `create` writes a new file. \
    `str_replace` replaces a text that occurs exactly once in the file. \
    `insert` inserts text after a line.";

fn editor(kind: &str) -> Value {
    let mut commands = vec!["view", "create", "str_replace", "insert"];
    // Versions since 20250429 have no `undo_edit`, and another name for the inserted text.
    let is_newer = is_since(kind, "20250429");
    if !is_newer {
        commands.push("undo_edit");
    }
    let mut properties = json!({
        "command": {"type": "string", "enum": commands},
        "path": {"type": "string", "description": "The absolute path of the file or directory."},
        "view_range": {"type": "array", "items": {"type": "integer"},
            "description": "For `view`: the first and the last line. -1 is the end of the file."},
        "file_text": {"type": "string", "description": "For `create`: the content of the file."},
        "old_str": {"type": "string", "description": "For `str_replace`: the text to replace."},
        "new_str": {"type": "string", "description": "For `str_replace`: the new text."},
        "insert_line": {"type": "integer", "description": "For `insert`: the line after which to insert. 0 is the beginning."}
    });
    if is_since(kind, "20250728") {
        properties["insert_text"] =
            json!({"type": "string", "description": "For `insert`: the text to insert."});
    } else {
        properties["new_str"]["description"] =
            json!("For `str_replace`: the new text. For `insert`: the text to insert.");
    }
    json!({"type": "object", "properties": properties, "required": ["command", "path"]})
}

const MEMORY: &str = "Stores notes for later conversations, as files under the directory /memories. \
    View the directory first to see what is known. \
    `view` shows a directory or a file, `create` writes a file, `str_replace` and `insert` edit one, \
    `delete` and `rename` do so.";

fn memory() -> Value {
    json!({"type": "object", "properties": {
        "command": {"type": "string", "enum": ["view", "create", "str_replace", "insert", "delete", "rename"]},
        "path": {"type": "string", "description": "A path under /memories. For all commands but `rename`."},
        "view_range": {"type": "array", "items": {"type": "integer"}, "description": "For `view`: the first and the last line."},
        "file_text": {"type": "string", "description": "For `create`: the content of the file."},
        "old_str": {"type": "string", "description": "For `str_replace`: the text to replace."},
        "new_str": {"type": "string", "description": "For `str_replace`: the new text."},
        "insert_line": {"type": "integer", "description": "For `insert`: the line after which to insert."},
        "insert_text": {"type": "string", "description": "For `insert`: the text to insert."},
        "old_path": {"type": "string", "description": "For `rename`: the path now."},
        "new_path": {"type": "string", "description": "For `rename`: the new path."}
    }, "required": ["command"]})
}

fn computer_description(tool: &Tool) -> String {
    let size = |field| tool.extra.get(field).and_then(Value::as_u64);
    let screen = match (size("display_width_px"), size("display_height_px")) {
        (Some(width), Some(height)) => format!(" The screen has {width} x {height} pixels."),
        _ => String::new(),
    };
    format!(
        "Controls the mouse and the keyboard of a computer and takes screenshots.{screen} \
         Take a screenshot first to see what is on the screen."
    )
}

fn computer(kind: &str) -> Value {
    let mut actions = vec![
        "key",
        "type",
        "mouse_move",
        "left_click",
        "left_click_drag",
        "right_click",
        "middle_click",
        "double_click",
        "screenshot",
        "cursor_position",
    ];
    if is_since(kind, "20250124") {
        actions.extend([
            "left_mouse_down",
            "left_mouse_up",
            "scroll",
            "hold_key",
            "wait",
            "triple_click",
        ]);
    }
    if is_since(kind, "20251124") {
        actions.push("zoom");
    }
    json!({"type": "object", "properties": {
        "action": {"type": "string", "enum": actions},
        "coordinate": {"type": "array", "items": {"type": "integer"}, "description": "The pixel [x, y] to act on."},
        "start_coordinate": {"type": "array", "items": {"type": "integer"}, "description": "For `left_click_drag`: where it begins."},
        "text": {"type": "string", "description": "The text to type, or the keys to press, for example `ctrl+s`."},
        "scroll_direction": {"type": "string", "enum": ["up", "down", "left", "right"]},
        "scroll_amount": {"type": "integer"},
        "duration": {"type": "number", "description": "For `hold_key` and `wait`: seconds."},
        "region": {"type": "array", "items": {"type": "integer"}, "description": "For `zoom`: [x0, y0, x1, y1]."}
    }, "required": ["action"]})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_that_only_begin_alike_are_others() {
        for (kind, prefix, is) in [
            ("bash_20250124", "bash_", true),
            ("bash_code_execution", "bash_", false),
            ("computer_20251124", "computer_", true),
            ("computer_toolset_20260801", "computer_", false),
            ("memory_20250818", "memory_", true),
            ("memory_", "memory_", false),
        ] {
            assert_eq!(is_dated(kind, prefix), is, "{kind}");
        }
    }

    #[test]
    fn older_editors_insert_another_field_and_can_undo() {
        let older = editor("text_editor_20250124");
        let newer = editor("text_editor_20250728");
        let undoes = |editor: &Value| editor["properties"]["command"].to_string().contains("undo");
        assert!(undoes(&older) && !undoes(&newer));
        assert!(older["properties"]["insert_text"].is_null());
        assert!(newer["properties"]["insert_text"].is_object());
    }
}
