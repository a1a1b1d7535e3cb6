//! Metrics for Prometheus: what is counted while the server runs, and the route `/metrics`.
//!
//! The metrics have no text of clients: names of models that no backend serves are counted as
//! `other`, and API keys do not occur. `recorder` counts requests when they have ended, `labels`
//! limits the number of series, `process` reads the figures of this process. What other parts of the
//! program know is read for each scrape, see [`Metrics::read_with`].

mod labels;
mod process;
mod recorder;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};
use loggia_api::Background;
use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{CounterVec, GaugeVec, Opts, Registry, TextEncoder};

use crate::account::closed::{Closed, Listener};
use crate::account::in_flight::InFlight;
use crate::clock::unix_time;
use recorder::Recorder;

/// The path of the route.
pub(crate) const PATH: &str = "/metrics";

/// The format of the answer: version 0.0.4 of Prometheus's text format.
const FORMAT: HeaderValue = HeaderValue::from_static(prometheus::TEXT_FORMAT);

/// Counts requests for Prometheus. Clones share all counts.
#[derive(Clone)]
pub struct Metrics(Arc<Shared>);

struct Shared {
    registry: Registry,
    recorder: Recorder,
    connections: InFlight,
    http2_connections: InFlight,
    streams: InFlight,
    sources: Mutex<Vec<Source>>,
}

/// Returns readings for a scrape.
type Source = Box<dyn Fn() -> Vec<Reading> + Send + Sync>;

/// The value of a gauge, or of a counter, at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// The name of the metric, as `loggia_connections`. One that ends in `_total` is a counter.
    pub name: &'static str,
    /// The help text of the metric.
    pub help: &'static str,
    /// The labels. All readings of a metric have the same names of labels, in the same order.
    pub labels: Vec<(&'static str, String)>,
    /// The value.
    pub value: f64,
}

impl Reading {
    /// Creates a reading without labels.
    pub fn new(name: &'static str, help: &'static str, value: f64) -> Self {
        Self {
            name,
            help,
            labels: Vec::new(),
            value,
        }
    }

    /// Adds a label.
    #[must_use]
    pub fn with(mut self, label: &'static str, value: impl Into<String>) -> Self {
        self.labels.push((label, value.into()));
        self
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let registry = Registry::new();
        let metrics = Self(Arc::new(Shared {
            recorder: Recorder::new(&registry),
            registry,
            connections: InFlight::default(),
            http2_connections: InFlight::default(),
            streams: InFlight::default(),
            sources: Mutex::default(),
        }));
        let (connections, streams) = (metrics.connections(), metrics.streams());
        let http2_connections = metrics.http2_connections();
        metrics.read_with(move || {
            vec![
                gauge(
                    "loggia_connections",
                    "Open connections of clients.",
                    &connections,
                ),
                gauge(
                    "loggia_http2_connections",
                    "Open connections of clients that use HTTP/2.",
                    &http2_connections,
                ),
                gauge(
                    "loggia_streams_in_flight",
                    "Streams that have begun and not ended.",
                    &streams,
                ),
            ]
        });
        let started = unix_time().as_secs_f64();
        metrics.read_with(move || process::readings(started));
        metrics
    }
}

/// Prints no counts, which are for scrapes only.
impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics(…)")
    }
}

impl Metrics {
    /// Adds metrics that are read for each scrape. `read` must not block.
    pub fn read_with(&self, read: impl Fn() -> Vec<Reading> + Send + Sync + 'static) {
        let sources = self.0.sources.lock();
        let mut sources = sources.unwrap_or_else(PoisonError::into_inner);
        sources.push(Box::new(read));
    }

    /// Returns all metrics in Prometheus's text format.
    pub fn text(&self) -> String {
        let mut families = self.0.registry.gather();
        families.extend(families_of(&self.readings()));
        // Fails only if a family is empty, and has then written nothing of that family.
        TextEncoder::new()
            .encode_to_string(&families)
            .unwrap_or_default()
    }

    fn readings(&self) -> Vec<Reading> {
        let sources = self.0.sources.lock();
        let sources = sources.unwrap_or_else(PoisonError::into_inner);
        sources.iter().flat_map(|read| read()).collect()
    }

    /// Reports this gauge as that of the running requests.
    pub(crate) fn watch_requests(&self, in_flight: &InFlight) {
        let in_flight = in_flight.clone();
        let help = "Requests that have begun and not ended.";
        self.read_with(move || vec![gauge("loggia_requests_in_flight", help, &in_flight)]);
    }

    /// Reports the number of background responses that are being made.
    pub(crate) fn watch_background(&self, background: Background) {
        let help = "Responses that are being made in the background.";
        self.read_with(move || {
            let count = as_value(background.count());
            vec![Reading::new("loggia_background_responses", help, count)]
        });
    }

    /// Returns the gauge of open connections.
    pub(crate) fn connections(&self) -> InFlight {
        self.0.connections.clone()
    }

    /// Returns the gauge of open connections that use HTTP/2.
    pub(crate) fn http2_connections(&self) -> InFlight {
        self.0.http2_connections.clone()
    }

    /// Returns the gauge of streams.
    pub(crate) fn streams(&self) -> InFlight {
        self.0.streams.clone()
    }
}

impl Listener for Metrics {
    fn closed(&self, closed: &Closed<'_>) {
        // It is counted when its background response has ended.
        if !closed.ended.goes_on {
            self.0.recorder.record(closed);
        }
    }
}

/// Returns a router with the route `/metrics`, for an address of its own.
pub fn metrics_app(metrics: Metrics) -> Router {
    let scrape = move || {
        let mut response = Response::new(Body::from(metrics.text()));
        response.headers_mut().insert(CONTENT_TYPE, FORMAT);
        std::future::ready(response)
    };
    Router::new().route(PATH, get(scrape))
}

fn gauge(name: &'static str, help: &'static str, gauge: &InFlight) -> Reading {
    Reading::new(name, help, as_value(gauge.count()))
}

#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
fn as_value(count: usize) -> f64 {
    count as f64
}

/// The metrics of one name.
enum Family {
    Counter(CounterVec),
    Gauge(GaugeVec),
}

impl Family {
    /// Creates the family of a reading.
    fn of(reading: &Reading) -> prometheus::Result<Self> {
        let labels: Vec<_> = reading.labels.iter().map(|(label, _)| *label).collect();
        let options = Opts::new(reading.name, reading.help);
        if reading.name.ends_with("_total") {
            CounterVec::new(options, &labels).map(Self::Counter)
        } else {
            GaugeVec::new(options, &labels).map(Self::Gauge)
        }
    }

    /// Adds a reading. One with other labels than the first is left out.
    fn add(&self, reading: &Reading) {
        let labels: Vec<_> = reading.labels.iter().map(|(_, value)| &**value).collect();
        match self {
            Self::Counter(family) => {
                if let Ok(counter) = family.get_metric_with_label_values(&labels) {
                    counter.inc_by(reading.value);
                }
            }
            Self::Gauge(family) => {
                if let Ok(gauge) = family.get_metric_with_label_values(&labels) {
                    gauge.set(reading.value);
                }
            }
        }
    }

    fn collect(&self) -> Vec<MetricFamily> {
        match self {
            Self::Counter(family) => family.collect(),
            Self::Gauge(family) => family.collect(),
        }
    }
}

/// Returns the families of readings.
fn families_of(readings: &[Reading]) -> Vec<MetricFamily> {
    let mut families: BTreeMap<&str, Family> = BTreeMap::new();
    for reading in readings {
        match families.entry(reading.name) {
            Entry::Occupied(family) => family.get().add(reading),
            Entry::Vacant(place) => {
                if let Ok(family) = Family::of(reading) {
                    place.insert(family).add(reading);
                }
            }
        }
    }
    families.values().flat_map(Family::collect).collect()
}

#[cfg(test)]
mod tests;
