//! Turns the items that a client sends into the items that the list of a conversation shows. Every
//! item gets an id and a type, and a status if its type has one. The content of a message becomes a
//! list of parts.

use loggia_wire::openai::responses;
use serde_json::{Map, Value, json};

use crate::ApiError;
use crate::admit::checks::{missing, not_among, one_of, too_long};
use crate::answer::id;
use crate::store::{Item, Side};
use crate::stored::damaged;

/// The maximum number of items of one request, as in OpenAI's API.
const MOST: usize = 20;

/// The longest id that a client may choose.
const LONGEST_ID: usize = 256;

/// The types of items, and the prefix of the ids of each type.
const TYPES: &[(&str, &str)] = &[
    ("message", "msg_"),
    ("reasoning", "rs_"),
    ("function_call", "fc_"),
    ("function_call_output", "fco_"),
    ("custom_tool_call", "ctc_"),
    ("custom_tool_call_output", "ctco_"),
    ("web_search_call", "ws_"),
    ("file_search_call", "fs_"),
    ("computer_call", "cu_"),
    ("computer_call_output", "cuo_"),
    ("code_interpreter_call", "ci_"),
    ("image_generation_call", "ig_"),
    ("local_shell_call", "lsh_"),
    ("local_shell_call_output", "lsho_"),
    ("shell_call", "sh_"),
    ("shell_call_output", "sho_"),
    ("apply_patch_call", "apc_"),
    ("apply_patch_call_output", "apco_"),
    ("mcp_list_tools", "mcpl_"),
    ("mcp_approval_request", "mcpr_"),
    ("mcp_approval_response", "mcpa_"),
    ("mcp_call", "mcp_"),
    ("tool_search_call", "tsc_"),
    ("tool_search_output", "tso_"),
    ("additional_tools", "at_"),
    ("compaction", "cmp_"),
    ("configuration_update", "cu_"),
    ("program", "prg_"),
    ("program_output", "prgo_"),
];

const ROLES: &[&str] = &["user", "assistant", "system", "developer"];

/// The types of a message's parts.
const PARTS: &[&str] = &[
    "input_text",
    "output_text",
    "text",
    "summary_text",
    "reasoning_text",
    "refusal",
    "input_image",
    "input_file",
    "input_audio",
    "computer_screenshot",
];

/// Returns the items of a request as they are stored and listed.
///
/// # Errors
/// A 400 that names the invalid field.
pub(crate) fn stored(items: Value) -> Result<Vec<Item>, ApiError> {
    let Value::Array(items) = items else {
        return Err(of_type("items", "an array"));
    };
    if items.len() > MOST {
        return Err(too_long("items", MOST, items.len()));
    }
    let numbered = items.into_iter().enumerate();
    numbered
        .map(|(index, item)| one(&format!("items[{index}]"), item))
        .collect()
}

fn one(place: &str, item: Value) -> Result<Item, ApiError> {
    let Value::Object(mut item) = item else {
        return Err(of_type(place, "an object"));
    };
    let kind = kind(place, &item)?;
    match kind {
        "message" => message(place, &mut item)?,
        "function_call" => strings(place, &item, &["call_id", "name", "arguments"])?,
        "function_call_output" | "custom_tool_call_output" => output(place, &item)?,
        "custom_tool_call" => strings(place, &item, &["call_id", "name", "input"])?,
        "reasoning" => reasoning(place, &mut item)?,
        _ => {}
    }
    let has_status = kind == "message" || kind.ends_with("_call") || kind.ends_with("_output");
    if has_status && item.get("status").is_none_or(Value::is_null) {
        item.insert("status".to_owned(), "completed".into());
    }
    let id = id_of(place, &item, kind)?;
    let mut whole = Map::new();
    whole.insert("id".to_owned(), id.as_str().into());
    whole.insert("type".to_owned(), kind.into());
    for (name, value) in item {
        whole.entry(name).or_insert(value);
    }
    let body = Value::Object(whole).to_string();
    Ok(Item {
        id,
        body,
        side: Side::Input,
    })
}

/// Returns an item of a request for a response as it is stored and listed. It accepts every item:
/// whether the model can use the item is checked elsewhere.
pub(crate) fn as_they_come(item: &responses::Item) -> Result<Item, ApiError> {
    let json = || serde_json::to_value(item).map_err(|_| damaged());
    if let Ok(item) = one("input", json()?) {
        return Ok(item);
    }
    let item = json()?;
    let id = item.get("id").and_then(Value::as_str);
    let id = id.filter(|id| (1..=LONGEST_ID).contains(&id.len()));
    let id = id.map_or_else(|| id::item("item_"), str::to_owned);
    Ok(with_id(item, id))
}

/// Returns a copy of the item with a new id.
pub(crate) fn with_new_id(item: &Item) -> Item {
    let value: Value = serde_json::from_str(&item.body).unwrap_or_default();
    let kind = value.get("type").and_then(Value::as_str);
    let prefix = TYPES.iter().find(|(one, _)| Some(*one) == kind);
    let id = id::item(prefix.map_or("item_", |(_, prefix)| prefix));
    with_id(value, id)
}

fn with_id(mut item: Value, id: String) -> Item {
    if let Value::Object(fields) = &mut item {
        fields.insert("id".to_owned(), id.as_str().into());
    }
    Item {
        id,
        body: item.to_string(),
        side: Side::Input,
    }
}

/// Returns the type of an item. The type is optional for a message.
fn kind(place: &str, item: &Map<String, Value>) -> Result<&'static str, ApiError> {
    let param = format!("{place}.type");
    let word = match item.get("type") {
        None | Some(Value::Null) if item.contains_key("role") => "message",
        None | Some(Value::Null) if item.contains_key("id") => "item_reference",
        None | Some(Value::Null) => return Err(missing(param)),
        Some(Value::String(word)) => word,
        Some(_) => return Err(of_type(&param, "a string")),
    };
    if word == "item_reference" {
        let message = "A conversation takes whole items, and no references to items.";
        return Err(ApiError::invalid(param, "invalid_value", message));
    }
    let known = TYPES.iter().map(|(kind, _)| *kind);
    if let Some(kind) = known.clone().find(|kind| *kind == word) {
        return Ok(kind);
    }
    let known: Vec<&str> = known.collect();
    Err(not_among(param, word, &known))
}

/// Returns the id of an item, or a new one. Items that come from an earlier answer have an id.
fn id_of(place: &str, item: &Map<String, Value>, kind: &str) -> Result<String, ApiError> {
    let param = format!("{place}.id");
    match item.get("id") {
        None | Some(Value::Null) => {
            let prefix = TYPES.iter().find(|(one, _)| *one == kind);
            Ok(id::item(prefix.map_or("item_", |(_, prefix)| prefix)))
        }
        Some(Value::String(id)) if (1..=LONGEST_ID).contains(&id.len()) => Ok(id.clone()),
        Some(Value::String(_)) => {
            let message =
                format!("Invalid '{param}': expected a string of 1 to {LONGEST_ID} characters.");
            Err(ApiError::invalid(param, "invalid_value", message))
        }
        Some(_) => Err(of_type(&param, "a string")),
    }
}

fn message(place: &str, item: &mut Map<String, Value>) -> Result<(), ApiError> {
    let role = text(place, item, "role")?;
    one_of(format_args!("{place}.role"), Some(role), ROLES)?;
    let is_answer = role == "assistant";
    let param = format!("{place}.content");
    let parts = match item.get_mut("content").map(Value::take) {
        None | Some(Value::Null) => return Err(missing(param)),
        Some(Value::String(text)) if is_answer => {
            vec![json!({"type": "output_text", "text": text})]
        }
        Some(Value::String(text)) => vec![json!({"type": "input_text", "text": text})],
        Some(Value::Array(parts)) => parts,
        Some(_) => return Err(of_type(&param, "a string or an array")),
    };
    let numbered = parts.into_iter().enumerate();
    let parts = numbered
        .map(|(index, value)| part(&format!("{param}[{index}]"), value))
        .collect::<Result<Vec<_>, _>>()?;
    item.insert("content".to_owned(), parts.into());
    Ok(())
}

/// Returns a part of a message with the fields that OpenAI's answers always have.
fn part(place: &str, part: Value) -> Result<Value, ApiError> {
    let Value::Object(mut part) = part else {
        return Err(of_type(place, "an object"));
    };
    let kind = text(place, &part, "type")?.to_owned();
    one_of(format_args!("{place}.type"), Some(&kind), PARTS)?;
    match kind.as_str() {
        "output_text" => {
            text(place, &part, "text")?;
            part.entry("annotations").or_insert_with(|| json!([]));
            part.entry("logprobs").or_insert_with(|| json!([]));
        }
        "input_image" if part.get("detail").is_none_or(Value::is_null) => {
            part.insert("detail".to_owned(), "auto".into());
        }
        "input_text" | "text" | "summary_text" | "reasoning_text" => {
            text(place, &part, "text")?;
        }
        "refusal" => {
            text(place, &part, "refusal")?;
        }
        _ => {}
    }
    Ok(part.into())
}

fn reasoning(place: &str, item: &mut Map<String, Value>) -> Result<(), ApiError> {
    // Codex sends `null` if there is no content.
    if item.get("content").is_some_and(Value::is_null) {
        item.remove("content");
    }
    match item.entry("summary").or_insert_with(|| json!([])) {
        Value::Array(_) => Ok(()),
        _ => Err(of_type(&format!("{place}.summary"), "an array")),
    }
}

fn output(place: &str, item: &Map<String, Value>) -> Result<(), ApiError> {
    match item.get("output") {
        Some(Value::String(_) | Value::Array(_)) => Ok(()),
        None => Err(missing(format!("{place}.output"))),
        Some(_) => Err(of_type(&format!("{place}.output"), "a string or an array")),
    }
}

fn strings(place: &str, item: &Map<String, Value>, names: &[&str]) -> Result<(), ApiError> {
    names
        .iter()
        .try_for_each(|name| text(place, item, name).map(|_| ()))
}

fn text<'a>(place: &str, item: &'a Map<String, Value>, name: &str) -> Result<&'a str, ApiError> {
    let param = format!("{place}.{name}");
    match item.get(name) {
        Some(Value::String(text)) => Ok(text),
        None => Err(missing(param)),
        Some(_) => Err(of_type(&param, "a string")),
    }
}

fn of_type(param: &str, expected: &str) -> ApiError {
    let message = format!("Invalid type for '{param}': expected {expected}.");
    ApiError::invalid(param, "invalid_type", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(item: &Value) -> Value {
        let stored = stored(json!([item])).expect("an item");
        let mut shown: Value = serde_json::from_str(&stored[0].body).expect("JSON");
        assert_eq!(shown["id"], stored[0].id.as_str());
        shown.as_object_mut().expect("an object").remove("id");
        shown
    }

    #[test]
    fn a_message_becomes_a_list_of_parts_with_type_and_status() {
        assert_eq!(
            shown(&json!({"role": "user", "content": "Hi"})),
            json!({"type": "message", "role": "user", "status": "completed",
                "content": [{"type": "input_text", "text": "Hi"}]})
        );
        assert_eq!(
            shown(&json!({"role": "assistant", "content": "Ho", "phase": "final_answer"})),
            json!({"type": "message", "role": "assistant", "status": "completed", "phase": "final_answer",
                "content": [{"type": "output_text", "text": "Ho", "annotations": [], "logprobs": []}]})
        );
        let image = json!({"type": "input_image", "image_url": "data:,"});
        let message =
            json!({"type": "message", "role": "user", "status": "incomplete", "content": [image]});
        let shown = shown(&message);
        assert_eq!(
            (&shown["content"][0]["detail"], &shown["status"]),
            (&json!("auto"), &json!("incomplete"))
        );
    }

    #[test]
    fn items_keep_their_ids_and_others_get_one_of_their_kind() {
        let items = json!([
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "4"}]},
            {"type": "reasoning", "id": "rs_mine", "content": null, "encrypted_content": "x"},
            {"type": "mcp_call", "name": "f"},
        ]);
        let stored = stored(items).expect("items");
        let ids: Vec<&str> = stored.iter().map(|item| item.id.as_str()).collect();
        assert!(
            ids[0].starts_with("fc_") && ids[1].starts_with("fco_") && ids[3].starts_with("mcp_")
        );
        assert_eq!(ids[2], "rs_mine");
        assert_eq!(
            serde_json::from_str::<Value>(&stored[2].body).expect("JSON"),
            json!({"id": "rs_mine", "type": "reasoning", "summary": [], "encrypted_content": "x"})
        );
    }

    #[test]
    fn what_is_no_item_is_refused_with_its_place() {
        for (items, param, code) in [
            (json!({}), "items", "invalid_type"),
            (json!([7]), "items[0]", "invalid_type"),
            (json!([{}]), "items[0].type", "missing_required_parameter"),
            (json!([{"type": 7}]), "items[0].type", "invalid_type"),
            (
                json!([{"type": "banana"}]),
                "items[0].type",
                "invalid_value",
            ),
            (json!([{"id": "msg_1"}]), "items[0].type", "invalid_value"),
            (
                json!([{"role": "tool", "content": ""}]),
                "items[0].role",
                "invalid_value",
            ),
            (
                json!([{"role": "user"}]),
                "items[0].content",
                "missing_required_parameter",
            ),
            (
                json!([{"role": "user", "content": 7}]),
                "items[0].content",
                "invalid_type",
            ),
            (
                json!([{"role": "user", "content": [{}]}]),
                "items[0].content[0].type",
                "missing_required_parameter",
            ),
            (
                json!([{"role": "user", "content": [{"type": "x"}]}]),
                "items[0].content[0].type",
                "invalid_value",
            ),
            (
                json!([{"role": "user", "content": [{"type": "input_text"}]}]),
                "items[0].content[0].text",
                "missing_required_parameter",
            ),
            (
                json!([{"role": "user", "content": "", "id": ""}]),
                "items[0].id",
                "invalid_value",
            ),
            (
                json!([{"type": "function_call", "name": "f", "arguments": "{}"}]),
                "items[0].call_id",
                "missing_required_parameter",
            ),
            (
                json!([{"type": "function_call_output", "call_id": "c"}]),
                "items[0].output",
                "missing_required_parameter",
            ),
            (
                json!([{"type": "reasoning", "summary": "x"}]),
                "items[0].summary",
                "invalid_type",
            ),
        ] {
            let refused = stored(items.clone()).expect_err("an error").body().error;
            assert_eq!(
                (refused.param.as_deref(), refused.code.as_deref()),
                (Some(param), Some(code)),
                "{items}"
            );
        }
        let many = vec![json!({"role": "user", "content": "x"}); 21];
        let refused = stored(many.into()).expect_err("too many").body().error;
        assert_eq!(refused.code.as_deref(), Some("array_above_max_length"));
    }
}
