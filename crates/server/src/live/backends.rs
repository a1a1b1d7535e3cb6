//! `GET /admin/backends`: the models, and the backends with their nodes, queues and engines.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt as _};
use loggia_api::Door;
use loggia_backend::{Backend, BackendError};
use serde_json::{Map, Value, json};

use crate::Reading;
use crate::nodes::{Node, NodeStatus};

/// How long the backends are asked.
const ASKED_FOR: Duration = Duration::from_secs(5);

/// The maximum number of models in one answer, and how many of them are requested in parallel.
const MOST_MODELS: usize = 200;
const MODELS_AT_ONCE: usize = 8;

/// A backend that the admin API shows.
#[derive(Clone)]
pub struct ShownBackend {
    /// The backend's name.
    pub name: String,
    /// The nodes of the backend.
    pub nodes: Vec<Node>,
    /// The backend.
    pub backend: Arc<dyn Backend>,
}

/// Lists the backends.
pub(crate) type ListBackends = Arc<dyn Fn() -> Vec<ShownBackend> + Send + Sync>;

/// Reads the metrics of nodes, queues and engines.
pub(crate) type ReadBackends = Arc<dyn Fn() -> Vec<Reading> + Send + Sync>;

/// The backends that the admin API shows.
#[derive(Clone)]
pub(crate) struct ShownBackends {
    /// The door, whose backend is all backends as one.
    pub(crate) door: Door,
    pub(crate) single: Option<ListBackends>,
    pub(crate) read: Option<ReadBackends>,
}

impl fmt::Debug for ShownBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ShownBackend").field(&self.name).finish()
    }
}

impl ShownBackends {
    /// Returns the answer of the route.
    pub(crate) async fn shown(&self) -> Value {
        let readings = Readings(self.read.as_ref().map_or_else(Vec::new, |read| read()));
        let door = self.door.current();
        let single = self.single.as_ref().map_or_else(Vec::new, |list| list());
        let (models, not_ready, single) = tokio::join!(
            within(models(door.backend())),
            within(door.backend().ready()),
            join_all(single.iter().map(|one| one.shown(&readings)))
        );
        let (models, models_error) = match models {
            Ok(models) => (models, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        json!({
            "object": "backends",
            "ready": not_ready.is_ok(),
            "not_ready_because": not_ready.err(),
            "backends": single,
            "engines": readings.engines(),
            "models": models,
            "models_error": models_error,
        })
    }
}

impl ShownBackend {
    async fn shown(&self, readings: &Readings) -> Value {
        let ready = within(self.backend.ready()).await;
        let of = |name| readings.of(name, &[("backend", &self.name)]);
        let queue = of("loggia_queue_requests_running").map(
            |running| json!({"running": running, "waiting": of("loggia_queue_requests_waiting")}),
        );
        let nodes = self.nodes.iter().map(|node| {
            let mut shown = node.shown();
            if node.is_up.is_none() && node.state == NodeStatus::Active {
                shown["up"] = json!(ready.is_ok());
            }
            shown
        });
        json!({
            "name": self.name,
            "ready": ready.is_ok(),
            "not_ready_because": ready.as_ref().err(),
            "nodes": nodes.collect::<Vec<_>>(),
            "queue": queue,
        })
    }
}

/// What was read of nodes, queues and engines.
struct Readings(Vec<Reading>);

impl Readings {
    /// Returns the value of a metric with these labels.
    fn of(&self, name: &str, labels: &[(&str, &str)]) -> Option<u64> {
        let found = self.0.iter().find(|reading| {
            reading.name == name
                && labels
                    .iter()
                    .all(|(label, value)| reading.has(label, value))
        });
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "counts and bytes, which are not negative and below 2^53"
        )]
        found.map(|reading| reading.value as u64)
    }

    /// Returns the processes of the embedded models.
    fn engines(&self) -> Vec<Value> {
        let engines = self.0.iter();
        let engines = engines.filter(|reading| reading.name == "loggia_engine_up");
        let shown = engines.filter_map(|reading| {
            let (_, model) = reading.labels.iter().find(|(label, _)| *label == "model")?;
            let of = |name| self.of(name, &[("model", model)]);
            let mut engine = Map::new();
            engine.insert("model".to_owned(), json!(model));
            engine.insert("up".to_owned(), json!(reading.value > 0.0));
            for (field, name) in [
                ("running", "loggia_engine_requests_running"),
                ("waiting", "loggia_engine_requests_waiting"),
                ("memory_bytes", "loggia_engine_memory_bytes"),
            ] {
                engine.insert(field.to_owned(), json!(of(name)));
            }
            Some(Value::Object(engine))
        });
        shown.collect()
    }
}

impl Reading {
    fn has(&self, label: &str, value: &str) -> bool {
        let mut labels = self.labels.iter();
        labels.any(|(name, has)| *name == label && has == value)
    }
}

/// Returns the models with all their properties, and whether they are loaded.
async fn models(backend: &Arc<dyn Backend>) -> Result<Vec<Value>, BackendError> {
    let models = backend.models().await?;
    let loaded = backend.loaded_models().await.unwrap_or_default();
    // Lists have less than the model itself.
    let models = models.into_iter().take(MOST_MODELS).map(|model| {
        let backend = Arc::clone(backend);
        async move {
            let all = backend.model(&model.id).await;
            all.unwrap_or(model)
        }
    });
    let models: Vec<_> = stream::iter(models)
        .buffered(MODELS_AT_ONCE)
        .collect()
        .await;
    let shown = models.iter().map(|model| {
        let is_loaded = loaded.as_ref().map(|loaded| loaded.contains(&model.id));
        let mut shown = serde_json::to_value(model).unwrap_or_default();
        shown["loaded"] = json!(is_loaded);
        shown
    });
    Ok(shown.collect())
}

/// Asks for a limited time. Returns the error as a text.
async fn within<T>(asking: impl Future<Output = Result<T, BackendError>>) -> Result<T, String> {
    match tokio::time::timeout(ASKED_FOR, asking).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} s", ASKED_FOR.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_are_found_by_their_labels() {
        let node = |name: &str, value| {
            let reading = Reading::new("loggia_node_up", "", value);
            reading.with("backend", "gpu").with("node", name)
        };
        let engine = |name, value| Reading::new(name, "", value).with("model", "m");
        let readings = Readings(vec![
            node("1", 1.0),
            node("2", 0.0),
            engine("loggia_engine_up", 1.0),
            engine("loggia_engine_memory_bytes", 5e9),
        ]);
        let up = |node| readings.of("loggia_node_up", &[("backend", "gpu"), ("node", node)]);
        assert_eq!((up("1"), up("2"), up("3")), (Some(1), Some(0), None));
        let engines = readings.engines();
        assert_eq!(
            engines,
            [
                json!({"model": "m", "up": true, "running": null, "waiting": null,
                "memory_bytes": 5_000_000_000_u64})
            ]
        );
    }
}
