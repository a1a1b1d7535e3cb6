//! [`HttpMcpClient`]: lists and calls the tools of MCP servers over Streamable HTTP, with the
//! official SDK. It is the [`McpClient`] of `loggia-api`.
//!
//! The client of a request decides which servers are called, so the code assumes hostile clients and
//! hostile servers: only allowed addresses are connected to (`address.rs`), redirects are not
//! followed, and every call has a time limit and a size limit.
#![forbid(unsafe_code)]

mod address;
mod client;
mod limits;

pub use client::HttpMcpClient;
pub use limits::Limits;

#[doc(no_inline)]
pub use loggia_api::McpClient;
