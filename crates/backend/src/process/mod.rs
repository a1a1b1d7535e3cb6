//! A backend in another process, over a pair of pipes, so that a crash of one process does not
//! affect the other.
//!
//! [`Remote`] is the backend for the caller, [`Host`] serves it in the other process. They exchange
//! lines of JSON (`frames`): calls and their events, each with the number of the call. The caller
//! starts and restarts the process.
//!
//! No slow reader delays others: at most 64 events of each answer (`WINDOW`) are sent ahead of its
//! reader.

mod frames;
mod host;
mod remote;

pub use host::Host;
pub use remote::{ConnectError, Remote};

/// The maximum number of events of one answer that its reader has not consumed.
const WINDOW: u32 = 64;

/// The maximum length of a line. Requests of clients are limited to much less; this is for a faulty
/// peer.
const LONGEST_LINE: usize = 256 << 20;

#[cfg(test)]
mod tests;
