//! Ollama's answer, line by line → the events of an answer.
//!
//! No I/O and no clock: bytes are cut into lines in `wire::frame`, the id comes from the caller.

use std::sync::Arc;

use jiff::Timestamp;
use loggia_wire::Extra;
use loggia_wire::ollama::{ChatLine, GenerateLine, LineMessage, LineToolCall};
use loggia_wire::openai::{
    ChunkChoice, CompletionUsage, Delta, FinishReason, FunctionCallDelta, Logprobs, TokenLogprob, ToolCallDelta,
};

use super::error::error_in_stream;
use crate::{BackendError, Chunk, Event, Profile};

/// Turns the lines of one answer, streamed or whole, into events.
#[derive(Debug)]
pub struct Answer {
    id: Arc<str>,
    backend: Arc<str>,
    profile: Profile,
    lines: Lines,
    /// Whether calls after the first are dropped (`parallel_tool_calls: false`).
    single_call: bool,
    begun: bool,
    done: bool,
    /// How many calls have been passed on.
    calls: u32,
}

/// What the lines of an answer look like.
#[derive(Clone, Copy, Debug)]
enum Lines {
    /// Those of `/api/chat`.
    OfChat,
    /// Those of `/api/generate`.
    OfGenerate,
}

impl Answer {
    /// An answer with this id from the backend of this name.
    pub fn new(id: Arc<str>, backend: Arc<str>, profile: Profile, single_call: bool) -> Self {
        Self { id, backend, profile, lines: Lines::OfChat, single_call, begun: false, done: false, calls: 0 }
    }

    /// The same, of lines of `/api/generate`.
    #[must_use]
    pub fn of_text(self) -> Self {
        Self { lines: Lines::OfGenerate, ..self }
    }

    /// Whether tags of reasoning in its text mean anything: the original left all in the text, and a text that is continued is text.
    pub(super) fn may_have_thoughts_in_its_text(&self) -> bool {
        self.profile == Profile::Openai && matches!(self.lines, Lines::OfChat)
    }

    /// Feeds the next line; gives back what it stands for: nothing, a chunk, or the last chunk and the usage.
    pub fn push(&mut self, line: &[u8]) -> Result<impl Iterator<Item = Event> + use<>, BackendError> {
        let line = parsed(line, self.lines).map_err(|error| self.bad(describe(&error)))?;
        if let Some(error) = &line.error {
            return Err(error_in_stream(error));
        }
        if self.done {
            return Err(self.bad("a line after the last one"));
        }
        let message = line.message.as_ref().ok_or_else(|| self.bad("a line without a message"))?;
        let chunk = self.chunk(&line, message);
        self.done = line.done;
        let usage = line.done.then(|| usage(&line));
        Ok(chunk.map(Event::Chunk).into_iter().chain(usage.map(Event::Usage)))
    }

    /// Whether the last line has come.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// What it means that the lines have ended: nothing after the last one, else that the answer was cut short.
    pub fn finish(&self) -> Result<(), BackendError> {
        if self.done { Ok(()) } else { Err(BackendError::CutShort { backend: self.backend.to_string() }) }
    }

    fn chunk(&mut self, line: &ChatLine<'_>, message: &LineMessage<'_>) -> Option<Chunk> {
        let delta = self.delta(message);
        let finish_reason = line.done.then(|| self.finish_reason(line));
        // The original sent a chunk for every line; ours has none for a line that says nothing.
        if delta.is_empty() && finish_reason.is_none() && line.logprobs.is_none() && self.profile == Profile::Openai {
            return None;
        }
        let created = if self.begun { None } else { created(line) };
        self.begun = true;
        let logprobs = line.logprobs.clone().map(logprobs);
        let choice = ChunkChoice { index: 0, delta, logprobs, finish_reason, extra: Extra::new() };
        Some(Chunk { created, ..Chunk::of(choice) })
    }

    fn delta(&mut self, message: &LineMessage<'_>) -> Delta {
        let mut delta = match message.thinking.as_deref() {
            Some(thinking) if !thinking.is_empty() => Delta::reasoning(thinking),
            _ => Delta::default(),
        };
        if !message.content.is_empty() {
            delta.content = Some(message.content.to_string());
        }
        let calls: Vec<_> = message.tool_calls.iter().filter_map(|call| self.tool_call(call)).collect();
        delta.tool_calls = (!calls.is_empty()).then_some(calls);
        delta
    }

    /// A call comes whole. Its index is counted here: older versions send none.
    fn tool_call(&mut self, call: &LineToolCall<'_>) -> Option<ToolCallDelta> {
        if self.single_call && self.calls > 0 {
            return None;
        }
        let index = self.calls;
        self.calls += 1;
        let made_here = || format!("call_{}_{index}", self.id.trim_start_matches("chatcmpl-"));
        let id = call.id.as_deref().filter(|id| !id.is_empty()).map_or_else(made_here, str::to_owned);
        let arguments = call.function.arguments.map_or("{}", |arguments| arguments.get());
        let function = FunctionCallDelta {
            name: Some(call.function.name.to_string()),
            arguments: Some(arguments.to_owned()),
            extra: Extra::new(),
        };
        let kind = Some("function".to_owned());
        Some(ToolCallDelta { index, id: Some(id), kind, function: Some(function), extra: Extra::new() })
    }

    fn finish_reason(&self, line: &ChatLine<'_>) -> FinishReason {
        match line.done_reason.as_deref() {
            // The original knew no other.
            _ if self.profile == Profile::Original => FinishReason::Stop,
            Some("length") => FinishReason::Length,
            // Ollama says "stop" after calls too.
            _ if self.calls > 0 => FinishReason::ToolCalls,
            _ => FinishReason::Stop,
        }
    }

    fn bad(&self, what: impl Into<String>) -> BackendError {
        BackendError::BadAnswer { backend: self.backend.to_string(), what: what.into() }
    }
}

/// A line that is known to be UTF-8 as a whole need not be checked string by string, which takes longer than to parse it.
fn parsed(line: &[u8], lines: Lines) -> serde_json::Result<ChatLine<'_>> {
    match (lines, str::from_utf8(line)) {
        (Lines::OfGenerate, _) => serde_json::from_slice::<GenerateLine<'_>>(line).map(ChatLine::from),
        (Lines::OfChat, Ok(text)) => serde_json::from_str(text),
        (Lines::OfChat, Err(_)) => serde_json::from_slice(line),
    }
}

/// What is wrong with a line, without any of its text.
fn describe(error: &serde_json::Error) -> String {
    format!("a line that is not Ollama's ({:?} at column {})", error.classify(), error.column())
}

fn created(line: &ChatLine<'_>) -> Option<u64> {
    let created: Timestamp = line.created_at.parse().ok()?;
    u64::try_from(created.as_second()).ok()
}

/// A count that is missing is zero: Ollama leaves zeros out, and older versions left the prompt's out when it was cached.
fn usage(line: &ChatLine<'_>) -> CompletionUsage {
    CompletionUsage::new(line.prompt_eval_count.unwrap_or(0), line.eval_count.unwrap_or(0))
}

fn logprobs(tokens: Vec<TokenLogprob>) -> Logprobs {
    Logprobs { content: Some(tokens), refusal: None, extra: Extra::new() }
}
