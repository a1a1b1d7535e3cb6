//! `functions` and `function_call`, the older form of `tools` and `tool_choice`, as the newer; and calls back as the older.

use futures_util::StreamExt;
use loggia_wire::Extra;
use loggia_wire::openai::{
    ChatCompletionRequest, ChunkChoice, Content, FinishReason, FunctionName, Message, Role, Tool, ToolCall, ToolChoice,
};
use serde_json::Value;

use crate::{Event, Reply};

/// Whether a request uses the older form anywhere.
pub(super) fn is_used(request: &ChatCompletionRequest) -> bool {
    let in_message = |message: &Message| message.role == Role::Function || message.function_call.is_some();
    request.functions.is_some() || request.function_call.is_some() || request.messages.iter().any(in_message)
}

/// The same request in the newer form.
pub(super) fn as_tools(request: &ChatCompletionRequest) -> ChatCompletionRequest {
    let mut request = request.clone();
    if let Some(functions) = request.functions.take() {
        let tool = |function| Tool { kind: "function".to_owned(), function: Some(function), extra: Extra::new() };
        request.tools.get_or_insert_default().extend(functions.into_iter().map(tool));
    }
    if let Some(choice) = request.function_call.take() {
        request.tool_choice = request.tool_choice.or(tool_choice(&choice));
    }
    // A result names the function, not the call: it answers the last call before it, where that was of this function. The name stays: where it
    // was not, or where a client has cut off what came before, the name alone says whose result it is.
    let (mut call_id, mut called) = (String::new(), String::new());
    for (index, message) in request.messages.iter_mut().enumerate() {
        if let Some(function) = message.function_call.take() {
            call_id = format!("call_{index}");
            called.clone_from(&function.name);
            let call = ToolCall { id: call_id.clone(), kind: "function".to_owned(), function, extra: Extra::new() };
            message.tool_calls.get_or_insert_default().push(call);
        }
        if message.role == Role::Function {
            message.role = Role::Tool;
            let answers = message.name.as_deref() == Some(&called);
            message.tool_call_id = Some(if answers { call_id.clone() } else { format!("call_{index}") });
            message.content.get_or_insert_with(|| Content::Text(String::new()));
        }
    }
    request
}

fn tool_choice(choice: &Value) -> Option<ToolChoice> {
    match choice.as_str() {
        Some("none") => Some(ToolChoice::None),
        Some(_) => Some(ToolChoice::Auto),
        None => {
            let name = choice.get("name").and_then(Value::as_str)?;
            Some(ToolChoice::Function(FunctionName { name: name.to_owned() }))
        }
    }
}

/// The reply with its first call in the older form, which knows only one.
pub(super) fn back_to_a_function(reply: Reply) -> Reply {
    let events = reply.events.map(|event| event.map(with_function)).boxed();
    Reply { served_by: reply.served_by, events }
}

fn with_function(mut event: Event) -> Event {
    if let Event::Chunk(chunk) = &mut event {
        for choice in &mut chunk.choices {
            first_call_as_function(choice);
        }
    }
    event
}

fn first_call_as_function(choice: &mut ChunkChoice) {
    if let Some(calls) = choice.delta.tool_calls.take() {
        choice.delta.function_call = calls.into_iter().find(|call| call.index == 0).and_then(|call| call.function);
    }
    if choice.finish_reason == Some(FinishReason::ToolCalls) {
        choice.finish_reason = Some(FinishReason::FunctionCall);
    }
}
