//! A backend in another process, over a pair of pipes: what one process can lose without the other.
//!
//! [`Remote`] is the backend as its user sees it, [`Host`] the process that holds it. Between them
//! go lines of JSON (`frames`): a call and its events, each call with a number. How the process is
//! started, and when it is started again, is its user's affair.
//!
//! No reader can make another wait: of each answer only [`WINDOW`] events are under way at once,
//! and its reader asks for more.

mod frames;
mod host;
mod remote;

pub use host::Host;
pub use remote::{ConnectError, Remote};

/// How many events of one answer may be on the way to a reader who has not taken them.
const WINDOW: u32 = 64;

/// The longest line. What a client sends is bounded long before; this is for a peer that has gone
/// mad.
const LONGEST_LINE: usize = 256 << 20;

#[cfg(test)]
mod tests;
