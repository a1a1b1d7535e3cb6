//! Tests of the backends through their public interface: the bytes that an engine gets, and the
//! events that its bytes become.
#![expect(clippy::unwrap_used, reason = "a failure here fails the test")]

mod fetch_images;
mod fleet;
mod http;
mod openai;
mod raw;
mod roster;
