//! The metrics of nodes and queues.

use loggia_backend::fleet::Fleet;
use loggia_backend::queue::Queue;
use loggia_server::Reading;

/// Returns the metrics of the nodes of a backend. A single server has none.
pub(super) fn of_nodes(backend: &str, fleet: &Fleet) -> Vec<Reading> {
    let mut all = Vec::new();
    for node in fleet.nodes() {
        let Some(is_used) = node.is_used else {
            continue;
        };
        let up = reading(
            "loggia_node_up",
            "Whether a node gets requests.",
            usize::from(is_used),
        );
        let in_flight = reading(
            "loggia_node_requests_in_flight",
            "Requests that a node answers.",
            node.in_flight,
        );
        // A node that is drained is not missing.
        let up = (!node.is_draining).then_some(up);
        let readings = up.into_iter().chain([in_flight]);
        all.extend(
            readings.map(|reading| reading.with("backend", backend).with("node", &*node.name)),
        );
    }
    all
}

/// Returns the metrics of the queue before a backend.
pub(super) fn of_queue(backend: &str, queue: &Queue) -> Vec<Reading> {
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
    readings
        .map(|reading| reading.with("backend", backend))
        .into()
}

fn reading(name: &'static str, help: &'static str, count: usize) -> Reading {
    #[expect(
        clippy::cast_precision_loss,
        reason = "there are fewer than 2^53 requests"
    )]
    let value = count as f64;
    Reading::new(name, help, value)
}
