//! Turns tools of every type into functions, since local models can call only functions; and finds
//! the tool by the name of the function that was called.
//!
//! A custom tool becomes a function with one text argument. A tool that the client runs (a shell,
//! patches, a search for tools) becomes a function with the fields of its call. A function in a
//! namespace gets a longer name. Hosted tools are left out and named as ignored.

mod choice;
mod client;

use loggia_wire::Extra;
use loggia_wire::openai::responses::ResponseTool;
use loggia_wire::openai::{FunctionDefinition, Tool};
use serde_json::{Value, json};

use crate::ApiError;
use crate::admit::checks::{check_name, is_object, missing, too_long};
use crate::custom_tools::{self, input_grammar};
use crate::responses::file_search::{self, FILE_SEARCH};
use crate::responses::ignored::Ignored;
use crate::responses::mcp::Servers;

/// The longest name of a function.
const LONGEST_NAME: usize = 64;

/// The text between a namespace and a name in it.
const BETWEEN: &str = "__";

/// The type of a tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ToolKind {
    Function,
    Custom,
    LocalShell,
    Shell,
    ApplyPatch,
    ToolSearch,
    /// A tool of an MCP server, which the server calls.
    Mcp,
    /// The search in vector stores, which the server runs.
    FileSearch,
}

/// A tool, and the function by which it is offered to the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OfferedTool {
    /// The name of the function.
    pub(crate) function: String,
    pub(crate) kind: ToolKind,
    pub(crate) name: String,
    pub(crate) namespace: Option<String>,
    pub(crate) is_async: bool,
}

/// The tools that the model may call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offered(Vec<OfferedTool>);

impl Offered {
    /// Returns the tool that the function with this name stands for.
    pub(crate) fn called(&self, function: &str) -> Option<&OfferedTool> {
        self.0.iter().find(|tool| tool.function == function)
    }

    /// Returns the tool of this type, name and namespace. Without a namespace, it also finds a
    /// function in a namespace if no other function has the name.
    fn find(&self, kind: ToolKind, name: &str, namespace: Option<&str>) -> Option<&OfferedTool> {
        let mut named = self
            .0
            .iter()
            .filter(|tool| tool.kind == kind && tool.name == name);
        let exact = named
            .clone()
            .find(|tool| tool.namespace.as_deref() == namespace);
        exact.or_else(|| match (namespace, named.next(), named.next()) {
            (None, Some(only), None) => Some(only),
            _ => None,
        })
    }

    /// Returns the function name of an earlier call, whether the tool is still offered or not.
    pub(crate) fn function_of(
        &self,
        kind: ToolKind,
        name: &str,
        namespace: Option<&str>,
    ) -> String {
        self.find(kind, name, namespace)
            .map_or_else(|| flat(name, namespace), |tool| tool.function.clone())
    }

    /// Returns whether the output of a call of this tool may follow later.
    pub(crate) fn is_async(&self, function: &str) -> bool {
        self.called(function).is_some_and(|tool| tool.is_async)
    }
}

/// The tools of a request as functions of a chat.
#[derive(Debug, Default)]
pub(crate) struct Tools {
    pub(crate) offered: Offered,
    pub(crate) functions: Vec<Tool>,
    /// The path in the client's request that each function was made from.
    pub(crate) places: Vec<String>,
    /// The names of fields that have no effect.
    pub(crate) ignored: Ignored,
    /// The maximum number of tools that a request may have.
    most: usize,
    /// The MCP servers of the request.
    servers: Servers,
    /// Whether tools that the server runs are left out without a word.
    pub(crate) leaves_out_mcp: bool,
}

impl Tools {
    /// No tools yet, and never more than this.
    pub(crate) fn at_most(most: usize, servers: &Servers) -> Self {
        Self {
            most,
            servers: servers.clone(),
            ..Self::default()
        }
    }

    /// Adds the list of tools at the path `place`.
    pub(crate) fn add_all(&mut self, place: &str, tools: &[ResponseTool]) -> Result<(), ApiError> {
        // Checked first, since each tool is compared with all others.
        let inner = |tool: &ResponseTool| tool.tools.as_ref().map_or(1, Vec::len);
        let all = self.functions.len() + tools.iter().map(inner).sum::<usize>();
        if all > self.most {
            return Err(too_long(place, self.most, all));
        }
        (0..).zip(tools).try_for_each(|(index, tool): (usize, _)| {
            self.add(&format!("{place}[{index}]"), tool, None)
        })
    }

    fn add(
        &mut self,
        place: &str,
        tool: &ResponseTool,
        namespace: Option<&str>,
    ) -> Result<(), ApiError> {
        self.name_extras(tool);
        let runs_here = |tool: &ResponseTool| {
            let environment = tool
                .extra
                .get("environment")
                .and_then(|env| env.get("type"));
            environment.is_none_or(|kind| kind == "local")
        };
        match tool.kind.as_str() {
            "function" => self.add_function(place, tool, namespace),
            "custom" => self.add_custom(place, tool, namespace),
            "namespace" if namespace.is_none() => self.add_namespace(place, tool),
            "local_shell" => {
                self.add_client_tool(place, ToolKind::LocalShell, tool, client::local_shell());
                Ok(())
            }
            "shell" if runs_here(tool) => {
                self.add_client_tool(place, ToolKind::Shell, tool, client::shell());
                Ok(())
            }
            "apply_patch" => {
                self.add_client_tool(place, ToolKind::ApplyPatch, tool, client::apply_patch());
                Ok(())
            }
            "tool_search" if tool.execution.as_deref() == Some("client") => {
                self.add_client_tool(place, ToolKind::ToolSearch, tool, client::tool_search(tool));
                Ok(())
            }
            "mcp" | FILE_SEARCH if self.leaves_out_mcp => Ok(()),
            FILE_SEARCH if self.servers.file_search().is_some() => {
                let definition =
                    client::definition(file_search::DESCRIPTION, file_search::parameters());
                self.add_client_tool(place, ToolKind::FileSearch, tool, definition);
                Ok(())
            }
            "mcp" if self.servers.client().is_some() => {
                self.add_mcp(place, tool);
                Ok(())
            }
            // A tool that a server runs. No tools are deferred here, so a search would find
            // nothing.
            hosted => {
                self.ignored.add(format!("tools[].{hosted}"));
                Ok(())
            }
        }
    }

    fn add_function(
        &mut self,
        place: &str,
        tool: &ResponseTool,
        namespace: Option<&str>,
    ) -> Result<(), ApiError> {
        let name = needed_name(place, tool)?;
        check_name(&format!("{place}.name"), name)?;
        is_object(&format!("{place}.parameters"), tool.parameters.as_ref())?;
        let definition = FunctionDefinition {
            name: String::new(),
            description: tool.description.clone(),
            parameters: tool.parameters.clone(),
            exact_parameters: None,
            input_grammar: None,
            stands_for_custom: false,
            strict: tool.strict.filter(|strict| *strict),
            extra: Extra::new(),
        };
        self.offer(place, ToolKind::Function, name, namespace, tool, definition);
        Ok(())
    }

    /// Adds a custom tool, which takes free text, as a function with one text argument.
    fn add_custom(
        &mut self,
        place: &str,
        tool: &ResponseTool,
        namespace: Option<&str>,
    ) -> Result<(), ApiError> {
        let name = needed_name(place, tool)?;
        check_name(&format!("{place}.name"), name)?;
        let grammar = input_grammar(place, tool.format.as_ref(), None)?;
        let description = tool.description.as_deref().unwrap_or_default();
        let definition = custom_tools::definition(description, grammar);
        self.offer(place, ToolKind::Custom, name, namespace, tool, definition);
        Ok(())
    }

    fn add_namespace(&mut self, place: &str, tool: &ResponseTool) -> Result<(), ApiError> {
        let namespace = needed_name(place, tool)?;
        if tool
            .description
            .as_deref()
            .is_some_and(|text| !text.is_empty())
        {
            self.ignored.add("tools[].namespace.description".to_owned());
        }
        for (index, inner) in (0..).zip(tool.tools.iter().flatten()) {
            let index: usize = index;
            self.add(&format!("{place}.tools[{index}]"), inner, Some(namespace))?;
        }
        Ok(())
    }

    /// The tools of an MCP server: functions with the name of the server before their own.
    fn add_mcp(&mut self, place: &str, tool: &ResponseTool) {
        let label = tool.extra.get("server_label").and_then(Value::as_str);
        let Some(server) = label.and_then(|label| self.servers.get(label)).cloned() else {
            return;
        };
        let label = server.endpoint.label;
        for one in server.tools {
            let description = one.description.unwrap_or_default();
            let schema = match one.input_schema {
                schema @ Value::Object(_) => schema,
                _ => json!({"type": "object", "properties": {}}),
            };
            let definition = client::definition(&description, schema);
            self.offer(
                place,
                ToolKind::Mcp,
                &one.name,
                Some(&label),
                tool,
                definition,
            );
        }
    }

    /// Adds a tool that has no name but its type.
    fn add_client_tool(
        &mut self,
        place: &str,
        kind: ToolKind,
        tool: &ResponseTool,
        definition: FunctionDefinition,
    ) {
        self.offer(place, kind, &tool.kind, None, tool, definition);
    }

    fn offer(
        &mut self,
        place: &str,
        kind: ToolKind,
        name: &str,
        namespace: Option<&str>,
        tool: &ResponseTool,
        mut definition: FunctionDefinition,
    ) {
        let is_there = |known: &OfferedTool| {
            known.kind == kind && known.name == name && known.namespace.as_deref() == namespace
        };
        // A search can find a tool several times; it is offered once.
        if self.offered.0.iter().any(is_there) {
            return;
        }
        let function = self.free_name(&flat(name, namespace));
        definition.name.clone_from(&function);
        self.functions.push(Tool {
            kind: "function".to_owned(),
            function: Some(definition),
            extra: Extra::new(),
        });
        self.places.push(place.to_owned());
        self.offered.0.push(OfferedTool {
            function,
            kind,
            name: name.to_owned(),
            namespace: namespace.map(str::to_owned),
            is_async: tool.is_async == Some(true),
        });
    }

    /// Returns the name, with a number appended if another function has the name.
    fn free_name(&self, name: &str) -> String {
        let is_free = |name: &str| self.offered.called(name).is_none();
        let numbered = |number: usize| {
            let number = format!("_{number}");
            let kept = name.len().min(LONGEST_NAME - number.len());
            format!("{}{number}", &name[..kept])
        };
        // There are more candidates than tools, so one is free.
        let most = self.offered.0.len() + 2;
        std::iter::once(name.to_owned())
            .chain((2..=most).map(numbered))
            .find(|name| is_free(name))
            .unwrap_or_default()
    }

    /// Adds the unknown fields of a tool to the names of fields without effect.
    fn name_extras(&mut self, tool: &ResponseTool) {
        if matches!(tool.kind.as_str(), "function" | "custom" | "namespace") {
            for key in tool.extra.keys() {
                self.ignored.add(format!("tools[].{key}"));
            }
        }
    }
}

fn needed_name<'a>(place: &str, tool: &'a ResponseTool) -> Result<&'a str, ApiError> {
    tool.name
        .as_deref()
        .ok_or_else(|| missing(format!("{place}.name")))
}

/// Joins a namespace and a name to one function name.
fn flat(name: &str, namespace: Option<&str>) -> String {
    let Some(namespace) = namespace else {
        return name.to_owned();
    };
    let joined = [namespace, BETWEEN, name].concat();
    let letters = joined.chars().map(|letter| match letter {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '-' => letter,
        _ => '_',
    });
    letters.take(LONGEST_NAME).collect()
}

/// A response is stored and shown: it repeats no token and no header.
fn hide_secrets(tool: &mut Value) {
    if let Some(fields) = tool.as_object_mut() {
        fields.remove("authorization");
        if let Some(Value::Object(headers)) = fields.get_mut("headers") {
            for value in headers.values_mut() {
                *value = "<redacted>".into();
            }
        }
    }
}

/// Returns a tool as the response repeats it. Functions have all five fields there.
pub(crate) fn echoed(tool: &ResponseTool) -> Value {
    let mut echo = serde_json::to_value(tool).unwrap_or_default();
    if tool.kind == "function"
        && let Some(fields) = echo.as_object_mut()
    {
        for absent in ["description", "parameters"] {
            fields.entry(absent).or_insert(Value::Null);
        }
        fields.entry("strict").or_insert(Value::Bool(false));
    }
    if tool.kind == "mcp" {
        hide_secrets(&mut echo);
    }
    echo
}
