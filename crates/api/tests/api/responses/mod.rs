//! `POST /v1/responses`, from bytes to bytes.

mod ask;
mod auto_compaction;
mod background;
mod clients;
mod count;
mod faulty_store;
mod mcp;
mod memory;
mod output;
mod sealed;
mod session;
pub(crate) mod stand_in;
pub(crate) mod state_machine;
mod tools;
mod truncation;
mod webhooks;
mod without_store;
