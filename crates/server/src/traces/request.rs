//! The span of a request, from its head to the end of its answer.

use std::time::SystemTime;

use http::header::{HeaderMap, HeaderName};
use http::{Method, StatusCode};
use loggia_api::Outcome;
use loggia_backend::Trace;
use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanId, SpanKind, Status, TraceId};
use opentelemetry_sdk::trace::IdGenerator as _;

use super::{Span, Traces, add_usage, shortened};
use crate::account::Closed;
use crate::account::closed::{known_method, outcome_word};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Records the spans of requests.
#[derive(Clone)]
pub(crate) struct RequestTraces {
    traces: Traces,
    scheme: &'static str,
}

/// The span of a request while its answer is made.
pub(crate) struct RequestSpan {
    span: Span,
    traces: Traces,
    scheme: &'static str,
}

impl RequestTraces {
    pub(crate) fn new(traces: Traces, is_tls: bool) -> Self {
        let scheme = if is_tls { "https" } else { "http" };
        Self { traces, scheme }
    }

    /// Begins the span of a request, and makes its `traceparent` name it. The calls to engines then
    /// are below it. Returns `None` for a request without spans; its `traceparent` says so.
    pub(crate) fn begin(&self, headers: &mut HeaderMap) -> Option<Box<RequestSpan>> {
        let sender = Trace::of(headers);
        let (ids, sampler) = (&self.traces.0.ids, &self.traces.0.sampler);
        let trace_id = sender
            .as_ref()
            .and_then(|sender| TraceId::from_hex(sender.trace_id()).ok())
            .unwrap_or_else(|| ids.new_trace_id());
        let is_sampled = sampler.samples(sender.as_deref(), trace_id);
        if !is_sampled && sender.as_ref().is_some_and(|sender| !sender.is_sampled()) {
            return None;
        }
        let parent = sender
            .as_ref()
            .and_then(|sender| SpanId::from_hex(sender.span_id()).ok());
        let span = Span {
            trace_id,
            // A span that is not recorded is not between its sender and the engine.
            id: parent
                .filter(|_| !is_sampled)
                .unwrap_or_else(|| ids.new_span_id()),
            parent,
            is_parent_remote: parent.is_some(),
            started: SystemTime::now(),
        };
        if sender.is_none() {
            headers.remove(TRACESTATE);
        }
        if let Some(own) = span.traceparent(is_sampled) {
            headers.insert(TRACEPARENT, own);
        }
        is_sampled.then(|| {
            Box::new(RequestSpan {
                span,
                traces: self.traces.clone(),
                scheme: self.scheme,
            })
        })
    }
}

impl RequestSpan {
    /// Ends the span with the account of the request.
    pub(crate) fn end(&self, closed: &Closed<'_>) {
        let method = known_method(closed.method);
        let route = closed.route.unwrap_or_default();
        // No client sends a line of a batch.
        let kind = if closed.is_of_batch {
            SpanKind::Internal
        } else {
            SpanKind::Server
        };
        let mut attributes = vec![
            KeyValue::new("http.request.method", method.to_owned()),
            KeyValue::new("http.route", route),
            // The path, with names instead of the ids that the client sent.
            KeyValue::new("url.path", route),
            KeyValue::new("url.scheme", self.scheme),
        ];
        let status = closed.status.as_ref().map(StatusCode::as_u16);
        attributes.extend(
            status.map(|status| KeyValue::new("http.response.status_code", i64::from(status))),
        );
        let name = format!("{method} {route}");
        self.traces
            .closed(&self.span, name, kind, attributes, closed);
    }
}

impl Traces {
    /// Records the span of a response that was made in the background, below the span of the request
    /// that asked for it.
    pub(crate) fn add_background(&self, closed: &Closed<'_>) {
        let found = closed
            .trace
            .and_then(|trace| self.below(trace, closed.took));
        if let Some((span, _)) = found {
            let name = "background response".to_owned();
            self.closed(&span, name, SpanKind::Internal, Vec::new(), closed);
        }
    }

    /// Ends a span with the account of its request.
    fn closed(
        &self,
        span: &Span,
        name: String,
        kind: SpanKind,
        mut attributes: Vec<KeyValue>,
        closed: &Closed<'_>,
    ) {
        add_account(&mut attributes, closed);
        add_model(&mut attributes, closed);
        self.end(span, name, kind, attributes, status(closed));
    }
}

/// Adds the outcome, the ids and the error of the request.
fn add_account(attributes: &mut Vec<KeyValue>, closed: &Closed<'_>) {
    let outcome = outcome_word(closed.ended.outcome);
    attributes.push(KeyValue::new("loggia.outcome", outcome));
    let mut add = |key, value: Option<String>| {
        attributes.extend(value.map(|value| KeyValue::new(key, value)));
    };
    add("loggia.request_id", closed.id.map(|id| id.0.to_string()));
    add("loggia.key", closed.key.map(str::to_owned));
    if closed.ended.outcome == Outcome::Failed {
        let code = closed.ended.error.as_deref().map(str::to_owned);
        let status = closed.status.map(|status| status.as_str().to_owned());
        let error = code.or(status).unwrap_or_else(|| "_OTHER".to_owned());
        add("error.type", Some(error));
    }
}

/// Adds the models and tokens of an answer, if an engine has made it.
fn add_model(attributes: &mut Vec<KeyValue>, closed: &Closed<'_>) {
    let Some(served_by) = &closed.ended.served_by else {
        return;
    };
    let asked = closed.ended.model.as_deref().unwrap_or(&served_by.model);
    attributes.extend([
        KeyValue::new("gen_ai.request.model", shortened(asked)),
        KeyValue::new("gen_ai.response.model", shortened(&served_by.model)),
        KeyValue::new("loggia.backend", served_by.backend.to_string()),
    ]);
    let operation = operation(closed.method, closed.route.unwrap_or_default());
    attributes.extend(operation.map(|name| KeyValue::new("gen_ai.operation.name", name)));
    if let Some(usage) = &closed.ended.usage {
        add_usage(attributes, usage, operation != Some("embeddings"));
    }
}

/// Returns the operation of a route that a model answers, if the conventions have a name for it.
fn operation(method: &Method, route: &str) -> Option<&'static str> {
    match route {
        _ if method != Method::POST => None,
        "/v1/chat/completions" | "/v1/responses" | "/v1/messages" | "/api/chat" => Some("chat"),
        "/v1/completions" | "/api/generate" => Some("text_completion"),
        "/v1/embeddings" | "/api/embed" | "/api/embeddings" => Some("embeddings"),
        _ => None,
    }
}

/// Returns an error for an answer that failed, unless the client made the mistake.
fn status(closed: &Closed<'_>) -> Status {
    let is_client_error = closed.status.is_some_and(|status| status.is_client_error());
    if closed.ended.outcome == Outcome::Failed && !is_client_error {
        Status::error("")
    } else {
        Status::Unset
    }
}
