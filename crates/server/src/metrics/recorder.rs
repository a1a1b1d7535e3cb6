//! Counts each request when its answer has ended.
//!
//! This runs for every request. The series of a model are therefore looked up once by the name that
//! the client sent, and then are atomic counters; no lock is held while they are changed.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use http::StatusCode;
use loggia_api::{Ended, Outcome};
use loggia_backend::ServedBy;
use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry,
};

use super::labels::{self, Codes, OTHER};
use crate::account::closed::{Closed, outcome_word};

/// The maximum number of models with series of their own.
const MOST_MODELS: usize = 200;

/// The maximum number of names of models that are remembered. An alias with `*` stands for any
/// number of names.
const MOST_NAMES: usize = 1000;

/// The maximum number of series of requests of one model. There are fewer routes and statuses than
/// that.
const MOST_REQUESTS: usize = 500;

/// The buckets of durations from milliseconds to minutes.
const DURATIONS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0,
];

/// The buckets of the time for each token.
const TOKEN_TIMES: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5,
];

/// The labels of series of a model.
const OF_MODEL: &[&str] = &["model", "backend"];

/// Counts requests.
pub(super) struct Recorder {
    families: Families,
    codes: Codes,
    models: RwLock<HashMap<ModelKey, Arc<ModelSeries>>>,
    /// The series, by the names that clients sent.
    names: RwLock<HashMap<Arc<str>, Arc<ModelSeries>>>,
    /// The series of requests without a model.
    of_no_model: ModelSeries,
    /// The series of requests for names that no backend serves, and of models beyond the limit.
    of_others: Arc<ModelSeries>,
}

/// A backend, and its own name of a model.
type ModelKey = (Arc<str>, Arc<str>);

/// All metrics that are counted here.
struct Families {
    requests: IntCounterVec,
    durations: HistogramVec,
    errors: IntCounterVec,
    prompt_tokens: IntCounterVec,
    cached_tokens: IntCounterVec,
    completion_tokens: IntCounterVec,
    cache_hits: IntCounterVec,
    waits: HistogramVec,
    first_tokens: HistogramVec,
    token_times: HistogramVec,
}

/// The series of one model.
struct ModelSeries {
    model: Arc<str>,
    backend: Arc<str>,
    requests: RwLock<HashMap<RequestKind, RequestSeries>>,
    /// Created when an engine has accepted a request, so that there are no empty series.
    generation: OnceLock<GenerationSeries>,
}

/// The labels that all requests of a series share.
type RequestKind = (&'static str, Option<StatusCode>, Outcome);

#[derive(Clone)]
struct RequestSeries {
    count: IntCounter,
    duration: Histogram,
}

/// The series of one model about the work of its engine.
struct GenerationSeries {
    prompt_tokens: IntCounter,
    cached_tokens: IntCounter,
    completion_tokens: IntCounter,
    cache_hits: IntCounter,
    wait: Histogram,
    first_token: Histogram,
    token_time: Histogram,
}

impl Recorder {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            families: Families::new(registry),
            codes: Codes::default(),
            models: RwLock::default(),
            names: RwLock::default(),
            of_no_model: ModelSeries::new("", ""),
            of_others: Arc::new(ModelSeries::new(OTHER, "")),
        }
    }

    /// Counts a request whose answer has ended.
    pub(super) fn record(&self, closed: &Closed<'_>) {
        let ended = closed.ended;
        match &ended.model {
            Some(name) => {
                let series = self.series(name, ended.served_by.as_ref());
                series.count(closed, &self.families);
                if ended.served_by.is_some() {
                    series.generation(&self.families).count(closed);
                }
            }
            None => self.of_no_model.count(closed, &self.families),
        }
        if let Some(code) = &ended.error {
            let route = closed.route.unwrap_or(OTHER);
            let labels = [route, self.codes.label(code)];
            self.families.errors.with_label_values(&labels).inc();
        }
    }

    /// Returns the series for a request. A name gets series of its own when a backend has served it.
    fn series(&self, name: &Arc<str>, served_by: Option<&ServedBy>) -> Arc<ModelSeries> {
        let known = read(&self.names, name);
        let Some(served_by) = served_by else {
            return known.unwrap_or_else(|| Arc::clone(&self.of_others));
        };
        let is_same = |series: &ModelSeries| {
            series.model == served_by.model && series.backend == served_by.backend
        };
        match known {
            Some(series) if is_same(&series) => series,
            _ => self.find(name, served_by),
        }
    }

    /// Finds or creates the series of a model, and remembers the name.
    fn find(&self, name: &Arc<str>, served_by: &ServedBy) -> Arc<ModelSeries> {
        let (model, backend) = (&served_by.model, &served_by.backend);
        let key = (Arc::clone(backend), Arc::clone(model));
        let series = read(&self.models, &key).unwrap_or_else(|| {
            let mut models = self.models.write().unwrap_or_else(PoisonError::into_inner);
            if models.len() >= MOST_MODELS && !models.contains_key(&key) {
                return Arc::clone(&self.of_others);
            }
            let series = models.entry(key);
            let new = || Arc::new(ModelSeries::new(model, backend));
            Arc::clone(series.or_insert_with(new))
        });
        let mut names = self.names.write().unwrap_or_else(PoisonError::into_inner);
        if names.len() < MOST_NAMES || names.contains_key(name) {
            names.insert(Arc::clone(name), Arc::clone(&series));
        }
        series
    }
}

impl ModelSeries {
    fn new(model: &str, backend: &str) -> Self {
        Self {
            model: model.into(),
            backend: backend.into(),
            requests: RwLock::default(),
            generation: OnceLock::new(),
        }
    }

    /// Counts a request and its duration.
    fn count(&self, closed: &Closed<'_>, families: &Families) {
        let route = closed.route.unwrap_or(OTHER);
        let kind = (route, closed.status, closed.ended.outcome);
        let series = read(&self.requests, &kind).or_else(|| self.add(kind, families));
        if let Some(series) = series {
            series.count.inc();
            // No client waits for a line of a batch.
            if !closed.is_of_batch {
                series.duration.observe(closed.took.as_secs_f64());
            }
        }
    }

    fn add(&self, kind: RequestKind, families: &Families) -> Option<RequestSeries> {
        let mut requests = self
            .requests
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if requests.len() >= MOST_REQUESTS {
            return None;
        }
        let (route, status, outcome) = kind;
        let (status, outcome) = (labels::status(status), outcome_word(outcome));
        let labels = [route, &*self.model, &*self.backend, &*status, outcome];
        let series = RequestSeries {
            count: families.requests.with_label_values(&labels),
            duration: families.durations.with_label_values(&[route]),
        };
        requests.insert(kind, series.clone());
        Some(series)
    }

    fn generation(&self, families: &Families) -> &GenerationSeries {
        self.generation.get_or_init(|| {
            let labels = [&*self.model, &*self.backend];
            GenerationSeries {
                prompt_tokens: families.prompt_tokens.with_label_values(&labels),
                cached_tokens: families.cached_tokens.with_label_values(&labels),
                completion_tokens: families.completion_tokens.with_label_values(&labels),
                cache_hits: families.cache_hits.with_label_values(&labels),
                wait: families.waits.with_label_values(&labels),
                first_token: families.first_tokens.with_label_values(&labels),
                token_time: families.token_times.with_label_values(&labels),
            }
        })
    }
}

impl GenerationSeries {
    /// Counts the work of the engine for a request.
    fn count(&self, closed: &Closed<'_>) {
        let ended = closed.ended;
        if let Some(usage) = &ended.usage {
            self.prompt_tokens.inc_by(usage.prompt_tokens);
            self.completion_tokens.inc_by(usage.completion_tokens);
            let details = usage.prompt_tokens_details.as_ref();
            let cached = details.map_or(0, |details| details.cached_tokens);
            if cached > 0 {
                self.cached_tokens.inc_by(cached);
                self.cache_hits.inc();
            }
        }
        if closed.is_of_batch {
            return;
        }
        if let Some(wait) = ended.waited {
            self.wait.observe(wait.as_secs_f64());
        }
        if closed.is_stream
            && let Some(first) = ended.first_token_at
        {
            let first = first.duration_since(closed.opened);
            self.first_token.observe(first.as_secs_f64());
            if let Some(time) = time_per_token(ended, closed.took.saturating_sub(first)) {
                self.token_time.observe(time);
            }
        }
    }
}

/// Returns the seconds for each token after the first one.
fn time_per_token(ended: &Ended, time: Duration) -> Option<f64> {
    let tokens = ended.usage.as_ref()?.completion_tokens;
    let tokens = u32::try_from(tokens).ok()?;
    let after_the_first = tokens.checked_sub(1).filter(|tokens| *tokens > 0)?;
    let is_whole = ended.outcome == Outcome::Complete;
    is_whole.then(|| time.as_secs_f64() / f64::from(after_the_first))
}

/// Returns the value of a key.
fn read<K: Eq + Hash, V: Clone>(map: &RwLock<HashMap<K, V>>, key: &K) -> Option<V> {
    let map = map.read().unwrap_or_else(PoisonError::into_inner);
    map.get(key).cloned()
}

impl Families {
    fn new(registry: &Registry) -> Self {
        let counter = |name, help, labels| counter(registry, name, help, labels);
        let histogram =
            |name, help, labels, buckets| histogram(registry, name, help, labels, buckets);
        Self {
            requests: counter(
                "loggia_requests_total",
                "Requests that have ended. An empty model: the route has none, or it is not known.",
                &["route", "model", "backend", "status", "outcome"],
            ),
            durations: histogram(
                "loggia_request_duration_seconds",
                "The time from the head of a request to the end of its answer.",
                &["route"],
                DURATIONS,
            ),
            errors: counter(
                "loggia_errors_total",
                "Errors that clients received, by OpenAI's code, or by the type if there is no code.",
                &["route", "code"],
            ),
            prompt_tokens: counter("loggia_prompt_tokens_total", "Tokens of prompts.", OF_MODEL),
            cached_tokens: counter(
                "loggia_cached_prompt_tokens_total",
                "Tokens of prompts that the engine had in its cache.",
                OF_MODEL,
            ),
            completion_tokens: counter(
                "loggia_completion_tokens_total",
                "Tokens of answers.",
                OF_MODEL,
            ),
            cache_hits: counter(
                "loggia_prompt_cache_hits_total",
                "Answers for which the engine had a part of the prompt in its cache.",
                OF_MODEL,
            ),
            waits: histogram(
                "loggia_queue_wait_seconds",
                "The time until an engine accepted a request: in a queue, or for the model to load.",
                OF_MODEL,
                DURATIONS,
            ),
            first_tokens: histogram(
                "loggia_time_to_first_token_seconds",
                "The time from the head of a request to the first piece of its stream.",
                OF_MODEL,
                DURATIONS,
            ),
            token_times: histogram(
                "loggia_time_per_output_token_seconds",
                "The time for each token of a stream after the first one.",
                OF_MODEL,
                TOKEN_TIMES,
            ),
        }
    }
}

fn counter(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    registered(registry, IntCounterVec::new(Opts::new(name, help), labels))
}

fn histogram(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
    buckets: &[f64],
) -> HistogramVec {
    let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
    registered(registry, HistogramVec::new(options, labels))
}

/// Registers a family.
fn registered<F>(registry: &Registry, family: prometheus::Result<F>) -> F
where
    F: Collector + Clone + 'static,
{
    let family = family.expect("the names of families and labels are valid");
    let registered = registry.register(Box::new(family.clone()));
    registered.expect("the names of families differ");
    family
}
