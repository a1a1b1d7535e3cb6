//! Ollama's answer, line by line → the events of an answer.
//!
//! No I/O and no clock: bytes are cut into lines in `wire::frame`, the id comes from the caller.

use std::sync::Arc;

use jiff::Timestamp;
use loggia_wire::Extra;
use loggia_wire::ollama::{ChatLine, GenerateLine, LineMessage, LineToolCall};
use loggia_wire::openai::{
    ChunkChoice, CompletionUsage, Delta, FinishReason, FunctionCallDelta, Logprobs, TokenLogprob,
    ToolCallDelta,
};

use super::error::error_in_stream;
use super::repetition::Tail;
use crate::tool_calls::keep_first_call;
use crate::tool_calls::regular::{NO_INDEX, ToolCalls};
use crate::{BackendError, Chunk, EarlyEnd, Event, Profile};

/// Turns the lines of one answer, streamed or whole, into events.
#[derive(Debug)]
pub struct Answer {
    backend: Arc<str>,
    profile: Profile,
    lines: Lines,
    /// Whether calls after the first are dropped (`parallel_tool_calls: false`).
    single_call: bool,
    /// The most tokens that the client allows.
    limit: Option<u64>,
    form: Form,
    begun: bool,
    done: bool,
    calls: ToolCalls,
    /// The end of what was said, reasoning included.
    tail: Tail,
}

/// What the lines of an answer look like.
#[derive(Clone, Copy, Debug)]
enum Lines {
    /// Those of `/api/chat`.
    OfChat,
    /// Those of `/api/generate`.
    OfGenerate,
}

/// How an answer was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Line by line.
    Streamed,
    /// In one line.
    Whole,
}

impl Answer {
    /// An answer with this id from the backend of this name.
    pub fn new(id: &str, backend: Arc<str>, profile: Profile, single_call: bool) -> Self {
        let calls = ToolCalls::new(id, 1);
        let tail = Tail::default();
        Self {
            backend,
            profile,
            lines: Lines::OfChat,
            single_call,
            limit: None,
            form: Form::Streamed,
            begun: false,
            done: false,
            calls,
            tail,
        }
    }

    /// The same, that was not asked for as a stream.
    #[must_use]
    pub fn in_one_line(self) -> Self {
        Self {
            form: Form::Whole,
            ..self
        }
    }

    /// The same, of at most so many tokens where there is a limit. Ollama says `length` at this
    /// limit and at the end of the context, and only the limit tells which it was.
    #[must_use]
    pub fn limited_to(self, limit: Option<u64>) -> Self {
        Self { limit, ..self }
    }

    /// The same, of lines of `/api/generate`.
    #[must_use]
    pub fn of_text(self) -> Self {
        Self {
            lines: Lines::OfGenerate,
            ..self
        }
    }

    /// Whether tags of reasoning in its text mean anything: the original left all in the text, and
    /// a text that is continued is text.
    pub(super) fn may_have_thoughts_in_its_text(&self) -> bool {
        self.profile == Profile::Openai && matches!(self.lines, Lines::OfChat)
    }

    /// Feeds the next line; gives back what it stands for: nothing, a chunk, or the last chunk and
    /// the usage.
    pub fn push(
        &mut self,
        line: &[u8],
    ) -> Result<impl Iterator<Item = Event> + use<>, BackendError> {
        let line = parsed(line, self.lines).map_err(|error| self.bad(describe(&error)))?;
        if let Some(error) = &line.error {
            return Err(error_in_stream(error));
        }
        if self.done {
            return Err(self.bad("a line after the last one"));
        }
        let message = line
            .message
            .as_ref()
            .ok_or_else(|| self.bad("a line without a message"))?;
        if line.done && matches!(line.done_reason.as_deref(), Some("load" | "unload")) {
            // No end of an answer: Ollama's cloud says it of a conversation to which it has nothing
            // to say.
            return Err(self.bad("it loaded or unloaded the model, and generated nothing"));
        }
        self.tail
            .push(message.thinking.as_deref().unwrap_or_default());
        self.tail.push(&message.content);
        let chunk = self.chunk(&line, message)?;
        self.done = line.done;
        let usage = line.done.then(|| usage(&line));
        let ended_early = self.is_at_the_end_of_the_context(&line);
        Ok(ended_early
            .then_some(Event::EndedEarly(EarlyEnd::Context))
            .into_iter()
            .chain(chunk.map(Event::Chunk))
            .chain(usage.map(Event::Usage)))
    }

    fn is_at_the_end_of_the_context(&self, line: &ChatLine<'_>) -> bool {
        line.done
            && line.done_reason.as_deref() == Some("length")
            && self.profile == Profile::Openai
            && line
                .eval_count
                .is_some_and(|count| self.limit.is_none_or(|limit| count < limit))
    }

    /// Whether the last line has come.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// What it means that the lines have ended, where no connection broke: nothing after the last
    /// one. Else Ollama ended the answer before the model did, which it does where an answer
    /// repeats itself; or the answer was cut short on the way.
    ///
    /// Ollama's last line says `done: false` then (`fixtures/ollama/chat/repetition`). A whole
    /// answer of that kind is all there; of a stream only its text tells.
    pub fn finish(&mut self) -> Result<impl Iterator<Item = Event> + use<>, BackendError> {
        let ended_early = match (self.done, self.tail.repeats()) {
            (true, _) => None,
            (false, true) => Some(EarlyEnd::Repetition),
            (false, false) if self.form == Form::Whole && !self.tail.is_empty() => {
                Some(EarlyEnd::Unknown)
            }
            (false, false) => {
                return Err(BackendError::CutShort {
                    backend: self.backend.to_string(),
                });
            }
        };
        self.done = true;
        let end = |why| {
            [
                Event::EndedEarly(why),
                Event::Chunk(Chunk::of(ChunkChoice::finish(0, FinishReason::Length))),
            ]
        };
        Ok(ended_early.map(end).into_iter().flatten())
    }

    fn chunk(
        &mut self,
        line: &ChatLine<'_>,
        message: &LineMessage<'_>,
    ) -> Result<Option<Chunk>, BackendError> {
        let choice = self.choice(line, message)?;
        // The original sent a chunk for every line; ours has none for a line that says nothing.
        let says_nothing =
            choice.delta.is_empty() && choice.finish_reason.is_none() && choice.logprobs.is_none();
        if says_nothing && self.profile == Profile::Openai {
            return Ok(None);
        }
        let created = if self.begun { None } else { created(line) };
        self.begun = true;
        Ok(Some(Chunk {
            created,
            ..Chunk::of(choice)
        }))
    }

    fn choice(
        &mut self,
        line: &ChatLine<'_>,
        message: &LineMessage<'_>,
    ) -> Result<ChunkChoice, BackendError> {
        let mut choice = ChunkChoice::delta(0, delta(message));
        choice.logprobs = line.logprobs.clone().map(logprobs);
        choice.finish_reason = line.done.then(|| finish_reason(line));
        // A call comes whole.
        self.calls
            .whole(&mut choice)
            .map_err(|what| self.bad(what))?;
        if self.single_call {
            keep_first_call(&mut choice.delta);
        }
        if line.done && self.profile == Profile::Original {
            // The original knew no other.
            choice.finish_reason = Some(FinishReason::Stop);
        }
        Ok(choice)
    }

    fn bad(&self, what: impl Into<String>) -> BackendError {
        BackendError::BadAnswer {
            backend: self.backend.to_string(),
            what: what.into(),
        }
    }
}

fn delta(message: &LineMessage<'_>) -> Delta {
    let mut delta = match message.thinking.as_deref() {
        Some(thinking) if !thinking.is_empty() => Delta::reasoning(thinking),
        _ => Delta::default(),
    };
    if !message.content.is_empty() {
        delta.content = Some(message.content.to_string());
    }
    if !message.tool_calls.is_empty() {
        delta.tool_calls = Some(message.tool_calls.iter().map(tool_call).collect());
    }
    delta
}

/// Older versions send no id; what they send as an index is not needed, for each call comes whole.
fn tool_call(call: &LineToolCall<'_>) -> ToolCallDelta {
    let arguments = call
        .function
        .arguments
        .map_or("{}", |arguments| arguments.get());
    let function = FunctionCallDelta {
        name: Some(call.function.name.to_string()),
        arguments: Some(arguments.to_owned()),
        extra: Extra::new(),
    };
    let id = call.id.as_deref().map(str::to_owned);
    ToolCallDelta {
        index: NO_INDEX,
        id,
        kind: None,
        function: Some(function),
        extra: Extra::new(),
    }
}

/// Ollama says "stop" after calls too; `tool_calls` knows of them.
fn finish_reason(line: &ChatLine<'_>) -> FinishReason {
    match line.done_reason.as_deref() {
        Some("length") => FinishReason::Length,
        _ => FinishReason::Stop,
    }
}

/// A line that is known to be UTF-8 as a whole need not be checked string by string, which takes
/// longer than to parse it.
fn parsed(line: &[u8], lines: Lines) -> serde_json::Result<ChatLine<'_>> {
    match (lines, str::from_utf8(line)) {
        (Lines::OfGenerate, _) => {
            serde_json::from_slice::<GenerateLine<'_>>(line).map(ChatLine::from)
        }
        (Lines::OfChat, Ok(text)) => serde_json::from_str(text),
        (Lines::OfChat, Err(_)) => serde_json::from_slice(line),
    }
}

/// What is wrong with a line, without any of its text.
fn describe(error: &serde_json::Error) -> String {
    format!(
        "a line that is not Ollama's ({:?} at column {})",
        error.classify(),
        error.column()
    )
}

fn created(line: &ChatLine<'_>) -> Option<u64> {
    let created: Timestamp = line.created_at.parse().ok()?;
    u64::try_from(created.as_second()).ok()
}

/// A count that is missing is zero: Ollama leaves zeros out, and older versions left the prompt's
/// out when it was cached.
fn usage(line: &ChatLine<'_>) -> CompletionUsage {
    CompletionUsage::new(
        line.prompt_eval_count.unwrap_or(0),
        line.eval_count.unwrap_or(0),
    )
}

fn logprobs(tokens: Vec<TokenLogprob>) -> Logprobs {
    Logprobs {
        content: Some(tokens),
        refusal: None,
        extra: Extra::new(),
    }
}
