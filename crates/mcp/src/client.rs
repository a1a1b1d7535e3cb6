//! [`HttpMcpClient`]: one connection for each list and each call.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_core::future::BoxFuture;
use http::{HeaderName, HeaderValue};
use hyper_rustls::ConfigBuilderExt as _;
use loggia_api::mcp::{McpClient, McpError, McpServer, McpTool};
use reqwest::redirect;
use rmcp::model::{
    CallToolRequestParams, CallToolResult, ClientConfig, ErrorData, PaginatedRequestParams,
};
use rmcp::service::{RunningService, ServiceError};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::{RoleClient, ServiceExt as _};
use serde_json::{Map, Value};
use tokio::sync::OnceCell;
use tokio_rustls::rustls;
use tokio_rustls::rustls::crypto::ring;

use crate::Limits;
use crate::address::{self, CheckedResolver};

/// Lists and calls the tools of MCP servers over Streamable HTTP.
///
/// ```
/// use std::sync::Arc;
/// use loggia_mcp::{HttpMcpClient, Limits, McpClient};
///
/// let mcp: Arc<dyn McpClient> = Arc::new(HttpMcpClient::new(Limits::default()));
/// // let door = Door::new(backend, policy).with_mcp(mcp);
/// # drop(mcp);
/// ```
pub struct HttpMcpClient {
    limits: Arc<Limits>,
    /// Created on first use, because most servers never call an MCP server.
    http: OnceCell<reqwest::Client>,
}

impl HttpMcpClient {
    /// Creates a client with these limits. It connects to nothing yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits: Arc::new(limits),
            http: OnceCell::new(),
        }
    }

    async fn http(&self) -> Result<&reqwest::Client, McpError> {
        let made = async || self.new_http().ok_or(());
        let http = self.http.get_or_try_init(made).await;
        http.map_err(|()| http_error(0, "This machine has no root certificates."))
    }

    fn new_http(&self) -> Option<reqwest::Client> {
        let tls = rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let tls = tls.with_safe_default_protocol_versions().ok()?;
        let tls = tls.with_native_roots().ok()?.with_no_client_auth();
        let resolver = CheckedResolver(Arc::clone(&self.limits));
        reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .connect_timeout(self.limits.list_time)
            // The SDK makes requests in a task of its own, which a list or a call that is dropped
            // does not end: without a limit, a server that never answers would hold it forever.
            .timeout(self.limits.list_time.max(self.limits.call_time))
            .dns_resolver(Arc::new(resolver))
            .build()
            .ok()
    }

    /// Connects to a server and initializes the session.
    async fn connect(&self, server: &McpServer) -> Result<Connection, McpError> {
        let url = address::check(&server.url, &self.limits).await;
        let url = url.map_err(|why| http_error(0, why))?;
        let mut config = StreamableHttpClientTransportConfig::with_uri(url.as_str());
        config.auth_header.clone_from(&server.authorization);
        config.custom_headers = headers(server)?;
        config.max_sse_event_size = self.limits.bytes;
        config.max_json_response_size = self.limits.bytes;
        let http = self.http().await?.clone();
        let transport = StreamableHttpClientTransport::with_client(http, config);
        let connected = ClientConfig::default().serve(transport).await;
        connected.map_err(|error| {
            tracing::debug!(%error, "an MCP server was not reached");
            http_error(0, "The server was not reached, or does not speak MCP.")
        })
    }

    async fn list(&self, server: &McpServer) -> Result<Vec<McpTool>, McpError> {
        let connection = self.connect(server).await?;
        let listed = self.pages(&connection).await;
        end(connection).await;
        let listed = listed?;
        let tool = |tool: rmcp::model::Tool| McpTool {
            name: tool.name.into_owned(),
            description: tool.description.map(std::borrow::Cow::into_owned),
            input_schema: Value::Object((*tool.input_schema).clone()),
            annotations: tool
                .annotations
                .and_then(|hints| serde_json::to_value(hints).ok()),
        };
        Ok(listed.into_iter().map(tool).collect())
    }

    /// Reads the pages of a list, as long as the tools are not too many. A server may name a next
    /// page forever.
    async fn pages(&self, connection: &Connection) -> Result<Vec<rmcp::model::Tool>, McpError> {
        let most = self.limits.tools;
        let mut listed = Vec::new();
        let mut next = None;
        // A page may be empty. A server that sends this many is at fault.
        for _ in 0..=most {
            let page = PaginatedRequestParams::default().with_cursor(next);
            let page = connection.list_tools(Some(page)).await.map_err(failed)?;
            listed.extend(page.tools);
            if listed.len() > most {
                let message = format!(
                    "The server has {} tools or more; this server takes {most}.",
                    listed.len()
                );
                return Err(http_error(0, message));
            }
            next = page.next_cursor;
            if next.is_none() {
                return Ok(listed);
            }
        }
        Err(http_error(0, "The list of tools has too many pages."))
    }

    async fn call(
        &self,
        server: &McpServer,
        tool: &str,
        arguments: Map<String, Value>,
    ) -> Result<String, McpError> {
        let connection = self.connect(server).await?;
        let call = CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments);
        let result = connection.call_tool(call).await.map_err(failed);
        end(connection).await;
        told(&result?)
    }
}

impl McpClient for HttpMcpClient {
    fn list_tools<'a>(
        &'a self,
        server: &'a McpServer,
    ) -> BoxFuture<'a, Result<Vec<McpTool>, McpError>> {
        Box::pin(within(self.limits.list_time, self.list(server)))
    }

    fn call_tool<'a>(
        &'a self,
        server: &'a McpServer,
        tool: &'a str,
        arguments: Map<String, Value>,
    ) -> BoxFuture<'a, Result<String, McpError>> {
        let call = self.call(server, tool, arguments);
        Box::pin(within(self.limits.call_time, call))
    }
}

type Connection = RunningService<RoleClient, ClientConfig>;

async fn within<T>(
    time: Duration,
    work: impl Future<Output = Result<T, McpError>>,
) -> Result<T, McpError> {
    let done = tokio::time::timeout(time, work).await;
    done.unwrap_or_else(|_| {
        let message = format!("The server did not answer within {} s.", time.as_secs());
        Err(http_error(0, message))
    })
}

async fn end(connection: Connection) {
    if let Err(error) = connection.cancel().await {
        tracing::debug!(%error, "a connection to an MCP server did not end");
    }
}

fn headers(server: &McpServer) -> Result<HashMap<HeaderName, HeaderValue>, McpError> {
    let header = |(name, value): &(String, String)| {
        let name = HeaderName::try_from(name.as_str()).ok()?;
        let mut value = HeaderValue::try_from(value.as_str()).ok()?;
        value.set_sensitive(true);
        Some((name, value))
    };
    let headers: Option<HashMap<_, _>> = server.headers.iter().map(header).collect();
    headers.ok_or_else(|| http_error(0, "A name or a value in 'headers' is not valid."))
}

/// The part of a result that the model reads: its texts, else its structured content.
fn told(result: &CallToolResult) -> Result<String, McpError> {
    let mut texts = Vec::new();
    for block in &result.content {
        let block = serde_json::to_value(block).unwrap_or_default();
        if let Some(text) = block.get("text").and_then(Value::as_str) {
            texts.push(text.to_owned());
        } else {
            let kind = block.get("type").and_then(Value::as_str);
            texts.push(format!("[{}]", kind.unwrap_or("content")));
        }
    }
    if let (true, Some(structured)) = (texts.is_empty(), &result.structured_content) {
        texts.push(structured.to_string());
    }
    let text = texts.join("\n");
    if result.is_error == Some(true) {
        return Err(McpError::Tool { message: text });
    }
    Ok(text)
}

fn failed(error: ServiceError) -> McpError {
    match error {
        ServiceError::McpError(ErrorData { code, message, .. }) => McpError::Protocol {
            code: code.0.into(),
            message: message.into_owned(),
        },
        error => {
            tracing::debug!(%error, "a call of an MCP server failed");
            http_error(0, "The connection to the server failed.")
        }
    }
}

fn http_error(status: u16, message: impl Into<String>) -> McpError {
    McpError::Http {
        status,
        message: message.into(),
    }
}
