//! `POST /v1/responses`, from bytes to bytes.

mod ask;
mod clients;
mod memory;
mod output;
mod stand_in;
mod state_machine;
mod tools;
