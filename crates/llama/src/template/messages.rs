//! Converts OpenAI's messages and tools to the values that templates expect: those of Hugging
//! Face's `transformers`.

use std::borrow::Cow;
use std::collections::HashMap;

use loggia_backend::conversation::arguments;
use loggia_wire::openai::{Message, Role, Tool, ToolCall};
use minijinja::Value;
use minijinja::value::Serde;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::number;

/// The form in which a template gets a call's arguments, which are a string of JSON in OpenAI's
/// API.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Arguments {
    /// The arguments are passed as an object.
    Object,
    /// The arguments are passed as a JSON string.
    Text,
}

#[derive(Serialize)]
struct TemplateMessage<'a> {
    role: &'a str,
    /// The content. If there is none, the field is `null` and not omitted.
    content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<Vec<Call<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
    /// The reasoning, under the name that gpt-oss's template uses. That template refuses a message
    /// that has both this field and a content.
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<&'a str>,
    /// The tools, if the template reads them from the system message, as Phi-4-mini's does.
    #[serde(skip_serializing_if = "Option::is_none")]
    tools: Option<String>,
}

#[derive(Serialize)]
struct Call<'a> {
    id: Cow<'a, str>,
    r#type: &'a str,
    function: Function<'a>,
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    arguments: Value,
}

/// The form in which a template expects calls and results.
#[derive(Clone, Copy)]
pub(super) struct Shape<'a> {
    pub(super) arguments: Arguments,
    /// Whether the template only accepts ids of nine letters and digits, as Mistral's does.
    pub(super) short_ids: bool,
    /// Whether a message with calls and no text has the content `null`, instead of an empty one.
    pub(super) no_content: bool,
    /// The role of results.
    pub(super) result_role: &'a str,
}

/// Converts messages to a list of maps. The first one is a system message that has the tools as
/// JSON, for templates that read them there.
pub(super) fn values_with_tools(messages: &[Message], tools: &[Tool], shape: Shape<'_>) -> Value {
    let has_system = messages
        .first()
        .is_some_and(|first| matches!(first.role, Role::System | Role::Developer));
    let silent = (!has_system).then(|| Message::text(Role::System, ""));
    let with_system: Vec<Message> = silent.into_iter().chain(messages.iter().cloned()).collect();
    let mut turns = turns(&with_system, shape);
    let functions: Vec<_> = tools
        .iter()
        .filter_map(|tool| tool.function.as_ref())
        .collect();
    if let (Some(first), Ok(json)) = (turns.first_mut(), super::json::text(&functions)) {
        first.tools = Some(json);
    }
    Value::from(Serde(turns))
}

/// Converts messages to a list of maps.
pub(super) fn values(messages: &[Message], shape: Shape<'_>) -> Value {
    Value::from(Serde(turns(messages, shape)))
}

fn turns<'a>(messages: &'a [Message], shape: Shape<'a>) -> Vec<TemplateMessage<'a>> {
    let all_calls = messages
        .iter()
        .filter_map(|message| message.tool_calls.as_ref())
        .flatten();
    let names: HashMap<&str, &str> = all_calls
        .map(|call| (call.id.as_str(), call.function.name.as_str()))
        .collect();
    messages
        .iter()
        .map(|message| turn(message, &names, shape))
        .collect()
}

/// Converts tools to a list of maps. Without tools, the value is `None`, as in `transformers`. The
/// tools are converted from their JSON text, so that numbers keep all their digits.
pub(super) fn tools(tools: &[Tool]) -> Value {
    if tools.is_empty() {
        return Value::from(());
    }
    serde_json::to_string(tools)
        .ok()
        .and_then(|json| number::value(&json))
        .unwrap_or_default()
}

fn turn<'a>(
    message: &'a Message,
    names: &HashMap<&str, &'a str>,
    shape: Shape<'a>,
) -> TemplateMessage<'a> {
    let content = message
        .content
        .as_ref()
        .map(|content| content.joined_text().into_owned());
    // Templates have no field for a refusal, so it is passed as the assistant's content.
    let content = content
        .or_else(|| message.refusal.clone())
        .unwrap_or_default();
    let called = message
        .tool_call_id
        .as_deref()
        .and_then(|id| names.get(id).copied());
    let reasoning = message.earlier_reasoning();
    TemplateMessage {
        role: match message.role {
            // Templates know only the older name of this role.
            Role::Developer => "system",
            Role::Tool => shape.result_role,
            role => role.as_str(),
        },
        name: message.name.as_deref().or(called),
        tool_calls: message
            .tool_calls
            .as_ref()
            .map(|calls| calls.iter().map(|call| self::call(call, shape)).collect()),
        tool_call_id: message.tool_call_id.as_deref().map(|call| id(call, shape)),
        reasoning_content: reasoning,
        thinking: reasoning.filter(|_| content.is_empty()),
        tools: None,
        content: Some(content)
            .filter(|text| !shape.no_content || !text.is_empty() || message.tool_calls.is_none()),
    }
}

fn call<'a>(call: &'a ToolCall, shape: Shape<'_>) -> Call<'a> {
    let text = arguments::as_object(&call.function.arguments);
    let object = match shape.arguments {
        Arguments::Object => number::value(&text),
        Arguments::Text => None,
    };
    let arguments = object.unwrap_or_else(|| Value::from(&*text));
    Call {
        id: id(&call.id, shape),
        r#type: &call.kind,
        function: Function {
            name: &call.function.name,
            arguments,
        },
    }
}

const DIGITS: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";

/// The id of a call, in the form that the template accepts. A long id is replaced by a short one,
/// which is the same for the call and its result.
fn id<'a>(id: &'a str, shape: Shape<'_>) -> Cow<'a, str> {
    if !shape.short_ids || id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Cow::Borrowed(id);
    }
    Sha256::digest(id)
        .iter()
        .take(9)
        .map(|byte| char::from(DIGITS[usize::from(byte % 32)]))
        .collect()
}
