//! [`TracedBackend`]: the spans of calls to engines, by the conventions for clients of generative
//! AI. A span lasts from the call to the last event of the answer. Each attempt at a node of a fleet
//! is a call.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt as _};
use loggia_backend::{
    AudioCall, AudioPiece, AudioReply, AudioTask, Backend, BackendError, Call, CallHead,
    EmbeddingCall, Embeddings, Event, OllamaCall, OllamaPiece, OllamaReply, OllamaRoute, Reply,
    RerankCall, Reranked, ServedBy, Work, Wrap,
};
use loggia_wire::openai::{ChatCompletionRequest, CompletionUsage, FinishReason};
use opentelemetry::trace::{SpanKind, Status};
use opentelemetry::{Array, KeyValue, StringValue, Value};

use super::{Span, Traces, add_usage, seconds, shortened};

/// The most choices whose finish reasons a span has.
const MOST_CHOICES: usize = 128;

/// A server that is called.
#[derive(Clone, Debug)]
pub struct TracedServer {
    /// The value of `gen_ai.provider.name`.
    pub provider: &'static str,
    /// The name of its backend.
    pub backend: String,
    /// Its host name or address, and its port. `None` if it is part of this server.
    pub address: Option<(String, u16)>,
    /// The address that is called, if the host name has several.
    pub peer: Option<IpAddr>,
}

impl TracedServer {
    fn attributes(&self) -> Vec<KeyValue> {
        let mut all = vec![
            KeyValue::new("gen_ai.provider.name", self.provider),
            KeyValue::new("loggia.backend", Arc::from(&*self.backend)),
        ];
        if let Some((host, port)) = &self.address {
            all.push(KeyValue::new("server.address", Arc::from(&**host)));
            all.push(KeyValue::new("server.port", i64::from(*port)));
        }
        let peer = self.peer.map(|peer| Arc::from(&*peer.to_string()));
        all.extend(peer.map(|peer: Arc<str>| KeyValue::new("network.peer.address", peer)));
        all
    }
}

/// A backend whose calls have spans.
pub(super) struct TracedBackend {
    traces: Traces,
    inner: Arc<dyn Backend>,
    /// The attributes that all spans have.
    server: Vec<KeyValue>,
}

impl TracedBackend {
    pub(super) fn new(traces: Traces, inner: Arc<dyn Backend>, server: &TracedServer) -> Self {
        Self {
            traces,
            inner,
            server: server.attributes(),
        }
    }

    /// Begins the span of a call, which then is below it. Returns `None` if its trace is not sampled.
    fn begin(
        &self,
        head: &mut CallHead,
        operation: &'static str,
        model: &str,
    ) -> Option<Box<CallSpan>> {
        let trace = head.trace.as_deref()?;
        let (span, below) = self.traces.below(trace, Duration::ZERO)?;
        head.trace = below;
        let model = shortened(model);
        let mut attributes = self.server.clone();
        let name = format!("{operation} {model}");
        attributes.push(KeyValue::new("gen_ai.operation.name", operation));
        attributes.push(KeyValue::new("gen_ai.request.model", model));
        Some(Box::new(CallSpan {
            traces: self.traces.clone(),
            span,
            name,
            begun: Instant::now(),
            attributes,
            is_accepted: false,
            writes: !matches!(operation, "embeddings" | "rerank"),
            is_stream: false,
            first: None,
            choices: 0,
            finish_reasons: BTreeMap::new(),
            usage: None,
            end: End::Abandoned,
        }))
    }
}

/// How a call ended.
#[derive(Clone, Copy)]
enum End {
    Complete,
    Failed(&'static str),
    /// Nobody waits for the answer any more.
    Abandoned,
}

/// The span of a call. Dropping it ends it.
struct CallSpan {
    traces: Traces,
    span: Span,
    name: String,
    begun: Instant,
    attributes: Vec<KeyValue>,
    is_accepted: bool,
    /// Whether the answer is written by the model, token by token.
    writes: bool,
    is_stream: bool,
    first: Option<Instant>,
    /// The number of choices that were asked for; 0 if the answer has none.
    choices: usize,
    finish_reasons: BTreeMap<u32, &'static str>,
    usage: Option<CompletionUsage>,
    end: End,
}

impl CallSpan {
    fn add(&mut self, key: &'static str, value: impl Into<Value>) {
        self.attributes.push(KeyValue::new(key, value));
    }

    fn add_some<V: Into<Value>>(&mut self, key: &'static str, value: Option<V>) {
        if let Some(value) = value {
            self.add(key, value);
        }
    }

    /// Adds the fields of a chat that are no text of the client.
    fn asks(&mut self, chat: &ChatCompletionRequest) {
        self.streams(chat.stream);
        self.choices_of(chat.n);
        self.add_some("gen_ai.request.max_tokens", chat.token_limit());
        self.add_some("gen_ai.request.temperature", chat.temperature);
        self.add_some("gen_ai.request.top_p", chat.top_p);
        self.add_some("gen_ai.request.frequency_penalty", chat.frequency_penalty);
        self.add_some("gen_ai.request.presence_penalty", chat.presence_penalty);
        self.add_some("gen_ai.request.seed", chat.seed);
    }

    fn streams(&mut self, is_stream: Option<bool>) {
        if is_stream == Some(true) {
            self.is_stream = true;
            self.add("gen_ai.request.stream", true);
        }
    }

    fn choices_of(&mut self, n: Option<i64>) {
        let n = n.unwrap_or(1);
        self.choices = usize::try_from(n).unwrap_or(1).clamp(1, MOST_CHOICES);
        if n != 1 {
            self.add("gen_ai.request.choice.count", n);
        }
    }

    /// Notes that a piece of the answer has arrived.
    fn arrived(&mut self) {
        self.first.get_or_insert_with(Instant::now);
    }

    fn accepted(&mut self, served_by: &ServedBy) {
        self.is_accepted = true;
        self.add("gen_ai.response.model", shortened(&served_by.model));
    }

    fn note(&mut self, event: &Event) {
        match event {
            Event::Chunk(chunk) => {
                self.arrived();
                for choice in &chunk.choices {
                    if let Some(reason) = &choice.finish_reason
                        && self.finish_reasons.len() < MOST_CHOICES
                    {
                        self.finish_reasons.insert(choice.index, word(*reason));
                    }
                }
            }
            // Nothing follows it.
            Event::Usage(usage) => {
                self.usage = Some(usage.clone());
                self.end = End::Complete;
            }
            _ => {}
        }
    }

    /// Returns the pieces of an answer. The span ends with the last of them, or when the stream is
    /// dropped.
    fn follow<P: Piece + 'static>(self: Box<Self>, pieces: Pieces<P>) -> Pieces<P> {
        let span = Some(self);
        Box::pin(TracedPieces { pieces, span })
    }

    /// Ends the span of a call with a result that is not streamed.
    fn ended_with<T>(mut self: Box<Self>, result: &Result<T, BackendError>) {
        self.end = match result {
            Ok(_) => End::Complete,
            Err(error) => End::Failed(error.kind()),
        };
    }

    fn failed(&mut self, error: &BackendError) {
        self.end = End::Failed(error.kind());
    }

    /// The finish reason of each choice; `error` for those that have none.
    fn reasons(&self) -> Option<Value> {
        if self.choices == 0 || !self.is_accepted {
            return None;
        }
        let last = self.finish_reasons.keys().next_back();
        let seen = last.map_or(0, |last| *last as usize + 1);
        let choices = self.choices.max(seen.min(MOST_CHOICES));
        let reason = |choice: usize| {
            let choice = u32::try_from(choice).unwrap_or(u32::MAX);
            let reason = self.finish_reasons.get(&choice).copied();
            StringValue::from(reason.unwrap_or("error"))
        };
        let reasons = (0..choices).map(reason).collect();
        Some(Value::Array(Array::String(reasons)))
    }
}

impl Drop for CallSpan {
    fn drop(&mut self) {
        if let Some(first) = self.first.filter(|_| self.is_stream) {
            let time = seconds(self.begun, first);
            self.add("gen_ai.response.time_to_first_chunk", time);
        }
        let reasons = self.reasons();
        self.add_some("gen_ai.response.finish_reasons", reasons);
        if let Some(usage) = self.usage.take() {
            add_usage(&mut self.attributes, &usage, self.writes);
        }
        let status = match self.end {
            End::Complete => Status::Unset,
            End::Failed(kind) => {
                self.add("error.type", kind);
                Status::error("")
            }
            End::Abandoned => {
                self.add("error.type", "cancelled");
                Status::Unset
            }
        };
        let (name, attributes) = (
            std::mem::take(&mut self.name),
            std::mem::take(&mut self.attributes),
        );
        let kind = SpanKind::Client;
        self.traces.end(&self.span, name, kind, attributes, status);
    }
}

fn word(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
        FinishReason::ToolCalls => "tool_calls",
        FinishReason::ContentFilter => "content_filter",
        FinishReason::FunctionCall => "function_call",
    }
}

/// What a stream of an answer tells a span.
trait Piece {
    fn tell(&self, span: &mut CallSpan);
}

impl Piece for Event {
    fn tell(&self, span: &mut CallSpan) {
        span.note(self);
    }
}

impl Piece for AudioPiece {
    fn tell(&self, span: &mut CallSpan) {
        match self {
            Self::Bytes(_) => span.arrived(),
            Self::Usage(usage) => span.usage = Some(usage.clone()),
        }
    }
}

impl Piece for OllamaPiece {
    fn tell(&self, span: &mut CallSpan) {
        match self {
            Self::Bytes(_) => span.arrived(),
            Self::Usage(usage) => span.usage = Some(usage.clone()),
        }
    }
}

/// The pieces of an answer.
type Pieces<P> = BoxStream<'static, Result<P, BackendError>>;

/// The pieces of an answer, and the span that they end.
struct TracedPieces<P> {
    pieces: Pieces<P>,
    span: Option<Box<CallSpan>>,
}

impl<P: Piece> Stream for TracedPieces<P> {
    type Item = Result<P, BackendError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = ready!(self.pieces.poll_next_unpin(cx));
        if let Some(span) = &mut self.span {
            match &next {
                Some(Ok(piece)) => piece.tell(span),
                Some(Err(error)) => {
                    span.failed(error);
                    self.span = None;
                }
                None => {
                    span.end = End::Complete;
                    self.span = None;
                }
            }
        }
        Poll::Ready(next)
    }
}

impl Wrap for TracedBackend {
    fn inner(&self) -> &dyn Backend {
        &*self.inner
    }

    fn start(&self, mut call: Call) -> BoxFuture<'_, Result<Reply, BackendError>> {
        let operation = match &call.work {
            Work::Completion(_) => "text_completion",
            _ => "chat",
        };
        let span = self.begin(&mut call.head, operation, call.work.model());
        let Some(mut span) = span else {
            return self.inner.start(call);
        };
        match &call.work {
            Work::Chat(chat) => span.asks(chat),
            Work::Completion(completion) => {
                span.streams(completion.stream);
                span.choices_of(completion.n);
            }
            _ => {}
        }
        span.add("gen_ai.response.id", call.head.id.to_string());
        Box::pin(async move {
            match self.inner.start(call).await {
                Ok(mut reply) => {
                    span.accepted(&reply.served_by);
                    reply.events = span.follow(reply.events);
                    Ok(reply)
                }
                Err(error) => {
                    span.failed(&error);
                    Err(error)
                }
            }
        })
    }

    fn embed(&self, mut call: EmbeddingCall) -> BoxFuture<'_, Result<Embeddings, BackendError>> {
        let Some(mut span) = self.begin(&mut call.head, "embeddings", &call.work.model) else {
            return self.inner.embed(call);
        };
        Box::pin(async move {
            let computed = self.inner.embed(call).await;
            if let Ok(embeddings) = &computed {
                span.accepted(&embeddings.served_by);
                span.usage = Some(CompletionUsage::new(embeddings.prompt_tokens, 0));
            }
            span.ended_with(&computed);
            computed
        })
    }

    fn rerank(
        &self,
        mut call: RerankCall,
    ) -> BoxFuture<'_, Result<Option<Reranked>, BackendError>> {
        let Some(mut span) = self.begin(&mut call.head, "rerank", &call.work.model) else {
            return self.inner.rerank(call);
        };
        Box::pin(async move {
            let computed = self.inner.rerank(call).await;
            if let Ok(Some(reranked)) = &computed {
                span.accepted(&reranked.served_by);
                span.usage = Some(CompletionUsage::new(reranked.prompt_tokens, 0));
            }
            span.ended_with(&computed);
            computed
        })
    }

    fn audio(
        &self,
        mut call: AudioCall,
    ) -> BoxFuture<'_, Result<Option<AudioReply>, BackendError>> {
        let operation = match &call.work.task {
            AudioTask::Transcribe(_) => "transcription",
            AudioTask::Translate(_) => "translation",
            AudioTask::Speak(_) => "speech",
        };
        let Some(mut span) = self.begin(&mut call.head, operation, &call.work.model) else {
            return self.inner.audio(call);
        };
        Box::pin(async move {
            match self.inner.audio(call).await {
                Ok(Some(mut reply)) => {
                    span.accepted(&reply.served_by);
                    span.is_stream = reply.is_events();
                    reply.pieces = span.follow(reply.pieces);
                    Ok(Some(reply))
                }
                other => {
                    span.ended_with(&other);
                    other
                }
            }
        })
    }

    /// Only calls that a model answers have a span.
    fn ollama_api(
        &self,
        mut call: OllamaCall,
    ) -> BoxFuture<'_, Result<Option<OllamaReply>, BackendError>> {
        let operation = match call.work.route {
            OllamaRoute::Chat => "chat",
            OllamaRoute::Generate => "text_completion",
            OllamaRoute::Embed | OllamaRoute::Embeddings => "embeddings",
            _ => return self.inner.ollama_api(call),
        };
        let model = call.work.model.as_deref().unwrap_or_default();
        let Some(mut span) = self.begin(&mut call.head, operation, model) else {
            return self.inner.ollama_api(call);
        };
        Box::pin(async move {
            match self.inner.ollama_api(call).await {
                Ok(Some(mut reply)) => {
                    span.accepted(&reply.served_by);
                    span.is_stream = reply.is_stream();
                    reply.pieces = span.follow(reply.pieces);
                    Ok(Some(reply))
                }
                other => {
                    span.ended_with(&other);
                    other
                }
            }
        })
    }
}
