//! A chat's events → the events of a streamed message, and the complete message.
//!
//! One state machine makes both. A stream writes each event at once and keeps no text; a complete
//! message keeps the blocks and writes no event.

use std::sync::Arc;

use loggia_backend::conversation::arguments;
use loggia_backend::{BackendError, Chunk, EarlyEnd, Event, ServerTool};
use loggia_wire::JsonText;
use loggia_wire::anthropic::{
    ContentBlock, ContextManagement, Delta, Diagnostics, IterationKind, IterationUsage, Message,
    MessageDelta, OutputTokensDetails, SafeguardResult, StopDetails, StopReason, StreamEvent,
    Usage, write_event, write_text_delta,
};
use loggia_wire::frame::sse;
use loggia_wire::openai::{
    ChunkChoice, CompletionUsage, Delta as ChatDelta, FinishReason, ToolCallDelta,
};
use serde_json::{Value, json};

use crate::ApiError;
use crate::answer::call::Call;
use crate::answer::chunks::put_json;
use crate::answer::id;
use crate::answer::writer::{Head, Writer};
use crate::messages::error;
use crate::messages::shape::{MessageShape, Purpose};

/// Writes one message. It is a state machine without `async`.
pub(crate) struct MessageWriter {
    /// The message. Its content stays empty in a stream.
    message: Message,
    shape: Arc<MessageShape>,
    /// Whether events are written; otherwise blocks are kept.
    streams: bool,
    has_begun: bool,
    /// The number of blocks that have begun.
    blocks: usize,
    open: Open,
    /// The reasoning of the open block, if the client does not see it.
    hidden: String,
    /// The text of the summary so far, while a compaction is written.
    summary: String,
    /// The tokens of the summary, if the conversation was compacted before the answer.
    summary_usage: Option<Box<CompletionUsage>>,
    /// The index of the first call that has not begun.
    next_call: u32,
    has_refused: bool,
    finish_reason: Option<FinishReason>,
    /// The stop sequence that the engine reports.
    stop_sequence: Option<String>,
    ended_early: Option<EarlyEnd>,
}

/// The block that has begun and not ended, or a call whose block has not begun.
#[derive(Debug)]
enum Open {
    Nothing,
    Text,
    Thinking,
    Call(Call),
}

type Written = Result<(), BackendError>;

impl MessageWriter {
    /// Creates the writer of a stream.
    pub(crate) fn streaming(head: &Head, shape: Arc<MessageShape>) -> Self {
        Self::new(head, shape, true)
    }

    /// Creates the writer of a complete message, for [`write_whole`](Self::write_whole).
    pub(crate) fn whole(head: &Head, shape: Arc<MessageShape>) -> Self {
        Self::new(head, shape, false)
    }

    fn new(head: &Head, shape: Arc<MessageShape>, streams: bool) -> Self {
        let message = Message {
            id: head.id.to_string(),
            kind: "message".to_owned(),
            role: "assistant".to_owned(),
            model: head.model.to_string(),
            content: Vec::new(),
            stop_reason: None,
            stop_sequence: None,
            stop_details: None,
            container: None,
            context_management: shape
                .applied_edits
                .clone()
                .map(|applied_edits| ContextManagement { applied_edits }),
            diagnostics: shape.diagnoses.then(no_diagnosis),
            safeguard_results: shape.safeguards.as_deref().map(unsupported),
            usage: usage(None),
        };
        Self {
            message,
            shape,
            streams,
            has_begun: false,
            blocks: 0,
            open: Open::Nothing,
            hidden: String::new(),
            summary: String::new(),
            summary_usage: None,
            next_call: 0,
            has_refused: false,
            finish_reason: None,
            stop_sequence: None,
            ended_early: None,
        }
    }

    /// Returns the reason why the engine ended the answer before the model did, if it did.
    pub(crate) fn ended_early(&self) -> Option<EarlyEnd> {
        self.ended_early
    }

    /// Writes the complete message as JSON.
    ///
    /// # Errors
    /// Fails if the answer has not ended.
    pub(crate) fn write_whole(mut self, out: &mut Vec<u8>) -> Written {
        self.end()?;
        put_json(out, &self.message)
    }

    fn event(&self, event: &StreamEvent<'_>, out: &mut Vec<u8>) -> Written {
        if self.streams {
            return write_event(out, event).map_err(|_| not_json());
        }
        Ok(())
    }

    fn begin(&mut self, out: &mut Vec<u8>) -> Written {
        if std::mem::replace(&mut self.has_begun, true) {
            return Ok(());
        }
        let message = &self.message;
        self.event(&StreamEvent::MessageStart { message }, out)
    }

    fn chunk(&mut self, chunk: Chunk, out: &mut Vec<u8>) -> Written {
        if let Some(prompt) = chunk.prompt.filter(|_| !self.has_begun) {
            self.message.usage.input_tokens = prompt.tokens.saturating_sub(prompt.cached);
            self.message.usage.cache_read_input_tokens = prompt.cached;
        }
        self.begin(out)?;
        for choice in chunk.choices {
            if choice.index == 0 && self.finish_reason.is_none() {
                self.choice(choice, out)?;
            }
        }
        Ok(())
    }

    fn choice(&mut self, choice: ChunkChoice, out: &mut Vec<u8>) -> Written {
        let ChatDelta {
            reasoning_content,
            reasoning,
            content,
            refusal,
            tool_calls,
            ..
        } = choice.delta;
        if self.shape.purpose == Purpose::Prewarming {
            self.finish_reason = choice.finish_reason;
            return Ok(());
        }
        if self.shape.purpose == Purpose::Summary {
            self.summary.push_str(&content.unwrap_or_default());
            self.finish_reason = choice.finish_reason;
            if self.finish_reason.is_none() {
                return Ok(());
            }
            let summary = self.summary.trim().to_owned();
            let summary = Some(summary).filter(|summary| !summary.is_empty());
            return self.compaction(summary, None, out);
        }
        if let Some(text) = said(reasoning_content.or(reasoning)) {
            self.thinking(&text, out)?;
        }
        if let Some(text) = said(content) {
            self.text(&text, out)?;
        }
        if let Some(text) = said(refusal) {
            self.has_refused = true;
            self.text(&text, out)?;
        }
        for call in tool_calls.into_iter().flatten() {
            self.call(call, out)?;
        }
        if let Some(reason) = choice.finish_reason {
            self.finish_reason = Some(reason);
            // vLLM reports the string that matched, and SGLang does under another name.
            let matched = ["stop_reason", "matched_stop"];
            let matched = matched.iter().find_map(|name| choice.extra.get(*name));
            if let Some(stop) = matched.and_then(Value::as_str) {
                self.stopped_by(stop.to_owned());
            }
            self.close(out)?;
        }
        Ok(())
    }

    /// Writes the block of a compaction, which clients get as a whole.
    fn compaction(
        &mut self,
        content: Option<String>,
        encrypted_content: Option<String>,
        out: &mut Vec<u8>,
    ) -> Written {
        let tool_changes = self.shape.tool_changes.clone();
        let block = |content, encrypted_content| ContentBlock::Compaction {
            content,
            encrypted_content,
            tool_changes,
        };
        if !self.streams {
            return self.start(block(content, encrypted_content), out);
        }
        self.start(block(None, None), out)?;
        let delta = Delta::Compaction {
            content: content.as_deref(),
            encrypted_content: encrypted_content.as_deref(),
        };
        self.delta(delta, out)?;
        let index = self.blocks.saturating_sub(1);
        self.event(&StreamEvent::ContentBlockStop { index }, out)
    }

    /// Notes a compaction that the server made before the answer.
    fn server_tool(&mut self, event: ServerTool, out: &mut Vec<u8>) -> Written {
        let ServerTool::Compacted {
            summary,
            encrypted_content,
            usage,
        } = event
        else {
            return Ok(());
        };
        let usage = usage.unwrap_or_else(|| Box::new(CompletionUsage::new(0, 0)));
        self.summary_usage = Some(usage);
        self.begin(out)?;
        self.compaction(Some(summary), encrypted_content, out)
    }

    /// Returns whether the answer ends with a compaction.
    fn ends_compacted(&self) -> bool {
        match self.shape.purpose {
            Purpose::Summary => true,
            Purpose::PausedAnswer => self.summary_usage.is_some(),
            Purpose::Answer | Purpose::Prewarming => false,
        }
    }

    /// Notes the tokens of the answer, and of a compaction before it.
    fn used(&mut self, mut used: CompletionUsage) {
        let mut iterations = None;
        if let Some(of_summary) = self.summary_usage.as_deref() {
            subtract(&mut used, of_summary);
            let summary = iteration(IterationKind::Compaction, of_summary);
            let answer = iteration(IterationKind::Message, &used);
            let answer = (!self.ends_compacted()).then_some(answer);
            iterations = Some([summary].into_iter().chain(answer).collect());
        }
        self.message.usage = usage(Some(&used));
        self.message.usage.iterations = iterations;
        if self.shape.purpose == Purpose::Prewarming {
            self.message.usage.output_tokens = 0;
            self.message.usage.output_tokens_details = None;
        }
    }

    fn thinking(&mut self, text: &str, out: &mut Vec<u8>) -> Written {
        if !matches!(self.open, Open::Thinking) {
            self.close(out)?;
            let block = ContentBlock::Thinking {
                thinking: String::new(),
                signature: String::new(),
            };
            self.start(block, out)?;
            self.open = Open::Thinking;
        }
        if self.shape.omits_thinking {
            self.hidden.push_str(text);
            return Ok(());
        }
        if let Some(ContentBlock::Thinking { thinking, .. }) = self.message.content.last_mut() {
            thinking.push_str(text);
        }
        self.delta(Delta::Thinking { thinking: text }, out)
    }

    fn text(&mut self, new: &str, out: &mut Vec<u8>) -> Written {
        if !matches!(self.open, Open::Text) {
            self.close(out)?;
            let block = ContentBlock::Text {
                text: String::new(),
            };
            self.start(block, out)?;
            self.open = Open::Text;
        }
        if self.streams {
            return write_text_delta(out, self.blocks - 1, new).map_err(|_| not_json());
        }
        if let Some(ContentBlock::Text { text }) = self.message.content.last_mut() {
            text.push_str(new);
        }
        Ok(())
    }

    fn call(&mut self, more: ToolCallDelta, out: &mut Vec<u8>) -> Written {
        let is_open = matches!(&self.open, Open::Call(call) if call.index == more.index);
        if !is_open {
            let call = Call::begin(more.index, &mut self.next_call)?;
            self.close(out)?;
            self.open = Open::Call(call);
        }
        let Open::Call(call) = &mut self.open else {
            return Ok(());
        };
        call.id = call.id.take().or(more.id);
        let (name, new) = more
            .function
            .map_or((None, None), |function| (function.name, function.arguments));
        let new = new.unwrap_or_default();
        if call.is_shown {
            return self.arguments(&new, out);
        }
        call.name.push_str(&name.unwrap_or_default());
        call.arguments.push_str(&new);
        // The name is complete when the arguments have begun.
        if call.name.is_empty() || call.arguments.is_empty() {
            return Ok(());
        }
        self.start_call(out)
    }

    /// Begins the block of the open call.
    fn start_call(&mut self, out: &mut Vec<u8>) -> Written {
        let Open::Call(call) = &mut self.open else {
            return Ok(());
        };
        call.is_shown = true;
        let given = call.id.take().filter(|id| is_valid(id));
        let arguments = std::mem::take(&mut call.arguments);
        let (index, name) = (
            call.index,
            self.shape.offered.tool_of(&call.name).to_owned(),
        );
        let own = || {
            let tail = self.message.id.trim_start_matches(id::MESSAGE);
            format!("toolu_{tail}{index:02}")
        };
        let block = ContentBlock::ToolUse {
            id: given.unwrap_or_else(own),
            name,
            input: JsonText("{}".to_owned()),
        };
        self.start(block, out)?;
        self.arguments(&arguments, out)
    }

    fn arguments(&mut self, new: &str, out: &mut Vec<u8>) -> Written {
        if new.is_empty() {
            return Ok(());
        }
        if !self.streams
            && let Open::Call(call) = &mut self.open
        {
            call.arguments.push_str(new);
            return Ok(());
        }
        self.delta(Delta::InputJson { partial_json: new }, out)
    }

    fn delta(&mut self, delta: Delta<'_>, out: &mut Vec<u8>) -> Written {
        let index = self.blocks.saturating_sub(1);
        self.event(&StreamEvent::ContentBlockDelta { index, delta }, out)
    }

    /// Begins a block of the message.
    fn start(&mut self, block: ContentBlock, out: &mut Vec<u8>) -> Written {
        let index = self.blocks;
        self.blocks += 1;
        let content_block = &block;
        let event = StreamEvent::ContentBlockStart {
            index,
            content_block,
        };
        self.event(&event, out)?;
        if index == 0 {
            // Anthropic sends a ping at this point.
            self.event(&StreamEvent::Ping, out)?;
        }
        if !self.streams {
            self.message.content.push(block);
        }
        Ok(())
    }

    /// Ends the open block.
    fn close(&mut self, out: &mut Vec<u8>) -> Written {
        if let Open::Call(call) = &self.open
            && !call.is_shown
        {
            self.start_call(out)?;
        }
        match std::mem::replace(&mut self.open, Open::Nothing) {
            Open::Nothing => return Ok(()),
            Open::Text => {}
            Open::Thinking => self.sign(out)?,
            Open::Call(call) => {
                if let Some(ContentBlock::ToolUse { input, .. }) = self.message.content.last_mut() {
                    *input = JsonText(arguments::as_object(&call.arguments).into_owned());
                }
            }
        }
        let index = self.blocks.saturating_sub(1);
        self.event(&StreamEvent::ContentBlockStop { index }, out)
    }

    /// Notes the stop string at which the engine stopped. It may be one that the operator
    /// configured.
    fn stopped_by(&mut self, stop: String) {
        if self.shape.stops.contains(&stop) {
            self.stop_sequence = Some(stop);
        }
    }

    /// Signs the reasoning of the open block.
    fn sign(&mut self, out: &mut Vec<u8>) -> Written {
        let signature = if self.shape.omits_thinking {
            let hidden = std::mem::take(&mut self.hidden);
            self.shape.signer.omitted(&hidden)
        } else {
            self.shape.signer.shown()
        };
        self.delta(
            Delta::Signature {
                signature: &signature,
            },
            out,
        )?;
        let block = self.message.content.last_mut();
        if let Some(ContentBlock::Thinking { signature: own, .. }) = block {
            *own = signature;
        }
        Ok(())
    }

    /// Fills in the end of the message.
    fn end(&mut self) -> Written {
        let finished = self.finish_reason.ok_or(BackendError::Unfinished)?;
        let reason = match finished {
            _ if self.shape.purpose == Purpose::Prewarming => StopReason::MaxTokens,
            _ if self.ends_compacted() => StopReason::Compaction,
            FinishReason::ContentFilter => StopReason::Refusal,
            FinishReason::Length if self.ended_early == Some(EarlyEnd::Context) => {
                StopReason::ModelContextWindowExceeded
            }
            FinishReason::Length => StopReason::MaxTokens,
            // A forced call ends with `stop`.
            _ if self.next_call > 0 => StopReason::ToolUse,
            _ if self.has_refused => StopReason::Refusal,
            _ if self.stop_sequence.is_some() => StopReason::StopSequence,
            _ => StopReason::EndTurn,
        };
        self.message.stop_reason = Some(reason);
        if reason == StopReason::StopSequence {
            self.message.stop_sequence = self.stop_sequence.take();
        }
        if reason == StopReason::Refusal {
            self.message.stop_details = Some(StopDetails::refusal());
        }
        Ok(())
    }
}

impl Writer for MessageWriter {
    fn push(&mut self, event: Event, out: &mut Vec<u8>) -> Written {
        match event {
            Event::Waiting(_) => Ok(()),
            Event::ServerTool(event) => self.server_tool(event, out),
            Event::EndedEarly(why) => {
                self.ended_early = Some(why);
                Ok(())
            }
            Event::StopString(stop) => {
                self.stopped_by(stop);
                Ok(())
            }
            Event::Usage(used) => {
                self.used(used);
                Ok(())
            }
            Event::Chunk(chunk) => self.chunk(chunk, out),
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Written {
        self.end()?;
        let message = &self.message;
        let Some(stop_reason) = message.stop_reason else {
            return Err(BackendError::Unfinished);
        };
        let delta = MessageDelta {
            stop_reason,
            stop_sequence: message.stop_sequence.as_deref(),
            stop_details: message.stop_details.as_ref(),
            container: None,
            safeguard_results: message.safeguard_results.as_deref(),
        };
        let end = StreamEvent::MessageDelta {
            delta,
            usage: &message.usage,
            context_management: message.context_management.as_ref(),
        };
        self.event(&end, out)?;
        self.event(&StreamEvent::MessageStop, out)
    }

    /// The open block does not end: clients ignore blocks that did not end.
    fn fail(&mut self, error: &ApiError, out: &mut Vec<u8>) {
        write_failure(error, out);
    }
}

/// Writes the event that reports an error.
pub(crate) fn write_failure(error: &ApiError, out: &mut Vec<u8>) {
    out.extend_from_slice(b"event: error\n");
    // Cannot fail: strings are always valid JSON.
    let _ = sse::write(out, &error::body(error, error.request_id.as_deref()));
}

/// Writes a sign of life before the first event.
pub(crate) fn write_ping(out: &mut Vec<u8>) {
    // Cannot fail: the event has no content.
    let _ = write_event(out, &StreamEvent::Ping);
}

fn not_json() -> BackendError {
    BackendError::Engine {
        message: "an event that cannot be written as JSON".to_owned(),
    }
}

/// Returns a text that is not empty.
fn said(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

/// Whether an id has the form that Anthropic's API requires.
fn is_valid(id: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    !id.is_empty() && id.len() <= 256 && id.bytes().all(is_letter)
}

/// Returns the number of tokens in Anthropic's terms: cached tokens are counted apart.
fn usage(used: Option<&CompletionUsage>) -> Usage {
    let cached = used
        .and_then(|used| used.prompt_tokens_details.as_ref())
        .map_or(0, |details| details.cached_tokens);
    let thinking = used
        .and_then(|used| used.completion_tokens_details.as_ref())
        .map(|details| details.reasoning_tokens);
    Usage {
        input_tokens: used.map_or(0, |used| used.prompt_tokens.saturating_sub(cached)),
        cache_read_input_tokens: cached,
        output_tokens: used.map_or(0, |used| used.completion_tokens),
        output_tokens_details: thinking
            .map(|thinking_tokens| OutputTokensDetails { thinking_tokens }),
        service_tier: "standard".to_owned(),
        ..Usage::default()
    }
}

/// Takes the tokens of a part out of those of the whole.
fn subtract(all: &mut CompletionUsage, part: &CompletionUsage) {
    let less = |count: &mut u64, less: u64| *count = count.saturating_sub(less);
    less(&mut all.prompt_tokens, part.prompt_tokens);
    less(&mut all.completion_tokens, part.completion_tokens);
    if let (Some(all), Some(part)) = (&mut all.prompt_tokens_details, &part.prompt_tokens_details) {
        less(&mut all.cached_tokens, part.cached_tokens);
    }
    if let (Some(all), Some(part)) = (
        &mut all.completion_tokens_details,
        &part.completion_tokens_details,
    ) {
        less(&mut all.reasoning_tokens, part.reasoning_tokens);
    }
}

/// The tokens of one call of the model.
fn iteration(kind: IterationKind, used: &CompletionUsage) -> IterationUsage {
    let usage = usage(Some(used));
    IterationUsage {
        kind,
        input_tokens: usage.input_tokens,
        cache_creation_input_tokens: 0,
        cache_read_input_tokens: usage.cache_read_input_tokens,
        output_tokens: usage.output_tokens,
    }
}

/// No classifier runs here. Claude Code's auto mode then decides by itself.
fn unsupported(safeguards: &[String]) -> Vec<SafeguardResult> {
    let results = safeguards.iter().map(SafeguardResult::unsupported);
    results.collect()
}

/// The engines do not report why a cache was not used.
fn no_diagnosis() -> Diagnostics {
    Diagnostics {
        cache_miss_reason: Some(json!({"type": "unavailable"})),
    }
}
