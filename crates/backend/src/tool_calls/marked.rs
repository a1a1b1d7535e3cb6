//! Parses calls that a model writes between tags in its text (`described_tools.rs` describes the
//! format), for an engine that does not support tools.
//!
//! Text that may be the beginning of a tag is held back. A call of an unknown function stays text:
//! nothing guarantees that a model writes valid calls.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use loggia_wire::Extra;
use loggia_wire::openai::{
    ChatCompletionRequest, ChunkChoice, Delta, FinishReason, FunctionCallDelta, ToolCallDelta,
};
use serde_json::Value;

use super::described_tools::{CLOSE, OPEN, with_described_tools};
use super::forced_call::{Call, call_id};
use super::keep_first_call;
use crate::{BackendError, Chunk, Event, Events, Reply};

/// The maximum size of a call in bytes. A longer one counts as text, because it is buffered until
/// it is complete.
const LONGEST_CALL: usize = 256 << 10;

/// Returns the request with its functions described in the system message.
pub(crate) fn as_text(request: &ChatCompletionRequest) -> ChatCompletionRequest {
    ChatCompletionRequest {
        messages: with_described_tools(request),
        tools: None,
        tool_choice: None,
        parallel_tool_calls: None,
        ..request.clone()
    }
}

/// Converts the reply to a request with described tools, of one choice: calls in its text become
/// tool calls. `asked` is the client's request.
pub(crate) fn back(reply: Reply, asked: &ChatCompletionRequest, id: &Arc<str>) -> Reply {
    let reader = Reader {
        names: asked
            .callable_functions()
            .iter()
            .map(|function| function.name.clone())
            .collect(),
        single_call: asked.parallel_tool_calls == Some(false),
        call_id: call_id(id),
        held: Vec::new(),
        call: None,
        after_call: false,
        calls: 0,
    };
    Reply {
        served_by: reply.served_by,
        events: Box::pin(Marked {
            events: reply.events,
            reader,
        }),
    }
}

struct Marked {
    events: Events,
    reader: Reader,
}

impl Stream for Marked {
    type Item = Result<Event, BackendError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match ready!(self.events.as_mut().poll_next(cx)) {
                Some(Ok(Event::Chunk(chunk))) => {
                    if let Some(chunk) = self.reader.push(chunk) {
                        return Poll::Ready(Some(Ok(Event::Chunk(chunk))));
                    }
                }
                other => return Poll::Ready(other),
            }
        }
    }
}

/// Separates calls from text, chunk by chunk.
struct Reader {
    names: Vec<String>,
    /// Whether to drop calls after the first.
    single_call: bool,
    call_id: String,
    /// Text that may contain the beginning of a tag, with the other fields of its chunks.
    held: Vec<ChunkChoice>,
    /// The text after a tag.
    call: Option<Body>,
    /// Whether a call has ended and no text followed. Spaces and the closing tag are dropped then.
    after_call: bool,
    calls: u32,
}

impl Reader {
    fn push(&mut self, mut chunk: Chunk) -> Option<Chunk> {
        let mut out: Option<ChunkChoice> = None;
        for choice in std::mem::take(&mut chunk.choices) {
            self.read(choice, &mut out);
        }
        chunk.choices.extend(out);
        (!chunk.choices.is_empty()).then_some(chunk)
    }

    fn read(&mut self, mut choice: ChunkChoice, out: &mut Option<ChunkChoice>) {
        let finish = choice.finish_reason.take();
        if choice
            .delta
            .content
            .as_ref()
            .is_some_and(|text| !text.is_empty())
        {
            self.text(choice, out);
        } else if !choice.delta.is_empty() || choice.logprobs.is_some() {
            add(out, choice);
        }
        let Some(finish) = finish else { return };
        self.end(out);
        let end = out.get_or_insert_with(|| ChunkChoice::delta(0, Delta::default()));
        let called = finish == FinishReason::Stop && self.calls > 0;
        end.finish_reason = Some(if called {
            FinishReason::ToolCalls
        } else {
            finish
        });
    }

    /// Handles a piece of text together with the held text.
    fn text(&mut self, choice: ChunkChoice, out: &mut Option<ChunkChoice>) {
        if self.call.is_some() {
            let text = choice.delta.content.unwrap_or_default();
            return self.inside(&text, out);
        }
        self.held.push(choice);
        if self.after_call && self.passes() {
            return;
        }
        let text = self.held_text();
        if let Some(start) = text.find(OPEN) {
            self.release(start, out);
            self.call = Some(Body::default());
            self.inside(&text[start + OPEN.len()..], out);
        } else {
            let possible = (1..OPEN.len())
                .rev()
                .find(|&length| text.ends_with(&OPEN[..length]))
                .unwrap_or(0);
            self.release_whole(text.len() - possible, out);
        }
    }

    fn held_text(&self) -> String {
        self.held
            .iter()
            .filter_map(|held| held.delta.content.as_deref())
            .collect()
    }

    /// Drops text between calls. Returns whether more of it may follow.
    fn passes(&mut self) -> bool {
        let text = self.held_text();
        let mut rest = text.trim_start();
        while let Some(after) = rest.strip_prefix(CLOSE) {
            rest = after.trim_start();
        }
        self.after_call = rest.is_empty() || rest.len() < CLOSE.len() && CLOSE.starts_with(rest);
        self.forget(text.len() - rest.len());
        self.after_call
    }

    /// Drops the first bytes of the held text.
    fn forget(&mut self, mut bytes: usize) {
        self.held.retain_mut(|held| {
            let text = held.delta.content.get_or_insert_default();
            let here = bytes.min(text.len());
            text.drain(..here);
            bytes -= here;
            !text.is_empty()
        });
    }

    /// Sends the first bytes of the held text. The rest belongs to the tag.
    fn release(&mut self, mut bytes: usize, out: &mut Option<ChunkChoice>) {
        for mut held in std::mem::take(&mut self.held) {
            let text = held.delta.content.get_or_insert_default();
            if text.len() > bytes {
                text.truncate(bytes);
                // The log-probabilities belong to tokens that the client does not see.
                held.logprobs = None;
            }
            bytes -= text.len();
            if !text.is_empty() {
                add(out, held);
            }
        }
    }

    /// Sends the pieces that end before this byte.
    fn release_whole(&mut self, bytes: usize, out: &mut Option<ChunkChoice>) {
        let mut end = 0;
        let is_before = |held: &&ChunkChoice| {
            end += held.delta.content.as_ref().map_or(0, String::len);
            end <= bytes
        };
        let count = self.held.iter().take_while(is_before).count();
        self.held.drain(..count).for_each(|held| add(out, held));
    }

    /// Handles text within a call.
    fn inside(&mut self, text: &str, out: &mut Option<ChunkChoice>) {
        let Some(body) = &mut self.call else { return };
        for (at, c) in text.char_indices() {
            match body.push(c) {
                Outcome::Continue => {}
                Outcome::Complete if self.is_call() => {
                    self.made(out);
                    return self.rest(&text[at + c.len_utf8()..], out);
                }
                Outcome::Complete => {
                    self.is_text(out);
                    return self.rest(&text[at + c.len_utf8()..], out);
                }
                Outcome::NotAnObject => {
                    self.is_text(out);
                    return self.rest(&text[at..], out);
                }
            }
        }
    }

    fn rest(&mut self, text: &str, out: &mut Option<ChunkChoice>) {
        if !text.is_empty() {
            self.text(ChunkChoice::delta(0, Delta::content(text)), out);
        }
    }

    fn is_call(&self) -> bool {
        self.call
            .as_ref()
            .and_then(Body::call)
            .is_some_and(|call| self.names.contains(&call.name))
    }

    fn made(&mut self, out: &mut Option<ChunkChoice>) {
        let Some(body) = self.call.take() else { return };
        let Some(call) = body.call() else { return };
        self.after_call = true;
        let index = self.calls;
        self.calls += 1;
        let arguments = Some(call.arguments.get().to_owned());
        let function = FunctionCallDelta {
            name: Some(call.name),
            arguments,
            extra: Extra::new(),
        };
        let call = ToolCallDelta {
            index,
            id: Some(format!("{}_{index}", self.call_id)),
            kind: Some("function".to_owned()),
            function: Some(function),
            extra: Extra::new(),
        };
        let mut delta = Delta {
            tool_calls: Some(vec![call]),
            ..Delta::default()
        };
        if self.single_call {
            keep_first_call(&mut delta);
        }
        if !delta.is_empty() {
            add(out, ChunkChoice::delta(0, delta));
        }
    }

    /// Sends the text, which turned out not to be a call.
    fn is_text(&mut self, out: &mut Option<ChunkChoice>) {
        if let Some(body) = self.call.take() {
            add(
                out,
                ChunkChoice::delta(0, Delta::content(format!("{OPEN}{}", body.text))),
            );
        }
    }

    /// Handles the end of the answer.
    fn end(&mut self, out: &mut Option<ChunkChoice>) {
        self.is_text(out);
        self.release_whole(usize::MAX, out);
    }
}

/// Merges two pieces. Calls follow the text before them, as in any delta.
fn add(out: &mut Option<ChunkChoice>, more: ChunkChoice) {
    let Some(out) = out else {
        *out = Some(more);
        return;
    };
    let Delta {
        content,
        reasoning_content,
        reasoning,
        tool_calls,
        ..
    } = more.delta;
    let joined = [
        (&mut out.delta.content, content),
        (&mut out.delta.reasoning_content, reasoning_content),
        (&mut out.delta.reasoning, reasoning),
    ];
    for (all, more) in joined {
        if let Some(more) = more {
            all.get_or_insert_default().push_str(&more);
        }
    }
    if let Some(calls) = tool_calls {
        out.delta.tool_calls.get_or_insert_default().extend(calls);
    }
    match (&mut out.logprobs, more.logprobs) {
        (Some(all), Some(more)) => all
            .content
            .get_or_insert_default()
            .extend(more.content.unwrap_or_default()),
        (none @ None, more) => *none = more,
        (Some(_), None) => {}
    }
}

/// The object between the tags, as far as it has arrived.
#[derive(Default)]
struct Body {
    text: String,
    depth: usize,
    in_string: bool,
    is_escaped: bool,
}

enum Outcome {
    Continue,
    /// The object is complete with this character.
    Complete,
    /// The text is not an object. This character is not consumed; it may begin another tag.
    NotAnObject,
}

impl Body {
    fn push(&mut self, c: char) -> Outcome {
        if self.text.len() >= LONGEST_CALL || self.depth == 0 && !c.is_whitespace() && c != '{' {
            return Outcome::NotAnObject;
        }
        self.text.push(c);
        match c {
            _ if self.is_escaped => self.is_escaped = false,
            '\\' if self.in_string => self.is_escaped = true,
            '"' => self.in_string = !self.in_string,
            '{' | '[' if !self.in_string => self.depth += 1,
            '}' | ']' if !self.in_string => {
                self.depth -= 1;
                if self.depth == 0 {
                    return Outcome::Complete;
                }
            }
            _ => {}
        }
        Outcome::Continue
    }

    /// Returns the call if the object is one: a name, and arguments that are an object.
    fn call(&self) -> Option<Call<'_>> {
        let call: Call<'_> = serde_json::from_str(&self.text).ok()?;
        serde_json::from_str::<Value>(call.arguments.get())
            .ok()
            .filter(Value::is_object)?;
        Some(call)
    }
}

#[cfg(test)]
mod tests;
