//! Translates Ollama's answer, line by line, into the events of an answer.
//!
//! No I/O and no clock: `wire::frame` splits the bytes into lines, and the caller supplies the id.

use std::collections::VecDeque;
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

/// Translates the lines of one answer, streamed or complete, into events.
#[derive(Debug)]
pub struct AnswerTranslator {
    backend: Arc<str>,
    profile: Profile,
    lines: Lines,
    /// Whether to drop calls after the first (`parallel_tool_calls: false`).
    single_call: bool,
    /// The client's limit for generated tokens.
    limit: Option<u64>,
    form: Form,
    begun: bool,
    done: bool,
    calls: ToolCalls,
    /// The end of the text so far, reasoning included.
    tail: Tail,
}

/// The format of the lines.
#[derive(Clone, Copy, Debug)]
enum Lines {
    /// Lines of `/api/chat`.
    OfChat,
    /// Lines of `/api/generate`.
    OfGenerate,
}

/// How the answer is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Streamed: each line has a piece of the answer.
    Streamed,
    /// A complete answer, on one line.
    Whole,
}

impl AnswerTranslator {
    /// Creates the translation for an answer with this id, from the backend with this name.
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

    /// Returns the translation for an answer that was not streamed.
    #[must_use]
    pub fn in_one_line(self) -> Self {
        Self {
            form: Form::Whole,
            ..self
        }
    }

    /// Returns the translation for an answer with this token limit. Ollama reports `length` at this
    /// limit and at the end of the context; only the limit distinguishes them.
    #[must_use]
    pub fn limited_to(self, limit: Option<u64>) -> Self {
        Self { limit, ..self }
    }

    /// Returns the translation for lines of `/api/generate`.
    #[must_use]
    pub fn of_text(self) -> Self {
        Self {
            lines: Lines::OfGenerate,
            ..self
        }
    }

    /// Returns whether tags in the text mark reasoning. They do not in the original profile, which
    /// left reasoning in the text, nor in a continued text.
    pub(super) fn may_have_thoughts_in_its_text(&self) -> bool {
        self.profile == Profile::Openai && matches!(self.lines, Lines::OfChat)
    }

    /// Reads the next line. Adds its events: none, a chunk, or the last chunk and the usage.
    pub fn push(&mut self, line: &[u8], events: &mut VecDeque<Event>) -> Result<(), BackendError> {
        let line = parsed(line, self.lines).map_err(|error| self.bad(describe(&error)))?;
        if let Some(error) = &line.error {
            return Err(error_in_stream(error));
        }
        if self.done {
            return Err(self.bad("a line after the last line"));
        }
        let message = line
            .message
            .as_ref()
            .ok_or_else(|| self.bad("a line without a message"))?;
        if line.done && matches!(line.done_reason.as_deref(), Some("load" | "unload")) {
            // This line does not end an answer. Ollama's cloud sends it for a conversation that
            // leaves the model nothing to answer.
            return Err(self.bad("it loaded or unloaded the model without generating an answer"));
        }
        self.tail
            .push(message.thinking.as_deref().unwrap_or_default());
        self.tail.push(&message.content);
        let mut choice = ChunkChoice::delta(0, delta(message));
        self.complete(&mut choice, &line)?;
        if self.is_at_the_end_of_the_context(&line) {
            events.push_back(Event::EndedEarly(EarlyEnd::Context));
        }
        // The original sent a chunk for every line. This code sends none for an empty line.
        let says_nothing =
            choice.delta.is_empty() && choice.finish_reason.is_none() && choice.logprobs.is_none();
        if !says_nothing || self.profile == Profile::Original {
            let created = if self.begun { None } else { created(&line) };
            self.begun = true;
            events.push_back(Event::Chunk(Chunk {
                created,
                ..Chunk::of(choice)
            }));
        }
        self.done = line.done;
        if line.done {
            events.push_back(Event::Usage(usage(&line)));
        }
        Ok(())
    }

    fn is_at_the_end_of_the_context(&self, line: &ChatLine<'_>) -> bool {
        line.done
            && line.done_reason.as_deref() == Some("length")
            && self.profile == Profile::Openai
            && line
                .eval_count
                .is_some_and(|count| self.limit.is_none_or(|limit| count < limit))
    }

    /// Returns whether the last line has arrived.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Handles the end of the lines when no connection broke. After the last line there is nothing
    /// to do. Otherwise Ollama ended the answer before the model did, as it does when an answer
    /// repeats itself, or the answer was cut short.
    ///
    /// Ollama's last line then has `done: false` (`fixtures/ollama/chat/repetition`). A complete
    /// answer of that kind is used. For a stream, the text decides.
    pub fn finish(&mut self, events: &mut VecDeque<Event>) -> Result<(), BackendError> {
        if self.done {
            return Ok(());
        }
        let why = if self.tail.repeats() {
            EarlyEnd::Repetition
        } else if self.form == Form::Whole && !self.tail.is_empty() {
            EarlyEnd::Unknown
        } else {
            return Err(BackendError::CutShort {
                backend: self.backend.to_string(),
            });
        };
        self.done = true;
        events.extend([
            Event::EndedEarly(why),
            Event::Chunk(Chunk::of(ChunkChoice::finish(0, FinishReason::Length))),
        ]);
        Ok(())
    }

    /// Adds the fields of a choice besides its text and its calls.
    fn complete(
        &mut self,
        choice: &mut ChunkChoice,
        line: &ChatLine<'_>,
    ) -> Result<(), BackendError> {
        choice.logprobs = line.logprobs.clone().map(logprobs);
        choice.finish_reason = line.done.then(|| finish_reason(line));
        // Each call arrives complete.
        self.calls.whole(choice).map_err(|what| self.bad(what))?;
        if self.single_call {
            keep_first_call(&mut choice.delta);
        }
        if line.done && self.profile == Profile::Original {
            // The original sent no other reason.
            choice.finish_reason = Some(FinishReason::Stop);
        }
        Ok(())
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

/// Translates a call. Older versions send no id. Their index is not needed, because each call
/// arrives complete.
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

/// Returns the finish reason. Ollama sends "stop" after calls too, so the calls decide.
fn finish_reason(line: &ChatLine<'_>) -> FinishReason {
    match line.done_reason.as_deref() {
        Some("length") => FinishReason::Length,
        _ => FinishReason::Stop,
    }
}

/// Parses a line. Checking the complete line for UTF-8 once is faster than checking each string,
/// which would take longer than parsing.
fn parsed(line: &[u8], lines: Lines) -> serde_json::Result<ChatLine<'_>> {
    match (lines, str::from_utf8(line)) {
        (Lines::OfGenerate, _) => {
            serde_json::from_slice::<GenerateLine<'_>>(line).map(ChatLine::from)
        }
        (Lines::OfChat, Ok(text)) => match ChatLine::of_text(text) {
            Some(line) => Ok(line),
            None => serde_json::from_str(text),
        },
        (Lines::OfChat, Err(_)) => serde_json::from_slice(line),
    }
}

/// Describes the error in a line without quoting the line.
fn describe(error: &serde_json::Error) -> String {
    format!(
        "a line that is not in Ollama's format ({:?} at column {})",
        error.classify(),
        error.column()
    )
}

fn created(line: &ChatLine<'_>) -> Option<u64> {
    let created: Timestamp = line.created_at.parse().ok()?;
    u64::try_from(created.as_second()).ok()
}

/// Returns the usage. A missing count is zero: Ollama omits zeros, and older versions omitted the
/// count of a cached prompt.
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
