//! The client before a real MCP server: the one of the SDK, on a loopback port.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use loggia_api::mcp::{McpError, McpServer};
use loggia_mcp::{HttpMcpClient, Limits, McpClient};
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{
    CallToolResult, ContentBlock, ErrorData, ListToolsResult, PaginatedRequestParams,
    ServerCapabilities, ServerConfig, Tool,
};
use rmcp::schemars::JsonSchema;
use rmcp::service::RequestContext;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{RoleServer, ServerHandler, tool, tool_handler, tool_router};
use serde::Deserialize;
use serde_json::{Map, Value, json};

struct Tools;

#[derive(Deserialize, JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
struct Sum {
    a: i64,
    b: i64,
}

#[tool_router]
impl Tools {
    #[tool(description = "Adds two numbers.", annotations(read_only_hint = true))]
    async fn add(&self, Parameters(Sum { a, b }): Parameters<Sum>) -> String {
        (a + b).to_string()
    }

    #[tool(description = "Fails.")]
    async fn fail(&self) -> CallToolResult {
        CallToolResult::error(vec![ContentBlock::text("no such page")])
    }

    #[tool(description = "Takes a long time.")]
    async fn sleep(&self) -> String {
        tokio::time::sleep(Duration::from_mins(10)).await;
        String::new()
    }
}

#[tool_handler]
impl ServerHandler for Tools {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }
}

/// Starts a server. Returns how a request names it.
async fn server() -> McpServer {
    served(|| Tools).await
}

async fn served<S: ServerHandler>(tools: impl Fn() -> S + Send + Sync + 'static) -> McpServer {
    let service = StreamableHttpService::new(
        move || Ok(tools()),
        Arc::new(LocalSessionManager::default()),
        StreamableHttpServerConfig::default(),
    );
    let app = axum::Router::new().nest_service("/mcp", service);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, app).await });
    McpServer {
        label: "numbers".to_owned(),
        url: format!("http://{address}/mcp"),
        authorization: Some("a-token".to_owned()),
        headers: vec![("x-more".to_owned(), "1".to_owned())],
    }
}

fn client(call_time: Duration) -> HttpMcpClient {
    HttpMcpClient::new(Limits {
        networks: vec!["127.0.0.1".parse().expect("a network")],
        call_time,
        ..Limits::default()
    })
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

#[tokio::test]
async fn tools_are_listed_and_called() {
    let (server, client) = (server().await, client(Duration::from_secs(30)));
    let mut tools = client.list_tools(&server).await.expect("a list");
    tools.sort_by(|one, other| one.name.cmp(&other.name));
    let names: Vec<&str> = tools.iter().map(|tool| tool.name.as_str()).collect();
    assert_eq!(names, ["add", "fail", "sleep"]);
    assert_eq!(tools[0].description.as_deref(), Some("Adds two numbers."));
    assert_eq!(tools[0].input_schema["required"], json!(["a", "b"]));
    let hints = tools[0].annotations.as_ref().expect("hints");
    assert_eq!(hints["readOnlyHint"], true);
    let call = client.call_tool(&server, "add", object(json!({"a": 2, "b": 3})));
    assert_eq!(call.await, Ok("5".to_owned()));
}

#[tokio::test]
async fn what_fails_says_where() {
    let (server, client) = (server().await, client(Duration::from_millis(500)));
    let failed = client.call_tool(&server, "fail", Map::new()).await;
    let message = "no such page".to_owned();
    assert_eq!(failed, Err(McpError::Tool { message }));
    let odd = client
        .call_tool(&server, "add", object(json!({"a": "x"})))
        .await;
    assert!(
        matches!(&odd, Err(McpError::Protocol { .. } | McpError::Tool { .. })),
        "{odd:?}"
    );
    let unknown = client.call_tool(&server, "nothing", Map::new()).await;
    assert!(
        matches!(
            &unknown,
            Err(McpError::Protocol { .. } | McpError::Tool { .. })
        ),
        "{unknown:?}"
    );
    let slow = client.call_tool(&server, "sleep", Map::new()).await;
    assert!(matches!(slow, Err(McpError::Http { status: 0, .. })));
}

#[tokio::test]
async fn a_server_that_is_not_allowed_or_not_there_is_not_reached() {
    let server = server().await;
    let public_only = HttpMcpClient::new(Limits::default());
    let refused = public_only.list_tools(&server).await.expect_err("loopback");
    assert!(refused.to_string().contains("images.networks"), "{refused}");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let nobody = McpServer {
        url: format!("http://{}/mcp", listener.local_addr().expect("an address")),
        ..server
    };
    drop(listener);
    let missing = client(Duration::from_secs(5)).list_tools(&nobody).await;
    let missing = missing.expect_err("nobody listens");
    assert!(!missing.to_string().contains("a-token"));
}

/// A server whose list never ends: each page names a next one.
struct Endless {
    tools: usize,
    pages: Arc<AtomicUsize>,
}

impl ServerHandler for Endless {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let page = self.pages.fetch_add(1, Ordering::Relaxed);
        let tool = |index| Tool::new(format!("t{page}_{index}"), "One of many.", Map::new());
        let mut list = ListToolsResult::with_all_items((0..self.tools).map(tool).collect());
        list.next_cursor = Some(page.to_string());
        Ok(list)
    }
}

#[tokio::test]
async fn a_list_that_never_ends_is_left_early() {
    for (tools, most_pages, why) in [(3, 2, "has 6 tools or more"), (0, 5, "too many pages")] {
        let pages = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&pages);
        let server = served(move || Endless {
            tools,
            pages: Arc::clone(&count),
        });
        let client = HttpMcpClient::new(Limits {
            networks: vec!["127.0.0.1".parse().expect("a network")],
            tools: 4,
            ..Limits::default()
        });
        let refused = client.list_tools(&server.await).await.expect_err("no end");
        assert!(refused.to_string().contains(why), "{refused}");
        assert_eq!(pages.load(Ordering::Relaxed), most_pages);
    }
}

#[tokio::test]
async fn nothing_stays_of_a_server_that_never_answers() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a port");
    let server = McpServer {
        label: "silent".to_owned(),
        url: format!("http://{}/mcp", listener.local_addr().expect("an address")),
        authorization: None,
        headers: Vec::new(),
    };
    let client = HttpMcpClient::new(Limits {
        networks: vec!["127.0.0.1".parse().expect("a network")],
        list_time: Duration::from_millis(300),
        call_time: Duration::from_millis(300),
        ..Limits::default()
    });
    let asked = async {
        let listed = client.list_tools(&server).await;
        listed.expect_err("it never answers");
    };
    let read = async {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
    };
    let all = async { tokio::join!(asked, read) };
    let ended = tokio::time::timeout(Duration::from_secs(20), all).await;
    assert!(ended.is_ok(), "the connection stays open");
}
