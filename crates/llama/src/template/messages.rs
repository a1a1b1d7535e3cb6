//! OpenAI's messages and tools as the values that templates expect: the shapes of Hugging Face's `transformers`.

use loggia_wire::openai::{Content, Message, Role, Tool, ToolCall};
use minijinja::Value;
use minijinja::value::Serde;
use serde::Serialize;

/// What a call's arguments, which OpenAI sends as a string of JSON, become.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Arguments {
    /// The object that the string holds.
    Object,
    /// The string.
    Text,
}

#[derive(Serialize)]
struct Turn<'a> {
    role: &'a str,
    content: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<Vec<Call<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
}

#[derive(Serialize)]
struct Call<'a> {
    id: &'a str,
    r#type: &'a str,
    function: Function<'a>,
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    arguments: Value,
}

/// The messages as a list of maps.
pub(super) fn values(messages: &[Message], arguments: Arguments) -> Value {
    Value::from(Serde(messages.iter().map(|message| turn(message, arguments)).collect::<Vec<_>>()))
}

/// The tools as a list of maps; none at all where there are none, as `transformers` passes it.
pub(super) fn tools(tools: &[Tool]) -> Value {
    if tools.is_empty() { Value::from(()) } else { Value::from(Serde(tools)) }
}

fn turn(message: &Message, arguments: Arguments) -> Turn<'_> {
    Turn {
        // Templates know the older name only.
        role: if message.role == Role::Developer { "system" } else { message.role.as_str() },
        content: message.content.as_ref().map(|content| content.joined_text().into_owned()).unwrap_or_default(),
        name: message.name.as_deref(),
        tool_calls: message
            .tool_calls
            .as_ref()
            .map(|calls| calls.iter().map(|call| self::call(call, arguments)).collect()),
        tool_call_id: message.tool_call_id.as_deref(),
        reasoning_content: message.earlier_reasoning(),
    }
}

fn call(call: &ToolCall, arguments: Arguments) -> Call<'_> {
    let text = &call.function.arguments;
    let object = match arguments {
        Arguments::Object => serde_json::from_str::<Value>(text).ok(),
        Arguments::Text => None,
    };
    let arguments = object.unwrap_or_else(|| Value::from(text.as_str()));
    Call { id: &call.id, r#type: &call.kind, function: Function { name: &call.function.name, arguments } }
}

/// The messages without system messages: what these say goes to the head of the first user message.
pub(super) fn system_into_user(messages: &[Message]) -> Vec<Message> {
    let is_system = |message: &&Message| matches!(message.role, Role::System | Role::Developer);
    let text = |message: &Message| {
        message.content.as_ref().map(|content| content.joined_text().into_owned()).unwrap_or_default()
    };
    let mut system: Vec<String> = messages.iter().filter(is_system).map(text).collect();
    let mut others: Vec<Message> = messages.iter().filter(|message| !is_system(message)).cloned().collect();
    if system.is_empty() {
        return others;
    }
    match others.iter_mut().find(|message| message.role == Role::User) {
        Some(first) => {
            system.push(text(first));
            first.content = Some(Content::Text(system.join("\n\n")));
        }
        None => others.insert(0, Message::text(Role::User, system.join("\n\n"))),
    }
    others
}
