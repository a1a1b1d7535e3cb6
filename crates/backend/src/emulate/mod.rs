//! A wrapper that emulates what the inner backend lacks: several choices and several prompts with
//! parallel calls, forced calls with an answer that must match a schema, the older `functions` with
//! tools.
//!
//! [`tool_calls`](crate::tool_calls) describes tools to a model and parses calls from its text.

mod choices;
mod legacy;
mod texts;

use std::sync::Arc;

use futures_core::future::BoxFuture;
use futures_util::future::try_join_all;
use loggia_wire::openai::ChatCompletionRequest;

use crate::tool_calls::forced_call;
use crate::{
    Abilities, Ability, Backend, BackendError, Call, ChatCall, CompletionCall, Reply, TokenCount,
    Work, Wrap,
};

/// Adds `n`, `tool_choice` and the older `functions` to a backend that lacks them, and several
/// prompts, `best_of` and `echo` to its completions.
///
/// Wrap it around a [`Roster`](crate::roster::Roster) or a single backend:
///
/// ```
/// use std::sync::Arc;
/// use loggia_backend::Backend;
/// use loggia_backend::emulate::Emulate;
///
/// fn with_n(engine: Arc<dyn Backend>) -> Arc<dyn Backend> {
///     Arc::new(Emulate::new(engine))
/// }
/// ```
#[derive(Clone)]
pub struct Emulate {
    inner: Arc<dyn Backend>,
}

impl Emulate {
    /// Wraps this backend.
    pub fn new(inner: Arc<dyn Backend>) -> Self {
        Self { inner }
    }

    async fn chat(&self, call: ChatCall) -> Result<Reply, BackendError> {
        let can = self.inner.abilities(&call.work.model).await?;
        let wanted = call.work.choices();
        if wanted <= 1 || can.has(Ability::SeveralChoices) {
            return self.start_one(call, &can).await;
        }
        let calls = (0..wanted).map(|index| self.start_one(nth(&call, index), &can));
        Ok(choices::side_by_side(try_join_all(calls).await?))
    }

    async fn start_one(&self, mut call: ChatCall, can: &Abilities) -> Result<Reply, BackendError> {
        if !legacy::is_used(&call.work) {
            return self.start_newer(call, can).await;
        }
        // A client that sends `tools` gets the newer form in the answer, whatever the form of the
        // history.
        let in_older_words = call.work.functions.is_some();
        call.work = Arc::new(legacy::as_tools(&call.work));
        let reply = self.start_newer(call, can).await;
        if !in_older_words {
            return reply;
        }
        reply
            .map(legacy::back_to_a_function)
            .map_err(legacy::in_older_words)
    }

    async fn start_newer(&self, call: ChatCall, can: &Abilities) -> Result<Reply, BackendError> {
        if can.has(Ability::ToolChoice) || !call.work.must_call() {
            return self.inner.start(call.into()).await;
        }
        forced_call::started(call, |call| self.inner.start(call.into())).await
    }

    /// Counts the prompt in the form in which the engine would get it.
    async fn count(&self, mut call: ChatCall) -> Result<TokenCount, BackendError> {
        let can = self.inner.abilities(&call.work.model).await?;
        let in_older_words = call.work.functions.is_some();
        if legacy::is_used(&call.work) {
            call.work = Arc::new(legacy::as_tools(&call.work));
        }
        if call.work.must_call() && !can.has(Ability::ToolChoice) {
            call.work = Arc::new(forced_call::as_a_schema(&call.work)?);
        }
        let count = self.inner.count_tokens(call).await;
        if in_older_words {
            return count.map_err(legacy::in_older_words);
        }
        count
    }

    async fn completion(&self, call: CompletionCall) -> Result<Reply, BackendError> {
        let can = self.inner.abilities(&call.work.model).await?;
        if texts::fits_one_call(&call.work, &can) {
            return self.inner.start(call.into()).await;
        }
        texts::start(&self.inner, &call, &can).await
    }
}

/// Returns whether a request needs no emulation, as most requests do.
fn asks_for_nothing(request: &ChatCompletionRequest) -> bool {
    request.choices() == 1 && !request.must_call() && !legacy::is_used(request)
}

/// Returns the call for one of several choices. It has its own id, for the ids of tool calls, and
/// its own seed, without which all choices would be equal.
fn nth(call: &ChatCall, index: usize) -> ChatCall {
    let mut request = ChatCompletionRequest::clone(&call.work);
    request.n = None;
    request.seed = request
        .seed
        .map(|seed| seed.wrapping_add(i64::try_from(index).unwrap_or_default()));
    ChatCall {
        head: call.head.with_id(format!("{}-{index}", call.head.id)),
        work: Arc::new(request),
    }
}

impl Wrap for Emulate {
    fn inner(&self) -> &dyn Backend {
        &*self.inner
    }

    fn abilities<'a>(
        &'a self,
        model: &'a str,
    ) -> BoxFuture<'a, Result<Arc<Abilities>, BackendError>> {
        Box::pin(async move {
            let inner = self.inner.abilities(model).await?;
            let mut can = inner
                .can
                .with(Ability::SeveralChoices)
                .with(Ability::SeveralPrompts)
                .with(Ability::Echo);
            if can.has(Ability::Logprobs) {
                can = can.with(Ability::BestOf);
            }
            if can.has(Ability::JsonSchema) {
                can = can.with(Ability::ToolChoice);
            }
            Ok(if can == inner.can {
                inner
            } else {
                Arc::new(Abilities {
                    can,
                    ..Abilities::clone(&inner)
                })
            })
        })
    }

    fn start(&self, call: Call) -> BoxFuture<'_, Result<Reply, BackendError>> {
        let head = call.head;
        match call.work {
            Work::Chat(work) if !asks_for_nothing(&work) => {
                Box::pin(self.chat(ChatCall { head, work }))
            }
            Work::Completion(work) => Box::pin(self.completion(CompletionCall { head, work })),
            work => self.inner.start(Call { head, work }),
        }
    }

    fn count_tokens(&self, mut call: ChatCall) -> BoxFuture<'_, Result<TokenCount, BackendError>> {
        if call.work.n.is_some() {
            // Each choice has the same prompt.
            Arc::make_mut(&mut call.work).n = None;
        }
        if asks_for_nothing(&call.work) {
            self.inner.count_tokens(call)
        } else {
            Box::pin(self.count(call))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use loggia_wire::openai::Model;
    use serde_json::{Value, json};

    use super::*;
    use crate::{AbilitySet, ServedBy};

    /// A backend that keeps the chats whose prompts it counts.
    struct Inner {
        can: AbilitySet,
        counted: Mutex<Vec<Value>>,
    }

    impl Backend for Inner {
        fn abilities<'a>(
            &'a self,
            _: &'a str,
        ) -> BoxFuture<'a, Result<Arc<Abilities>, BackendError>> {
            let abilities = Abilities {
                can: self.can,
                ..Abilities::default()
            };
            Box::pin(std::future::ready(Ok(Arc::new(abilities))))
        }

        fn start(&self, call: Call) -> BoxFuture<'_, Result<Reply, BackendError>> {
            Box::pin(std::future::ready(Err(call.work.unsupported())))
        }

        fn count_tokens(&self, call: ChatCall) -> BoxFuture<'_, Result<TokenCount, BackendError>> {
            let counted = serde_json::to_value(&*call.work).unwrap();
            self.counted.lock().unwrap().push(counted);
            let count = TokenCount::exact(3, ServedBy::new("b", "m"));
            Box::pin(std::future::ready(Ok(count)))
        }

        fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, BackendError>> {
            Box::pin(std::future::ready(Ok(Vec::new())))
        }
    }

    /// Returns the request that the inner backend counts for a chat with these fields.
    async fn counted(can: &[Ability], fields: Value) -> Value {
        let inner = Arc::new(Inner {
            can: AbilitySet::of(can),
            counted: Mutex::default(),
        });
        let mut request = json!({"model": "m", "messages": [{"role": "user", "content": "Hi"}]});
        let fields = fields.as_object().unwrap().clone();
        request.as_object_mut().unwrap().extend(fields);
        let request = Arc::new(serde_json::from_value(request).unwrap());
        let emulate = Emulate::new(Arc::clone(&inner) as Arc<dyn Backend>);
        let count = Backend::count_tokens(&emulate, ChatCall::new("1", request)).await;
        assert_eq!(count.unwrap().input_tokens, 3);
        inner.counted.lock().unwrap().remove(0)
    }

    #[tokio::test]
    async fn a_prompt_is_counted_as_the_engine_would_get_it() {
        let function = json!({"name": "f", "parameters": {"type": "object"}});
        let tools = json!([{"type": "function", "function": function}]);
        let plain = json!({"model": "m", "messages": [{"role": "user", "content": "Hi"}]});
        // Several choices have one prompt.
        assert_eq!(counted(&[], json!({"n": 3})).await, plain);
        let forced = json!({"tools": tools, "tool_choice": "required"});
        let described = counted(&[Ability::JsonSchema], forced.clone()).await;
        assert!(described.get("tools").is_none(), "{described}");
        assert_eq!(described["messages"][0]["role"], "system", "{described}");
        let able = [Ability::JsonSchema, Ability::ToolChoice];
        assert_eq!(counted(&able, forced).await["tools"], tools);
        let older = counted(&able, json!({"functions": [function]})).await;
        assert_eq!(older["tools"], tools);
        assert!(older.get("functions").is_none(), "{older}");
    }
}
