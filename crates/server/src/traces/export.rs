//! [`Exports`]: the queue of spans that have ended, and the task that sends them to a collector.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use http::header::HOST;
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Limited};
use loggia_backend::http::{Client, Limits};
use opentelemetry::KeyValue;
use opentelemetry_http::{Bytes, HttpClient, HttpError};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::{EnvResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use prost::Message as _;
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, watch};

use crate::Reading;

/// The most spans that wait to be sent: some MiB.
const MOST_WAITING: usize = 2048;

/// The most spans of one request to the collector.
const MOST_AT_ONCE: usize = 512;

/// How long a span waits for others that are sent with it.
const SENT_EVERY: Duration = Duration::from_secs(1);

/// How long a collector may take.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);

/// The longest answer of a collector that is read.
const LONGEST_ANSWER: usize = 64 << 10;

/// Sends spans to a collector.
pub(super) struct Exports {
    queue: mpsc::Sender<SpanData>,
    counts: Arc<Counts>,
    /// Notified when there are enough spans for a request to the collector.
    are_many: Arc<Notify>,
    /// Whether the program ends.
    ends: watch::Sender<bool>,
    /// Whether everything was sent after that.
    is_empty: watch::Receiver<bool>,
}

/// What became of spans.
#[derive(Debug, Default)]
struct Counts {
    exported: AtomicU64,
    /// The queue was full.
    queue_full: AtomicU64,
    /// The collector could not be reached, or answered with an error.
    failed: AtomicU64,
    /// The collector refused them.
    rejected: AtomicU64,
    /// Whether it was logged that spans are dropped.
    has_warned: AtomicBool,
}

impl Exports {
    pub(super) fn start(url: &str, runtime: &Handle) -> Result<Self, String> {
        let counts = Arc::<Counts>::default();
        let limits = Limits {
            connect: Duration::from_secs(5),
            headers: ANSWERED_WITHIN,
            idle: ANSWERED_WITHIN,
        };
        let client = Collector {
            client: Client::new(limits),
            counts: Arc::clone(&counts),
        };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(url)
            .build();
        let mut exporter = exporter.map_err(|error| error.to_string())?;
        exporter.set_resource(&resource());
        let (queue, spans) = mpsc::channel(MOST_WAITING);
        let (ends, is_ending) = watch::channel(false);
        let are_many = Arc::<Notify>::default();
        let (done, is_empty) = watch::channel(false);
        let exporting = Exporting {
            spans,
            exporter,
            counts: Arc::clone(&counts),
            ends: is_ending,
            are_many: Arc::clone(&are_many),
        };
        runtime.spawn(async move {
            exporting.run().await;
            // Fails only if nobody waits for it.
            let _ = done.send(true);
        });
        Ok(Self {
            queue,
            counts,
            are_many,
            ends,
            is_empty,
        })
    }

    /// Adds a span. It is dropped if too many are waiting.
    pub(super) fn push(&self, span: SpanData) {
        if self.queue.try_send(span).is_err() {
            self.counts
                .dropped(&self.counts.queue_full, 1, "too many spans are waiting");
        }
        if self.queue.capacity() <= MOST_WAITING - MOST_AT_ONCE {
            self.are_many.notify_one();
        }
    }

    pub(super) async fn finish(&self, within: Duration) {
        let _ = self.ends.send(true);
        let mut is_empty = self.is_empty.clone();
        let sent = tokio::time::timeout(within, is_empty.wait_for(|is_empty| *is_empty)).await;
        if sent.is_err() {
            tracing::warn!("the last spans were not sent to the OpenTelemetry collector in time");
        }
    }

    pub(super) fn readings(&self) -> Vec<Reading> {
        let dropped = |reason, counter| {
            let help = "Spans that were dropped.";
            Reading::new("loggia_spans_dropped_total", help, value(counter)).with("reason", reason)
        };
        let counts = &self.counts;
        let help = "Spans that an OpenTelemetry collector has taken.";
        let exported = value(&counts.exported);
        vec![
            Reading::new("loggia_spans_exported_total", help, exported),
            dropped("queue_full", &counts.queue_full),
            dropped("failed", &counts.failed),
            dropped("rejected", &counts.rejected),
        ]
    }
}

#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
fn value(counter: &AtomicU64) -> f64 {
    counter.load(Ordering::Relaxed) as f64
}

impl Counts {
    /// Counts spans that were dropped. The first ones of a time are logged.
    fn dropped(&self, counter: &AtomicU64, spans: u64, why: &str) {
        counter.fetch_add(spans, Ordering::Relaxed);
        if !self.has_warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                why,
                "spans for the OpenTelemetry collector are dropped until it takes them again"
            );
        }
    }
}

/// The service: its name is that of `OTEL_SERVICE_NAME`, else that of `OTEL_RESOURCE_ATTRIBUTES`, else
/// `loggia`. The SDK's own order has the two variables the wrong way round.
fn resource() -> Resource {
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let resource = Resource::builder_empty()
        .with_service_name("loggia")
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_detector(Box::new(EnvResourceDetector::new()))
        .with_attribute(version);
    let name = std::env::var("OTEL_SERVICE_NAME").ok();
    match name.filter(|name| !name.is_empty()) {
        Some(name) => resource.with_service_name(name).build(),
        None => resource.build(),
    }
}

/// The task that sends spans.
struct Exporting {
    spans: mpsc::Receiver<SpanData>,
    exporter: SpanExporter,
    counts: Arc<Counts>,
    ends: watch::Receiver<bool>,
    are_many: Arc<Notify>,
}

impl Exporting {
    async fn run(mut self) {
        loop {
            let batch = self.collect().await;
            if batch.is_empty() {
                return;
            }
            self.send(batch).await;
        }
    }

    /// Waits for spans. There is none if the program ends and all were sent. The task is woken for the
    /// first span and when there are many, and not for each.
    async fn collect(&mut self) -> Vec<SpanData> {
        let mut batch = Vec::new();
        let first = tokio::select! {
            () = ending(&mut self.ends) => None,
            first = self.spans.recv() => first,
        };
        if let Some(first) = first {
            batch.push(first);
            tokio::select! {
                () = ending(&mut self.ends) => {}
                () = self.are_many.notified() => {}
                () = tokio::time::sleep(SENT_EVERY) => {}
            }
        }
        while batch.len() < MOST_AT_ONCE
            && let Ok(span) = self.spans.try_recv()
        {
            batch.push(span);
        }
        batch
    }

    async fn send(&self, batch: Vec<SpanData>) {
        let spans = batch.len() as u64;
        let rejected = self.counts.rejected.load(Ordering::Relaxed);
        match self.exporter.export(batch).await {
            Ok(()) => {
                let rejected = self.counts.rejected.load(Ordering::Relaxed) - rejected;
                let taken = spans.saturating_sub(rejected);
                self.counts.exported.fetch_add(taken, Ordering::Relaxed);
                if rejected == 0 && self.counts.has_warned.swap(false, Ordering::Relaxed) {
                    tracing::info!("the OpenTelemetry collector takes spans again");
                }
            }
            Err(error) => {
                let why = error.to_string();
                self.counts.dropped(&self.counts.failed, spans, &why);
            }
        }
    }
}

/// Waits until the program ends.
async fn ending(ends: &mut watch::Receiver<bool>) {
    // An error means that nobody records spans any more.
    let _ = ends.wait_for(|ends| *ends).await;
}

/// Sends requests to the collector over the client that engines are called with.
struct Collector {
    client: Client,
    counts: Arc<Counts>,
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Collector(…)")
    }
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, mut request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        if let Some(authority) = request.uri().authority() {
            let host = HeaderValue::from_str(authority.as_str())?;
            request.headers_mut().insert(HOST, host);
        }
        let response = self.client.send(request).await?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, LONGEST_ANSWER)
            .collect()
            .await?
            .to_bytes();
        if head.status.is_success() {
            self.note_rejected(&body);
        }
        Ok(Response::from_parts(head, body))
    }
}

impl Collector {
    /// Counts the spans that the collector says it did not take.
    fn note_rejected(&self, answer: &Bytes) {
        let answer = ExportTraceServiceResponse::decode(answer.clone()).ok();
        let partly = answer.and_then(|answer| answer.partial_success);
        let rejected = partly.map_or(0, |partly| partly.rejected_spans);
        if let Ok(rejected @ 1..) = u64::try_from(rejected) {
            let why = "the collector rejected them";
            self.counts.dropped(&self.counts.rejected, rejected, why);
        }
    }
}
