//! Tools of the type `mcp`: which servers a request names, which of their tools the model may call,
//! and which calls the client must allow first.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::future::try_join_all;
use http::StatusCode;
use loggia_wire::openai::responses::{Item, ResponseRequest, ResponseTool};
use serde_json::{Value, json};

use crate::ApiError;
use crate::admit::checks::missing;
use crate::admit::parse::typed;
use crate::mcp::{McpClient, McpError, McpServer, McpTool};
use crate::responses::file_search::FileSearch;

/// The maximum number of servers of one request.
const MOST_SERVERS: usize = 16;

/// The servers that a request names, with their tools, and the search in files: all that this server
/// runs for the model.
#[derive(Clone, Default)]
pub(crate) struct Servers {
    client: Option<Arc<dyn McpClient>>,
    all: Vec<Server>,
    /// The vector stores that the model may search, if the request offers `file_search`.
    file_search: Option<Arc<FileSearch>>,
}

/// A server that a request names.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) endpoint: McpServer,
    /// The tools that the model may call.
    pub(crate) tools: Vec<McpTool>,
    /// Whether the tools were listed for this request. If not, an earlier response has the list.
    pub(crate) is_new: bool,
    approval: Approval,
}

/// Which calls the client must allow.
#[derive(Clone, Debug)]
struct Approval {
    always: Option<Filter>,
    never: Option<Filter>,
    /// For tools that neither filter has.
    otherwise: bool,
}

/// Some of the tools of a server.
#[derive(Clone, Debug, Default)]
struct Filter {
    names: Option<Vec<String>>,
    read_only: Option<bool>,
}

/// A call that the client has allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApprovedCall {
    /// The path of the approval in the client's request.
    pub(crate) place: String,
    /// The id of the approval request, which the call and its result have in the chat.
    pub(crate) request: String,
    pub(crate) server: String,
    pub(crate) name: String,
    pub(crate) arguments: String,
}

impl std::fmt::Debug for Servers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(&self.all).finish()
    }
}

impl Servers {
    /// Finds the servers of a request, and lists the tools of those that the conversation does not
    /// list yet.
    pub(crate) async fn of<'a>(
        client: Option<&Arc<dyn McpClient>>,
        request: &ResponseRequest,
        history: impl Iterator<Item = &'a Item>,
    ) -> Result<Self, ApiError> {
        let named = request.tools.iter().flatten().enumerate();
        let named = named.filter(|(_, tool)| tool.kind == "mcp");
        let named: Vec<(usize, &ResponseTool)> = named.collect();
        let Some(client) = client.filter(|_| !named.is_empty()) else {
            return Ok(Self::default());
        };
        let history: Vec<&Item> = history.collect();
        if named.len() > MOST_SERVERS {
            let message = format!("A request may name at most {MOST_SERVERS} MCP servers.");
            return Err(ApiError::invalid(
                "tools",
                "array_above_max_length",
                message,
            ));
        }
        distinct_labels(&named)?;
        let found = named
            .into_iter()
            .map(|(index, tool)| find(&**client, index, tool, &history));
        Ok(Self {
            client: Some(Arc::clone(client)),
            all: try_join_all(found).await?,
            file_search: None,
        })
    }

    /// Adds the vector stores that the model may search.
    pub(crate) fn with_file_search(self, file_search: Option<FileSearch>) -> Self {
        Self {
            file_search: file_search.map(Arc::new),
            ..self
        }
    }

    pub(crate) fn file_search(&self) -> Option<&Arc<FileSearch>> {
        self.file_search.as_ref()
    }

    /// Returns whether the server runs any tools of the request.
    pub(crate) fn run_tools(&self) -> bool {
        self.client.is_some() || self.file_search.is_some()
    }

    pub(crate) fn client(&self) -> Option<&Arc<dyn McpClient>> {
        self.client.as_ref()
    }

    /// The server with this label.
    pub(crate) fn get(&self, label: &str) -> Option<&Server> {
        self.all
            .iter()
            .find(|server| server.endpoint.label == label)
    }

    /// Refuses the approval of a call that this request does not offer to make.
    pub(crate) fn check_approved(&self, approved: &[ApprovedCall]) -> Result<(), ApiError> {
        for ApprovedCall {
            place,
            server,
            name,
            ..
        } in approved
        {
            let message = match self.get(server) {
                Some(found) if found.has(name) => continue,
                Some(_) => format!(
                    "The call that '{place}' allows is one of the tool '{name}', which this request does not offer: add it to 'allowed_tools' of the MCP server '{server}', or send 'approve': false."
                ),
                None => format!(
                    "The call that '{place}' allows needs the MCP server '{server}', which is not among the tools of this request: send its tool again."
                ),
            };
            return Err(ApiError::invalid(place.clone(), "invalid_value", message));
        }
        Ok(())
    }

    /// The servers whose tools were listed for this request.
    pub(crate) fn new_ones(&self) -> impl Iterator<Item = &Server> {
        self.all.iter().filter(|server| server.is_new)
    }
}

impl Server {
    /// Whether the model may call this tool.
    fn has(&self, name: &str) -> bool {
        self.tools.iter().any(|tool| tool.name == name)
    }

    /// Whether the client must allow a call of this tool.
    pub(crate) fn needs_approval(&self, name: &str) -> bool {
        let Some(tool) = self.tools.iter().find(|tool| tool.name == name) else {
            return true;
        };
        let has = |filter: &Option<Filter>| filter.as_ref().is_some_and(|filter| filter.has(tool));
        if has(&self.approval.never) {
            return false;
        }
        has(&self.approval.always) || self.approval.otherwise
    }

    /// The tools as OpenAI's API shows them.
    pub(crate) fn shown(&self) -> Vec<Value> {
        let shown = |tool: &McpTool| {
            json!({"name": tool.name, "description": tool.description,
                "input_schema": tool.input_schema, "annotations": tool.annotations})
        };
        self.tools.iter().map(shown).collect()
    }
}

impl Filter {
    fn has(&self, tool: &McpTool) -> bool {
        let is_named = |names: &Vec<String>| names.contains(&tool.name);
        let hint = tool.annotations.as_ref();
        let hint = hint.and_then(|hints| hints.get("readOnlyHint"));
        let is_read_only = hint.and_then(Value::as_bool).unwrap_or(false);
        self.names.as_ref().is_none_or(is_named)
            && self.read_only.is_none_or(|wanted| wanted == is_read_only)
    }
}

/// Refuses two servers with the same label, because a call finds its server by the label.
fn distinct_labels(named: &[(usize, &ResponseTool)]) -> Result<(), ApiError> {
    let mut seen = HashSet::new();
    for (index, tool) in named {
        let label = tool.extra.get("server_label").and_then(Value::as_str);
        if let Some(label) = label.filter(|label| !seen.insert(*label)) {
            let place = format!("tools[{index}].server_label");
            let message = format!(
                "Invalid '{place}': another MCP server of this request has the label '{label}'."
            );
            return Err(ApiError::invalid(place, "invalid_value", message));
        }
    }
    Ok(())
}

async fn find(
    client: &dyn McpClient,
    index: usize,
    tool: &ResponseTool,
    history: &[&Item],
) -> Result<Server, ApiError> {
    let place = format!("tools[{index}]");
    let server = server(&place, tool)?;
    let allowed = match tool.extra.get("allowed_tools") {
        None | Some(Value::Null) => None,
        Some(names @ Value::Array(_)) => Some(Filter {
            names: Some(read(&format!("{place}.allowed_tools"), names)?),
            read_only: None,
        }),
        Some(filter) => Some(self::filter(&format!("{place}.allowed_tools"), filter)?),
    };
    let approval = approval(&place, tool.extra.get("require_approval"))?;
    let known = listed(history, &server.label);
    let is_new = known.is_none();
    let mut tools = if let Some(tools) = known {
        tools
    } else {
        let listed = client.list_tools(&server).await;
        listed.map_err(|error| not_listed(&place, &server.label, &error))?
    };
    if let Some(allowed) = &allowed {
        tools.retain(|tool| allowed.has(tool));
    }
    Ok(Server {
        endpoint: server,
        tools,
        is_new,
        approval,
    })
}

/// The tools of a server, if an earlier response listed them.
fn listed(history: &[&Item], label: &str) -> Option<Vec<McpTool>> {
    let is_list = |item: &&&Item| {
        item.kind.as_deref() == Some("mcp_list_tools")
            && item.extra.get("server_label").and_then(Value::as_str) == Some(label)
    };
    let item = history.iter().rev().find(is_list)?;
    let tools = item.tools.as_ref()?.as_array()?;
    let tool = |tool: &Value| {
        Some(McpTool {
            name: tool.get("name")?.as_str()?.to_owned(),
            description: tool
                .get("description")
                .and_then(Value::as_str)
                .map(str::to_owned),
            input_schema: tool.get("input_schema").cloned().unwrap_or(Value::Null),
            annotations: tool
                .get("annotations")
                .filter(|hints| !hints.is_null())
                .cloned(),
        })
    };
    Some(tools.iter().filter_map(tool).collect())
}

fn server(place: &str, tool: &ResponseTool) -> Result<McpServer, ApiError> {
    let text = |name: &str| match tool.extra.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => {
            let message = format!("Invalid type for '{place}.{name}': expected a string.");
            Err(ApiError::invalid(
                format!("{place}.{name}"),
                "invalid_type",
                message,
            ))
        }
    };
    let label = text("server_label")?.ok_or_else(|| missing(format!("{place}.server_label")))?;
    for hosted in ["connector_id", "tunnel_id"] {
        if text(hosted)?.is_some() {
            let message = format!(
                "This server has no connectors of OpenAI's: send 'server_url' instead of '{place}.{hosted}'."
            );
            let param = format!("{place}.{hosted}");
            return Err(ApiError::invalid(param, "unsupported_parameter", message));
        }
    }
    let url = text("server_url")?.ok_or_else(|| missing(format!("{place}.server_url")))?;
    let headers = match tool.extra.get("headers") {
        None | Some(Value::Null) => Vec::new(),
        Some(headers) => {
            let headers: std::collections::BTreeMap<String, String> =
                read(&format!("{place}.headers"), headers)?;
            headers.into_iter().collect()
        }
    };
    Ok(McpServer {
        label,
        url,
        authorization: text("authorization")?,
        headers,
    })
}

/// OpenAI's default: every call has to be allowed.
fn approval(place: &str, asked: Option<&Value>) -> Result<Approval, ApiError> {
    let mut approval = Approval {
        always: None,
        never: None,
        otherwise: true,
    };
    let place = format!("{place}.require_approval");
    match asked {
        None | Some(Value::Null) => {}
        Some(Value::String(word)) if word == "always" => {}
        Some(Value::String(word)) if word == "never" => approval.otherwise = false,
        Some(Value::Object(filters)) => {
            for (name, one) in [
                ("always", &mut approval.always),
                ("never", &mut approval.never),
            ] {
                if let Some(asked) = filters.get(name).filter(|asked| !asked.is_null()) {
                    *one = Some(filter(&format!("{place}.{name}"), asked)?);
                }
            }
            // If the filters list only tools that need approval, other tools need none.
            approval.otherwise = approval.always.is_none();
        }
        Some(_) => {
            let message = format!(
                "Invalid value for '{place}'. Supported values are: 'always', 'never', and an object with filters."
            );
            return Err(ApiError::invalid(place, "invalid_value", message));
        }
    }
    Ok(approval)
}

fn filter(place: &str, filter: &Value) -> Result<Filter, ApiError> {
    let names = match filter.get("tool_names") {
        None | Some(Value::Null) => None,
        Some(names) => Some(read(&format!("{place}.tool_names"), names)?),
    };
    Ok(Filter {
        names,
        read_only: filter.get("read_only").and_then(Value::as_bool),
    })
}

fn read<T: serde::de::DeserializeOwned>(place: &str, value: &Value) -> Result<T, ApiError> {
    typed(value.clone()).map_err(|error| crate::admit::parse::wrong_at(place, error))
}

/// OpenAI's status for a server whose tools cannot be listed.
fn not_listed(place: &str, label: &str, error: &McpError) -> ApiError {
    let message = format!("Error retrieving tool list from MCP server: '{label}'. {error}");
    ApiError::new(StatusCode::FAILED_DEPENDENCY, message)
        .about(place)
        .coded("mcp_list_tools_failed")
}
