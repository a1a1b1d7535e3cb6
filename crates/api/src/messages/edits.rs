//! `context_management`: earlier results of tools and earlier reasoning are removed from the
//! conversation before the model sees it, and the answer says how much.
//!
//! Functions of values. `apply_edits.rs` decides by the number of tokens whether an edit is
//! applied.

use loggia_wire::openai::{Content, Message, Role};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::ApiError;
use crate::admit::checks::{missing, not_among, too_long};
use crate::admit::parse::{typed, wrong_at};
use crate::messages::compact_edit::COMPACT;
use crate::messages::tools::function_of;
use crate::responses::ignored::Ignored;

const TOOL_USES: &str = "clear_tool_uses_20250919";
const THINKING: &str = "clear_thinking_20251015";

/// The maximum number of edits of a request. The engine counts the tokens of the whole prompt for
/// each of them.
const MOST_EDITS: usize = 8;

/// Stands for the result of a call that was removed.
const REMOVED: &str = "[The result of this call was removed.]";

/// An edit of the conversation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Edit {
    /// Removes the results of earlier calls.
    ToolUses(ToolUses),
    /// Removes the reasoning of all turns but the last ones.
    Thinking { turns: usize },
}

/// The fields of `clear_tool_uses_20250919`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ToolUses {
    trigger: Trigger,
    /// The number of the last calls that keep their results.
    keep: usize,
    /// The minimum number of tokens that must be removed.
    at_least: u64,
    /// The functions that keep their results.
    excluded: Vec<String>,
    inputs: Inputs,
}

/// The condition of an edit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trigger {
    InputTokens(u64),
    ToolUses(usize),
}

/// The calls whose input is removed too.
#[derive(Clone, Debug, PartialEq)]
enum Inputs {
    All(bool),
    Of(Vec<String>),
}

/// A conversation that was edited.
pub(super) struct Edited {
    pub(super) messages: Vec<Message>,
    /// The number of results, or of turns, that were removed.
    pub(super) removed: usize,
}

/// Parses the edits of a request. Lists those that have no effect.
///
/// # Errors
/// Returns a 400 for an invalid field of an edit.
pub(crate) fn of(management: Option<&Value>, ignored: &mut Ignored) -> Result<Vec<Edit>, ApiError> {
    let Some(management) = management else {
        return Ok(Vec::new());
    };
    let Some(edits) = management.get("edits").and_then(Value::as_array) else {
        let has_edits = |edits: &Value| !edits.is_null();
        if !management.is_object() || management.get("edits").is_some_and(has_edits) {
            ignored.add("context_management".to_owned());
        }
        return Ok(Vec::new());
    };
    if edits.len() > MOST_EDITS {
        let place = "context_management.edits";
        return Err(too_long(place, MOST_EDITS, edits.len()));
    }
    let mut found = Vec::new();
    for (index, edit) in edits.iter().enumerate() {
        let place = format!("context_management.edits[{index}]");
        let kind = edit.get("type").and_then(Value::as_str);
        match kind.ok_or_else(|| missing(format!("{place}.type")))? {
            TOOL_USES => found.push(Edit::ToolUses(tool_uses(&place, edit)?)),
            THINKING => found.extend(thinking(&place, edit)?),
            // `compact_edit.rs` reads it.
            COMPACT => {}
            kind => ignored.add(format!("context_management.edits[].{kind}")),
        }
    }
    Ok(found)
}

/// A number of tokens, of calls or of turns.
#[derive(Deserialize)]
struct Amount {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    value: u64,
}

impl Amount {
    fn small(&self) -> usize {
        usize::try_from(self.value).unwrap_or(usize::MAX)
    }
}

fn tool_uses(place: &str, edit: &Value) -> Result<ToolUses, ApiError> {
    #[derive(Deserialize)]
    struct Fields {
        #[serde(default)]
        trigger: Option<Amount>,
        #[serde(default)]
        keep: Option<Amount>,
        #[serde(default)]
        clear_at_least: Option<Amount>,
        #[serde(default)]
        exclude_tools: Option<Vec<String>>,
        #[serde(default)]
        clear_tool_inputs: Option<Value>,
    }
    let fields: Fields = typed(edit.clone()).map_err(|error| wrong_at(place, error))?;
    let functions = |names: Vec<String>| names.iter().map(|name| function_of(name)).collect();
    let trigger = match fields.trigger {
        None => Trigger::InputTokens(100_000),
        Some(amount) if amount.kind == "input_tokens" => Trigger::InputTokens(amount.value),
        Some(amount) if amount.kind == "tool_uses" => Trigger::ToolUses(amount.small()),
        Some(amount) => {
            let param = format!("{place}.trigger.type");
            return Err(not_among(
                param,
                &amount.kind,
                &["input_tokens", "tool_uses"],
            ));
        }
    };
    let inputs = match fields.clear_tool_inputs {
        None | Some(Value::Null) => Inputs::All(false),
        Some(Value::Bool(all)) => Inputs::All(all),
        Some(names) => {
            let place = format!("{place}.clear_tool_inputs");
            let names: Vec<String> = typed(names).map_err(|error| wrong_at(&place, error))?;
            Inputs::Of(functions(names))
        }
    };
    Ok(ToolUses {
        trigger,
        keep: fields.keep.map_or(3, |amount| amount.small()),
        at_least: fields.clear_at_least.map_or(0, |amount| amount.value),
        excluded: functions(fields.exclude_tools.unwrap_or_default()),
        inputs,
    })
}

/// `None` if all reasoning is kept.
fn thinking(place: &str, edit: &Value) -> Result<Option<Edit>, ApiError> {
    let keep = match edit.get("keep") {
        None | Some(Value::Null) => return Ok(Some(Edit::Thinking { turns: 1 })),
        Some(keep) if keep == "all" => return Ok(None),
        Some(keep) => keep.clone(),
    };
    let place = format!("{place}.keep");
    let amount: Amount = typed(keep).map_err(|error| wrong_at(&place, error))?;
    match amount.kind.as_str() {
        "all" => Ok(None),
        "thinking_turns" => Ok(Some(Edit::Thinking {
            turns: amount.small(),
        })),
        other => {
            let param = format!("{place}.type");
            Err(not_among(param, other, &["thinking_turns", "all"]))
        }
    }
}

impl Edit {
    /// Returns the conversation without what the edit removes. `None` if it removes nothing.
    pub(super) fn edited(&self, messages: &[Message]) -> Option<Edited> {
        match self {
            Self::ToolUses(uses) => uses.edited(messages),
            Self::Thinking { turns } => without_thinking(messages, *turns),
        }
    }

    /// The number of tokens that the prompt must exceed.
    pub(super) fn trigger(&self) -> u64 {
        match self {
            Self::ToolUses(ToolUses {
                trigger: Trigger::InputTokens(tokens),
                ..
            }) => *tokens,
            _ => 0,
        }
    }

    pub(super) fn at_least(&self) -> u64 {
        match self {
            Self::ToolUses(uses) => uses.at_least.max(1),
            Self::Thinking { .. } => 0,
        }
    }

    /// The entry of `applied_edits`.
    pub(super) fn applied(&self, removed: usize, tokens: u64) -> Value {
        match self {
            Self::ToolUses(_) => json!({"type": TOOL_USES, "cleared_tool_uses": removed,
                "cleared_input_tokens": tokens}),
            Self::Thinking { .. } => json!({"type": THINKING, "cleared_thinking_turns": removed,
                "cleared_input_tokens": tokens}),
        }
    }
}

impl ToolUses {
    fn edited(&self, messages: &[Message]) -> Option<Edited> {
        let results: Vec<usize> = (0..messages.len())
            .filter(|&index| messages[index].role == Role::Tool)
            .collect();
        if matches!(self.trigger, Trigger::ToolUses(uses) if results.len() <= uses) {
            return None;
        }
        let mut messages = messages.to_vec();
        let mut removed = 0;
        for &index in &results[..results.len().saturating_sub(self.keep)] {
            let Some((turn, call)) = call_of(&messages, index) else {
                continue;
            };
            let function = call_at(&mut messages, turn, call).map(|call| call.0.clone());
            let function = function.unwrap_or_default();
            let is_removed = content_is(&messages[index], REMOVED);
            if is_removed || self.excluded.contains(&function) {
                continue;
            }
            messages[index].content = Some(Content::Text(REMOVED.to_owned()));
            let clears = match &self.inputs {
                Inputs::All(all) => *all,
                Inputs::Of(names) => names.contains(&function),
            };
            if clears && let Some((_, arguments)) = call_at(&mut messages, turn, call) {
                "{}".clone_into(arguments);
            }
            removed += 1;
        }
        (removed > 0).then_some(Edited { messages, removed })
    }
}

fn content_is(message: &Message, text: &str) -> bool {
    let content = message.content.as_ref();
    content.is_some_and(|content| content.joined_text() == text)
}

/// Finds the call that the result at `index` answers: the index of its message, and of the call.
fn call_of(messages: &[Message], index: usize) -> Option<(usize, usize)> {
    let id = messages[index].tool_call_id.as_deref()?;
    let turn = messages[..index]
        .iter()
        .rposition(|message| message.role == Role::Assistant)?;
    let calls = messages[turn].tool_calls.as_ref()?;
    Some((turn, calls.iter().position(|call| call.id == id)?))
}

/// The name and the arguments of a call.
fn call_at(messages: &mut [Message], turn: usize, call: usize) -> Option<(&String, &mut String)> {
    let calls = messages[turn].tool_calls.as_mut()?;
    let function = &mut calls.get_mut(call)?.function;
    Some((&function.name, &mut function.arguments))
}

/// A turn of the assistant lasts until the next message of the user.
fn without_thinking(messages: &[Message], turns: usize) -> Option<Edited> {
    let mut messages = messages.to_vec();
    let (mut turn, mut removed, mut is_cleared) = (0, 0, false);
    let mut is_in_turn = false;
    for message in messages.iter_mut().rev() {
        match message.role {
            Role::Assistant => {
                if !std::mem::replace(&mut is_in_turn, true) {
                    turn += 1;
                    is_cleared = false;
                }
                let had_reasoning = turn > turns && message.reasoning_content.take().is_some();
                if had_reasoning && !std::mem::replace(&mut is_cleared, true) {
                    removed += 1;
                }
            }
            Role::User => is_in_turn = false,
            _ => {}
        }
    }
    (removed > 0).then_some(Edited { messages, removed })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conversation() -> Vec<Message> {
        let messages = json!([
            {"role": "user", "content": "a"},
            {"role": "assistant", "reasoning_content": "r1", "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}},
                {"id": "2", "type": "function", "function": {"name": "g", "arguments": "{\"a\":2}"}}]},
            {"role": "tool", "tool_call_id": "1", "content": "one"},
            {"role": "tool", "tool_call_id": "2", "content": "two"},
            {"role": "assistant", "reasoning_content": "r2", "content": "b"},
            {"role": "user", "content": "c"},
            {"role": "assistant", "reasoning_content": "r3", "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{\"a\":3}"}}]},
            {"role": "tool", "tool_call_id": "1", "content": "three"}
        ]);
        serde_json::from_value(messages).expect("messages")
    }

    fn edit(fields: &Value) -> Edit {
        let mut ignored = Ignored::default();
        let edits = of(Some(&json!({ "edits": [fields] })), &mut ignored);
        edits.expect("an edit").remove(0)
    }

    #[test]
    fn results_are_removed_from_the_oldest_on() {
        let text = |message: &Message| {
            let content = message.content.as_ref();
            content.map_or_else(String::new, |content| content.joined_text().into_owned())
        };
        for (fields, removed, left, arguments) in [
            (
                json!({"keep": {"type": "tool_uses", "value": 1}}),
                2,
                vec!["three"],
                "{\"a\":1}",
            ),
            (
                json!({"keep": {"type": "tool_uses", "value": 0}, "exclude_tools": ["g"], "clear_tool_inputs": true}),
                2,
                vec!["two"],
                "{}",
            ),
            (
                json!({"keep": {"type": "tool_uses", "value": 2}, "clear_tool_inputs": ["g"]}),
                1,
                vec!["two", "three"],
                "{\"a\":1}",
            ),
            (json!({}), 0, vec!["one", "two", "three"], "{\"a\":1}"),
            (
                json!({"trigger": {"type": "tool_uses", "value": 3}, "keep": {"type": "tool_uses", "value": 0}}),
                0,
                vec!["one", "two", "three"],
                "{\"a\":1}",
            ),
        ] {
            let mut all = json!({ "type": TOOL_USES });
            all.as_object_mut()
                .expect("an object")
                .extend(fields.as_object().expect("an object").clone());
            let edited = edit(&all).edited(&conversation());
            let is = edited.as_ref().map_or(0, |edited| edited.removed);
            assert_eq!(is, removed, "{fields}");
            let messages = edited.map_or_else(conversation, |edited| edited.messages);
            let results = messages.iter().filter(|message| message.role == Role::Tool);
            let results: Vec<String> = results.map(text).filter(|text| text != REMOVED).collect();
            assert_eq!(results, left, "{fields}");
            let calls = messages[1].tool_calls.as_ref().expect("calls");
            assert_eq!(calls[0].function.arguments, arguments, "{fields}");
        }
    }

    #[test]
    fn reasoning_is_removed_from_all_turns_but_the_last() {
        for (keep, removed, left) in [
            (json!(null), 1, vec!["r3"]),
            (
                json!({"type": "thinking_turns", "value": 2}),
                0,
                vec!["r1", "r2", "r3"],
            ),
            (json!({"type": "thinking_turns", "value": 0}), 2, vec![]),
        ] {
            let edited = edit(&json!({"type": THINKING, "keep": keep})).edited(&conversation());
            let is = edited.as_ref().map_or(0, |edited| edited.removed);
            assert_eq!(is, removed, "{keep}");
            let messages = edited.map_or_else(conversation, |edited| edited.messages);
            let reasoning = messages
                .iter()
                .filter_map(|one| one.reasoning_content.as_deref());
            assert_eq!(reasoning.collect::<Vec<_>>(), left, "{keep}");
        }
    }

    #[test]
    fn edits_that_cannot_be_read_are_refused_with_their_place() {
        let many = vec![json!({ "type": THINKING }); MOST_EDITS + 1];
        let number = json!([{"type": TOOL_USES, "trigger": 5}]);
        let negative = json!([{"type": TOOL_USES, "keep": {"type": "tool_uses", "value": -1}}]);
        for (edits, param, words) in [
            (json!(many), "edits", "maximum length 8"),
            (json!([{}]), "edits[0].type", "Missing"),
            (json!([5]), "edits[0].type", "Missing"),
            (number, "edits[0].trigger", "expected an object."),
            (
                negative,
                "edits[0].keep.value",
                "expected an integer of at least 0.",
            ),
        ] {
            let error = of(Some(&json!({ "edits": edits })), &mut Ignored::default());
            let error = error.expect_err("invalid").error;
            let param = format!("context_management.{param}");
            assert_eq!(error.param.as_deref(), Some(&*param));
            assert!(error.message.contains(words), "{}", error.message);
        }
    }
}
