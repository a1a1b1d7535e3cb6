//! Collects the events of a chat, a completion or a response into one complete answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::BufMut;
use loggia_backend::{BackendError, Chunk, EarlyEnd, Event, ServedBy};
use loggia_wire::Extra;
use loggia_wire::openai::responses;
use loggia_wire::openai::{
    ChatCompletion, Choice, ChunkChoice, Completion, CompletionChoice, CompletionUsage, Delta,
    FinishReason, FunctionCall, FunctionCallDelta, Logprobs, ResponseMessage, Role, ToolCall,
    ToolCallDelta,
};

use crate::answer::chunks::{put_json, put_usage};
use crate::answer::id;
use crate::answer::text::TextChoice;
use crate::answer::writer::{Head, Shape, Writer};
use crate::custom_tools::{CustomTools, input_of};
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
            Shape::Chat(_) | Shape::Text { .. } => Self::Choices(AllChoices::new(head.choices)),
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
                if let Some((text, reason)) = choices.only_text() {
                    choices.write_text(text, reason, head, served_by, out)?;
                } else {
                    let mut chat = choices.finish(head, served_by)?;
                    if let Shape::Chat(tools) = &head.shape {
                        show_custom_calls(&mut chat, tools);
                    }
                    put_json(out, &chat)?;
                }
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

    /// Returns the text and the finish reason of an answer of one choice that contains nothing else,
    /// as most answers do.
    fn only_text(&self) -> Option<(&str, FinishReason)> {
        let [
            Collected {
                content: Some(text),
                refusal: None,
                reasoning_content: None,
                reasoning: None,
                tool_calls,
                function_call: None,
                logprobs: None,
                finish_reason: Some(reason),
                extra,
                message_extra,
            },
        ] = &self.choices[..]
        else {
            return None;
        };
        let is_all = tool_calls.is_empty()
            && extra.is_empty()
            && message_extra.is_empty()
            && self.extra.is_empty();
        is_all.then_some((text, *reason))
    }

    /// Writes a chat whose only choice contains only text. The bytes are the same as those of
    /// [`finish`](Self::finish), but absent fields are not checked.
    fn write_text(
        &self,
        text: &str,
        reason: FinishReason,
        head: &Head,
        served_by: &ServedBy,
        out: &mut Vec<u8>,
    ) -> Result<(), BackendError> {
        out.put_slice(b"{\"id\":");
        put_json(out, &*head.id)?;
        out.put_slice(b",\"object\":\"chat.completion\",\"created\":");
        put_json(out, &self.created.unwrap_or_else(id::now))?;
        out.put_slice(b",\"model\":");
        put_json(out, &*head.model)?;
        out.put_slice(
            b",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":",
        );
        put_json(out, text)?;
        out.put_slice(b",\"refusal\":null},\"logprobs\":null,\"finish_reason\":");
        put_json(out, &reason)?;
        out.put_slice(b"}]");
        if let Some(usage) = &self.usage {
            out.put_slice(b",\"usage\":");
            put_usage(out, usage)?;
        }
        out.put_slice(b",\"system_fingerprint\":");
        put_json(out, &*head.fingerprint(served_by))?;
        out.put_slice(b"}");
        Ok(())
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

/// Turns the calls of functions that represent custom tools into calls of those.
fn show_custom_calls(chat: &mut ChatCompletion, tools: &CustomTools) {
    if tools.is_empty() {
        return;
    }
    let messages = chat.choices.iter_mut().map(|choice| &mut choice.message);
    let calls = messages.flat_map(|message| message.tool_calls.iter_mut().flatten());
    for call in calls.filter(|call| tools.has(&call.function.name)) {
        call.as_custom(&input_of(&call.function.arguments));
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

#[cfg(test)]
mod tests {
    use loggia_backend::Profile;

    use super::*;

    #[test]
    fn text_alone_is_written_as_any_other_chat_is() {
        let head = Head {
            id: "chatcmpl-1".into(),
            model: "m\"".into(),
            profile: Profile::Openai,
            shape: Shape::Chat(CustomTools::default()),
            choices: 1,
            include_usage: false,
        };
        let served_by = ServedBy::new("b", "m");
        let counted = CompletionUsage::new(3, 4);
        let uncounted = CompletionUsage {
            prompt_tokens_details: None,
            ..counted.clone()
        };
        for (text, reason, usage) in [
            ("", FinishReason::Stop, None),
            (" the", FinishReason::Length, Some(counted)),
            (
                "\"\\\n\u{1}</é😀",
                FinishReason::ContentFilter,
                Some(uncounted),
            ),
        ] {
            let mut choices = AllChoices::new(1);
            let mut said = ChunkChoice::delta(0, Delta::content(text));
            said.finish_reason = Some(reason);
            choices.push(Event::Chunk(Chunk {
                created: Some(7),
                ..Chunk::of(said)
            }));
            if let Some(usage) = usage {
                choices.push(Event::Usage(usage));
            }
            let (text, reason) = choices.only_text().expect("only text");
            let mut short = Vec::new();
            choices
                .write_text(text, reason, &head, &served_by, &mut short)
                .expect("text is JSON");
            let full = choices.finish(&head, &served_by).expect("it has ended");
            let full = serde_json::to_string(&full).expect("text is JSON");
            assert_eq!(String::from_utf8(short), Ok(full));
        }
    }
}
