//! Chats and completions: sends requests to Ollama and reads the answers.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use loggia_wire::openai::ChatCompletionRequest;

use super::answer::AnswerTranslator;
use super::client::{Ollama, OllamaService};
use super::context;
use super::events::OllamaEvents;
use super::models::ModelProperties;
use super::request::{asks_the_system, chat_request, generate_request};
use super::retry_dropped_call::RetryDroppedCall;
use super::sized::{NeededTokens, Question, limit};
use crate::conversation::{Change, arguments, retry};
use crate::reasoning::SeparateReasoning;
use crate::tool_calls::calling::{Calling, earlier_as_text};
use crate::tool_calls::forced_call;
use crate::{BackendError, ChatCall, CompletionCall, Events, Profile, Reply, ServedBy};

impl<S, B> Ollama<S, B>
where
    S: OllamaService<B>,
    B: From<Bytes> + Send + 'static,
{
    /// Starts a chat. A chat with tools is sent again if Ollama drops a call (`retry_dropped_call.rs`).
    pub(super) async fn start_chat(&self, call: ChatCall) -> Result<Reply, BackendError> {
        let has_tools = !call.work.callable_functions().is_empty();
        if has_tools && !call.work.must_call() {
            let knows_tools = self.known(&call.work.model).await?.knows_tools;
            match Calling::needed(&call.work, knows_tools) {
                // The original did not support tool calls.
                Some(Calling::CallOrAnswer) if call.head.profile == Profile::Original => {}
                Some(way) => {
                    return Box::pin(way.started(call, |call| self.start_once(call))).await;
                }
                None => {}
            }
        }
        if call.head.profile == Profile::Original || !has_tools {
            return self.start_once(call).await;
        }
        // The future is boxed because it is rare: every chat would reserve memory for it.
        Box::pin(self.start_with_tools(call)).await
    }

    pub(super) async fn start_with_tools(&self, call: ChatCall) -> Result<Reply, BackendError> {
        let (this, again) = (self.clone(), call.clone());
        let again = Box::pin(async move {
            tracing::info!(
                id = &*again.head.id,
                "Ollama dropped a tool call; the chat is retried with the answer constrained to the schema of the calls"
            );
            Ok(forced_call::started(again, |call| this.start_once(call))
                .await?
                .events)
        });
        let reply = self.start_once(call).await?;
        Ok(Reply {
            served_by: reply.served_by,
            events: Box::pin(RetryDroppedCall::new(reply.events, again)),
        })
    }

    /// Starts a chat. If the model's template refuses it, sends a simplified conversation.
    pub(super) async fn start_once(&self, call: ChatCall) -> Result<Reply, BackendError> {
        Box::pin(retry::or_plainer(call, |call| self.start_as_it_is(call))).await
    }

    pub(super) async fn start_as_it_is(&self, call: ChatCall) -> Result<Reply, BackendError> {
        let asked = &*call.work;
        let known = self.known(&asked.model).await?;
        let (mut question, room) = question(asked, &known, call.head.profile)?;
        let response = self
            .ask_sized(&mut question, &known, room, &call.head)
            .await?;
        let single_call = asked.parallel_tool_calls == Some(false);
        let answer = AnswerTranslator::new(
            &call.head.id,
            Arc::clone(&self.name),
            call.head.profile,
            single_call,
        )
        .limited_to(limit(&mut question, &known));
        let answer = if asked.streams() {
            answer
        } else {
            answer.in_one_line()
        };
        let mut reply = self.reply(response, answer, &asked.model, &known);
        reply.served_by.changed = changes(asked, call.head.profile);
        Ok(reply)
    }

    /// Starts a completion of one prompt.
    pub(super) async fn start_completion(
        &self,
        call: CompletionCall,
    ) -> Result<Reply, BackendError> {
        let asked = &*call.work;
        let request = generate_request(asked, call.head.profile)?;
        let known = self.known(&asked.model).await?;
        let answer = context::answer(&asked.as_chat());
        let room = NeededTokens {
            need: context::need_of_text(&request, answer),
            answer,
        };
        let mut question = Question::Generate(request);
        let response = self
            .ask_sized(&mut question, &known, room, &call.head)
            .await?;
        let answer = AnswerTranslator::new(
            &call.head.id,
            Arc::clone(&self.name),
            call.head.profile,
            false,
        )
        .limited_to(limit(&mut question, &known))
        .of_text();
        let answer = if asked.streams() {
            answer
        } else {
            answer.in_one_line()
        };
        Ok(self.reply(response, answer, &asked.model, &known))
    }

    pub(super) fn reply(
        &self,
        response: Response<S::Body>,
        answer: AnswerTranslator,
        model: &str,
        known: &ModelProperties,
    ) -> Reply {
        let served_by = self.served_by(model, known);
        let may_have_thoughts = answer.may_have_thoughts_in_its_text();
        let events = OllamaEvents::new(response.into_body(), answer, Arc::clone(&self.name));
        let events: Events = if may_have_thoughts {
            Box::pin(SeparateReasoning::new(events, 1))
        } else {
            Box::pin(events)
        };
        Reply { served_by, events }
    }

    pub(super) fn served_by(&self, model: &str, known: &ModelProperties) -> ServedBy {
        ServedBy {
            backend: Arc::clone(&self.name),
            model: model.into(),
            node: None,
            fingerprint: Arc::clone(&known.fingerprint),
            changed: Vec::new(),
            ignored: Vec::new(),
        }
    }
}

/// Returns the request for a chat, and the room that it needs.
pub(super) fn question(
    asked: &ChatCompletionRequest,
    known: &ModelProperties,
    profile: Profile,
) -> Result<(Question, NeededTokens), BackendError> {
    let question = Question::Chat(chat_request(&shown(asked, known), profile)?);
    let room = NeededTokens {
        need: context::need(asked),
        answer: context::answer(asked),
    };
    Ok((question, room))
}

/// Returns the changes that the request for a chat makes.
pub(super) fn changes(asked: &ChatCompletionRequest, profile: Profile) -> Vec<Change> {
    let arguments = arguments::any_changed(&asked.messages).then_some(Change::Arguments);
    let system = asks_the_system(asked, profile).then_some(Change::SystemAsUser);
    arguments.into_iter().chain(system).collect()
}

/// Returns the request with earlier calls and results as text, if the model's template does not
/// support them.
fn shown<'a>(
    request: &'a ChatCompletionRequest,
    known: &ModelProperties,
) -> Cow<'a, ChatCompletionRequest> {
    let messages = if known.knows_tools {
        None
    } else {
        earlier_as_text(&request.messages)
    };
    match messages {
        Some(messages) => Cow::Owned(ChatCompletionRequest {
            messages,
            ..request.clone()
        }),
        None => Cow::Borrowed(request),
    }
}
