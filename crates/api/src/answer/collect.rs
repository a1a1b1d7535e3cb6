//! Collects the events of a chat, a completion or a response into one complete answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use loggia_backend::{BackendError, Chunk, EarlyEnd, Event, ServedBy};
use loggia_wire::Extra;
use loggia_wire::openai::responses;
use loggia_wire::openai::{
    ChatCompletion, Choice, ChunkChoice, Completion, CompletionChoice, CompletionUsage, Delta,
    FinishReason, FunctionCall, FunctionCallDelta, Logprobs, ResponseMessage, Role, ToolCall,
    ToolCallDelta,
};

use crate::answer::chunks::put_json;
use crate::answer::id;
use crate::answer::text::TextChoice;
use crate::answer::writer::{Head, Shape, Writer};
use crate::messages::writer::MessageWriter;
use crate::responses::writer::ResponseWriter;

/// A complete answer under construction.
#[expect(
    clippy::large_enum_variant,
    reason = "the largest is that of chats, which nearly all answers are"
)]
pub(crate) enum Collector {
    Choices(AllChoices),
    Response(Box<ResponseWriter>),
    Message(Box<MessageWriter>),
}

impl Collector {
    pub(crate) fn new(head: &Head) -> Self {
        match &head.shape {
            Shape::Chat | Shape::Text { .. } => Self::Choices(AllChoices::new(head.choices)),
            Shape::Response(shape) => {
                let writer = ResponseWriter::whole(head, Arc::clone(shape));
                Self::Response(Box::new(writer))
            }
            Shape::Message(shape) => {
                let writer = MessageWriter::whole(head, Arc::clone(shape));
                Self::Message(Box::new(writer))
            }
        }
    }

    pub(crate) fn push(&mut self, event: Event) -> Result<(), BackendError> {
        match self {
            Self::Choices(choices) => {
                choices.push(event);
                Ok(())
            }
            Self::Response(response) => response.push(event, &mut Vec::new()),
            Self::Message(message) => message.push(event, &mut Vec::new()),
        }
    }

    /// Returns the reason why the engine ended the answer before the model did, if it did.
    pub(crate) fn ended_early(&self) -> Option<EarlyEnd> {
        match self {
            Self::Choices(choices) => choices.ended_early,
            Self::Response(response) => response.ended_early(),
            Self::Message(message) => message.ended_early(),
        }
    }

    /// Writes the complete answer as JSON, in the format of the request. Returns a response as a
    /// value too.
    ///
    /// # Errors
    /// Fails if the answer has not ended: it was cut short.
    pub(crate) fn write(
        self,
        head: &Head,
        served_by: &ServedBy,
        out: &mut Vec<u8>,
    ) -> Result<Option<Box<responses::Response>>, BackendError> {
        match (self, &head.shape) {
            (Self::Response(response), _) => response.write_whole(out).map(Some),
            (Self::Message(message), _) => message.write_whole(out).map(|()| None),
            (Self::Choices(choices), Shape::Text { echoes }) => {
                put_json(out, &choices.finish_text(head, served_by, *echoes)?)?;
                Ok(None)
            }
            (Self::Choices(choices), _) => {
                put_json(out, &choices.finish(head, served_by)?)?;
                Ok(None)
            }
        }
    }
}

/// The choices of a chat or a completion, as far as they have arrived.
#[derive(Debug)]
pub(crate) struct AllChoices {
    created: Option<u64>,
    choices: Vec<Collected>,
    usage: Option<CompletionUsage>,
    ended_early: Option<EarlyEnd>,
    extra: Extra,
}

/// The collected parts of one choice.
#[derive(Debug, Default)]
struct Collected {
    content: Option<String>,
    refusal: Option<String>,
    reasoning_content: Option<String>,
    reasoning: Option<String>,
    /// The tool calls by their index.
    tool_calls: BTreeMap<u32, ToolCallDelta>,
    function_call: Option<FunctionCallDelta>,
    logprobs: Option<Logprobs>,
    finish_reason: Option<FinishReason>,
    extra: Extra,
    message_extra: Extra,
}

impl AllChoices {
    fn new(choices: usize) -> Self {
        let choices = (0..choices).map(|_| Collected::default()).collect();
        Self {
            created: None,
            choices,
            usage: None,
            ended_early: None,
            extra: Extra::new(),
        }
    }

    fn push(&mut self, event: Event) {
        match event {
            Event::Waiting(_) | Event::ServerTool(_) | Event::StopString(_) => {}
            Event::EndedEarly(why) => self.ended_early = Some(why),
            Event::Usage(usage) => self.usage = Some(usage),
            Event::Chunk(chunk) => self.chunk(chunk),
        }
    }

    /// Returns the complete answer. Fails if a choice has not ended.
    fn finish(self, head: &Head, served_by: &ServedBy) -> Result<ChatCompletion, BackendError> {
        let backend = &served_by.backend;
        let numbered = (0..).zip(self.choices);
        let choices = numbered
            .map(|(index, choice)| choice.finish(index, backend))
            .collect::<Result<_, _>>()?;
        Ok(ChatCompletion {
            id: head.id.to_string(),
            object: "chat.completion".to_owned(),
            created: self.created.unwrap_or_else(id::now),
            model: head.model.to_string(),
            choices,
            usage: self.usage,
            system_fingerprint: Some(head.fingerprint(served_by).to_string()),
            extra: self.extra,
        })
    }

    /// Returns the complete answer in the format of completions. With `echoes` each text begins
    /// with its prompt.
    fn finish_text(
        self,
        head: &Head,
        served_by: &ServedBy,
        echoes: bool,
    ) -> Result<Completion, BackendError> {
        let backend = &served_by.backend;
        let numbered = (0..).zip(self.choices);
        let choices = numbered.map(|(index, choice)| choice.finish_text(index, backend, echoes));
        Ok(Completion {
            id: head.id.to_string(),
            object: "text_completion".to_owned(),
            created: self.created.unwrap_or_else(id::now),
            model: head.model.to_string(),
            choices: choices.collect::<Result<_, _>>()?,
            usage: self.usage,
            system_fingerprint: Some(head.fingerprint(served_by).to_string()),
            extra: self.extra,
        })
    }

    fn chunk(&mut self, chunk: Chunk) {
        self.created = self.created.or(chunk.created);
        self.extra.extend(chunk.extra);
        for choice in chunk.choices {
            if let Some(collected) = self.choices.get_mut(choice.index as usize) {
                collected.add(choice);
            }
        }
    }
}

impl Collected {
    fn add(&mut self, choice: ChunkChoice) {
        let Delta {
            role: _,
            content,
            refusal,
            reasoning_content,
            reasoning,
            tool_calls,
            function_call,
            extra,
        } = choice.delta;
        append(&mut self.content, content);
        append(&mut self.refusal, refusal);
        append(&mut self.reasoning_content, reasoning_content);
        append(&mut self.reasoning, reasoning);
        self.message_extra.extend(extra);
        for call in tool_calls.into_iter().flatten() {
            self.add_call(call);
        }
        if let Some(more) = function_call {
            append_function(&mut self.function_call, more);
        }
        if let Some(more) = choice.logprobs {
            self.add_logprobs(more);
        }
        self.finish_reason = self.finish_reason.or(choice.finish_reason);
        self.extra.extend(choice.extra);
    }

    fn add_call(&mut self, more: ToolCallDelta) {
        let nothing = || ToolCallDelta {
            index: more.index,
            id: None,
            kind: None,
            function: None,
            extra: Extra::new(),
        };
        let call = self.tool_calls.entry(more.index).or_insert_with(nothing);
        call.id = call.id.take().or(more.id);
        call.kind = call.kind.take().or(more.kind);
        call.extra.extend(more.extra);
        if let Some(function) = more.function {
            append_function(&mut call.function, function);
        }
    }

    fn add_logprobs(&mut self, more: Logprobs) {
        let all = self.logprobs.get_or_insert_with(|| Logprobs {
            content: None,
            refusal: None,
            extra: Extra::new(),
        });
        for (all, more) in [
            (&mut all.content, more.content),
            (&mut all.refusal, more.refusal),
        ] {
            if let Some(more) = more {
                all.get_or_insert_default().extend(more);
            }
        }
        all.extra.extend(more.extra);
    }

    fn finish(self, index: u32, backend: &str) -> Result<Choice, BackendError> {
        let cut_short = || BackendError::CutShort {
            backend: backend.to_owned(),
        };
        let finish_reason = self.finish_reason.ok_or_else(cut_short)?;
        let tool_calls: Vec<_> = self.tool_calls.into_values().map(whole_call).collect();
        let function_call = self.function_call.map(whole_function);
        // OpenAI sends an empty string if there is no content, and null if there is a call or a
        // refusal instead.
        let called = !tool_calls.is_empty() || function_call.is_some() || self.refusal.is_some();
        let content = if called {
            self.content
        } else {
            Some(self.content.unwrap_or_default())
        };
        let message = ResponseMessage {
            role: Role::Assistant,
            content,
            refusal: self.refusal,
            reasoning_content: self.reasoning_content,
            reasoning: self.reasoning,
            tool_calls: (!tool_calls.is_empty()).then_some(tool_calls),
            function_call,
            annotations: None,
            extra: self.message_extra,
        };
        let finish_reason = Some(finish_reason);
        Ok(Choice {
            index,
            message,
            logprobs: self.logprobs,
            finish_reason,
            extra: self.extra,
        })
    }
}

impl Collected {
    fn finish_text(
        self,
        index: u32,
        backend: &str,
        echoes: bool,
    ) -> Result<CompletionChoice, BackendError> {
        let cut_short = || BackendError::CutShort {
            backend: backend.to_owned(),
        };
        let finish_reason = Some(self.finish_reason.ok_or_else(cut_short)?);
        let delta = Delta {
            content: self.content,
            ..Delta::default()
        };
        let all = ChunkChoice {
            index,
            delta,
            logprobs: self.logprobs,
            finish_reason,
            extra: self.extra,
        };
        Ok(TextChoice::new(echoes).of(all))
    }
}

fn append(all: &mut Option<String>, more: Option<String>) {
    match (all.as_mut(), more) {
        (Some(all), Some(more)) => all.push_str(&more),
        (None, more) => *all = more,
        (Some(_), None) => {}
    }
}

fn append_function(all: &mut Option<FunctionCallDelta>, more: FunctionCallDelta) {
    match all {
        None => *all = Some(more),
        Some(all) => {
            append(&mut all.name, more.name);
            append(&mut all.arguments, more.arguments);
            all.extra.extend(more.extra);
        }
    }
}

fn whole_call(call: ToolCallDelta) -> ToolCall {
    let nothing = FunctionCallDelta {
        name: None,
        arguments: None,
        extra: Extra::new(),
    };
    ToolCall {
        id: call.id.unwrap_or_default(),
        kind: call.kind.unwrap_or_else(|| "function".to_owned()),
        function: whole_function(call.function.unwrap_or(nothing)),
        extra: call.extra,
    }
}

fn whole_function(function: FunctionCallDelta) -> FunctionCall {
    FunctionCall {
        name: function.name.unwrap_or_default(),
        arguments: function.arguments.unwrap_or_default(),
        extra: function.extra,
    }
}
