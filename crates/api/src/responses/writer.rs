//! Turns a chat's events into the events of a streamed response, and into the whole response.
//!
//! The same state machine makes both: `response.completed` has the response that it builds, and a
//! client that does not stream gets this response.

mod calls;
mod compaction;
mod file_search;
mod mcp;
mod reasoning;

use std::sync::Arc;

use loggia_backend::{BackendError, Chunk, EarlyEnd, Event};
use loggia_wire::openai::responses::{
    IncompleteDetails, ItemStatus, OutputItem, OutputMessage, OutputPart, OutputText,
    ReasoningText, RefusalText, Response, ResponseError, ResponseEvent, ResponseStatus,
    ResponseUsage, SteerRef, SummaryPart, write_event, write_text_delta,
};
use loggia_wire::openai::{ChunkChoice, CompletionUsage, Delta, FinishReason, TokenLogprob};

use crate::ApiError;
use crate::answer::call::Call;
use crate::answer::chunks::put_json;
use crate::answer::id;
use crate::answer::writer::{Head, Writer};
use crate::responses::live::each;
use crate::responses::shape::ResponseShape;
use crate::responses::summary::Compaction;
use crate::responses::tools::ToolKind;

/// A delta and its padding together have a multiple of this many bytes.
const PADDED_TO: usize = 16;

/// Writes one response. It is a state machine without `async`.
pub(crate) struct ResponseWriter {
    response: Response,
    shape: Arc<ResponseShape>,
    /// The random part of the response's id. The ids of its items contain it too.
    tail: String,
    events: Events,
    has_begun: bool,
    open: Open,
    /// The index of the first call that has not begun.
    next_call: u32,
    /// The summary so far, if the response is a compaction.
    summary: String,
    /// The log-probabilities of tokens whose text has not arrived yet.
    logprobs: Vec<TokenLogprob>,
    finish_reason: Option<FinishReason>,
    ended_early: Option<EarlyEnd>,
    /// Whether the response was cut because an input steers it.
    was_steered: bool,
}

/// The unfinished item: the last one of the output, or a call that is not in the output yet.
#[derive(Debug)]
enum Open {
    Nothing,
    Reasoning,
    Message,
    Call(Call),
    Compaction,
    /// A call of a tool of an MCP server, or a search in files, which the server is making.
    McpCall,
}

/// Writes and numbers events, or, for a whole response, drops them.
#[derive(Debug)]
struct Events {
    are_written: bool,
    /// Whether deltas are padded.
    are_padded: bool,
    next: u64,
}

impl Events {
    fn write(&mut self, event: &ResponseEvent<'_>, out: &mut Vec<u8>) -> Written {
        if self.are_written {
            let padding = event.delta().and_then(|delta| self.padding(delta));
            write_event(out, event, self.next, padding.as_deref()).map_err(|_| not_json())?;
            self.next += 1;
        }
        Ok(())
    }

    /// Writes a piece of a text without log-probabilities, the most frequent event.
    fn write_text_delta(
        &mut self,
        item_id: &str,
        place: [usize; 2],
        delta: &str,
        out: &mut Vec<u8>,
    ) -> Written {
        if self.are_written {
            let padding = self.padding(delta);
            write_text_delta(out, item_id, place, delta, self.next, padding.as_deref())
                .map_err(|_| not_json())?;
            self.next += 1;
        }
        Ok(())
    }

    /// Returns the padding of a delta, if deltas are padded.
    fn padding(&self, delta: &str) -> Option<String> {
        let length = PADDED_TO - delta.len() % PADDED_TO;
        self.are_padded.then(|| id::padding(length))
    }

    /// Finishes the part of a reasoning summary.
    fn end_summary(
        &mut self,
        item_id: &str,
        output_index: usize,
        part: &SummaryPart,
        out: &mut Vec<u8>,
    ) -> Written {
        let SummaryPart::SummaryText { text } = part;
        let summary_index = 0;
        let event = ResponseEvent::SummaryTextDone {
            item_id,
            output_index,
            summary_index,
            text,
        };
        self.write(&event, out)?;
        let event = ResponseEvent::SummaryPartDone {
            item_id,
            output_index,
            summary_index,
            part,
        };
        self.write(&event, out)
    }
}

fn not_json() -> BackendError {
    BackendError::Engine {
        message: "an event that cannot be written as JSON".to_owned(),
    }
}

type Written = Result<(), BackendError>;

impl ResponseWriter {
    /// Creates the writer of a streamed response.
    pub(crate) fn streaming(head: &Head, shape: Arc<ResponseShape>) -> Self {
        Self::new(head, shape, true)
    }

    /// Creates a writer without events, for [`write_whole`](Self::write_whole).
    pub(crate) fn whole(head: &Head, shape: Arc<ResponseShape>) -> Self {
        Self::new(head, shape, false)
    }

    fn new(head: &Head, shape: Arc<ResponseShape>, are_written: bool) -> Self {
        let mut response = shape.template.clone();
        response.id = head.id.to_string();
        response.created_at = id::now();
        Self {
            tail: head.id.trim_start_matches(id::RESPONSE).to_owned(),
            response,
            events: Events {
                are_written,
                are_padded: shape.obfuscates,
                next: 0,
            },
            shape,
            has_begun: false,
            open: Open::Nothing,
            next_call: 0,
            summary: String::new(),
            logprobs: Vec::new(),
            finish_reason: None,
            ended_early: None,
            was_steered: false,
        }
    }

    /// Returns why the engine ended the answer early, if it did.
    pub(crate) fn ended_early(&self) -> Option<EarlyEnd> {
        self.ended_early
    }

    /// Writes the whole response as JSON.
    ///
    /// # Errors
    /// Fails if the answer has not ended.
    pub(crate) fn write_whole(mut self, out: &mut Vec<u8>) -> Result<Box<Response>, BackendError> {
        self.settle()?;
        if let Some(Compaction::Conversation(_)) = &self.shape.compaction {
            self.write_conversation(out)?;
        } else {
            put_json(out, &self.response)?;
        }
        Ok(Box::new(self.response))
    }

    /// Sets the final status.
    fn settle(&mut self) -> Written {
        let reason = match self.finish_reason.ok_or(BackendError::Unfinished)? {
            _ if self.was_steered => Some("steered"),
            _ if self.shape.prewarms => None,
            FinishReason::Length => Some("max_output_tokens"),
            FinishReason::ContentFilter => Some("content_filter"),
            FinishReason::Stop | FinishReason::ToolCalls | FinishReason::FunctionCall => None,
        };
        if let Some(reason) = reason {
            self.response.status = ResponseStatus::Incomplete;
            self.response.incomplete_details = Some(IncompleteDetails {
                reason: reason.to_owned(),
            });
        } else if self.response.status != ResponseStatus::Completed {
            self.response.status = ResponseStatus::Completed;
            self.response.completed_at = Some(id::now());
        }
        Ok(())
    }

    /// Returns the unfinished response.
    pub(crate) fn so_far(&mut self) -> &mut Response {
        &mut self.response
    }

    /// Ends the response after a client cancelled it. OpenAI has no event for that: the last one is
    /// `response.failed`, whose response is cancelled and has no error.
    pub(crate) fn cancel(&mut self, out: &mut Vec<u8>) {
        self.interrupt();
        self.begin_without_output(out);
        self.response.status = ResponseStatus::Cancelled;
        let response = &self.response;
        // Cannot fail: every response can be written as JSON.
        let _ = self.events.write(&ResponseEvent::Failed { response }, out);
    }

    /// Replaces the last events, which are not sent yet, by the report of a failure.
    pub(crate) fn fail_instead(&mut self, error: &ApiError, last: &mut Vec<u8>) {
        self.events.next -= each(last).fold(0, |count, _| count + 1);
        self.has_begun = self.events.next > 0;
        last.clear();
        self.response.incomplete_details = None;
        self.response.completed_at = None;
        self.fail(error, last);
    }

    /// Marks the unfinished item as incomplete, so that the client does not act on it.
    fn interrupt(&mut self) {
        let is_under_way = !matches!(self.open, Open::Nothing);
        if let Some(item) = self.response.output.last_mut()
            && is_under_way
        {
            item.set_status(ItemStatus::Incomplete);
        }
    }

    /// Writes the first two events if they were not written yet.
    pub(crate) fn begin(&mut self, out: &mut Vec<u8>) -> Written {
        if std::mem::replace(&mut self.has_begun, true) {
            return Ok(());
        }
        // Open Responses requires `usage` in every response, and OpenAI's specification forbids
        // `null` for it.
        let usage = self.response.usage.replace(ResponseUsage::default());
        let response = &self.response;
        self.events
            .write(&ResponseEvent::Created { response }, out)?;
        self.events
            .write(&ResponseEvent::InProgress { response }, out)?;
        self.response.usage = usage;
        Ok(())
    }

    /// Does the same for a response that ends: `response.created` must have an empty output.
    fn begin_without_output(&mut self, out: &mut Vec<u8>) {
        let output = std::mem::take(&mut self.response.output);
        // Cannot fail: every response can be written as JSON.
        let _ = self.begin(out);
        self.response.output = output;
    }

    fn chunk(&mut self, chunk: Chunk, out: &mut Vec<u8>) -> Written {
        self.begin(out)?;
        for choice in chunk.choices {
            if choice.index != 0 || self.finish_reason.is_some() {
                continue;
            }
            if self.shape.prewarms {
                // The prompt is in the cache now. The answer to it is not needed.
                self.finish_reason = choice.finish_reason;
            } else {
                self.choice(choice, out)?;
            }
        }
        Ok(())
    }

    fn choice(&mut self, choice: ChunkChoice, out: &mut Vec<u8>) -> Written {
        if self.shape.compaction.is_some() {
            return self.summarize(choice, out);
        }
        let Delta {
            reasoning_content,
            reasoning,
            content,
            refusal,
            tool_calls,
            ..
        } = choice.delta;
        if let Some(text) = said(reasoning_content.or(reasoning)) {
            self.reasoning(&text, out)?;
        }
        if let (Some(_), Some(logprobs)) = (&content, choice.logprobs) {
            let tokens = logprobs.content.into_iter().flatten();
            self.logprobs.extend(tokens.map(with_bytes));
        }
        if let Some(text) = said(content) {
            self.text(&text, out)?;
        }
        if let Some(text) = said(refusal) {
            self.refusal(&text, out)?;
        }
        for call in tool_calls.into_iter().flatten() {
            self.call(call, out)?;
        }
        if let Some(reason) = choice.finish_reason {
            self.finish_reason = Some(reason);
            self.end_output(reason, out)?;
        }
        Ok(())
    }

    /// Ends the output, and its last item.
    fn end_output(&mut self, reason: FinishReason, out: &mut Vec<u8>) -> Written {
        let was_cut = matches!(reason, FinishReason::Length | FinishReason::ContentFilter);
        let says_nothing = self
            .response
            .output
            .iter()
            .all(|item| matches!(item, OutputItem::Reasoning(_) | OutputItem::Compaction(_)));
        // Every response has a message, even if the model wrote nothing.
        if says_nothing && !matches!(self.open, Open::Call(_)) && !(was_cut && self.has_output()) {
            self.in_message(out)?;
            self.begin_part(OutputPart::OutputText(OutputText::default()), out)?;
        }
        let status = if was_cut {
            ItemStatus::Incomplete
        } else {
            ItemStatus::Completed
        };
        self.close(status, out)
    }

    fn has_output(&self) -> bool {
        !self.response.output.is_empty()
    }

    /// Starts a message if the unfinished item is not one.
    fn in_message(&mut self, out: &mut Vec<u8>) -> Written {
        if matches!(self.open, Open::Message) {
            return Ok(());
        }
        self.close(ItemStatus::Completed, out)?;
        let item = OutputItem::Message(OutputMessage {
            id: self.item_id("msg_"),
            status: ItemStatus::InProgress,
            role: "assistant".to_owned(),
            content: Vec::new(),
        });
        self.add(item, out)?;
        self.open = Open::Message;
        Ok(())
    }

    fn text(&mut self, text: &str, out: &mut Vec<u8>) -> Written {
        self.in_message(out)?;
        if !matches!(self.last_part(), Some(OutputPart::OutputText(_))) {
            self.end_part(out)?;
            self.begin_part(OutputPart::OutputText(OutputText::default()), out)?;
        }
        let logprobs = std::mem::take(&mut self.logprobs);
        let output_index = self.response.output.len() - 1;
        let Some(OutputItem::Message(item)) = self.response.output.last_mut() else {
            return Ok(());
        };
        let content_index = item.content.len() - 1;
        if logprobs.is_empty() {
            let place = [output_index, content_index];
            self.events.write_text_delta(&item.id, place, text, out)?;
        } else {
            let event = ResponseEvent::OutputTextDelta {
                item_id: &item.id,
                output_index,
                content_index,
                delta: text,
                logprobs: &logprobs,
            };
            self.events.write(&event, out)?;
        }
        if let Some(OutputPart::OutputText(part)) = item.content.last_mut() {
            part.text.push_str(text);
            part.logprobs.extend(logprobs);
        }
        Ok(())
    }

    fn refusal(&mut self, text: &str, out: &mut Vec<u8>) -> Written {
        self.in_message(out)?;
        if !matches!(self.last_part(), Some(OutputPart::Refusal(_))) {
            self.end_part(out)?;
            self.begin_part(OutputPart::Refusal(RefusalText::default()), out)?;
        }
        let output_index = self.response.output.len() - 1;
        let Some(OutputItem::Message(item)) = self.response.output.last_mut() else {
            return Ok(());
        };
        let content_index = item.content.len() - 1;
        let event = ResponseEvent::RefusalDelta {
            item_id: &item.id,
            output_index,
            content_index,
            delta: text,
        };
        self.events.write(&event, out)?;
        if let Some(OutputPart::Refusal(part)) = item.content.last_mut() {
            part.refusal.push_str(text);
        }
        Ok(())
    }

    /// Finishes the unfinished item.
    fn close(&mut self, status: ItemStatus, out: &mut Vec<u8>) -> Written {
        match &self.open {
            Open::Nothing => return Ok(()),
            Open::Compaction | Open::McpCall => {}
            Open::Message => self.end_part(out)?,
            Open::Reasoning => {
                self.end_part(out)?;
                self.seal_reasoning();
            }
            Open::Call(call) if call.is_shown => self.end_arguments(out)?,
            Open::Call(call) => match self.shape.kind_of(&call.name) {
                ToolKind::Function => {
                    self.show_call(out)?;
                    self.end_arguments(out)?;
                }
                _ => self.show_whole_call(out)?,
            },
        }
        self.open = Open::Nothing;
        let output_index = self.response.output.len() - 1;
        if let Some(item) = self.response.output.last_mut() {
            item.set_status(status);
            let event = ResponseEvent::OutputItemDone { output_index, item };
            self.events.write(&event, out)?;
        }
        Ok(())
    }

    /// Writes that the last item is complete.
    fn done(&mut self, out: &mut Vec<u8>) -> Written {
        let output_index = self.response.output.len() - 1;
        let item = &self.response.output[output_index];
        let event = ResponseEvent::OutputItemDone { output_index, item };
        self.events.write(&event, out)
    }

    /// Adds an item to the output.
    fn add(&mut self, item: OutputItem, out: &mut Vec<u8>) -> Written {
        self.response.output.push(item);
        let output_index = self.response.output.len() - 1;
        let item = &self.response.output[output_index];
        let event = ResponseEvent::OutputItemAdded { output_index, item };
        self.events.write(&event, out)
    }

    /// Returns the parts of the unfinished item.
    fn parts(&self) -> &[OutputPart] {
        match self.response.output.last() {
            Some(OutputItem::Message(item)) => &item.content,
            Some(OutputItem::Reasoning(item)) => &item.content,
            _ => &[],
        }
    }

    fn last_part(&self) -> Option<&OutputPart> {
        self.parts().last()
    }

    fn begin_part(&mut self, part: OutputPart, out: &mut Vec<u8>) -> Written {
        let output_index = self.response.output.len() - 1;
        let (item_id, content) = match self.response.output.last_mut() {
            Some(OutputItem::Message(item)) => (&item.id, &mut item.content),
            Some(OutputItem::Reasoning(item)) => (&item.id, &mut item.content),
            _ => return Ok(()),
        };
        content.push(part);
        let content_index = content.len() - 1;
        let event = ResponseEvent::ContentPartAdded {
            item_id,
            output_index,
            content_index,
            part: &content[content_index],
        };
        self.events.write(&event, out)
    }

    /// Finishes the unfinished part, if there is one.
    fn end_part(&mut self, out: &mut Vec<u8>) -> Written {
        let output_index = self.response.output.len().saturating_sub(1);
        let (item_id, content) = match self.response.output.last_mut() {
            Some(OutputItem::Message(item)) => (&item.id, &mut item.content),
            Some(OutputItem::Reasoning(item)) => match item.summary.first() {
                Some(part) => {
                    let item_id = &item.id;
                    return self.events.end_summary(item_id, output_index, part, out);
                }
                None => (&item.id, &mut item.content),
            },
            _ => return Ok(()),
        };
        let content_index = content.len().saturating_sub(1);
        let Some(part) = content.last_mut() else {
            return Ok(());
        };
        if let OutputPart::OutputText(part) = part {
            part.logprobs.append(&mut self.logprobs);
        }
        let done = match part {
            OutputPart::OutputText(OutputText { text, logprobs, .. }) => {
                ResponseEvent::OutputTextDone {
                    item_id,
                    output_index,
                    content_index,
                    text,
                    logprobs,
                }
            }
            OutputPart::Refusal(RefusalText { refusal }) => ResponseEvent::RefusalDone {
                item_id,
                output_index,
                content_index,
                refusal,
            },
            OutputPart::ReasoningText(ReasoningText { text }) => ResponseEvent::ReasoningTextDone {
                item_id,
                output_index,
                content_index,
                text,
            },
        };
        self.events.write(&done, out)?;
        let event = ResponseEvent::ContentPartDone {
            item_id,
            output_index,
            content_index,
            part,
        };
        self.events.write(&event, out)
    }

    /// Returns the id of the next item. It depends only on the response's id and the item's index.
    fn item_id(&self, prefix: &str) -> String {
        format!("{prefix}{}{:02}", self.tail, self.response.output.len())
    }
}

impl Writer for ResponseWriter {
    fn push(&mut self, event: Event, out: &mut Vec<u8>) -> Written {
        match event {
            Event::Waiting(_) | Event::StopString(_) => Ok(()),
            Event::EndedEarly(why) => {
                self.ended_early = Some(why);
                Ok(())
            }
            Event::Usage(mut usage) => {
                if self.shape.prewarms {
                    usage = CompletionUsage {
                        prompt_tokens_details: usage.prompt_tokens_details.take(),
                        ..CompletionUsage::new(usage.prompt_tokens, 0)
                    };
                }
                self.response.usage = Some((&usage).into());
                Ok(())
            }
            Event::Chunk(chunk) => self.chunk(chunk, out),
            Event::ServerTool(tool) => self.server_tool(tool, out),
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Written {
        self.settle()?;
        let response = &self.response;
        let last = match response.status {
            ResponseStatus::Incomplete => ResponseEvent::Incomplete { response },
            _ => ResponseEvent::Completed { response },
        };
        self.events.write(&last, out)
    }

    fn response(&mut self) -> Result<Option<&mut Response>, BackendError> {
        self.settle()?;
        Ok(Some(&mut self.response))
    }

    fn steer(&mut self, id: &str, out: &mut Vec<u8>) -> Result<bool, BackendError> {
        let steer = SteerRef {
            id,
            previous_response_id: &self.response.id,
        };
        self.events
            .write(&ResponseEvent::SteerAccepted { steer }, out)?;
        let is_call =
            |item: &OutputItem| !matches!(item, OutputItem::Message(_) | OutputItem::Reasoning(_));
        // A call that has begun is finished, because the client runs it before it continues. So is
        // a summary.
        let is_whole_or_nothing = matches!(self.open, Open::Call(_))
            || self.shape.compaction.is_some()
            || self.response.output.iter().any(is_call);
        if self.finish_reason.is_some() || is_whole_or_nothing {
            return Ok(false);
        }
        self.close(ItemStatus::Incomplete, out)?;
        self.finish_reason = Some(FinishReason::Stop);
        self.was_steered = true;
        Ok(true)
    }

    fn fail(&mut self, error: &ApiError, out: &mut Vec<u8>) {
        self.interrupt();
        self.begin_without_output(out);
        self.response.status = ResponseStatus::Failed;
        self.response.error = Some(ResponseError {
            code: code(error).to_owned(),
            message: error.error.message.clone(),
            param: error.error.param.clone(),
            kind: Some(error.error.kind.clone()),
        });
        let response = &self.response;
        let _ = self.events.write(&ResponseEvent::Failed { response }, out);
    }
}

/// Returns the `code` that OpenAI uses for a failed response. Codex ends its turn on
/// `context_length_exceeded` and retries after any other code.
fn code(error: &ApiError) -> &'static str {
    match (error.error.code.as_deref(), error.status.as_u16()) {
        (Some("context_length_exceeded"), _) => "context_length_exceeded",
        (_, 429) => "rate_limit_exceeded",
        (_, 400..=499) => "invalid_prompt",
        _ => "server_error",
    }
}

/// Returns the text unless it is empty.
fn said(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

/// Adds the bytes of every token, which responses always have.
fn with_bytes(mut token: TokenLogprob) -> TokenLogprob {
    let bytes_of = |text: &str| Some(text.as_bytes().to_vec());
    token.bytes = token.bytes.take().or_else(|| bytes_of(&token.token));
    for top in &mut token.top_logprobs {
        top.bytes = top.bytes.take().or_else(|| bytes_of(&top.token));
    }
    token
}
