//! `response.steer`: accepts input for a response that is being made, and returns it to the client
//! if it can no longer steer the response.

use std::sync::Arc;

use serde_json::Value;

use super::envelope::SteerFrame;
use super::running::Running;
use super::steer::{MOST_STEERS, Steer};
use super::{Lane, Session, frames};
use crate::answer::id;

/// The error code and message if the successor of a steered response could not be made.
pub(super) const NO_SUCCESSOR: (&str, &str) = (
    "successor_creation_failed",
    "The response that continues the steered one could not be made.",
);

impl<S, B> Session<S, B> {
    /// `response.steer`.
    pub(super) fn steer(&mut self, frame: SteerFrame) {
        let is_target = |lane: &Lane<B>| {
            lane.running.as_ref().and_then(|one| one.id.as_deref()) == Some(&frame.previous)
        };
        let at = self.lanes.iter().position(is_target);
        let lane = at.map(|at| &self.lanes[at]);
        let running = lane.and_then(|lane| lane.running.as_ref());
        let name = lane.and_then(|lane| lane.name.clone());
        let refused = self.refused_steer(&frame, running);
        let (Ok(messages), Some(at), None) = (&frame.messages, at, &refused) else {
            let (code, message) = refused.unwrap_or_default();
            let why = (code, message.as_str());
            let failed =
                frames::steer_failed(None, &frame.previous, &frame.input, why, name.as_deref());
            return self.ready.push_back(failed);
        };
        let steer = Steer {
            id: id::item("steer_").into(),
            previous: frame.previous.as_str().into(),
            messages: messages.clone(),
            input: frame.input,
            is_accepted: false,
        };
        if let Some(running) = &mut self.lanes[at].running {
            running.link.interrupt.steer(Arc::clone(&steer.id));
            running.steers.push(steer);
        }
    }

    /// Why a response cannot be steered, if it cannot: a code and a message.
    fn refused_steer(
        &self,
        frame: &SteerFrame,
        running: Option<&Running<B>>,
    ) -> Option<(&'static str, String)> {
        if let Err(message) = &frame.messages {
            return Some(("invalid_input", message.clone()));
        }
        let id = &frame.previous;
        let Some(running) = running else {
            let is_last = |lane: &Lane<B>| lane.last.as_ref() == Some(id);
            return Some(if self.local.has(id) || self.lanes.iter().any(is_last) {
                let message = format!(
                    "The response with id '{id}' has ended. Continue it with response.create."
                );
                ("response_already_completed", message)
            } else {
                let message =
                    format!("No response with id '{id}' is being made on this connection.");
                ("response_not_found", message)
            });
        };
        if running.has_ended {
            let message =
                format!("The response with id '{id}' has ended. Continue it with response.create.");
            return Some(("response_already_completed", message));
        }
        if !running.can_be_steered {
            let message = "Responses of a conversation, with context_management, and with generate: false cannot be steered.";
            return Some(("steering_not_supported", message.to_owned()));
        }
        let waiting: usize = running.steers.iter().map(|one| size(&one.input)).sum();
        let is_full =
            running.steers.len() >= MOST_STEERS || waiting + size(&frame.input) > self.most_bytes;
        is_full.then(|| {
            let message = format!("At most {MOST_STEERS} inputs can wait for one response.");
            ("too_many_pending_steers", message)
        })
    }

    /// Returns inputs to the client that did not steer a response.
    pub(super) fn return_input(&mut self, steers: &[Steer], why: (&str, &str), lane: Option<&str>) {
        for steer in steers {
            let frame =
                frames::steer_failed(Some(&steer.id), &steer.previous, &steer.input, why, lane);
            self.ready.push_back(frame);
        }
    }
}

/// About how large a value is.
fn size(value: &Value) -> usize {
    value.to_string().len()
}
