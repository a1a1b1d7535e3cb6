//! The thin client around the translation: [`Ollama`], over any service that speaks Ollama's API.

use std::borrow::Cow;
use std::future::ready;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_core::future::BoxFuture;
use futures_util::TryFutureExt;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body;
use http_body_util::{BodyExt, Limited};
use loggia_wire::ollama::{self, RunningModels, Show, ShowRequest, Tags, Version};
use loggia_wire::openai::{ChatCompletionRequest, Model};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tower::{BoxError, Service, ServiceExt};

use super::answer::Answer;
use super::context;
use super::error::{refusal, transport_error};
use super::events::OllamaEvents;
use super::models::{self, Known, ModelMemory};
use super::names;
use super::request::{asks_the_system, chat_request, generate_request};
use super::swallowed::NotSwallowed;
use crate::conversation::{Change, arguments, retry};
use crate::reasoning::Apart;
use crate::retry_after::retry_after;
use crate::tool_calls::calling::{Calling, earlier_as_text};
use crate::tool_calls::forced_call;
use crate::{
    Abilities, Backend, BackendError, Call, ChatCall, CompletionCall, EmbeddingCall, Embeddings,
    Events, Profile, Reply, ServedBy, Work,
};

/// The most bytes of an answer that is not a chat: a list of a thousand models is 500 KiB.
const BODY_LIMIT: usize = 32 << 20;

/// How long Ollama may take to unload a model that is to be deleted.
const UNLOADED_WITHIN: Duration = Duration::from_secs(10);

/// What the buffer of a request holds at first: a short conversation. It grows for a longer one.
const FIRST_BUFFER: usize = 1000;

/// Ollama behind any tower service that speaks its API.
///
/// `B` is the body that the service takes. Clones share what is known of the models.
pub struct Ollama<S, B> {
    service: S,
    pub(super) name: Arc<str>,
    known: ModelMemory,
    body: PhantomData<fn() -> B>,
}

impl<S: Clone, B> Clone for Ollama<S, B> {
    fn clone(&self) -> Self {
        Self {
            service: self.service.clone(),
            name: Arc::clone(&self.name),
            known: self.known.clone(),
            body: PhantomData,
        }
    }
}

/// A service that speaks Ollama's API, as [`Ollama`] needs it: any body that can be made from bytes
/// in, any body out.
pub trait OllamaService<B>:
    Service<Request<B>, Response = Response<Self::Body>, Error: Into<BoxError>, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
{
    /// The body of its answers.
    type Body: Body<Data: Buf + Send, Error: Into<BoxError>> + Send + 'static;
}

impl<S, B, R> OllamaService<B> for S
where
    S: Service<Request<B>, Response = Response<R>, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
    R: Body<Data: Buf + Send, Error: Into<BoxError>> + Send + 'static,
{
    type Body = R;
}

impl<S, B> Ollama<S, B>
where
    S: OllamaService<B>,
    B: From<Bytes> + Send + 'static,
{
    /// Ollama behind this service. `name` is what errors and `x-loggia-served-by` call it.
    pub fn new(name: impl Into<Arc<str>>, service: S) -> Self {
        Self {
            service,
            name: name.into(),
            known: ModelMemory::default(),
            body: PhantomData,
        }
    }

    /// With what another [`Ollama`] in front of the same models has learnt of them.
    #[must_use]
    pub fn remembering(self, memory: ModelMemory) -> Self {
        Self {
            known: memory,
            ..self
        }
    }

    /// Starts a chat; one with tools is asked again where Ollama swallows a call (`swallowed.rs`).
    async fn start_chat(&self, call: ChatCall) -> Result<Reply, BackendError> {
        let has_tools = !call.work.callable_functions().is_empty();
        if has_tools && !call.work.must_call() {
            let knows_tools = self.known(&call.work.model).await?.knows_tools;
            match Calling::needed(&call.work, knows_tools) {
                // The original knew nothing of calls.
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
        // Boxed, as whatever is rare here: every chat would carry the room for it.
        Box::pin(self.start_with_tools(call)).await
    }

    async fn start_with_tools(&self, call: ChatCall) -> Result<Reply, BackendError> {
        let (this, again) = (self.clone(), call.clone());
        let again = Box::pin(async move {
            tracing::info!(
                id = &*again.head.id,
                "a call that Ollama swallowed is asked for again, held to its schema"
            );
            Ok(forced_call::started(again, |call| this.start_once(call))
                .await?
                .events)
        });
        let reply = self.start_once(call).await?;
        Ok(Reply {
            served_by: reply.served_by,
            events: Box::pin(NotSwallowed::new(reply.events, again)),
        })
    }

    /// Starts a chat as it is; where the model's template refuses it, with a plainer conversation.
    async fn start_once(&self, call: ChatCall) -> Result<Reply, BackendError> {
        Box::pin(retry::or_plainer(call, |call| self.start_as_it_is(call))).await
    }

    async fn start_as_it_is(&self, call: ChatCall) -> Result<Reply, BackendError> {
        let asked = &*call.work;
        let known = self.known(&asked.model).await?;
        let mut question = Question::Chat(chat_request(&shown(asked, &known), call.head.profile)?);
        let room = Room {
            need: context::need(asked),
            answer: context::answer(asked),
        };
        let response = self
            .ask_sized(&mut question, &known, room, call.head.forwarded.as_deref())
            .await?;
        let single_call = asked.parallel_tool_calls == Some(false);
        let answer = Answer::new(
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
        reply
            .served_by
            .changed
            .extend(arguments::any_changed(&asked.messages).then_some(Change::Arguments));
        reply
            .served_by
            .changed
            .extend(asks_the_system(asked, call.head.profile).then_some(Change::SystemAsUser));
        Ok(reply)
    }

    /// Starts a completion of one prompt.
    async fn start_completion(&self, call: CompletionCall) -> Result<Reply, BackendError> {
        let asked = &*call.work;
        let request = generate_request(asked, call.head.profile)?;
        let known = self.known(&asked.model).await?;
        let answer = context::answer(&asked.as_chat());
        let room = Room {
            need: context::need_of_text(&request, answer),
            answer,
        };
        let mut question = Question::Generate(request);
        let response = self
            .ask_sized(&mut question, &known, room, call.head.forwarded.as_deref())
            .await?;
        let answer = Answer::new(
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

    fn reply(
        &self,
        response: Response<S::Body>,
        answer: Answer,
        model: &str,
        known: &Known,
    ) -> Reply {
        let served_by = ServedBy {
            backend: Arc::clone(&self.name),
            model: model.into(),
            node: None,
            fingerprint: Arc::clone(&known.fingerprint),
            changed: Vec::new(),
            ignored: Vec::new(),
        };
        let may_have_thoughts = answer.may_have_thoughts_in_its_text();
        let events = OllamaEvents::new(response.into_body(), answer, Arc::clone(&self.name));
        let events: Events = if may_have_thoughts {
            Box::pin(Apart::new(events, 1))
        } else {
            Box::pin(events)
        };
        Reply { served_by, events }
    }

    /// Asks with room for the prompt; and once more with more of it, where the prompt turns out to
    /// be longer than it was taken for.
    async fn ask_sized(
        &self,
        question: &mut Question,
        known: &Known,
        room: Room,
        head: Option<&http::request::Parts>,
    ) -> Result<Response<S::Body>, BackendError> {
        let chosen = self.choose_context(question, known, room).await;
        match self.ask_once(question, head).await {
            Err(BackendError::ContextLengthExceeded {
                prompt_tokens: Some(prompt),
                ..
            }) if chosen && grow_context(question, known, prompt, room.answer) => {
                Box::pin(self.ask_once(question, head)).await
            }
            response => response,
        }
    }

    async fn ask_once(
        &self,
        question: &Question,
        head: Option<&http::request::Parts>,
    ) -> Result<Response<S::Body>, BackendError> {
        let (path, body) = match question {
            Question::Chat(request) => ("/api/chat", to_json(request, &self.name)?),
            Question::Generate(request) => ("/api/generate", to_json(request, &self.name)?),
        };
        let response = self.send(post(path, body, head)).await?;
        if response.status() == StatusCode::OK {
            Ok(response)
        } else {
            match Box::pin(self.refused(response, question.model())).await {
                // The words of Ollama's own runner, which tells no numbers; of an input they are
                // said too.
                BackendError::InputTooLong { .. } => Err(BackendError::ContextLengthExceeded {
                    prompt_tokens: None,
                    context: None,
                }),
                error => Err(error),
            }
        }
    }

    /// Sets the context size where the client asks for none; tells whether the size is Loggia's to
    /// choose.
    async fn choose_context(&self, question: &mut Question, known: &Known, room: Room) -> bool {
        if known.context_most.is_none() || question.options().others.contains_key("num_ctx") {
            return false;
        }
        if let Some(size) = self.choose_size(question.model(), room.need, known).await {
            set_context(question, known, size);
        }
        true
    }

    /// The context size to ask for so that so many tokens fit; `None` where it is not Loggia's to
    /// choose, or the default will do.
    pub(super) async fn choose_size(&self, model: &str, need: u64, known: &Known) -> Option<u64> {
        let most = known.context_most?;
        let loaded = if let Some(kept) = known.context_kept() {
            Some(kept)
        } else {
            let running = Box::pin(self.get::<RunningModels>("/api/ps")).await;
            running
                .ok()
                .and_then(|running| models::loaded_context(&running, model))
        };
        context::choose(need, loaded, most)
    }

    /// What is known of a model, asked once and kept for a while.
    pub(super) async fn known(&self, model: &str) -> Result<Arc<Known>, BackendError> {
        if let Some(known) = self.known.recall(model) {
            return Ok(known);
        }
        let known = Arc::new(Box::pin(self.ask(model)).await?);
        self.known.keep(model, Arc::clone(&known));
        Ok(known)
    }

    /// A service that knows only `/api/chat` is one too: then nothing is known, and all is tried.
    async fn ask(&self, model: &str) -> Result<Known, BackendError> {
        let show: Show = match self.show(model).await {
            Ok(show) => show,
            Err(error) if is_no_matter_of_show(&error) => return Err(error),
            Err(_) => return Ok(Known::nothing(&self.name, model)),
        };
        let digest = match self.get::<Tags>("/api/tags").await {
            Ok(tags) => models::digest(&tags, model).unwrap_or_default(),
            Err(_) => String::new(),
        };
        let version = self
            .get::<Version>("/api/version")
            .await
            .map(|version| version.version)
            .unwrap_or_default();
        if self.known.is_first_to_tell_old(&version) {
            tracing::warn!(
                backend = &*self.name,
                version,
                "this Ollama is older than 0.12.6: it cuts prompts that do not fit, and drops the beginning of answers, in silence; update it"
            );
        }
        Ok(Known::from_show(&self.name, &show, &digest, &version))
    }

    async fn show(&self, model: &str) -> Result<Show, BackendError> {
        let body = to_json(&ShowRequest { model }, &self.name)?;
        self.fetch(post("/api/show", body, None), model).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, BackendError> {
        let mut request = Request::new(B::from(Bytes::new()));
        *request.uri_mut() =
            http::Uri::try_from(path).map_err(|_| self.bad("a path that is none"))?;
        self.fetch(request, "").await
    }

    async fn fetch<T: DeserializeOwned>(
        &self,
        request: Request<B>,
        model: &str,
    ) -> Result<T, BackendError> {
        let response = self.send(request).await?;
        if response.status() != StatusCode::OK {
            return Err(self.refused(response, model).await);
        }
        let body = self.collect(response).await?;
        serde_json::from_slice(&body).map_err(|_| self.bad("JSON that is not Ollama's"))
    }

    pub(super) fn send(
        &self,
        request: Request<B>,
    ) -> impl Future<Output = Result<Response<S::Body>, BackendError>> + Send {
        self.service
            .clone()
            .oneshot(request)
            .map_err(|error| transport_error(error.into(), &self.name))
    }

    pub(super) async fn refused(&self, response: Response<S::Body>, model: &str) -> BackendError {
        let status = response.status();
        let retry_after = retry_after(response.headers());
        match self.collect(response).await {
            Ok(body) => refusal(status, retry_after, &body, model, &self.name),
            Err(error) => error,
        }
    }

    pub(super) async fn collect(&self, response: Response<S::Body>) -> Result<Bytes, BackendError> {
        match Limited::new(response.into_body(), BODY_LIMIT)
            .collect()
            .await
        {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => {
                Err(self.bad("more bytes than it should be"))
            }
            Err(error) => Err(transport_error(error, &self.name)),
        }
    }

    pub(super) fn bad(&self, what: &str) -> BackendError {
        BackendError::BadAnswer {
            backend: self.name.to_string(),
            what: what.to_owned(),
        }
    }
}

impl<S, B> Backend for Ollama<S, B>
where
    S: OllamaService<B>,
    B: From<Bytes> + Send + 'static,
{
    fn abilities<'a>(
        &'a self,
        model: &'a str,
    ) -> BoxFuture<'a, Result<Arc<Abilities>, BackendError>> {
        match self.known.recall(model) {
            Some(known) => Box::pin(ready(Ok(Arc::clone(&known.abilities)))),
            None => Box::pin(async move { Ok(Arc::clone(&self.known(model).await?.abilities)) }),
        }
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

    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, BackendError>> {
        Box::pin(async move {
            let tags = self.get::<Tags>("/api/tags").await;
            Ok(models::list(
                &tags.map_err(|error| error.of_credentials(&self.name))?,
            ))
        })
    }

    fn is_called(&self, listed: &str, asked: &str) -> bool {
        names::are_same(listed, asked)
    }

    fn model<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Model, BackendError>> {
        Box::pin(async move {
            let tags = self.get::<Tags>("/api/tags").await?;
            let listed =
                models::find(&tags, id).ok_or_else(|| BackendError::model_not_found(id))?;
            let show = self.show(id).await?;
            let running = self
                .get::<RunningModels>("/api/ps")
                .await
                .unwrap_or_default();
            let chosen = self.known.recall(id).and_then(|known| known.context_kept());
            Ok(models::described(id, listed, &show, &running, chosen))
        })
    }

    /// As `ollama rm` does it: the model is unloaded first, once its answers have ended.
    fn delete_model<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), BackendError>> {
        Box::pin(async move {
            let unload = to_json(&ollama::UnloadRequest::new(id), &self.name)?;
            // Of use, and not needed: Ollama deletes loaded models too, which then take memory
            // until their time is over.
            let _unloaded = tokio::time::timeout(
                UNLOADED_WITHIN,
                self.send(post("/api/generate", unload, None)),
            )
            .await;
            let mut request = post(
                "/api/delete",
                to_json(&ollama::DeleteRequest { model: id }, &self.name)?,
                None,
            );
            *request.method_mut() = Method::DELETE;
            let response = self.send(request).await?;
            self.known.forget(id);
            if response.status().is_success() {
                Ok(())
            } else {
                Err(self.refused(response, id).await)
            }
        })
    }
}

/// The request with earlier calls and results in the contents, where the model's template has no
/// place for them.
fn shown<'a>(request: &'a ChatCompletionRequest, known: &Known) -> Cow<'a, ChatCompletionRequest> {
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

/// Whether a chat would fail in the same way: there is no such model, or nobody answers.
fn is_no_matter_of_show(error: &BackendError) -> bool {
    use BackendError::{Busy, ModelNotFound, RateLimited, TimedOut, Tls, Unreachable};
    matches!(
        error,
        ModelNotFound { .. }
            | Unreachable { .. }
            | Tls { .. }
            | TimedOut { .. }
            | Busy { .. }
            | RateLimited { .. }
    )
}

/// What Ollama is asked.
enum Question {
    Chat(ollama::ChatRequest),
    Generate(ollama::GenerateRequest),
}

impl Question {
    fn model(&self) -> &str {
        match self {
            Self::Chat(request) => &request.model,
            Self::Generate(request) => &request.model,
        }
    }

    fn options(&mut self) -> &mut ollama::Options {
        match self {
            Self::Chat(request) => &mut request.options,
            Self::Generate(request) => &mut request.options,
        }
    }
}

/// Tokens that prompt and answer may need, and those of the answer among them.
#[derive(Clone, Copy)]
struct Room {
    need: u64,
    answer: u64,
}

/// The most tokens that the answer may have.
fn limit(question: &mut Question, known: &Known) -> Option<u64> {
    let limit = question.options().limit().or(known.num_predict)?;
    // A number below 0 sets no limit.
    u64::try_from(limit).ok()
}

fn set_context(question: &mut Question, known: &Known, size: u64) {
    question.options().num_ctx = Some(size);
    if known.keep_context(size) {
        tracing::info!(
            model = question.model(),
            num_ctx = size,
            "the context size that Ollama is asked for"
        );
    }
}

/// Chooses again, now that the engine has told how long the prompt is; `false` where no larger
/// context can help.
fn grow_context(question: &mut Question, known: &Known, prompt: u64, answer: u64) -> bool {
    let most = known.context_most.unwrap_or(0);
    let before = question.options().num_ctx;
    match context::choose(prompt + answer, before, most) {
        Some(size) if size > prompt && Some(size) != before => {
            set_context(question, known, size);
            true
        }
        _ => false,
    }
}

/// A POST of JSON, with the headers and extensions of the client's own request where the service is
/// the one behind it.
pub(super) fn post<B: From<Bytes>>(
    path: &'static str,
    body: Vec<u8>,
    head: Option<&http::request::Parts>,
) -> Request<B> {
    let length = HeaderValue::from(body.len());
    let mut request = Request::new(B::from(Bytes::from(body)));
    if let Some(head) = head {
        *request.version_mut() = head.version;
        *request.extensions_mut() = head.extensions.clone();
        *request.headers_mut() = without_body_headers(&head.headers);
    }
    *request.method_mut() = Method::POST;
    *request.uri_mut() = http::Uri::from_static(path);
    request.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    request.headers_mut().insert(header::CONTENT_LENGTH, length);
    request
}

/// The client's headers without those that speak of its body, its connection, or the answer it
/// would take compressed.
fn without_body_headers(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    for name in [
        header::CONTENT_ENCODING,
        header::TRANSFER_ENCODING,
        header::CONNECTION,
        header::EXPECT,
        header::ACCEPT,
        header::ACCEPT_ENCODING,
    ] {
        headers.remove(name);
    }
    headers
}

pub(super) fn to_json(value: &impl Serialize, backend: &str) -> Result<Vec<u8>, BackendError> {
    let mut json = Vec::with_capacity(FIRST_BUFFER);
    match serde_json::to_writer(&mut json, value) {
        Ok(()) => Ok(json),
        Err(_) => Err(BackendError::Engine {
            message: format!("the request for `{backend}` cannot be written as JSON"),
        }),
    }
}
