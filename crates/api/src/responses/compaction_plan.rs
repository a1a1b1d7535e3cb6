//! Compaction before an answer: if the prompt is too long, the model first summarizes the
//! conversation, and continues from the summary.

use std::sync::Arc;

use futures_util::{StreamExt, stream};
use loggia_backend::{Backend, BackendError, Call, Chunk, Event, Events, Reply, ServerTool, Work};
use loggia_wire::openai::{
    ChatCompletionRequest, ChunkChoice, CompletionUsage, FinishReason, Message, Role,
};

use crate::admit::ParsedRequest;
use crate::fit::{chat, context, count, most_tokens_of_text};
use crate::generated::Generate;
use crate::responses::auto_compaction::{AutoCompaction, FIELD, Scope};
use crate::responses::sealed::Sealed;
use crate::responses::server_tools::{add, sum};
use crate::responses::summary::{self, Compacted, KeptMessages};
use crate::{ApiError, Door, Strictness};

/// A compaction that is made before the answer.
#[derive(Debug)]
pub(crate) struct CompactionPlan {
    parts: Parts,
    /// The maximum number of tokens of the summary.
    most_tokens: i64,
    compaction: AutoCompaction,
}

/// The result of a compaction.
pub(crate) enum Compacting {
    /// The call that the model answers now, and the compaction. `None` if the model wrote no
    /// summary: the call is as it was.
    Done(Call, Option<FinishedCompaction>),
    /// The answer ends after the summary.
    Paused(Reply),
}

/// The parts of a conversation, as numbers of messages from its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Parts {
    /// The end of the instructions of the request.
    instructions: usize,
    /// The end of the system messages that follow. They are kept unchanged.
    system: usize,
    /// The end of the messages that are summarized. The model answers those that follow.
    summarized: usize,
}

/// Decides whether the conversation of a request is compacted. Adds `context_management` to
/// `ignored` if the size of the context is needed and unknown.
pub(crate) async fn plan_compaction<R: Generate>(
    door: &Door,
    asked: &ParsedRequest<R>,
    ignored: &mut Vec<String>,
) -> Result<Option<Box<CompactionPlan>>, ApiError> {
    let Some(compaction) = asked.request.compaction() else {
        return Ok(None);
    };
    // Boxed, because this is rare: every request would reserve the memory for it.
    Box::pin(plan(door, asked, compaction.clone(), ignored)).await
}

async fn plan<R: Generate>(
    door: &Door,
    asked: &ParsedRequest<R>,
    compaction: AutoCompaction,
    ignored: &mut Vec<String>,
) -> Result<Option<Box<CompactionPlan>>, ApiError> {
    let refuse = |error| asked.refusals.refuse(error);
    let whole = chat(R::work(Arc::clone(&asked.request))).map_err(refuse)?;
    let can = door.abilities(&whole.model).await.map_err(refuse)?;
    let context = context(can.context_length, &whole.extra);
    let Some(threshold) = compaction.threshold.tokens(context) else {
        if asked.strictness == Strictness::Strict {
            return Err(ApiError::unsupported(FIELD));
        }
        ignored.push(FIELD.to_owned());
        return Ok(None);
    };
    let Some(parts) = Parts::of(&whole.messages, compaction.instructions) else {
        return Ok(None);
    };
    if most_tokens_of_text(&whole).is_some_and(|most| most < threshold) {
        return Ok(None);
    }
    let tokens = count(door, asked.head.clone(), (*whole).clone()).await;
    let tokens = tokens.map_err(refuse)?;
    // No model summarizes a prompt that exceeds its context. If the client allows that, its
    // beginning is dropped instead.
    let is_too_long = context.is_some_and(|context| tokens >= context);
    if tokens < threshold || (is_too_long && asked.request.droppable().is_some()) {
        return Ok(None);
    }
    // A longer summary would hardly make the conversation shorter.
    let most_tokens = i64::try_from(threshold / 2).unwrap_or(i64::MAX);
    Ok(Some(Box::new(CompactionPlan {
        parts,
        most_tokens: most_tokens.min(summary::MOST_TOKENS),
        compaction,
    })))
}

impl Parts {
    /// Divides a conversation. Returns `None` if there is nothing to summarize: no messages before
    /// those that the model answers now, or only a summary.
    fn of(messages: &[Message], instructions: usize) -> Option<Self> {
        let is_of_system =
            |message: &&Message| matches!(message.role, Role::System | Role::Developer);
        let system = messages.iter().skip(instructions).take_while(is_of_system);
        let system = instructions + system.count();
        let summarized = now(messages);
        let earlier = messages.get(system..summarized)?;
        let has_news = earlier.iter().any(|message| !summary::is_told(message));
        has_news.then_some(Self {
            instructions,
            system,
            summarized,
        })
    }
}

/// Where the messages begin that the model answers now: the last ones of the user, or the outputs
/// of the last calls with the calls.
fn now(messages: &[Message]) -> usize {
    let mut at = messages.len();
    let role = |at: usize| at.checked_sub(1).map(|before| messages[before].role);
    let is_tool = |role: Option<Role>| role == Some(Role::Tool);
    if is_tool(role(at)) {
        while is_tool(role(at)) {
            at -= 1;
        }
        return at.saturating_sub(1);
    }
    // The beginning of an answer, which the model continues with.
    if role(at) == Some(Role::Assistant) {
        at -= 1;
    }
    while matches!(role(at), Some(Role::User | Role::System | Role::Developer)) {
        at -= 1;
    }
    at
}

impl CompactionPlan {
    /// Lets the model summarize the conversation. Afterwards the call has the summary in its place.
    pub(crate) async fn compact(
        self,
        backend: &dyn Backend,
        call: Call,
    ) -> Result<Compacting, BackendError> {
        let Work::Chat(chat) = &call.work else {
            return Ok(Compacting::Done(call, None));
        };
        let asked = Call {
            head: call.head.clone(),
            work: Work::Chat(Arc::new(self.question(chat))),
        };
        let Reply { served_by, events } = backend.start(asked).await?;
        let (text, usage) = text_of(events).await?;
        let text = text.trim();
        if text.is_empty() {
            return Ok(Compacting::Done(call, None));
        }
        let compacted = self.compacted(&chat.messages, text);
        let finished = FinishedCompaction {
            encrypted_content: self.sealed(&compacted)?,
            summary: compacted.summary,
            usage,
        };
        if self.compaction.pauses {
            let events = finished.alone();
            return Ok(Compacting::Paused(Reply { served_by, events }));
        }
        let shorter = ChatCompletionRequest {
            messages: self.shorter(&chat.messages, text),
            ..(**chat).clone()
        };
        let call = Call {
            head: call.head,
            work: Work::Chat(Arc::new(shorter)),
        };
        Ok(Compacting::Done(call, Some(finished)))
    }

    /// Returns the conversation with the summary in the place of the messages that it is about.
    fn shorter(&self, messages: &[Message], summary: &str) -> Vec<Message> {
        let Parts {
            system, summarized, ..
        } = self.parts;
        let before = messages[..system].iter().cloned();
        let after = messages[summarized..].iter().cloned();
        before
            .chain([summary::told(summary)])
            .chain(after)
            .collect()
    }

    /// The summary with the messages that stay beside it.
    fn compacted(&self, messages: &[Message], summary: &str) -> Compacted {
        let Parts {
            instructions,
            system,
            summarized,
        } = self.parts;
        Compacted {
            summary: summary.to_owned(),
            messages: Vec::new(),
            kept: Some(KeptMessages {
                before: messages[instructions..system].to_vec(),
                after: messages[summarized..].to_vec(),
            }),
        }
    }

    fn sealed(&self, compacted: &Compacted) -> Result<Option<String>, BackendError> {
        let Some(keys) = &self.compaction.keys else {
            return Ok(None);
        };
        let json = serde_json::to_string(compacted).map_err(|_| BackendError::Engine {
            message: "a summary that cannot be written as JSON".to_owned(),
        })?;
        Ok(Some(Sealed::Compaction.seal(keys, &json)))
    }

    /// The chat that asks for the summary.
    fn question(&self, chat: &ChatCompletionRequest) -> ChatCompletionRequest {
        let summarized = match self.compaction.scope {
            Scope::Earlier => self.parts.summarized,
            Scope::All => chat.messages.len(),
        };
        let mut messages = chat.messages[..summarized].to_vec();
        messages.push(self.compaction.question.clone());
        let mut question = ChatCompletionRequest {
            messages,
            max_tokens: None,
            max_completion_tokens: Some(self.most_tokens),
            logprobs: None,
            top_logprobs: None,
            ..chat.clone()
        };
        summary::only_text(&mut question);
        question
    }
}

/// Collects the text of an answer.
async fn text_of(mut events: Events) -> Result<(String, Option<CompletionUsage>), BackendError> {
    let (mut text, mut usage) = (String::new(), None);
    while let Some(event) = events.next().await {
        match event? {
            Event::Chunk(chunk) => {
                let own = chunk.choices.into_iter().filter(|choice| choice.index == 0);
                own.filter_map(|choice| choice.delta.content)
                    .for_each(|piece| text.push_str(&piece));
            }
            Event::Usage(more) => add(&mut usage, more),
            Event::Waiting(_)
            | Event::EndedEarly(_)
            | Event::StopString(_)
            | Event::ServerTool(_) => {}
        }
    }
    Ok((text, usage))
}

/// A compaction that was made.
#[derive(Debug)]
pub(crate) struct FinishedCompaction {
    summary: String,
    encrypted_content: Option<String>,
    usage: Option<CompletionUsage>,
}

impl FinishedCompaction {
    /// Adds the compaction to the events of the answer: its item comes first, and its tokens count.
    pub(crate) fn before(self, events: Events) -> Events {
        let usage = self.usage.clone();
        let events = events.map(move |event| match event {
            Ok(Event::Usage(mut all)) => {
                if let Some(usage) = &usage {
                    sum(&mut all, usage.clone());
                }
                Ok(Event::Usage(all))
            }
            event => event,
        });
        let item = self.item();
        stream::once(std::future::ready(Ok(item)))
            .chain(events)
            .boxed()
    }

    /// The events of an answer without anything else.
    fn alone(self) -> Events {
        let usage = self.usage.clone().map(Event::Usage);
        let end = Event::Chunk(Chunk::of(ChunkChoice::finish(0, FinishReason::Stop)));
        let events = [self.item(), end].into_iter().chain(usage);
        stream::iter(events.map(Ok)).boxed()
    }

    fn item(self) -> Event {
        Event::ServerTool(ServerTool::Compacted {
            summary: self.summary,
            encrypted_content: self.encrypted_content,
            usage: self.usage.map(Box::new),
        })
    }
}

#[cfg(test)]
mod tests {
    use loggia_wire::Extra;
    use loggia_wire::openai::{FunctionCall, ToolCall};

    use super::*;

    fn messages(roles: &str) -> Vec<Message> {
        let call = || ToolCall {
            id: "call_1".to_owned(),
            kind: "function".to_owned(),
            function: FunctionCall {
                name: "f".to_owned(),
                arguments: "{}".to_owned(),
                extra: Extra::new(),
            },
            extra: Extra::new(),
        };
        let message = |role: char| match role {
            's' => Message::text(Role::System, "s"),
            'd' => Message::text(Role::Developer, "d"),
            'u' => Message::text(Role::User, "u"),
            'a' => Message::text(Role::Assistant, "a"),
            't' => Message::text(Role::Tool, "t"),
            'c' => Message {
                tool_calls: Some(vec![call()]),
                ..Message::text(Role::Assistant, "")
            },
            'z' => summary::told("z"),
            _ => panic!("{role}"),
        };
        roles.chars().map(message).collect()
    }

    #[test]
    fn what_the_model_answers_now_is_not_summarized() {
        for (roles, instructions, expected) in [
            // Instructions, an earlier turn, the user's new message.
            ("suau", 1, Some((1, 1, 3))),
            ("ssduauu", 1, Some((1, 3, 5))),
            ("uau", 0, Some((0, 0, 2))),
            // Outputs cannot be separated from their calls.
            ("suct", 1, Some((1, 1, 2))),
            ("suauctctt", 1, Some((1, 1, 6))),
            ("suctu", 1, Some((1, 1, 4))),
            // An answer that was cut short.
            ("suaua", 1, Some((1, 1, 3))),
            // Nothing precedes the last message, or only a summary.
            ("u", 0, None),
            ("su", 1, None),
            ("ssuuu", 1, None),
            ("ct", 0, None),
            ("", 0, None),
            ("szu", 1, None),
            ("szau", 1, Some((1, 1, 3))),
        ] {
            let parts = Parts::of(&messages(roles), instructions);
            let found = parts.map(|parts| (parts.instructions, parts.system, parts.summarized));
            assert_eq!(found, expected, "{roles}");
        }
    }
}
