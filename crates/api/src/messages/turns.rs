//! Converts the messages of `POST /v1/messages` to the messages of a chat.
//!
//! Consecutive messages of the assistant become one message of the chat. The results of its calls
//! follow it directly, even if the client placed them later, up to the assistant's next message.

use std::collections::HashMap;

use loggia_wire::Extra;
use loggia_wire::anthropic::{Block, Content, InputMessage, Tool};
use loggia_wire::openai::{Content as ChatContent, FunctionCall, Message, Part, Role, ToolCall};
use serde_json::Value;

use crate::ApiError;
use crate::admit::checks::{missing, not_among};
use crate::admit::parse::{typed, wrong_at};
use crate::messages::blocks::{self, Parts, SYSTEM};
use crate::messages::compaction::{self, Earlier, Replacement};
use crate::messages::signature::Signer;
use crate::messages::tools::{ToolChanges, function_of};
use crate::responses::ignored::Ignored;

/// The beginning of a block that Claude Code puts before its system prompt, for Anthropic's servers.
/// It has a hash of the conversation: with it, no two prompts would begin alike, and no engine could
/// take the system prompt and the tools from its cache.
const BILLING_LABEL: &str = "x-anthropic-billing-header";

fn is_label(text: Option<&str>) -> bool {
    let rest = text.and_then(|text| text.strip_prefix(BILLING_LABEL));
    rest.is_some_and(|rest| rest.starts_with(':') && !rest.contains('\n'))
}

/// A conversation as a chat has it.
#[derive(Debug, Default)]
pub(crate) struct Conversation {
    pub(crate) messages: Vec<Message>,
    /// The origin of each message.
    pub(crate) places: Vec<String>,
    /// Blocks and fields without an effect.
    pub(crate) ignored: Ignored,
    /// The effort that the last system message with one requires.
    pub(crate) effort: Option<String>,
}

/// Finds the changes of the tools in the messages.
///
/// # Errors
/// Returns a 400 for a tool that cannot be read.
pub(crate) fn tool_changes(messages: &[InputMessage]) -> Result<ToolChanges, ApiError> {
    let mut changes = ToolChanges::default();
    for (index, message) in messages.iter().enumerate() {
        let Some(Content::Blocks(blocks)) = &message.content else {
            continue;
        };
        for (at, block) in blocks.iter().enumerate() {
            match block.kind.as_str() {
                "tool_result" | "tool_search_tool_result" => {
                    changes.named.extend(references(block.content.as_ref()));
                }
                "tool_use" => changes.named.extend(block.name.clone()),
                compaction::BLOCK => {
                    let place = format!("messages[{index}].content[{at}].tool_changes");
                    for change in compaction::earlier_changes(block) {
                        let kind = change.get("type").and_then(Value::as_str);
                        changes.change(kind.unwrap_or_default(), &place, change.get("tool"))?;
                    }
                }
                kind => {
                    let place = format!("messages[{index}].content[{at}].tool");
                    changes.change(kind, &place, block.tool.as_ref())?;
                }
            }
        }
    }
    Ok(changes)
}

impl ToolChanges {
    /// Applies a block of the type `tool_addition` or `tool_removal`. Other types change nothing.
    fn change(&mut self, kind: &str, place: &str, tool: Option<&Value>) -> Result<(), ApiError> {
        match kind {
            "tool_addition" => self.add(place, tool),
            "tool_removal" => {
                self.removed.extend(tool.and_then(name_of));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn add(&mut self, place: &str, tool: Option<&Value>) -> Result<(), ApiError> {
        let Some(tool) = tool else {
            return Err(missing(place.to_owned()));
        };
        let name = match tool.get("definition") {
            Some(definition) => {
                let place = format!("{place}.definition");
                let mut defined: Tool =
                    typed(definition.clone()).map_err(|error| wrong_at(&place, error))?;
                defined.defer_loading = None;
                let name = defined.name.clone();
                self.defined.push((place, defined));
                name
            }
            None => name_of(tool),
        };
        // The tool was removed and is added again.
        self.removed
            .retain(|removed| Some(removed) != name.as_ref());
        self.named.extend(name);
        Ok(())
    }
}

/// Returns the names of the tools that a result refers to.
fn references(content: Option<&Value>) -> Vec<String> {
    let Some(content) = content else {
        return Vec::new();
    };
    // In a result of a search by Anthropic's servers, the references are in an object.
    let list = content.get("tool_references").unwrap_or(content);
    let list = list.as_array().into_iter().flatten();
    let list = list.filter(|block| {
        block
            .get("type")
            .is_some_and(|kind| kind == "tool_reference")
    });
    list.filter_map(|block| block.get("tool_name")?.as_str().map(str::to_owned))
        .collect()
}

fn name_of(tool: &Value) -> Option<String> {
    tool.get("name")?.as_str().map(str::to_owned)
}

/// Translates the system prompt and the messages.
///
/// # Errors
/// Returns a 400 about an invalid message or block, and for a call or a result without the other.
pub(crate) fn conversation(
    system: Option<Content>,
    messages: Vec<InputMessage>,
    recalled: usize,
    signer: &Signer,
) -> Result<Conversation, ApiError> {
    let mut reader = Reader {
        recalled,
        signer: signer.clone(),
        ..Reader::default()
    };
    if let Some(system) = system {
        reader.system(SYSTEM.to_owned(), system)?;
    }
    let last_of_user = messages.iter().rposition(|message| message.role == "user");
    let earlier = Earlier::of(&messages);
    for (index, mut message) in messages.into_iter().enumerate() {
        if let Some(earlier) = &earlier {
            if index < earlier.message {
                continue;
            }
            if index == earlier.message {
                reader.replace(index, earlier.replacement(signer));
                match earlier.rest(message) {
                    Some(rest) => message = rest,
                    None => continue,
                }
            }
        }
        let hides = message.clear_at.as_deref() == Some("next_user_message");
        if hides && last_of_user.is_some_and(|last| last > index) {
            continue;
        }
        reader.message(index, message)?;
    }
    reader.end_turn()?;
    reader.end_others();
    Ok(reader.conversation)
}

/// The texts and calls of the assistant before another role's message.
#[derive(Debug)]
struct Turn {
    /// The path of the turn's first message.
    place: String,
    reasoning: Option<String>,
    parts: Parts,
    calls: Vec<ToolCall>,
}

/// The result of a call.
#[derive(Debug)]
struct CallResult {
    place: String,
    text: String,
    /// A chat's tool message has no room for images.
    media: Vec<Part>,
}

#[derive(Debug, Default)]
struct Reader {
    conversation: Conversation,
    turn: Option<Turn>,
    /// The messages of other roles after the turn, each with its path in the request.
    others: Vec<(String, Message)>,
    /// The results of the turn's calls.
    results: HashMap<String, CallResult>,
    /// The number of messages that the client did not send with this request.
    recalled: usize,
    /// Reads the reasoning that the client does not see.
    signer: Signer,
}

impl Reader {
    fn place(&self, index: usize) -> String {
        match index.checked_sub(self.recalled) {
            Some(index) => format!("messages[{index}]"),
            None => "thread".to_owned(),
        }
    }

    /// Adds the messages that replace all messages before this one.
    fn replace(&mut self, index: usize, replacement: Replacement) {
        let place = self.place(index);
        let messages = replacement.messages.into_iter();
        self.others
            .extend(messages.map(|message| (place.clone(), message)));
        if replacement.is_unread {
            self.ignore("messages[].content[].encrypted_content".to_owned());
        }
    }

    fn message(&mut self, index: usize, message: InputMessage) -> Result<(), ApiError> {
        let place = self.place(index);
        for key in message.extra.keys() {
            self.ignore(format!("messages[].{key}"));
        }
        let content = message.content;
        match message.role.as_str() {
            "assistant" => {
                let content = content.ok_or_else(|| missing(format!("{place}.content")))?;
                self.assistant(&place, content)
            }
            "user" => {
                let content = content.ok_or_else(|| missing(format!("{place}.content")))?;
                self.user(place, content)
            }
            "system" => {
                let effort = message.output_config.as_ref();
                let effort = effort.and_then(|config| config.get("effort")?.as_str());
                if let Some(effort) = effort {
                    self.conversation.effort = Some(effort.to_owned());
                }
                match content {
                    Some(content) => self.system(place, content),
                    None => Ok(()),
                }
            }
            other => {
                let known = ["user", "assistant", "system"];
                Err(not_among(format!("{place}.role"), other, &known))
            }
        }
    }

    fn system(&mut self, place: String, content: Content) -> Result<(), ApiError> {
        let mut parts = Parts::default();
        let list = if place == SYSTEM {
            place.clone()
        } else {
            format!("{place}.content")
        };
        for (at, block) in blocks_of(content).into_iter().enumerate() {
            match block.kind.as_str() {
                "text" if is_label(block.text.as_deref()) => {
                    self.ignore(BILLING_LABEL.to_owned());
                }
                "text" => {
                    let place = format!("{list}[{at}]");
                    blocks::add(&mut parts, &place, block, &mut self.conversation.ignored)?;
                }
                // These changes of the tools were applied before.
                "tool_addition" | "tool_removal" => {}
                other => {
                    let param = format!("{list}[{at}].type");
                    let known = ["text", "tool_addition", "tool_removal"];
                    return Err(not_among(param, other, &known));
                }
            }
        }
        if !parts.is_empty() {
            self.other(place, Role::System, parts.into_content());
        }
        Ok(())
    }

    fn user(&mut self, place: String, content: Content) -> Result<(), ApiError> {
        let mut parts = Parts::default();
        let mut has_results = false;
        for (at, block) in blocks_of(content).into_iter().enumerate() {
            let at = format!("{place}.content[{at}]");
            let ignored = &mut self.conversation.ignored;
            let Some(block) = blocks::add(&mut parts, &at, block, ignored)? else {
                continue;
            };
            match block.kind.as_str() {
                "tool_result" => {
                    has_results = true;
                    self.result(at, block)?;
                }
                // An empty summary, or a summary before a later one.
                compaction::BLOCK => {}
                kind if blocks::is_of_servers(kind) => {
                    self.ignore(format!("messages[].content[].{kind}"));
                }
                other => return Err(not_of("user", &at, other)),
            }
        }
        if !(has_results && parts.is_empty()) {
            self.other(place, Role::User, parts.into_content());
        }
        Ok(())
    }

    fn result(&mut self, place: String, block: Block) -> Result<(), ApiError> {
        let id = block.tool_use_id.clone();
        let id = id.ok_or_else(|| missing(format!("{place}.tool_use_id")))?;
        let calls = self.turn.as_ref().map(|turn| turn.calls.as_slice());
        let is_called = calls.is_some_and(|calls| calls.iter().any(|call| call.id == id));
        let param = format!("{place}.tool_use_id");
        if !is_called {
            let message = format!(
                "unexpected `tool_use_id` found in `tool_result` blocks: {id}. Each `tool_result` block must have a \
                 corresponding `tool_use` block in the previous message."
            );
            return Err(ApiError::invalid(param, "invalid_value", message));
        }
        if self.results.contains_key(&id) {
            let message = format!(
                "each tool_use must have a single result. Found multiple `tool_result` blocks with id: {id}"
            );
            return Err(ApiError::invalid(param, "invalid_value", message));
        }
        let (text, media) = blocks::result(&place, block, &mut self.conversation.ignored)?;
        let result = CallResult { place, text, media };
        self.results.insert(id, result);
        Ok(())
    }

    fn assistant(&mut self, place: &str, content: Content) -> Result<(), ApiError> {
        if !self.others.is_empty() || !self.results.is_empty() {
            self.end_turn()?;
            self.end_others();
        }
        let mut turn = self.turn.take().unwrap_or_else(|| Turn {
            place: place.to_owned(),
            reasoning: None,
            parts: Parts::of_an_answer(),
            calls: Vec::new(),
        });
        for (at, block) in blocks_of(content).into_iter().enumerate() {
            self.answered(&mut turn, &format!("{place}.content[{at}]"), block)?;
        }
        self.turn = Some(turn);
        Ok(())
    }

    fn answered(&mut self, turn: &mut Turn, place: &str, block: Block) -> Result<(), ApiError> {
        match block.kind.as_str() {
            "text" => {
                blocks::add(
                    &mut turn.parts,
                    place,
                    block,
                    &mut self.conversation.ignored,
                )?;
            }
            "thinking" => {
                blocks::name_extras(place, &block, &mut self.conversation.ignored);
                let mut text = block.thinking.unwrap_or_default();
                let signature = block.signature.unwrap_or_default();
                if text.is_empty() && !signature.is_empty() {
                    match self.signer.opened(&signature) {
                        Some(hidden) => text = hidden,
                        None => self.ignore("messages[].content[].signature".to_owned()),
                    }
                }
                if !text.is_empty() {
                    let before = turn.reasoning.take();
                    let joined = before.map(|before| format!("{before}\n\n{text}"));
                    turn.reasoning = Some(joined.unwrap_or(text));
                }
            }
            "tool_use" => {
                blocks::name_extras(place, &block, &mut self.conversation.ignored);
                turn.calls.push(call(place, block)?);
            }
            compaction::BLOCK => {}
            kind if blocks::is_of_servers(kind) => {
                self.ignore(format!("messages[].content[].{kind}"));
            }
            other => return Err(not_of("assistant", place, other)),
        }
        Ok(())
    }

    /// Adds a message after the turn of the assistant, if there was one.
    fn other(&mut self, place: String, role: Role, content: ChatContent) {
        let message = Message {
            content: Some(content),
            ..Message::text(role, "")
        };
        self.others.push((place, message));
    }

    /// Writes the assistant's text and calls, and then the results of the calls.
    fn end_turn(&mut self) -> Result<(), ApiError> {
        let Some(turn) = self.turn.take() else {
            return Ok(());
        };
        let Turn {
            place,
            reasoning,
            parts,
            calls,
        } = turn;
        if parts.is_empty() && calls.is_empty() {
            return Ok(());
        }
        let ids: Vec<String> = calls.iter().map(|call| call.id.clone()).collect();
        let message = Message {
            content: (!parts.is_empty()).then(|| parts.into_content()),
            tool_calls: (!calls.is_empty()).then_some(calls),
            reasoning_content: reasoning,
            ..Message::text(Role::Assistant, "")
        };
        self.push(place.clone(), message);
        let missing: Vec<&str> = ids
            .iter()
            .filter(|id| !self.results.contains_key(*id))
            .map(String::as_str)
            .collect();
        if !missing.is_empty() {
            let message = format!(
                "`tool_use` ids were found without `tool_result` blocks immediately after: {}. Each `tool_use` block must \
                 have a corresponding `tool_result` block in the next message.",
                missing.join(", ")
            );
            return Err(ApiError::invalid(place, "invalid_value", message));
        }
        let mut shown = Vec::new();
        let mut last = place;
        for id in ids {
            let Some(CallResult { place, text, media }) = self.results.remove(&id) else {
                // The model used one id twice.
                continue;
            };
            shown.extend(media);
            last.clone_from(&place);
            let message = Message {
                tool_call_id: Some(id),
                ..Message::text(Role::Tool, text)
            };
            self.push(place, message);
        }
        self.show(last, shown);
        Ok(())
    }

    /// Puts the images of results into the user's next message, or into one of their own.
    fn show(&mut self, place: String, media: Vec<Part>) {
        if media.is_empty() {
            return;
        }
        let mut parts = Parts::default();
        parts.extend(media);
        if let Some((_, message)) = self.others.first_mut()
            && message.role == Role::User
        {
            match message.content.take() {
                Some(ChatContent::Text(text)) => parts.text(&text),
                Some(ChatContent::Parts(more)) => parts.extend(more),
                None => {}
            }
            message.content = Some(parts.into_content());
            return;
        }
        let message = Message {
            content: Some(parts.into_content()),
            ..Message::text(Role::User, "")
        };
        self.push(place, message);
    }

    /// Writes the messages after the turn.
    fn end_others(&mut self) {
        for (place, message) in std::mem::take(&mut self.others) {
            self.push(place, message);
        }
    }

    fn push(&mut self, place: String, message: Message) {
        self.conversation.messages.push(message);
        self.conversation.places.push(place);
    }

    fn ignore(&mut self, name: String) {
        self.conversation.ignored.add(name);
    }
}

/// The blocks of content. A text is one block.
fn blocks_of(content: Content) -> Vec<Block> {
    match content {
        Content::Blocks(blocks) => blocks,
        Content::Text(text) => vec![Block::of_text(text)],
    }
}

/// Returns the call of a `tool_use` block.
fn call(place: &str, block: Block) -> Result<ToolCall, ApiError> {
    let needed = |field: &str| missing(format!("{place}.{field}"));
    let id = block.id.ok_or_else(|| needed("id"))?;
    let name = block.name.ok_or_else(|| needed("name"))?;
    let arguments = block.input.ok_or_else(|| needed("input"))?.0;
    if !arguments.starts_with('{') {
        let param = format!("{place}.input");
        let message = format!("Invalid type for '{param}': expected an object.");
        return Err(ApiError::invalid(param, "invalid_type", message));
    }
    Ok(ToolCall {
        id,
        kind: "function".to_owned(),
        function: FunctionCall {
            name: function_of(&name),
            arguments,
            extra: Extra::new(),
        },
        extra: Extra::new(),
    })
}

/// Returns the error for a block that a message of this role cannot contain.
fn not_of(role: &str, place: &str, kind: &str) -> ApiError {
    let param = format!("{place}.type");
    let known: &[&str] = match (role, kind) {
        ("user", "tool_use" | "thinking") => {
            let message =
                format!("`{kind}` blocks can only be in messages of the role 'assistant'.");
            return ApiError::invalid(param, "invalid_value", message);
        }
        ("assistant", "tool_result" | "image" | "document" | "search_result") => {
            let message = format!("`{kind}` blocks can only be in messages of the role 'user'.");
            return ApiError::invalid(param, "invalid_value", message);
        }
        ("user", _) => &["text", "image", "document", "search_result", "tool_result"],
        _ => &["text", "thinking", "redacted_thinking", "tool_use"],
    };
    not_among(param, kind, known)
}
