//! The metrics of nodes and queues.

use std::sync::Arc;

use loggia_backend::fleet::Fleet;
use loggia_backend::queue::Queue;
use loggia_server::Reading;

use super::Readings;

/// Reads the metrics of the nodes of a backend.
pub(super) fn of_nodes(backend: &str, fleet: &Arc<Fleet>) -> Readings {
    let (backend, fleet) = (backend.to_owned(), Arc::clone(fleet));
    Arc::new(move || {
        let nodes = fleet.nodes().into_iter();
        let readings = nodes.flat_map(|node| {
            let up = usize::from(node.is_used);
            [
                reading("loggia_node_up", "Whether a node gets requests.", up),
                reading(
                    "loggia_node_requests_in_flight",
                    "Requests that a node answers.",
                    node.in_flight,
                ),
            ]
            .map(|reading| reading.with("backend", &*backend).with("node", &*node.name))
        });
        readings.collect()
    })
}

/// Reads the metrics of the queue before a backend.
pub(super) fn of_queue(backend: &str, queue: &Arc<Queue>) -> Readings {
    let (backend, queue) = (backend.to_owned(), Arc::clone(queue));
    Arc::new(move || {
        let (running, waiting) = queue.counts();
        let readings = [
            reading(
                "loggia_queue_requests_running",
                "Requests that have their turn at a backend with a queue.",
                running,
            ),
            reading(
                "loggia_queue_requests_waiting",
                "Requests that wait for their turn at a backend.",
                waiting,
            ),
        ];
        let readings = readings.map(|reading| reading.with("backend", &*backend));
        readings.into()
    })
}

fn reading(name: &'static str, help: &'static str, count: usize) -> Reading {
    #[expect(
        clippy::cast_precision_loss,
        reason = "there are fewer than 2^53 requests"
    )]
    let value = count as f64;
    Reading::new(name, help, value)
}
