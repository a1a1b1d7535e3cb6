//! [`Steer`]: input that a client sends while a response is made, and how it is applied.
//!
//! The running response ends as soon as it can, and another one continues it with the input. A
//! response with calls ends only after the last call, and can be continued only with their outputs:
//! the client sends those, and the input is placed before them.

use std::sync::Arc;

use serde_json::value::RawValue;
use serde_json::{Value, json};

/// The maximum number of inputs that steer one response.
pub(super) const MOST_STEERS: usize = 16;

/// Input that steers a response.
#[derive(Clone, Debug)]
pub(super) struct Steer {
    pub(super) id: Arc<str>,
    /// The response that this input steers.
    pub(super) previous: Arc<str>,
    /// The input as the client sent it.
    pub(super) input: Value,
    pub(super) messages: Vec<Value>,
    /// Whether the client was told that the input is accepted.
    pub(super) is_accepted: bool,
}

impl Steer {
    /// Returns the ids of the input and of the response that it steers, as events contain them.
    pub(super) fn named(&self) -> Value {
        json!({"id": &*self.id, "previous_response_id": &*self.previous})
    }
}

/// Inputs that wait for the outputs of calls.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) previous: Arc<str>,
    pub(super) steers: Vec<Steer>,
}

/// All messages of inputs, in their order.
pub(super) fn messages(steers: &[Steer]) -> Vec<Value> {
    let messages = steers.iter().flat_map(|steer| &steer.messages);
    messages.cloned().collect()
}

/// The items that a client has to send before a response with this output can be continued: the
/// outputs of its calls, without the results.
pub(super) fn required(output: &[Box<RawValue>]) -> Vec<Value> {
    let items = output.iter();
    let items = items.filter_map(|item| serde_json::from_str::<Value>(item.get()).ok());
    items.filter_map(|item| stub(&item)).collect()
}

fn stub(item: &Value) -> Option<Value> {
    // A call that was cut short is not part of the next turn, and an async one need not be
    // answered.
    if item["status"] == "incomplete" || item["async"] == true {
        return None;
    }
    let call_id = &item["call_id"];
    Some(match item["type"].as_str()? {
        "function_call" => {
            json!({"type": "function_call_output", "call_id": call_id, "name": item["name"]})
        }
        "tool_search_call" => {
            json!({"type": "tool_search_output", "call_id": call_id, "execution": "client"})
        }
        "mcp_approval_request" => {
            json!({"type": "mcp_approval_response", "approval_request_id": item["id"]})
        }
        kind @ ("custom_tool_call" | "computer_call" | "local_shell_call" | "shell_call"
        | "apply_patch_call") => {
            json!({"type": format!("{kind}_output"), "call_id": call_id})
        }
        _ => return None,
    })
}
