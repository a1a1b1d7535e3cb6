//! The metrics of the embedded models.

use loggia_server::Reading;

use super::entry::State;
use super::{Entry, Pool};

impl Pool {
    /// Reads the metrics of all models that exist.
    pub(in crate::backends) fn readings(&self) -> Vec<Reading> {
        let models = self.lock();
        let models = models.iter().zip(&self.specs);
        let models = models.filter(|(entry, _)| !entry.leaving);
        models
            .flat_map(|(entry, spec)| readings(entry, &spec.name))
            .collect()
    }
}

fn readings(entry: &Entry, model: &str) -> [Reading; 4] {
    let (is_loaded, running) = match &entry.state {
        State::Loaded(loaded) => (true, loaded.users),
        _ => (false, 0),
    };
    let forecast = entry.forecast.map_or(0, |forecast| forecast.bytes());
    let bytes = if entry.has_memory() { forecast } else { 0 };
    [
        (
            "loggia_engine_up",
            "Whether the process of an embedded model runs.",
            u64::from(is_loaded),
        ),
        (
            "loggia_engine_requests_running",
            "Requests that the process of an embedded model works on.",
            running as u64,
        ),
        (
            "loggia_engine_requests_waiting",
            "Requests that wait for an embedded model to be loaded.",
            entry.waiters as u64,
        ),
        (
            "loggia_engine_memory_bytes",
            "The memory that an embedded model needs while it is loaded: weights, context and buffers.",
            bytes,
        ),
    ]
    .map(|(name, help, value)| {
        #[expect(clippy::cast_precision_loss, reason = "bytes of memory are below 2^53")]
        let value = value as f64;
        Reading::new(name, help, value).with("model", model)
    })
}
