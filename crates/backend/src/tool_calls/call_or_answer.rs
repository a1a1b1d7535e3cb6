//! Supports tools beside a `response_format` for engines that can enforce a schema or let the model
//! call, but not both: the answer must match a schema of a call or the answer, and a call in the
//! text becomes a tool call.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use loggia_wire::Extra;
use loggia_wire::openai::{ChatCompletionRequest, JsonSchemaFormat, ResponseFormat};
use serde_json::{Value, json};

use super::described_tools::{add_to_system, list};
use super::forced_call::{Call, call_id, calls, one_of};
use crate::references::moved;
use crate::{BackendError, Chunk, Event, Events, Reply};

/// Returns whether the model may, but need not, call a tool, and its answer must otherwise have a
/// format.
pub(crate) fn is_asked_for(request: &ChatCompletionRequest) -> bool {
    answer(request).is_some() && !request.must_call() && !request.callable_functions().is_empty()
}

/// Returns the schema of the answer, if there is one.
fn answer(request: &ChatCompletionRequest) -> Option<Value> {
    match request.response_format.as_ref()? {
        ResponseFormat::Text => None,
        ResponseFormat::JsonObject => Some(json!({"type": "object"})),
        ResponseFormat::JsonSchema(format) => Some(
            format
                .schema
                .clone()
                .unwrap_or_else(|| json!({"type": "object"})),
        ),
    }
}

/// Returns the request with the tools described in a system message, and an answer that must match
/// a call or the client's own schema.
pub(crate) fn as_a_schema(request: &ChatCompletionRequest) -> ChatCompletionRequest {
    let functions = request.callable_functions();
    let answer = answer(request).unwrap_or_default();
    let text = format!(
        "You can call one of these functions: then answer only with a JSON object of its name and its arguments, \
         {{\"name\": …, \"arguments\": {{…}}}}. Otherwise answer with JSON of this schema: {answer}\n{}",
        list(&functions)
    );
    let mut alternatives = calls(&functions);
    alternatives.push(("answer".to_owned(), moved(answer, "#/$defs/answer")));
    let mut either = request.clone();
    add_to_system(&mut either.messages, &text);
    either.response_format = Some(ResponseFormat::JsonSchema(JsonSchemaFormat {
        name: "call_or_answer".to_owned(),
        description: None,
        schema: Some(one_of(alternatives)),
        strict: Some(true),
        extra: Extra::new(),
    }));
    either.tools = None;
    either.tool_choice = None;
    either.parallel_tool_calls = None;
    either
}

/// Converts the reply to such a request, of one choice: a text that is a call becomes a tool call.
/// `asked` is the client's request.
pub(crate) fn back(reply: Reply, asked: &ChatCompletionRequest, id: &Arc<str>) -> Reply {
    let functions = asked.callable_functions();
    let events = CallOrAnswer {
        events: reply.events,
        names: functions
            .iter()
            .map(|function| function.name.clone())
            .collect(),
        call_id: call_id(id),
        text: String::new(),
        held: VecDeque::new(),
        is_decided: false,
    };
    Reply {
        served_by: reply.served_by,
        events: Box::pin(events),
    }
}

/// Holds the text back as long as it may be a call.
struct CallOrAnswer {
    events: Events,
    names: Vec<String>,
    call_id: String,
    text: String,
    held: VecDeque<Chunk>,
    is_decided: bool,
}

impl Stream for CallOrAnswer {
    type Item = Result<Event, BackendError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if self.is_decided
                && let Some(chunk) = self.held.pop_front()
            {
                return Poll::Ready(Some(Ok(Event::Chunk(chunk))));
            }
            match ready!(self.events.as_mut().poll_next(cx)) {
                Some(Ok(Event::Chunk(chunk))) if !self.is_decided => {
                    if let Some(chunk) = self.hold_back(chunk) {
                        return Poll::Ready(Some(Ok(Event::Chunk(chunk))));
                    }
                }
                other => return Poll::Ready(other),
            }
        }
    }
}

impl CallOrAnswer {
    fn hold_back(&mut self, mut chunk: Chunk) -> Option<Chunk> {
        for choice in &chunk.choices {
            self.text
                .push_str(choice.delta.content.as_deref().unwrap_or_default());
        }
        let end = chunk
            .choices
            .iter_mut()
            .find(|choice| choice.finish_reason.is_some());
        let is_over = end.is_some();
        if let Some(end) = end
            && let Some(call) = self.call()
        {
            end.delta.content = None;
            // The log-probabilities belong to tokens that the client does not see.
            end.logprobs = None;
            call.put_into(end, &self.call_id);
            self.held.clear();
            self.is_decided = true;
            return Some(chunk);
        }
        self.is_decided = is_over || !self.may_be_a_call();
        // The model may reason first.
        if self.text.is_empty() && !is_over {
            return Some(chunk);
        }
        self.held.push_back(chunk);
        None
    }

    fn call(&self) -> Option<Call<'_>> {
        let call: Call<'_> = serde_json::from_str(&self.text).ok()?;
        self.names.contains(&call.name).then_some(call)
    }

    /// Returns whether the text may be a call. The schema puts the name first.
    fn may_be_a_call(&self) -> bool {
        self.names.iter().any(|name| {
            let beginning = format!("{{\"name\":\"{name}\"");
            let text = self.text.chars().filter(|c| !c.is_ascii_whitespace());
            text.zip(beginning.chars())
                .all(|(is, would_be)| is == would_be)
        })
    }
}
