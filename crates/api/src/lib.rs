//! OpenAI's API as a library over a backend: bytes → checked request → events → JSON or SSE.
#![forbid(unsafe_code)]

mod body;
mod door;
mod policy;

pub use body::{Body, Ended, Outcome};
pub use door::{Door, RequestId};
pub use policy::{Policy, Strictness};
