//! The events of a response: the session turns them into frames, and starts the next response after
//! the last one.

use std::sync::Arc;

use http::{HeaderMap, StatusCode};
use loggia_wire::frame::sse::Event;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::accept_steer::NO_SUCCESSOR;
use super::envelope::CreateFrame;
use super::steer::{self, Pending};
use super::{Session, frames};
use crate::store::{Item, Side};

/// The first event of a response.
#[derive(Deserialize)]
struct Created {
    response: CreatedResponse,
}

#[derive(Deserialize)]
struct CreatedResponse {
    id: String,
}

/// The last event of a response.
#[derive(Deserialize)]
struct Terminal {
    response: TerminalResponse,
    sequence_number: u64,
}

#[derive(Deserialize)]
struct TerminalResponse {
    id: String,
    output: Vec<Box<RawValue>>,
}

#[derive(Deserialize)]
struct ItemId {
    id: String,
}

impl<S, B> Session<S, B> {
    /// An event of a response.
    pub(super) fn event(&mut self, at: usize, event: Event) {
        let lane = &mut self.lanes[at];
        let name = lane.name.clone();
        let Some(running) = &mut lane.running else {
            return;
        };
        let data = event.data;
        let end = match event.name.as_deref() {
            Some("response.created") => {
                let created: Option<Created> = serde_json::from_slice(&data).ok();
                running.id = created.map(|created| created.response.id);
                running.succeeds.clear();
                None
            }
            Some("response.steer.accepted") => {
                let waiting = running.steers.iter_mut().find(|steer| !steer.is_accepted);
                if let Some(steer) = waiting {
                    steer.is_accepted = true;
                }
                None
            }
            Some("response.completed" | "response.incomplete") => {
                serde_json::from_slice::<Terminal>(&data).ok()
            }
            Some("response.failed") => {
                self.ready.push_back(frames::event(data, name.as_deref()));
                return self.failed(at);
            }
            Some(_) => None,
            None => {
                // The server's own error, instead of a last event.
                if let Some(frame) = frames::broken(&data, name.as_deref()) {
                    self.ready.push_back(frame);
                    self.failed(at);
                }
                return;
            }
        };
        self.ready.push_back(frames::event(data, name.as_deref()));
        if let Some(end) = end {
            self.ended(at, end);
        }
    }

    /// Handles the end of a response: keeps it if it is not stored, and continues it with the input
    /// that steers it.
    fn ended(&mut self, at: usize, end: Terminal) {
        let lane = &mut self.lanes[at];
        let Some(running) = &mut lane.running else {
            return;
        };
        running.has_ended = true;
        let id = end.response.id;
        if let Some(parts) = running.link.take_parts() {
            let mut items = parts.input;
            items.extend(end.response.output.iter().filter_map(|item| output(item)));
            let name = lane.name.clone();
            self.local.keep(id.clone(), name, parts.previous, items);
        }
        lane.last = Some(id.clone());
        let steers = std::mem::take(&mut running.steers);
        if steers.is_empty() {
            return;
        }
        let name = lane.name.clone();
        let mut number = end.sequence_number;
        for steer in steers.iter().filter(|steer| !steer.is_accepted) {
            number += 1;
            let frame = frames::steer_accepted(steer, number, name.as_deref());
            self.ready.push_back(frame);
        }
        let required = steer::required(&end.response.output);
        if required.is_empty() {
            let settings = Arc::clone(&running.settings);
            let messages = steer::messages(&steers);
            let successor = CreateFrame::successor(settings, name, &id, messages);
            lane.successor = Some((successor, steers));
            return;
        }
        for steer in &steers {
            number += 1;
            let frame = frames::steer_pending(steer, &required, number, name.as_deref());
            self.ready.push_back(frame);
        }
        let pending = Pending {
            previous: id.into(),
            steers,
        };
        if let Some(older) = lane.pending.replace(pending) {
            let why = ("response_not_active", "Another response was steered since.");
            self.return_input(&older.steers, why, name.as_deref());
        }
    }

    /// A response has failed.
    pub(super) fn failed(&mut self, at: usize) {
        let lane = &mut self.lanes[at];
        let Some(running) = &mut lane.running else {
            return;
        };
        running.has_ended = true;
        lane.last = running.id.clone();
        if let Some(previous) = &running.previous {
            self.local.evict(previous, lane.name.as_ref());
        }
        let steers = std::mem::take(&mut running.steers);
        let lost = std::mem::take(&mut running.succeeds);
        let name = lane.name.clone();
        let why = ("response_not_active", "The response failed.");
        self.return_input(&steers, why, name.as_deref());
        self.return_input(&lost, NO_SUCCESSOR, name.as_deref());
    }

    /// A response was refused before its first event.
    pub(super) fn refused(
        &mut self,
        at: usize,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
    ) {
        let name = self.lanes[at].name.clone();
        let running = self.lanes[at].running.as_ref();
        // A refused successor is reported only by returning the steering input.
        if running.is_none_or(|running| running.succeeds.is_empty()) {
            let frame = frames::refused(status, headers, body, name.as_deref());
            self.ready.push_back(frame);
        }
        self.failed(at);
    }
}

/// An item of an output as it is kept.
fn output(item: &RawValue) -> Option<Item> {
    let ItemId { id } = serde_json::from_str(item.get()).ok()?;
    Some(Item {
        id,
        body: item.get().to_owned(),
        side: Side::Output,
    })
}
