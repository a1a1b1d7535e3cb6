//! Translates `functions` and `function_call`, the older form of `tools` and `tool_choice`, to the
//! newer form, and calls back to the older form.

use futures_util::StreamExt;
use loggia_wire::Extra;
use loggia_wire::openai::{
    ChatCompletionRequest, ChunkChoice, Content, FinishReason, FunctionName, Message, Role, Tool,
    ToolCall, ToolChoice,
};
use serde_json::Value;

use crate::{BackendError, Event, Reply};

/// Returns whether a request uses the older form anywhere.
pub(super) fn is_used(request: &ChatCompletionRequest) -> bool {
    let in_message =
        |message: &Message| message.role == Role::Function || message.function_call.is_some();
    request.functions.is_some()
        || request.function_call.is_some()
        || request.messages.iter().any(in_message)
}

/// Returns the request in the newer form.
pub(super) fn as_tools(request: &ChatCompletionRequest) -> ChatCompletionRequest {
    let mut request = request.clone();
    if let Some(functions) = request.functions.take() {
        let tool = |function| Tool {
            kind: "function".to_owned(),
            function: Some(function),
            extra: Extra::new(),
        };
        request
            .tools
            .get_or_insert_default()
            .extend(functions.into_iter().map(tool));
    }
    if let Some(choice) = request.function_call.take() {
        request.tool_choice = request.tool_choice.or(tool_choice(&choice));
    }
    // A result names the function, not the call. It belongs to the preceding call if that was of
    // this function. The result keeps the name: without such a call, or if a client dropped the
    // messages before it, the name alone identifies the function.
    let (mut call_id, mut called) = (String::new(), String::new());
    for (index, message) in request.messages.iter_mut().enumerate() {
        if let Some(function) = message.function_call.take() {
            call_id = format!("call_{index}");
            called.clone_from(&function.name);
            let call = ToolCall {
                id: call_id.clone(),
                kind: "function".to_owned(),
                function,
                extra: Extra::new(),
            };
            message.tool_calls.get_or_insert_default().push(call);
        }
        if message.role == Role::Function {
            message.role = Role::Tool;
            let answers = message.name.as_deref() == Some(&called);
            message.tool_call_id = Some(if answers {
                call_id.clone()
            } else {
                format!("call_{index}")
            });
            message
                .content
                .get_or_insert_with(|| Content::Text(String::new()));
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
            Some(ToolChoice::Function(FunctionName {
                name: name.to_owned(),
            }))
        }
    }
}

/// Returns the reply with its first call in the older form, which allows only one call.
pub(super) fn back_to_a_function(reply: Reply) -> Reply {
    let events = reply.events.map(|event| event.map(with_function)).boxed();
    Reply {
        served_by: reply.served_by,
        events,
    }
}

/// Rewrites a refusal about the newer form to name the field that the client sent in the older
/// form.
pub(super) fn in_older_words(refusal: BackendError) -> BackendError {
    let BackendError::InvalidRequest {
        message,
        param: Some(newer),
        code,
    } = refusal
    else {
        return refusal;
    };
    let schema = newer
        .strip_prefix("tools[")
        .and_then(|rest| rest.split_once("].function."));
    let older = match schema {
        Some((which, within)) => format!("functions[{which}].{within}"),
        None if newer == "tool_choice" => "function_call".to_owned(),
        None => newer.clone(),
    };
    let message = message.replace(&format!("'{newer}'"), &format!("'{older}'"));
    BackendError::InvalidRequest {
        message,
        param: Some(older),
        code,
    }
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
        choice.delta.function_call = calls
            .into_iter()
            .find(|call| call.index == 0)
            .and_then(|call| call.function);
    }
    if choice.finish_reason == Some(FinishReason::ToolCalls) {
        choice.finish_reason = Some(FinishReason::FunctionCall);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_schema_is_told_where_the_client_wrote_it() {
        for (newer, older) in [
            ("tools[1].function.parameters", "functions[1].parameters"),
            ("tool_choice", "function_call"),
            ("response_format", "response_format"),
        ] {
            let message = format!("Invalid schema for '{newer}': no.");
            let refusal = BackendError::InvalidRequest {
                message,
                param: Some(newer.to_owned()),
                code: None,
            };
            let BackendError::InvalidRequest { message, param, .. } = in_older_words(refusal)
            else {
                panic!("another")
            };
            assert_eq!(
                (message, param),
                (
                    format!("Invalid schema for '{older}': no."),
                    Some(older.to_owned())
                )
            );
        }
    }
}
