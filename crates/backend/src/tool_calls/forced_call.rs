//! Emulates a forced call: the answer must match a schema of the calls, and is then converted to a
//! call.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use loggia_wire::Extra;
use loggia_wire::openai::{
    ChatCompletionRequest, ChunkChoice, FinishReason, FunctionCallDelta, FunctionDefinition,
    JsonSchemaFormat, ResponseFormat, ToolCallDelta,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::described_tools::{add_to_system, list};
use crate::references::moved;
use crate::schema::arguments;
use crate::{BackendError, ChatCall, Chunk, Event, Events, Reply};

/// Starts a chat whose answer must be a call: sends it with the schema of the calls, and converts
/// the answer.
pub(crate) async fn started<F>(
    call: ChatCall,
    start: impl FnOnce(ChatCall) -> F,
) -> Result<Reply, BackendError>
where
    F: Future<Output = Result<Reply, BackendError>>,
{
    let id = Arc::clone(&call.head.id);
    let work = Arc::new(as_a_schema(&call.work)?);
    Ok(back_to_a_call(start(ChatCall { work, ..call }).await?, &id))
}

/// Returns the request with the tools described in a system message and the schema of the calls. It
/// works with every model, also if its template does not support tools.
pub(crate) fn as_a_schema(
    request: &ChatCompletionRequest,
) -> Result<ChatCompletionRequest, BackendError> {
    let functions = request.callable_functions();
    if functions.is_empty() {
        return Err(BackendError::InvalidRequest {
            message: "'tool_choice' names a function that is not among 'tools'".to_owned(),
            param: Some("tool_choice".to_owned()),
            code: Some("invalid_value".to_owned()),
        });
    }
    let mut forced = request.clone();
    add_to_system(&mut forced.messages, &describe(&functions));
    forced.response_format = Some(ResponseFormat::JsonSchema(JsonSchemaFormat {
        name: "call".to_owned(),
        description: None,
        schema: Some(schema(&functions)),
        strict: Some(true),
        extra: Extra::new(),
    }));
    forced.tools = None;
    forced.tool_choice = None;
    forced.parallel_tool_calls = None;
    Ok(forced)
}

/// Describes functions as text, with the format of a call that the schema requires: `{"name": …,
/// "arguments": {…}}`.
fn describe(functions: &[&FunctionDefinition]) -> String {
    let how = "Call one of these functions. Answer only with a JSON object of its name and its arguments: \
               {\"name\": …, \"arguments\": {…}}.\n";
    how.to_owned() + &list(functions)
}

fn schema(functions: &[&FunctionDefinition]) -> Value {
    match functions {
        [function] => call_schema(function, ""),
        functions => one_of(calls(functions)),
    }
}

/// Returns the schema of a call of each function, each with a name for [`one_of`].
pub(super) fn calls(functions: &[&FunctionDefinition]) -> Vec<(String, Value)> {
    let named = functions
        .iter()
        .enumerate()
        .map(|(index, function)| (format!("call_{index}"), function));
    named
        .map(|(name, function)| {
            (
                name.clone(),
                call_schema(function, &format!("/$defs/{name}")),
            )
        })
        .collect()
}

/// Combines several schemas with `anyOf`. If one refers to its own parts, each gets a name in the
/// definitions, so that its references stay valid.
pub(super) fn one_of(schemas: Vec<(String, Value)>) -> Value {
    if !schemas.iter().any(|(_, schema)| refers(schema)) {
        let schemas: Vec<Value> = schemas.into_iter().map(|(_, schema)| schema).collect();
        return json!({"anyOf": schemas});
    }
    let references: Vec<Value> = schemas
        .iter()
        .map(|(name, _)| json!({"$ref": format!("#/$defs/{name}")}))
        .collect();
    json!({"$defs": Map::from_iter(schemas), "anyOf": references})
}

fn refers(schema: &Value) -> bool {
    match schema {
        Value::Object(fields) => fields
            .iter()
            .any(|(name, value)| name == "$ref" || refers(value)),
        Value::Array(items) => items.iter().any(refers),
        _ => false,
    }
}

fn call_schema(function: &FunctionDefinition, place: &str) -> Value {
    let to = format!("#{place}/properties/arguments");
    let arguments = moved(arguments(function), &to);
    json!({"type": "object", "properties": {"name": {"const": function.name}, "arguments": arguments},
        "required": ["name", "arguments"], "additionalProperties": false})
}

/// Converts the text of the reply to a call.
fn back_to_a_call(reply: Reply, id: &Arc<str>) -> Reply {
    let call_id = call_id(id);
    let events = Calls {
        events: reply.events,
        text: String::new(),
        call_id,
    };
    Reply {
        served_by: reply.served_by,
        events: Box::pin(events),
    }
}

pub(super) fn call_id(id: &str) -> String {
    format!("call_{}", id.trim_start_matches("chatcmpl-"))
}

/// Holds the text back until it is complete, because only then it is known to be a call.
struct Calls {
    events: Events,
    text: String,
    call_id: String,
}

impl Stream for Calls {
    type Item = Result<Event, BackendError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match ready!(self.events.as_mut().poll_next(cx)) {
                Some(Ok(Event::Chunk(chunk))) => {
                    if let Some(chunk) = self.hold_back(chunk) {
                        return Poll::Ready(Some(Ok(Event::Chunk(chunk))));
                    }
                }
                other => return Poll::Ready(other),
            }
        }
    }
}

impl Calls {
    fn hold_back(&mut self, mut chunk: Chunk) -> Option<Chunk> {
        for choice in &mut chunk.choices {
            if let Some(more) = choice.delta.content.take() {
                self.text.push_str(&more);
            }
            // The log-probabilities belong to tokens that the client does not see.
            choice.logprobs = None;
            if choice.finish_reason.is_some() {
                self.finish(choice);
            }
        }
        let says_something =
            |choice: &ChunkChoice| !choice.delta.is_empty() || choice.finish_reason.is_some();
        chunk.choices.retain(says_something);
        (!chunk.choices.is_empty()).then_some(chunk)
    }

    /// Ends the choice. Text that is not a complete call (truncated by the token limit) is sent as
    /// text.
    fn finish(&mut self, choice: &mut ChunkChoice) {
        let text = std::mem::take(&mut self.text);
        match serde_json::from_str::<Call<'_>>(&text) {
            Ok(call) => call.put_into(choice, &self.call_id),
            Err(_) => choice.delta.content = Some(text),
        }
    }
}

/// A call as the schema defines it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Call<'a> {
    pub(super) name: String,
    #[serde(borrow)]
    pub(super) arguments: &'a RawValue,
}

impl Call<'_> {
    /// Ends the choice with this call.
    pub(super) fn put_into(&self, choice: &mut ChunkChoice, call_id: &str) {
        let function = FunctionCallDelta {
            name: Some(self.name.clone()),
            arguments: Some(self.arguments.get().to_owned()),
            extra: Extra::new(),
        };
        choice.finish_reason = Some(FinishReason::ToolCalls);
        choice.delta.tool_calls = Some(vec![ToolCallDelta {
            index: 0,
            id: Some(call_id.to_owned()),
            kind: Some("function".to_owned()),
            function: Some(function),
            extra: Extra::new(),
        }]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_within_parameters_still_lead_to_what_they_name() {
        let parameters = json!({"$defs": {"p": {"type": "string"}}, "properties": {"a": {"$ref": "#/$defs/p"}, "b": {"$ref": "#"}}});
        let function = |name: &str| -> FunctionDefinition {
            serde_json::from_value(json!({"name": name, "parameters": parameters})).unwrap()
        };
        let (first, second) = (function("f"), function("g"));
        for schema in [schema(&[&first]), schema(&[&first, &second])] {
            let mut references = Vec::new();
            collect(&schema, &mut references);
            for reference in references {
                assert!(
                    schema.pointer(&reference[1..]).is_some(),
                    "{reference} in {schema}"
                );
            }
        }
        assert_eq!(
            schema(&[&first])["properties"]["arguments"]["properties"]["a"]["$ref"],
            "#/properties/arguments/$defs/p"
        );
    }

    fn collect(value: &Value, references: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                references.extend(
                    fields
                        .get("$ref")
                        .and_then(Value::as_str)
                        .map(str::to_owned),
                );
                fields.values().for_each(|value| collect(value, references));
            }
            Value::Array(items) => items.iter().for_each(|value| collect(value, references)),
            _ => {}
        }
    }
}
