//! [`McpClient`]: lists and calls the tools of MCP servers, for responses with tools of the type
//! `mcp`. The crate `loggia-mcp` has one that speaks Streamable HTTP.

use futures_core::future::BoxFuture;
use serde_json::{Map, Value};
use thiserror::Error;

/// Lists and calls the tools of MCP servers.
///
/// The client of a request decides which servers are called, so an implementation must not connect
/// to addresses that are not public, must limit times and sizes, and must put no secret into its
/// errors.
pub trait McpClient: Send + Sync {
    /// Lists the tools of a server.
    fn list_tools<'a>(
        &'a self,
        server: &'a McpServer,
    ) -> BoxFuture<'a, Result<Vec<McpTool>, McpError>>;

    /// Calls a tool. Returns the text of its result.
    fn call_tool<'a>(
        &'a self,
        server: &'a McpServer,
        tool: &'a str,
        arguments: Map<String, Value>,
    ) -> BoxFuture<'a, Result<String, McpError>>;
}

/// An MCP server, as a request names it.
#[derive(Clone, PartialEq, Eq)]
pub struct McpServer {
    /// The label of the server in the request.
    pub label: String,
    /// The URL of the server's Streamable HTTP endpoint.
    pub url: String,
    /// An OAuth access token, which is sent as `Authorization: Bearer`.
    pub authorization: Option<String>,
    /// More headers: names and values.
    pub headers: Vec<(String, String)>,
}

impl std::fmt::Debug for McpServer {
    /// Omits the token and the headers, which are secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("McpServer")
            .field("label", &self.label)
            .finish_non_exhaustive()
    }
}

/// A tool of an MCP server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct McpTool {
    /// The name.
    pub name: String,
    /// The tool's description.
    pub description: Option<String>,
    /// The JSON schema of its arguments.
    pub input_schema: Value,
    /// Hints about the tool's behaviour, such as `readOnlyHint`.
    pub annotations: Option<Value>,
}

/// Why tools were not listed, or why a tool was not called. Clients see the messages.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum McpError {
    /// The server was not reached, or its answer was not understood.
    #[error("{message}")]
    Http {
        /// The HTTP status, or 0 if there was none.
        status: u16,
        /// The cause.
        message: String,
    },
    /// The server answered with an error of the protocol.
    #[error("{message}")]
    Protocol {
        /// The JSON-RPC code.
        code: i64,
        /// The server's message.
        message: String,
    },
    /// The tool itself failed.
    #[error("{message}")]
    Tool {
        /// The text of the tool's result.
        message: String,
    },
}
