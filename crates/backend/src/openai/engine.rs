//! [`OpenAi`]: the client of one engine that speaks OpenAI's API.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use futures_core::Stream;
use futures_core::future::BoxFuture;
use futures_util::StreamExt as _;
use http::header::{CONTENT_TYPE, SERVER};
use http::{HeaderMap, Response, StatusCode, Uri};
use loggia_wire::openai::{EmbeddingRequest, Message, Model, Role, StreamOptions};
use serde::Serialize;
use tokio::sync::OnceCell;

use super::answer::StreamedAnswer;
use super::events::OpenAiEvents;
use super::frame::RequestKind;
use super::known::Listed;
use super::{error_body, llama_server, models, refusal, retry_unparsed_call, whole};
use crate::conversation::{self, Change, continuation, retry};
use crate::count::cache::CountCache;
use crate::http::{BaseUrl, Body, Client, Key, Upstream, read};
use crate::reasoning::SeparateReasoning;
use crate::retry_after::retry_after;
use crate::tool_calls::regular::ToolCalls;
use crate::tool_calls::{forced_call, keep_first_call};
use crate::{
    Abilities, Ability, AbilitySet, AudioCall, AudioReply, Backend, BackendError, Call, ChatCall,
    Chunk, CompletionCall, EmbeddingCall, Embeddings, Event, Events, Reply, RerankCall, Reranked,
    ServedBy, TokenCount, Trace, Work, WorkKind, fingerprint,
};

/// The maximum size of a complete answer or a list of models, in bytes.
pub(super) const ANSWER_LIMIT: usize = 32 << 20;
/// The maximum number of bytes that are read from an error.
const REFUSAL_LIMIT: usize = 1 << 20;

/// A backend for one engine that speaks OpenAI's API. Clones share the cached properties of its
/// models.
///
/// ```
/// use loggia_backend::http::Client;
/// use loggia_backend::openai::OpenAi;
///
/// let client = Client::new(loggia_backend::http::Limits::default());
/// let url = "http://127.0.0.1:8000/v1".parse().expect("a URL");
/// let vllm = OpenAi::new("vllm", client, url, None);
/// ```
#[derive(Clone, Debug)]
pub struct OpenAi {
    pub(super) name: Arc<str>,
    pub(super) upstream: Upstream,
    chat: Uri,
    completions: Uri,
    pub(super) embeddings: Uri,
    models: Uri,
    /// The health endpoint: llama-server reports there that it is still loading, vLLM that it has
    /// failed. It is outside of `/v1`.
    health: Option<Uri>,
    /// The models of the last list.
    known: Arc<RwLock<HashMap<String, Arc<Listed>>>>,
    /// Whether the list has ever been requested.
    asked: Arc<OnceCell<()>>,
    /// The endpoint of llama-server that counts the tokens of a chat.
    pub(super) input_tokens: Uri,
    /// The cached token counts of prompts that the engine had to process for that.
    pub(super) counts: Arc<CountCache>,
}

impl OpenAi {
    /// Creates a backend for the engine at `url`, with this name. A URL without a path gets `/v1`.
    pub fn new(name: impl Into<Arc<str>>, client: Client, url: BaseUrl, key: Option<Key>) -> Self {
        let base = url.or_v1();
        let health = base.is_v1().then(|| {
            base.root()
                .join(&http::uri::PathAndQuery::from_static("/health"))
        });
        let upstream = Upstream::new(client, base, key);
        let (chat, completions) = (
            upstream.uri("/chat/completions"),
            upstream.uri("/completions"),
        );
        let input_tokens = upstream.uri(llama_server::INPUT_TOKENS);
        let (embeddings, models) = (upstream.uri("/embeddings"), upstream.uri("/models"));
        Self {
            name: name.into(),
            upstream,
            chat,
            completions,
            embeddings,
            models,
            health,
            known: Arc::default(),
            asked: Arc::default(),
            input_tokens,
            counts: Arc::default(),
        }
    }

    async fn start_chat(&self, mut call: ChatCall) -> Result<Reply, BackendError> {
        let changed = self.adapt(&mut call);
        let mut reply = self.start_mended(call).await?;
        reply.served_by.changed.splice(0..0, changed);
        Ok(reply)
    }

    /// Adapts a conversation to the engine. Returns what was changed.
    pub(super) fn adapt(&self, call: &mut ChatCall) -> Vec<Change> {
        let takes_text = self.takes_text(&call.work.model);
        let mut changed = if takes_text {
            Vec::new()
        } else {
            conversation::for_a_template(&mut call.work)
        };
        let facts = self.llama_server(&call.work.model);
        if facts.is_some_and(|facts| facts.drops_later_system())
            && has_later_system(&call.work.messages)
        {
            let (shown, needed) = retry::with(&call.work, &[Change::SystemMoved]);
            call.work = Arc::new(shown);
            changed.extend(needed);
        }
        changed
    }

    async fn start_mended(&self, mut call: ChatCall) -> Result<Reply, BackendError> {
        if let Some(facts) = self.llama_server(&call.work.model) {
            facts.check(call.work.logit_bias.iter().flat_map(|all| all.keys()))?;
            if let Some(request) = facts.kept(&call.work) {
                call.work = Arc::new(request);
            }
            if let Some(way) = facts.calling(&call.work) {
                return Box::pin(way.started(call, |call| self.start_as_it_is(call))).await;
            }
            if !call.work.callable_functions().is_empty() {
                return Box::pin(self.start_with_tools(call)).await;
            }
        }
        self.start_as_it_is(call).await
    }

    /// Starts a chat with tools. llama-server parses calls itself if the model writes them
    /// correctly.
    async fn start_with_tools(&self, call: ChatCall) -> Result<Reply, BackendError> {
        let (this, again) = (self.clone(), call.clone());
        let again = Box::pin(async move {
            tracing::info!(
                id = &*again.head.id,
                "llama-server could not parse a tool call; the chat is retried with the answer constrained to the schema of the calls"
            );
            forced_call::started(again, |call| this.start_as_it_is(call)).await
        });
        retry_unparsed_call::or_again(self.start_as_it_is(call).await, again).await
    }

    pub(super) async fn start_as_it_is(&self, call: ChatCall) -> Result<Reply, BackendError> {
        // Engines that render the model's chat template are those that do not accept any text as
        // arguments.
        if self.takes_text(&call.work.model) {
            return self.start_once(call).await;
        }
        Box::pin(retry::or_plainer(call, |call| self.start_once(call))).await
    }

    pub(super) async fn start_once(&self, mut call: ChatCall) -> Result<Reply, BackendError> {
        if call.work.streams() && !asks_for_usage(call.work.stream_options.as_ref()) {
            // This copies the conversation only if it is shared.
            ask_for_usage(&mut Arc::make_mut(&mut call.work).stream_options);
        }
        if call.work.top_logprobs == Some(0) {
            // 0 means the same as absent, but llama-server would send no log-probabilities at all.
            Arc::make_mut(&mut call.work).top_logprobs = None;
        }
        self.fit_format(&mut call);
        let request = &*call.work;
        let (stream, choices) = (request.streams(), request.choices());
        let most = || {
            request
                .top_logprobs
                .and_then(|most| usize::try_from(most).ok())
                .unwrap_or(0)
        };
        let alternatives = (request.logprobs == Some(true)).then(most);
        // If the client asks llama-server to leave reasoning in the text, it stays there.
        let separates_reasoning = request
            .extra
            .get("reasoning_format")
            .is_none_or(|format| format != "none");
        let single_call = request.parallel_tool_calls == Some(false);
        let model = request.model.as_str().into();
        let id = Arc::clone(&call.head.id);
        let is_llama_server = self.llama_server(&request.model).is_some();
        let repeated = (is_llama_server && !stream)
            .then(|| continuation::beginning(&request.messages))
            .flatten();
        let asked = RequestTraits {
            id,
            repeated,
            kind: RequestKind::Chat,
            model,
            stream,
            choices,
            alternatives,
            separates_reasoning,
            single_call,
            schema_field: match request.response_format {
                None if request.tools.is_some() => "tools",
                _ => error_body::FORMAT,
            },
            trace: call.head.trace.clone(),
        };
        self.send(&self.chat, to_json(request)?, asked).await
    }

    /// Rewrites the schema of the answer for llama-server.
    pub(super) fn fit_format(&self, call: &mut ChatCall) {
        if self.llama_server(&call.work.model).is_some()
            && let Some(format) = llama_server::fitted_format(&call.work)
        {
            Arc::make_mut(&mut call.work).response_format = Some(format);
        }
    }

    async fn start_completion(&self, mut call: CompletionCall) -> Result<Reply, BackendError> {
        if let Some(facts) = self.llama_server(&call.work.model) {
            facts.check(call.work.logit_bias.iter().flat_map(|all| all.keys()))?;
        }
        if call.work.streams() && !asks_for_usage(call.work.stream_options.as_ref()) {
            ask_for_usage(&mut Arc::make_mut(&mut call.work).stream_options);
        }
        let request = &*call.work;
        let (stream, choices) = (request.streams(), request.prompts() * request.choices());
        let model = request.model.as_str().into();
        let asked = RequestTraits {
            id: Arc::clone(&call.head.id),
            repeated: None,
            kind: RequestKind::Completion,
            model,
            stream,
            choices,
            alternatives: None,
            separates_reasoning: false,
            single_call: false,
            schema_field: error_body::FORMAT,
            trace: call.head.trace.clone(),
        };
        self.send(&self.completions, to_json(request)?, asked).await
    }

    async fn send(
        &self,
        uri: &Uri,
        body: Bytes,
        asked: RequestTraits,
    ) -> Result<Reply, BackendError> {
        let accept = if asked.stream {
            "text/event-stream"
        } else {
            "application/json"
        };
        let response = self
            .upstream
            .post_json(uri, body, accept, asked.trace.as_deref())
            .await
            .map_err(|error| self.failed(error))?;
        if response.status() != StatusCode::OK {
            let error = self.refused(response, &asked.model).await;
            return Err(if refusal::is_about_no_text(&error) {
                asked.unsupported()
            } else {
                refusal::about_schemas_of(asked.schema_field, error)
            });
        }
        let server = response
            .headers()
            .get(SERVER)
            .and_then(|server| server.to_str().ok())
            .unwrap_or_default()
            .to_owned();
        // An engine that cannot stream sends a complete answer, with the content type of JSON.
        if asked.stream && !is_json(response.headers()) {
            self.streamed(response.into_body(), asked, &server).await
        } else {
            self.whole(response.into_body(), asked, &server).await
        }
    }

    async fn streamed(
        &self,
        body: Body,
        asked: RequestTraits,
        server: &str,
    ) -> Result<Reply, BackendError> {
        let (backend, model) = (Arc::clone(&self.name), Arc::clone(&asked.model));
        let answer = StreamedAnswer::new(&asked.id, backend, model, asked.kind, asked.choices);
        let mut events = OpenAiEvents::new(Arc::clone(&self.name), body, answer);
        events.begin().await?;
        let served_by = self.served_by(
            Arc::clone(&asked.model),
            events.system_fingerprint(),
            server,
        );
        Ok(Reply {
            served_by,
            events: asked.adapt(events),
        })
    }

    async fn whole(
        &self,
        body: Body,
        asked: RequestTraits,
        server: &str,
    ) -> Result<Reply, BackendError> {
        let body = read(body, ANSWER_LIMIT)
            .await
            .map_err(|error| self.failed(error))?;
        let calls = ToolCalls::new(&asked.id, asked.choices);
        let mut whole = match whole::read(&body, asked.kind, calls)
            .map_err(|what| self.bad_answer(what))?
        {
            whole::WholeResponse::Answer(whole) => whole,
            whole::WholeResponse::Error(error) => {
                return Err(self.about_the_key(refusal::instead(&error, &asked.model, &self.name)));
            }
        };
        if let Some(beginning) = &asked.repeated {
            whole.remove_beginning(beginning);
        }
        let served_by = self.served_by(
            Arc::clone(&asked.model),
            whole.system_fingerprint.as_deref(),
            server,
        );
        let events = [
            Some(Event::Chunk(whole.chunk)),
            whole.usage.map(Event::Usage),
        ];
        let events = futures_util::stream::iter(events.into_iter().flatten().map(Ok));
        Ok(Reply {
            served_by,
            events: asked.adapt(events),
        })
    }

    /// Returns the backend and model, with the engine's identity in the fingerprint: its own
    /// fingerprint (llama-server's contains the build) or its `server` header.
    pub(super) fn served_by(
        &self,
        model: Arc<str>,
        engines_own: Option<&str>,
        server: &str,
    ) -> ServedBy {
        let fingerprint = fingerprint(&[
            "openai",
            &self.name,
            &model,
            engines_own.unwrap_or_default(),
            server,
        ]);
        ServedBy {
            backend: Arc::clone(&self.name),
            model,
            node: None,
            fingerprint,
            changed: Vec::new(),
            ignored: Vec::new(),
        }
    }

    async fn list(&self) -> Result<Vec<Model>, BackendError> {
        let response = self
            .upstream
            .get(&self.models)
            .await
            .map_err(|error| self.failed(error))?;
        if response.status() != StatusCode::OK {
            return Err(self.refused(response, "").await.of_credentials(&self.name));
        }
        let body = read(response.into_body(), ANSWER_LIMIT)
            .await
            .map_err(|error| self.failed(error))?;
        let models = models::read(&body, &self.name)
            .ok_or_else(|| self.bad_answer("it is not a list of models"))?;
        self.keep(&models);
        Ok(models)
    }

    /// Stores the list of models. Keeps the cached properties of models whose entry has not
    /// changed.
    fn keep(&self, models: &[Model]) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::take(&mut *known);
        *known = models
            .iter()
            .map(|model| (model.id.clone(), Listed::new(model, &self.upstream)))
            .map(|(id, listed)| {
                let same = before
                    .get(&id)
                    .filter(|before| before.is_as(&listed))
                    .map(Arc::clone);
                (id, same.unwrap_or_else(|| Arc::new(listed)))
            })
            .collect();
    }

    pub(super) fn listed(&self, model: &str) -> Option<Arc<Listed>> {
        self.known
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(model)
            .map(Arc::clone)
    }

    /// Returns whether the engine of this model accepts any text as the arguments of a call.
    pub(super) fn takes_text(&self, model: &str) -> bool {
        let known = self.listed(model).and_then(|listed| listed.recall());
        known.is_none_or(|known| known.abilities.has(Ability::TextArguments))
    }

    /// Returns the known properties of a model of llama-server.
    pub(super) fn llama_server(&self, model: &str) -> Option<llama_server::LlamaServerModel> {
        self.listed(model)?.recall()?.llama_server
    }

    pub(super) async fn refused(&self, response: Response<Body>, model: &str) -> BackendError {
        let (head, body) = response.into_parts();
        let body = read(body, REFUSAL_LIMIT).await.unwrap_or_default();
        let status = head.status.as_u16();
        let error = refusal::before_the_answer(
            status,
            retry_after(&head.headers),
            &body,
            model,
            &self.name,
        );
        tracing::debug!(backend = &*self.name, status, "a backend refused a request");
        self.about_the_key(error)
    }

    /// Interprets a 401 or 403. It is about the API key that this server sends. If it sends none, a
    /// 401 asks for one.
    pub(super) fn about_the_key(&self, error: BackendError) -> BackendError {
        match error {
            BackendError::Refused {
                status: 401 | 403, ..
            } if self.upstream.has_key() => error.of_credentials(&self.name),
            BackendError::Refused {
                status: 401,
                message,
                param,
                ..
            } => {
                let message = format!(
                    "{message} (No API key is configured for the backend `{}`, and none was sent.)",
                    self.name
                );
                // The engine's code is "invalid_api_key", which the client would relate to its own
                // key.
                BackendError::Refused {
                    status: 401,
                    message,
                    param,
                    code: Some("backend_credentials".to_owned()),
                }
            }
            other => other,
        }
    }

    pub(super) async fn embedding_refused(
        &self,
        response: Response<Body>,
        request: &EmbeddingRequest,
    ) -> BackendError {
        let (head, body) = response.into_parts();
        let body = read(body, REFUSAL_LIMIT).await.unwrap_or_default();
        let status = head.status.as_u16();
        tracing::debug!(
            backend = &*self.name,
            status,
            "a backend refused a request for embeddings"
        );
        self.about_the_key(refusal::of_embeddings(
            status,
            retry_after(&head.headers),
            &body,
            request,
            &self.name,
        ))
    }

    pub(super) fn failed(&self, error: crate::http::Error) -> BackendError {
        error.into_backend(&self.name)
    }

    pub(super) fn bad_answer(&self, what: &str) -> BackendError {
        BackendError::BadAnswer {
            backend: self.name.to_string(),
            what: what.to_owned(),
        }
    }
}

impl Backend for OpenAi {
    /// Returns all abilities, because the engine refuses what it cannot do. Some known engines
    /// ignore fields; they have fewer.
    fn abilities<'a>(
        &'a self,
        model: &'a str,
    ) -> BoxFuture<'a, Result<Arc<Abilities>, BackendError>> {
        Box::pin(async move {
            // The list is requested at most once. If that fails, the chat itself will report the
            // reason.
            self.asked
                .get_or_init(|| async { drop(self.list().await) })
                .await;
            Ok(match self.listed(model) {
                Some(listed) => Arc::clone(&listed.known(&self.upstream).await.abilities),
                None => Arc::new(Abilities {
                    can: AbilitySet::OPENAI_ENGINE,
                    ..Abilities::default()
                }),
            })
        })
    }

    fn start(&self, call: Call) -> BoxFuture<'_, Result<Reply, BackendError>> {
        let Call { head, work } = call;
        match work {
            Work::Chat(work) => Box::pin(self.start_chat(ChatCall { head, work })),
            Work::Completion(work) => {
                Box::pin(self.start_completion(CompletionCall { head, work }))
            }
        }
    }

    fn embed(&self, call: EmbeddingCall) -> BoxFuture<'_, Result<Embeddings, BackendError>> {
        Box::pin(self.start_embedding(call))
    }

    fn rerank(&self, call: RerankCall) -> BoxFuture<'_, Result<Option<Reranked>, BackendError>> {
        Box::pin(self.start_rerank(call))
    }

    fn audio(&self, call: AudioCall) -> BoxFuture<'_, Result<Option<AudioReply>, BackendError>> {
        Box::pin(self.start_audio(call))
    }

    fn count_tokens(&self, call: ChatCall) -> BoxFuture<'_, Result<TokenCount, BackendError>> {
        Box::pin(self.count_chat(call))
    }

    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, BackendError>> {
        Box::pin(async move {
            let models = self.list().await;
            // The list was just requested, so `abilities` need not request it.
            drop(self.asked.set(()));
            models
        })
    }

    /// Returns the model as listed, with further properties if the engine is llama-server.
    fn model<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Model, BackendError>> {
        Box::pin(async move {
            let found = self
                .models()
                .await?
                .into_iter()
                .find(|model| model.id == id);
            let mut model = found.ok_or_else(|| BackendError::model_not_found(id))?;
            if let Some(listed) = self.listed(id)
                && let Some(facts) = &listed.known(&self.upstream).await.llama_server
            {
                model
                    .extra
                    .entry("capabilities")
                    .or_insert(facts.capabilities().into());
            }
            Ok(model)
        })
    }

    /// The engine is ready if it lists a model and does not report that it is loading.
    fn ready(&self) -> BoxFuture<'_, Result<(), BackendError>> {
        Box::pin(async move {
            if self.models().await?.is_empty() {
                return Err(BackendError::NoModels);
            }
            let Some(health) = &self.health else {
                return Ok(());
            };
            let health = self
                .upstream
                .get(health)
                .await
                .map_err(|error| self.failed(error))?;
            match health.status().as_u16() {
                // Any other status (404, 401) means that there is no such endpoint.
                500..=599 => Err(BackendError::Busy {
                    retry_after: retry_after(health.headers()),
                }),
                _ => Ok(()),
            }
        })
    }
}

/// The properties of a request that its answer depends on.
struct RequestTraits {
    /// The id of the answer.
    id: Arc<str>,
    /// The client's own beginning of the answer, if the engine repeats it in a complete answer.
    /// llama-server does, and leaves it out of streams.
    repeated: Option<String>,
    kind: RequestKind,
    model: Arc<str>,
    stream: bool,
    choices: usize,
    /// The number of `top_logprobs` per token of a chat, if log-probabilities are requested.
    /// llama-server sends 20 by default.
    alternatives: Option<usize>,
    /// Whether to separate reasoning from the text.
    separates_reasoning: bool,
    /// Whether to drop calls after the first. Not every engine honours `parallel_tool_calls:
    /// false`.
    single_call: bool,
    /// The field of the request that contains its schemas.
    schema_field: &'static str,
    trace: Option<Box<Trace>>,
}

impl RequestTraits {
    fn unsupported(&self) -> BackendError {
        let work = if matches!(self.kind, RequestKind::Chat) {
            WorkKind::Chat
        } else {
            WorkKind::Completions
        };
        BackendError::Unsupported { work }
    }

    fn adapt(
        &self,
        events: impl Stream<Item = Result<Event, BackendError>> + Send + 'static,
    ) -> Events {
        let (most, single_call) = (self.alternatives, self.single_call);
        if most.is_none() && !single_call {
            return self.separate_reasoning(events);
        }
        self.separate_reasoning(events.map(move |event| {
            event.map(|mut event| {
                if let Event::Chunk(chunk) = &mut event {
                    if let Some(most) = most {
                        keep_alternatives(chunk, most);
                    }
                    if single_call {
                        let deltas = chunk.choices.iter_mut().map(|choice| &mut choice.delta);
                        deltas.for_each(keep_first_call);
                    }
                }
                event
            })
        }))
    }

    fn separate_reasoning(
        &self,
        events: impl Stream<Item = Result<Event, BackendError>> + Send + 'static,
    ) -> Events {
        if self.separates_reasoning {
            Box::pin(SeparateReasoning::new(events, self.choices))
        } else {
            Box::pin(events)
        }
    }
}

fn has_later_system(messages: &[Message]) -> bool {
    let is_system = |message: &Message| matches!(message.role, Role::System | Role::Developer);
    messages.iter().skip(1).any(is_system)
}

/// Limits the `top_logprobs` of each token. llama-server sends the most probable first.
fn keep_alternatives(chunk: &mut Chunk, most: usize) {
    for logprobs in chunk
        .choices
        .iter_mut()
        .filter_map(|choice| choice.logprobs.as_mut())
    {
        for token in [&mut logprobs.content, &mut logprobs.refusal]
            .into_iter()
            .flatten()
            .flatten()
        {
            token.top_logprobs.truncate(most);
        }
    }
}

fn asks_for_usage(options: Option<&StreamOptions>) -> bool {
    options.is_some_and(|options| options.include_usage == Some(true))
}

/// Requests the usage always, because metrics and limits need it.
fn ask_for_usage(options: &mut Option<StreamOptions>) {
    options.get_or_insert_default().include_usage = Some(true);
}

/// Serialises the request with its unknown fields.
pub(super) fn to_json(request: &impl Serialize) -> Result<Bytes, BackendError> {
    let json = serde_json::to_vec(request);
    json.map(Bytes::from).map_err(|_| BackendError::Engine {
        message: "the request could not be written as JSON".to_owned(),
    })
}

fn is_json(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/json"))
}
