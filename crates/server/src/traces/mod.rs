//! Spans for OpenTelemetry, by its conventions for HTTP and for generative AI. They have no text of
//! a client or of a model.
//!
//! A request has a span (`request.rs`). Its wait in a queue and each call to an engine (`backend.rs`)
//! have one below it. `sampler.rs` decides which requests have spans. A span is built when it has
//! ended, and put into a queue; `export.rs` sends them to a collector. If the queue is full, spans are
//! dropped: nothing waits for a collector.

mod backend;
mod export;
mod request;
mod sampler;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::HeaderValue;
use loggia_backend::queue::OnWaited;
use loggia_backend::{Backend, Trace};
use loggia_wire::openai::CompletionUsage;
use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{
    IdGenerator as _, RandomIdGenerator, SpanData, SpanEvents, SpanLinks,
};
use tokio::runtime::Handle;

use crate::Reading;
use backend::TracedBackend;
pub use backend::TracedServer;
use export::Exports;
pub(crate) use request::{RequestSpan, RequestTraces};
pub use sampler::{BadSampler, Sampler};

/// The most characters of the name of a model.
const LONGEST_NAME: usize = 200;

/// Records spans, and sends them to a collector. Clones share everything.
#[derive(Clone)]
pub struct Traces(Arc<Shared>);

struct Shared {
    sampler: Sampler,
    ids: RandomIdGenerator,
    scope: InstrumentationScope,
    exports: Exports,
}

/// Shows nothing: spans are for the collector.
impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Traces(…)")
    }
}

/// A span while it lasts.
struct Span {
    trace_id: TraceId,
    id: SpanId,
    parent: Option<SpanId>,
    /// Whether the parent is a span of another process.
    is_parent_remote: bool,
    started: SystemTime,
}

impl Traces {
    /// Starts to send spans to a collector that takes OTLP over HTTP at this URL, on this runtime.
    /// Headers and the timeout come from OpenTelemetry's own variables, such as
    /// `OTEL_EXPORTER_OTLP_HEADERS`, and so does the name of the service.
    ///
    /// # Errors
    /// Fails if the URL or a variable is invalid.
    pub fn start(url: &str, sampler: Sampler, runtime: &Handle) -> Result<Self, String> {
        let scope = InstrumentationScope::builder("loggia")
            .with_version(env!("CARGO_PKG_VERSION"))
            .build();
        Ok(Self(Arc::new(Shared {
            sampler,
            ids: RandomIdGenerator::default(),
            scope,
            exports: Exports::start(url, runtime)?,
        })))
    }

    /// Sends what was recorded, for at most this time. Call it before the program ends.
    pub async fn finish(&self, within: Duration) {
        self.0.exports.finish(within).await;
    }

    /// Returns metrics about the spans.
    pub fn readings(&self) -> Vec<Reading> {
        self.0.exports.readings()
    }

    /// Wraps a backend that is one server, so that each call to it has a span.
    pub fn wrap(&self, backend: Arc<dyn Backend>, server: &TracedServer) -> Arc<dyn Backend> {
        Arc::new(TracedBackend::new(self.clone(), backend, server))
    }

    /// Returns what a queue calls about requests that have waited.
    pub fn on_waited(&self, backend: &str) -> OnWaited {
        let (traces, backend) = (self.clone(), backend.to_owned());
        Arc::new(move |trace, since| {
            if let Some((span, _)) = traces.below(trace, since.elapsed()) {
                let of_backend = KeyValue::new("loggia.backend", backend.clone());
                let name = format!("queue {backend}");
                traces.end(
                    &span,
                    name,
                    SpanKind::Internal,
                    vec![of_backend],
                    Status::Unset,
                );
            }
        })
    }

    /// Begins a span below the one that a call belongs to, which began so long ago. Returns the
    /// trace for what is below it. `None` if the trace is not sampled.
    fn below(&self, trace: &Trace, ago: Duration) -> Option<(Span, Option<Box<Trace>>)> {
        if !trace.is_sampled() {
            return None;
        }
        let now = SystemTime::now();
        let span = Span {
            trace_id: TraceId::from_hex(trace.trace_id()).ok()?,
            id: self.0.ids.new_span_id(),
            parent: SpanId::from_hex(trace.span_id()).ok(),
            is_parent_remote: false,
            started: now.checked_sub(ago).unwrap_or(now),
        };
        let below = span
            .traceparent(true)
            .and_then(|parent| trace.below(parent));
        Some((span, below))
    }

    /// Ends a span.
    fn end(
        &self,
        span: &Span,
        name: String,
        kind: SpanKind,
        attributes: Vec<KeyValue>,
        status: Status,
    ) {
        self.0.exports.push(SpanData {
            span_context: SpanContext::new(
                span.trace_id,
                span.id,
                TraceFlags::SAMPLED,
                false,
                TraceState::default(),
            ),
            parent_span_id: span.parent.unwrap_or(SpanId::INVALID),
            parent_span_is_remote: span.is_parent_remote,
            span_kind: kind,
            name: name.into(),
            start_time: span.started,
            end_time: SystemTime::now(),
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status,
            instrumentation_scope: self.0.scope.clone(),
        });
    }
}

impl Span {
    /// Returns the value of a `traceparent` that names this span.
    fn traceparent(&self, is_sampled: bool) -> Option<HeaderValue> {
        let (trace, span, flags) = (self.trace_id, self.id, u8::from(is_sampled));
        HeaderValue::try_from(format!("00-{trace}-{span}-{flags:02x}")).ok()
    }
}

/// Adds the tokens of an answer. `writes` says whether the model wrote it token by token.
fn add_usage(attributes: &mut Vec<KeyValue>, usage: &CompletionUsage, writes: bool) {
    let mut add = |key, tokens: u64| attributes.push(KeyValue::new(key, number(tokens)));
    add("gen_ai.usage.input_tokens", usage.prompt_tokens);
    if writes {
        add("gen_ai.usage.output_tokens", usage.completion_tokens);
    }
    let cached = usage.prompt_tokens_details.as_ref();
    if let Some(tokens @ 1..) = cached.map(|its| its.cached_tokens) {
        add("gen_ai.usage.cache_read.input_tokens", tokens);
    }
    let reasoning = usage.completion_tokens_details.as_ref();
    if let Some(tokens @ 1..) = reasoning.map(|its| its.reasoning_tokens) {
        add("gen_ai.usage.reasoning.output_tokens", tokens);
    }
}

/// Returns the name of a model, which a client may have made long.
fn shortened(model: &str) -> String {
    model.chars().take(LONGEST_NAME).collect()
}

/// Returns the time since an instant as seconds.
fn seconds(from: Instant, to: Instant) -> f64 {
    to.saturating_duration_since(from).as_secs_f64()
}

/// Returns a number as the value of an attribute, which has a sign.
fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
