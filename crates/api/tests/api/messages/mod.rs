//! `POST /v1/messages` and what else clients of Anthropic's API request, from bytes to bytes.

mod ask;
mod batches;
mod clients;
mod compact_edit;
mod compaction;
mod continuation;
mod edits;
mod errors;
mod output;
mod stand_in;
mod state_machine;
mod there_and_back;
mod threads;
mod tools;
