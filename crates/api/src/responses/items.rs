//! Turns input items into the messages of a chat.
//!
//! Everything that the assistant did between two messages of other roles (reasoning, text, calls)
//! becomes one message. The outputs of its calls follow this message, wherever they are in the
//! input.

use std::collections::{HashMap, HashSet};

use loggia_seal::Keys;
use loggia_wire::Extra;
use loggia_wire::openai::responses::{InputTransformation, Item, ItemPart, Reasoning, TextFormat};
use loggia_wire::openai::{Content, File, FunctionCall, Message, Part, PartKind, Role, ToolCall};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::ApiError;
use crate::admit::checks::missing;
use crate::admit::images;
use crate::admit::parse::{typed, wrong_at};
use crate::custom_tools;
use crate::documents::check_url;
use crate::responses::ignored::Ignored;
use crate::responses::mcp::ApprovedCall;
use crate::responses::names::Places;
use crate::responses::sealed::{Sealed, not_opened};
use crate::responses::summary::{self, Compacted};
use crate::responses::tools::{Offered, ToolKind, Tools};

/// The output that the model sees for an `async` call whose output has not arrived yet.
const NOT_YET: &str = "The output of this call is not there yet.";

/// The origin of items: the first ones are from the store, the others from the request.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Origin {
    /// The number of items from the store.
    pub(crate) recalled: usize,
    /// The field of the request that named them.
    pub(crate) named_by: &'static str,
}

impl Origin {
    /// The place of an item, for errors.
    fn place(self, index: usize) -> String {
        match index.checked_sub(self.recalled) {
            Some(index) => format!("input[{index}]"),
            None => self.named_by.to_owned(),
        }
    }
}

/// A conversation as messages of a chat.
#[derive(Debug, Default)]
pub(crate) struct Conversation {
    pub(crate) messages: Vec<Message>,
    /// The path in the client's request that each message was made from.
    pub(crate) places: Vec<String>,
    /// The names of fields that have no effect.
    pub(crate) ignored: Ignored,
    /// The reasoning effort that the last `configuration_update` sets.
    pub(crate) effort: Option<String>,
    pub(crate) format: Option<TextFormat>,
    /// Reasoning that the model does not see, because it was sealed by another server.
    pub(crate) removed: Vec<InputTransformation>,
}

/// Adds the tools that are among the items: tools that a search found, and tools that were added
/// during the conversation.
pub(crate) fn add_tools(items: &[Item], origin: Origin, tools: &mut Tools) -> Result<(), ApiError> {
    for (index, item) in items.iter().enumerate() {
        let kind = item.kind.as_deref();
        if let (Some("tool_search_output" | "additional_tools"), Some(found)) = (kind, &item.tools)
        {
            let place = format!("{}.tools", origin.place(index));
            let found: Vec<_> = typed_at(&place, found.clone())?;
            tools.add_all(&place, &found)?;
        }
    }
    Ok(())
}

/// Turns items into messages.
///
/// # Errors
/// A 400 for an item that cannot be read, for a call without an output, and for an output without a
/// call.
pub(crate) fn conversation(
    items: Vec<Item>,
    origin: Origin,
    offered: &Offered,
    keys: Option<&Keys>,
) -> Result<Conversation, ApiError> {
    let requests = items.iter().enumerate();
    let made = requests.filter(|(_, item)| {
        item.kind.as_deref() == Some("mcp_approval_request") && was_made(&items, item)
    });
    let mut reader = Reader {
        made: made.map(|(index, _)| index).collect(),
        outputs: paired(&items, origin)?,
        origin,
        keys,
        offered,
        conversation: Conversation::default(),
        turn: None,
    };
    for (index, item) in items.into_iter().enumerate() {
        reader.item(index, item)?;
    }
    reader.end_turn()?;
    Ok(reader.conversation)
}

/// Parses a JSON value as the type that is expected at `place`.
pub(crate) fn typed_at<T: DeserializeOwned>(place: &str, value: Value) -> Result<T, ApiError> {
    typed(value).map_err(|error| wrong_at(place, error))
}

/// Returns the kind of tool that an item calls.
fn call_kind(kind: &str) -> Option<ToolKind> {
    Some(match kind {
        "function_call" => ToolKind::Function,
        "custom_tool_call" => ToolKind::Custom,
        "local_shell_call" => ToolKind::LocalShell,
        "shell_call" => ToolKind::Shell,
        "apply_patch_call" => ToolKind::ApplyPatch,
        "tool_search_call" => ToolKind::ToolSearch,
        "mcp_call" | "mcp_approval_request" => ToolKind::Mcp,
        _ => return None,
    })
}

fn output_kind(kind: &str) -> Option<ToolKind> {
    call_kind(kind.strip_suffix("_output").map(|call| match call {
        "tool_search" => "tool_search_call",
        call => call,
    })?)
}

/// Returns the id of a call. Older clients of `local_shell` send it as the id of the item.
fn call_id(item: &Item) -> Option<&str> {
    let id = item.call_id.as_deref().filter(|id| !id.is_empty());
    id.or_else(|| {
        let has_own_id = |kind: &str| kind.starts_with("local_shell") || kind.starts_with("mcp_");
        let has_own_id = item.kind.as_deref().is_some_and(has_own_id);
        item.id.as_deref().filter(|_| has_own_id)
    })
}

/// The output of a call.
struct Output {
    /// The index of the item that has the output.
    at: usize,
    text: String,
    /// Images and files. They are separate because a tool message of a chat has text only.
    media: Vec<Part>,
}

/// Returns the output of each call, by the index of the call. An output belongs to the call with
/// the same id; without an id, to the call of the same name; without a name, to the first call that
/// has no output yet.
fn paired(items: &[Item], origin: Origin) -> Result<HashMap<usize, Output>, ApiError> {
    let mut open: Vec<usize> = Vec::new();
    let mut outputs = HashMap::new();
    for (index, item) in items.iter().enumerate() {
        let kind = item.kind.as_deref().unwrap_or_default();
        if kind.starts_with("mcp_") {
            if let Some(text) = told_of_mcp(items, item) {
                let (at, media) = (index, Vec::new());
                outputs.insert(index, Output { at, text, media });
            }
            continue;
        }
        if call_kind(kind).is_some() {
            open.push(index);
            continue;
        }
        let Some(kind) = output_kind(kind) else {
            continue;
        };
        if repeats(items, &open, &outputs, item) {
            continue;
        }
        let place = origin.place(index);
        let at = answered(items, &open, item, &place)?;
        open.retain(|call| *call != at);
        let (text, media) = output(&place, kind, item)?;
        let output = Output {
            at: index,
            text,
            media,
        };
        outputs.insert(at, output);
    }
    Ok(outputs)
}

/// The text of a call of a tool of an MCP server, as the model reads it.
fn told_of_mcp(items: &[Item], item: &Item) -> Option<String> {
    match item.kind.as_deref()? {
        "mcp_call" => {
            let error = item.extra.get("error").filter(|error| !error.is_null());
            let failed = error.map(|error| format!("The call failed: {}", as_text(error)));
            let output = item.output.as_ref().map(as_text);
            Some(
                output
                    .filter(|_| failed.is_none())
                    .or(failed)
                    .unwrap_or_default(),
            )
        }
        "mcp_approval_request" => Some(match approval_of(items, item) {
            None => "Nobody has allowed this call yet.".to_owned(),
            Some((true, _)) => String::new(),
            Some((false, reason)) => match reason {
                Some(reason) => format!("The user did not allow this call: {reason}"),
                None => "The user did not allow this call.".to_owned(),
            },
        }),
        _ => None,
    }
}

/// The answer of the client to an approval request: whether it allows the call, and why not.
fn approval_of(items: &[Item], request: &Item) -> Option<(bool, Option<String>)> {
    let id = request.id.as_deref()?;
    let text = |item: &Item, name: &str| {
        let value = item.extra.get(name).and_then(Value::as_str);
        value.map(str::to_owned)
    };
    let answers = |item: &&Item| {
        item.kind.as_deref() == Some("mcp_approval_response")
            && text(item, "approval_request_id").as_deref() == Some(id)
    };
    let answer = items.iter().rev().find(answers)?;
    let is_allowed = answer.extra.get("approve").and_then(Value::as_bool);
    Some((is_allowed.unwrap_or(false), text(answer, "reason")))
}

/// Checks the approvals of the request's own input.
///
/// # Errors
/// A 400 for an approval without the id of its request, or with the id of a request that does not
/// exist.
pub(crate) fn check_approvals(items: &[Item], origin: Origin) -> Result<(), ApiError> {
    let own = items.iter().enumerate().skip(origin.recalled);
    for (index, item) in own {
        if item.kind.as_deref() != Some("mcp_approval_response") {
            continue;
        }
        let place = |name: &str| format!("{}.{name}", origin.place(index));
        let approve = item.extra.get("approve");
        match approve.filter(|approve| !approve.is_null()) {
            Some(Value::Bool(_)) => {}
            None => return Err(missing(place("approve"))),
            Some(_) => {
                let place = place("approve");
                let message = format!("Invalid type for '{place}': expected a boolean.");
                return Err(ApiError::invalid(place, "invalid_type", message));
            }
        }
        let place = place("approval_request_id");
        let id = item.extra.get("approval_request_id");
        let id = id.and_then(Value::as_str);
        let id = id.ok_or_else(|| missing(place.clone()))?;
        let is_request = |item: &Item| {
            item.kind.as_deref() == Some("mcp_approval_request") && item.id.as_deref() == Some(id)
        };
        if !items.iter().any(is_request) {
            let message = format!("No approval request found with id '{id}'.");
            return Err(ApiError::invalid(place, "invalid_value", message));
        }
    }
    Ok(())
}

/// The calls that the client has allowed and that were not made yet.
pub(crate) fn approved(items: &[Item], origin: Origin) -> Vec<ApprovedCall> {
    let text = |item: &Item, name: &str| {
        let value = item.extra.get(name).and_then(Value::as_str);
        value.map(str::to_owned)
    };
    let place = |request: &Item| {
        let answers = |item: &Item| {
            item.kind.as_deref() == Some("mcp_approval_response")
                && text(item, "approval_request_id") == request.id
        };
        items.iter().rposition(answers).map(|at| origin.place(at))
    };
    let is_approved = |item: &&Item| {
        item.kind.as_deref() == Some("mcp_approval_request")
            && matches!(approval_of(items, item), Some((true, _)))
            && !was_made(items, item)
    };
    let requests = items.iter().filter(is_approved);
    let approved = requests.filter_map(|item| {
        Some(ApprovedCall {
            place: place(item)?,
            request: item.id.clone()?,
            server: text(item, "server_label")?,
            name: item.name.clone()?,
            arguments: item.arguments.as_ref().map(as_text).unwrap_or_default(),
        })
    });
    approved.collect()
}

/// Whether the call of an approval request was made. If it was, the item of the call replaces the
/// request.
fn was_made(items: &[Item], request: &Item) -> bool {
    items.iter().any(|item| {
        let made = item
            .extra
            .get("approval_request_id")
            .and_then(Value::as_str);
        item.kind.as_deref() == Some("mcp_call") && made.is_some() && made == request.id.as_deref()
    })
}

/// Returns whether the call of an output has the same output already. The AI SDK sends the outputs
/// of earlier steps again within a conversation.
fn repeats(
    items: &[Item],
    open: &[usize],
    outputs: &HashMap<usize, Output>,
    output: &Item,
) -> bool {
    let Some(id) = call_id(output) else {
        return false;
    };
    let is_its = |call: &usize| call_id(&items[*call]) == Some(id);
    let is_same = |at: usize| items[at].output == output.output;
    !open.iter().any(is_its)
        && outputs
            .iter()
            .any(|(call, earlier)| is_its(call) && is_same(earlier.at))
}

/// The index of the call that an output answers.
fn answered(items: &[Item], open: &[usize], output: &Item, place: &str) -> Result<usize, ApiError> {
    let invalid = |message| Err(ApiError::invalid("input", "invalid_value", message));
    if let Some(id) = call_id(output) {
        let call = open.iter().find(|at| call_id(&items[**at]) == Some(id));
        return match call {
            Some(at) => Ok(*at),
            None => invalid(format!(
                "No tool call found for function call output with call_id {id}."
            )),
        };
    }
    let of_name = |at: &&usize| {
        let call = &items[**at];
        let named = |wanted: &Option<String>, is: &Option<String>| wanted.is_none() || wanted == is;
        named(&output.name, &call.name) && named(&output.namespace, &call.namespace)
    };
    let mut calls = open.iter().filter(of_name);
    match (calls.next(), calls.next()) {
        (None, _) => invalid(format!(
            "No tool call found for the output at {place}, which has no call_id."
        )),
        (Some(_), Some(_)) if output.name.is_some() => invalid(format!(
            "The output at {place} has no call_id, and several calls have its name; name the call_id."
        )),
        (Some(first), _) => Ok(*first),
    }
}

/// Returns the text of an output, and its images and files.
fn output(place: &str, kind: ToolKind, item: &Item) -> Result<(String, Vec<Part>), ApiError> {
    let nothing = Value::Null;
    let given = item.output.as_ref().unwrap_or(&nothing);
    match kind {
        ToolKind::Function | ToolKind::Custom => match given {
            Value::Null => Err(missing(format!("{place}.output"))),
            Value::Array(_) => {
                let place = format!("{place}.output");
                let parts: Vec<ItemPart> = typed_at(&place, given.clone())?;
                let parts = parts
                    .into_iter()
                    .enumerate()
                    .map(|(at, part)| chat_part(&format!("{place}[{at}]"), part));
                let parts: Vec<Part> = parts
                    .collect::<Result<Vec<_>, _>>()?
                    .into_iter()
                    .flatten()
                    .collect();
                let (texts, media): (Vec<Part>, Vec<Part>) =
                    parts.into_iter().partition(|part| part.as_text().is_some());
                Ok((texts.iter().filter_map(Part::as_text).collect(), media))
            }
            given => Ok((as_text(given), Vec::new())),
        },
        ToolKind::ToolSearch => {
            let found = item.tools.as_ref().and_then(Value::as_array);
            let names: Vec<String> = found.into_iter().flatten().flat_map(tool_names).collect();
            let text = if names.is_empty() {
                "No tool was found.".to_owned()
            } else {
                format!("These tools can be called now: {}.", names.join(", "))
            };
            Ok((text, Vec::new()))
        }
        ToolKind::ApplyPatch => {
            let status = item.status.as_deref().unwrap_or("completed");
            let text = as_text(given);
            let text = if text.is_empty() {
                status.to_owned()
            } else {
                format!("{status}: {text}")
            };
            Ok((text, Vec::new()))
        }
        ToolKind::LocalShell | ToolKind::Shell | ToolKind::Mcp | ToolKind::FileSearch => {
            Ok((as_text(given), Vec::new()))
        }
    }
}

/// Returns a string unchanged, `null` as the empty string, and any other value as JSON.
fn as_text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Returns the name of a tool, or the names of all tools in a namespace.
fn tool_names(tool: &Value) -> Vec<String> {
    let name = |tool: &Value| tool.get("name").and_then(Value::as_str).map(str::to_owned);
    match tool.get("tools").and_then(Value::as_array) {
        Some(inner) => inner.iter().filter_map(name).collect(),
        None => name(tool).into_iter().collect(),
    }
}

/// The turn of the assistant since the last message of another role.
#[derive(Default)]
struct Turn {
    /// The path of the turn's first item in the client's request.
    place: String,
    reasoning: Option<String>,
    content: Vec<Part>,
    calls: Vec<Call>,
}

/// A call by the assistant, and the index of its item.
struct Call {
    at: usize,
    made: ToolCall,
    is_async: bool,
}

struct Reader<'a> {
    /// The approval requests whose calls were made. The items of the calls replace them.
    made: HashSet<usize>,
    outputs: HashMap<usize, Output>,
    origin: Origin,
    keys: Option<&'a Keys>,
    offered: &'a Offered,
    conversation: Conversation,
    turn: Option<Turn>,
}

impl Reader<'_> {
    fn item(&mut self, index: usize, item: Item) -> Result<(), ApiError> {
        let place = self.origin.place(index);
        self.name_extras(&item);
        let kind = match item.kind.as_deref() {
            Some(kind) => kind.to_owned(),
            None if item.role.is_none() && item.id.is_some() => "item_reference".to_owned(),
            None => "message".to_owned(),
        };
        match kind.as_str() {
            "message" => self.message(place, item),
            "reasoning" => self.reasoning(place, &item),
            "compaction" | "compaction_summary" => self.compaction(place, &item),
            "configuration_update" => self.configuration(&place, item),
            // References were replaced by their items, these tools were added, and approvals were
            // read with their requests, before.
            // The answer to a search is in the text that the model wrote then.
            "item_reference"
            | "additional_tools"
            | "mcp_list_tools"
            | "mcp_approval_response"
            | "file_search_call" => Ok(()),
            "mcp_approval_request" if self.made.contains(&index) => Ok(()),
            kind if output_kind(kind).is_some() => {
                // The output was already assigned to its call, and is written after the call.
                self.end_turn()
            }
            kind => {
                if let Some(kind) = call_kind(kind) {
                    return self.call(place, index, kind, &item);
                }
                self.ignore(format!("input[].{kind}"));
                Ok(())
            }
        }
    }

    fn message(&mut self, place: String, item: Item) -> Result<(), ApiError> {
        let role = match item.role.as_deref() {
            Some("user") => Role::User,
            Some("assistant") => Role::Assistant,
            Some("system") => Role::System,
            Some("developer") => Role::Developer,
            None => return Err(missing(format!("{place}.role"))),
            Some(other) => {
                let message = format!(
                    "Invalid value: '{other}'. Supported values are: 'assistant', 'system', 'developer', and 'user'."
                );
                let param = format!("{place}.role");
                return Err(ApiError::invalid(param, "invalid_value", message));
            }
        };
        let content = match item.content {
            Some(content) => self.content(&format!("{place}.content"), content)?,
            None if role == Role::Assistant => Vec::new(),
            None => return Err(missing(format!("{place}.content"))),
        };
        if role == Role::Assistant {
            // A second text is a message of its own, unless there are calls between the two.
            let speaks = |turn: &Turn| !turn.content.is_empty() && turn.calls.is_empty();
            if self.turn.as_ref().is_some_and(speaks) {
                self.end_turn()?;
            }
            self.turn(place).content.extend(content);
            return Ok(());
        }
        self.end_turn()?;
        self.push(
            place,
            Message {
                content: Some(joined(content)),
                ..Message::text(role, "")
            },
        );
        Ok(())
    }

    /// Returns a text or a list of parts as a list of parts.
    fn content(&mut self, place: &str, content: Value) -> Result<Vec<Part>, ApiError> {
        if let Value::String(text) = content {
            return Ok(vec![PartKind::Text(text).into()]);
        }
        let parts: Vec<ItemPart> = typed_at(place, content)?;
        let mut content = Vec::new();
        for (at, part) in parts.into_iter().enumerate() {
            let kind = part.kind.clone();
            match chat_part(&format!("{place}[{at}]"), part)? {
                Some(part) => content.push(part),
                None => self.ignore(format!("input[].content[].{kind}")),
            }
        }
        Ok(content)
    }

    /// Adds reasoning to the turn, before the text and the calls that follow.
    fn reasoning(&mut self, place: String, item: &Item) -> Result<(), ApiError> {
        let said = |text: &String| !text.is_empty();
        let mut text = readable(item.content.as_ref(), "").filter(said);
        let mut is_foreign = false;
        if let (None, Some(sealed)) = (&text, &item.encrypted_content) {
            text = Sealed::Reasoning.open(self.keys, sealed, &place)?;
            is_foreign = text.is_none();
        }
        let text = text.or_else(|| readable(item.summary.as_ref(), "\n\n"));
        let Some(text) = text.filter(said) else {
            if is_foreign {
                self.conversation.removed.push(InputTransformation {
                    id: item.id.clone(),
                    kind: "reasoning".to_owned(),
                    action: "removed".to_owned(),
                    reason: "organization_mismatch".to_owned(),
                });
                self.ignore("input[].encrypted_content".to_owned());
            }
            return Ok(());
        };
        let acts = |turn: &Turn| !turn.content.is_empty() || !turn.calls.is_empty();
        if self.turn.as_ref().is_some_and(acts) {
            self.end_turn()?;
        }
        let turn = self.turn(place);
        match &mut turn.reasoning {
            Some(before) => {
                before.push_str("\n\n");
                before.push_str(&text);
            }
            None => turn.reasoning = Some(text),
        }
        Ok(())
    }

    /// Replaces the conversation so far by its summary.
    fn compaction(&mut self, place: String, item: &Item) -> Result<(), ApiError> {
        let sealed = item
            .encrypted_content
            .as_deref()
            .ok_or_else(|| missing(format!("{place}.encrypted_content")))?;
        if self.keys.is_none() {
            self.ignore("input[].compaction".to_owned());
            return Ok(());
        }
        let opened = Sealed::Compaction.open(self.keys, sealed, &place)?;
        let compacted = opened.and_then(|text| serde_json::from_str::<Compacted>(&text).ok());
        let compacted = compacted.ok_or_else(|| not_opened(&place, "another server made it"))?;
        for message in compacted.messages {
            self.message(place.clone(), typed_at(&place, message)?)?;
        }
        self.end_turn()?;
        let Some(kept) = compacted.kept else {
            self.push(place, summary::told(&compacted.summary));
            return Ok(());
        };
        self.conversation.messages.clear();
        self.conversation.places.clear();
        let told = summary::told(&compacted.summary);
        for message in kept.before.into_iter().chain([told]).chain(kept.after) {
            self.push(place.clone(), message);
        }
        Ok(())
    }

    fn configuration(&mut self, place: &str, item: Item) -> Result<(), ApiError> {
        if let Some(reasoning) = item.reasoning {
            let reasoning: Reasoning = typed_at(&format!("{place}.reasoning"), reasoning)?;
            if reasoning.effort.is_some() {
                self.conversation.effort = reasoning.effort;
            }
        }
        if let Some(mut text) = item.text {
            let format = text.get_mut("format").map(Value::take);
            if let Some(format) = format.filter(|format| !format.is_null()) {
                let place = format!("{place}.text.format");
                self.conversation.format = Some(typed_at(&place, format)?);
            }
        }
        Ok(())
    }

    fn call(
        &mut self,
        place: String,
        at: usize,
        kind: ToolKind,
        item: &Item,
    ) -> Result<(), ApiError> {
        let id = call_id(item).ok_or_else(|| missing(format!("{place}.call_id")))?;
        let (name, arguments) = match kind {
            ToolKind::Function | ToolKind::Mcp | ToolKind::FileSearch => {
                (item.name.as_deref(), item.arguments.as_ref().map(as_text))
            }
            ToolKind::Custom => {
                let input = item.input.as_ref().map(as_text);
                let arguments =
                    input.map(|input| json!({ custom_tools::INPUT: input }).to_string());
                (item.name.as_deref(), arguments)
            }
            ToolKind::LocalShell => (Some("local_shell"), item.action.as_ref().map(action)),
            ToolKind::Shell => (Some("shell"), item.action.as_ref().map(action)),
            ToolKind::ApplyPatch => (Some("apply_patch"), item.operation.as_ref().map(as_text)),
            ToolKind::ToolSearch => (Some("tool_search"), item.arguments.as_ref().map(as_text)),
        };
        let label = item.extra.get("server_label").and_then(Value::as_str);
        let namespace = item.namespace.as_deref().or(label);
        let name = name.ok_or_else(|| missing(format!("{place}.name")))?;
        let function = self.offered.function_of(kind, name, namespace);
        let is_async = item.is_async == Some(true) || self.offered.is_async(&function);
        let call = ToolCall {
            id: id.to_owned(),
            kind: "function".to_owned(),
            function: FunctionCall {
                name: function,
                arguments: arguments.unwrap_or_default(),
                extra: Extra::new(),
            },
            extra: Extra::new(),
        };
        // Calls whose outputs come before this call are in an earlier message.
        self.turn(place).calls.push(Call {
            at,
            made: call,
            is_async,
        });
        Ok(())
    }

    fn turn(&mut self, place: String) -> &mut Turn {
        self.turn.get_or_insert_with(|| Turn {
            place,
            ..Turn::default()
        })
    }

    /// Writes the assistant's turn as a message, followed by the outputs of its calls.
    fn end_turn(&mut self) -> Result<(), ApiError> {
        let Some(turn) = self.turn.take() else {
            return Ok(());
        };
        let Turn {
            place,
            reasoning,
            content,
            calls,
        } = turn;
        if content.is_empty() && calls.is_empty() {
            if reasoning.is_some() {
                self.ignore("input[].reasoning".to_owned());
            }
            return Ok(());
        }
        let made: Vec<ToolCall> = calls.iter().map(|call| call.made.clone()).collect();
        self.push(
            place,
            Message {
                content: (!content.is_empty()).then(|| joined(content)),
                tool_calls: (!made.is_empty()).then_some(made),
                reasoning_content: reasoning,
                ..Message::text(Role::Assistant, "")
            },
        );
        let mut shown = Vec::new();
        for Call { at, made, is_async } in calls {
            let (place, text) = match self.outputs.remove(&at) {
                Some(output) => {
                    shown.extend(output.media);
                    (self.origin.place(output.at), output.text)
                }
                None if is_async => (self.origin.place(at), NOT_YET.to_owned()),
                None => {
                    let message = format!("No tool output found for function call {}.", made.id);
                    return Err(ApiError::invalid("input", "invalid_value", message));
                }
            };
            self.push(
                place,
                Message {
                    tool_call_id: Some(made.id),
                    ..Message::text(Role::Tool, text)
                },
            );
        }
        if !shown.is_empty() {
            let place = self.conversation.places.last().cloned().unwrap_or_default();
            self.push(
                place,
                Message {
                    content: Some(Content::Parts(shown)),
                    ..Message::text(Role::User, "")
                },
            );
        }
        Ok(())
    }

    fn push(&mut self, place: String, message: Message) {
        self.conversation.messages.push(message);
        self.conversation.places.push(place);
    }

    fn ignore(&mut self, name: String) {
        self.conversation.ignored.add(name);
    }

    /// Adds unknown fields of an item to the names of fields without effect.
    fn name_extras(&mut self, item: &Item) {
        // Fields that this server or an SDK sets. They mean nothing to a model.
        const LABELS: &[&str] = &[
            "phase",
            "caller",
            "created_by",
            "execution",
            "environment",
            "max_output_length",
            "role",
            "server_label",
            "approval_request_id",
            "error",
        ];
        let is_read = item.kind.as_deref().is_none_or(|kind| {
            kind == "message" || call_kind(kind).is_some() || output_kind(kind).is_some()
        });
        if !is_read {
            return;
        }
        for key in item.extra.keys() {
            if !LABELS.contains(&key.as_str()) {
                self.ignore(format!("input[].{key}"));
            }
        }
    }
}

/// Returns the action of a shell call as arguments of its function.
fn action(action: &Value) -> String {
    let mut action = action.clone();
    if let Some(fields) = action.as_object_mut() {
        fields.remove("type");
        fields.retain(|_, value| !value.is_null());
    }
    action.to_string()
}

/// Joins the texts of parts.
fn readable(parts: Option<&Value>, between: &str) -> Option<String> {
    let texts = parts?.as_array()?.iter();
    let texts: Vec<&str> = texts
        .filter_map(|part| part.get("text").and_then(Value::as_str))
        .collect();
    (!texts.is_empty()).then(|| texts.join(between))
}

/// Returns a single text part as a string, and any other list as parts.
fn joined(mut parts: Vec<Part>) -> Content {
    match parts.as_mut_slice() {
        [] => Content::Text(String::new()),
        [
            Part {
                kind: PartKind::Text(text),
                extra,
            },
        ] if extra.is_empty() => Content::Text(std::mem::take(text)),
        _ => Content::Parts(parts),
    }
}

/// Turns a part into a part of a chat. Returns `None` for a type that chats do not have.
fn chat_part(place: &str, part: ItemPart) -> Result<Option<Part>, ApiError> {
    let needed = |field: &str| missing(format!("{place}.{field}"));
    let ItemPart {
        kind,
        text,
        refusal,
        image_url,
        detail,
        file_id,
        file_url,
        file_data,
        filename,
        input_audio,
        mut extra,
    } = part;
    let kind = match kind.as_str() {
        "input_text" | "output_text" | "text" | "summary_text" | "reasoning_text" => {
            extra.remove("annotations");
            extra.remove("logprobs");
            PartKind::Text(text.ok_or_else(|| needed("text"))?)
        }
        "refusal" => PartKind::Refusal(refusal.ok_or_else(|| needed("refusal"))?),
        "input_image" => {
            match (image_url, file_id) {
                // The media type is detected from the content.
                (None, Some(file_id)) => by_id(file_id, None),
                (url, _) => {
                    let url = url.ok_or_else(|| needed("image_url"))?;
                    images::check(|| format!("{place}.image_url"), &url)?;
                    PartKind::ImageUrl {
                        url,
                        detail,
                        extra: Extra::new(),
                    }
                }
            }
        }
        "input_file" => match (file_data, file_id, file_url) {
            (None, Some(file_id), _) => by_id(file_id, filename),
            (Some(data), _, _) => by_data(data, filename),
            // The document is fetched when the model is known.
            (None, None, Some(url)) => {
                check_url(&format!("{place}.file_url"), &url)?;
                by_data(url, filename)
            }
            (None, None, None) => return Err(needed("file_data")),
        },
        "input_audio" => {
            let audio = input_audio.ok_or_else(|| needed("input_audio"))?;
            PartKind::InputAudio {
                data: audio.data,
                format: audio.format,
                extra: audio.extra,
            }
        }
        _ => return Ok(None),
    };
    Ok(Some(Part { kind, extra }))
}

/// A file by its content or its URL.
fn by_data(data: String, filename: Option<String>) -> PartKind {
    PartKind::File(File {
        file_data: Some(data),
        filename,
        file_id: None,
        extra: Extra::new(),
    })
}

/// A file that is named by its id. Its content is added when the model is known.
fn by_id(file_id: String, filename: Option<String>) -> PartKind {
    PartKind::File(File {
        file_data: None,
        filename,
        file_id: Some(file_id),
        extra: Extra::new(),
    })
}

impl Conversation {
    /// Puts a message before all others.
    pub(crate) fn begin_with(&mut self, place: &str, message: Message) {
        self.messages.insert(0, message);
        self.places.insert(0, place.to_owned());
    }

    /// Puts a message after all others.
    pub(crate) fn end_with(&mut self, place: &str, message: Message) {
        self.messages.push(message);
        self.places.push(place.to_owned());
    }

    /// The paths in the client's request that the chat's messages and these tools were made from.
    pub(crate) fn places(&mut self, tools: Vec<String>) -> Places {
        Places {
            messages: std::mem::take(&mut self.places),
            tools,
        }
    }
}
