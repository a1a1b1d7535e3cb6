//! `tool_choice`, as a chat has it.

use loggia_wire::openai::{FunctionName, ToolChoice, ToolMode};
use serde_json::Value;

use super::{OfferedTool, ToolKind, Tools};
use crate::ApiError;
use crate::admit::checks::missing;

impl Tools {
    /// Returns `tool_choice` as a chat has it, or `None` if it has no effect.
    pub(crate) fn choice(&self, choice: &Value) -> Result<Option<ToolChoice>, ApiError> {
        if let Some(word) = choice.as_str() {
            return match word {
                "none" => Ok(Some(ToolChoice::None)),
                // `auto` is the default, and chats refuse it if no tool is left.
                "auto" => Ok(None),
                "required" => Ok(Some(ToolChoice::Required)),
                other => {
                    let message = format!(
                        "Invalid value: '{other}'. Supported values are: 'none', 'auto', and 'required'."
                    );
                    Err(ApiError::invalid("tool_choice", "invalid_value", message))
                }
            };
        }
        let Some(kind) = choice.get("type").and_then(Value::as_str) else {
            return Err(if choice.is_object() {
                missing("tool_choice.type".to_owned())
            } else {
                let message = "Invalid value for 'tool_choice': expected a string or an object.";
                ApiError::invalid("tool_choice", "invalid_type", message)
            });
        };
        if kind == "allowed_tools" {
            return self.allowed(choice).map(Some);
        }
        if kind == "mcp" && choice.get("name").is_none_or(Value::is_null) {
            return Ok(Some(self.any_of_server(choice)));
        }
        if matches!(kind, "function" | "custom") && choice.get("name").is_none() {
            return Err(missing("tool_choice.name".to_owned()));
        }
        Ok(Some(match self.chosen(choice) {
            Some(name) => ToolChoice::Function(FunctionName { name }),
            None => ToolChoice::Other(choice.clone()),
        }))
    }

    fn allowed(&self, choice: &Value) -> Result<ToolChoice, ApiError> {
        let mode = match choice.get("mode").and_then(Value::as_str) {
            None | Some("auto") => ToolMode::Auto,
            Some("required") => ToolMode::Required,
            Some(other) => {
                let message = format!(
                    "Invalid value: '{other}'. Supported values are: 'auto' and 'required'."
                );
                return Err(ApiError::invalid(
                    "tool_choice.mode",
                    "invalid_value",
                    message,
                ));
            }
        };
        let Some(tools) = choice.get("tools").and_then(Value::as_array) else {
            return Err(missing("tool_choice.tools".to_owned()));
        };
        let (mut functions, mut others) = (Vec::new(), Vec::new());
        for tool in tools {
            match self.chosen(tool) {
                Some(name) => functions.push(FunctionName { name }),
                None => others.push(tool.clone()),
            }
        }
        Ok(ToolChoice::Allowed {
            mode,
            functions,
            others,
        })
    }

    /// The model must call any tool of this MCP server.
    fn any_of_server(&self, choice: &Value) -> ToolChoice {
        let label = choice.get("server_label").and_then(Value::as_str);
        let is_its =
            |tool: &&OfferedTool| tool.kind == ToolKind::Mcp && tool.namespace.as_deref() == label;
        let functions: Vec<FunctionName> = self
            .offered
            .0
            .iter()
            .filter(is_its)
            .map(|tool| FunctionName {
                name: tool.function.clone(),
            })
            .collect();
        if functions.is_empty() {
            return ToolChoice::Other(choice.clone());
        }
        ToolChoice::Allowed {
            mode: ToolMode::Required,
            functions,
            others: Vec::new(),
        }
    }

    /// The function that a choice of one tool means. A name that is not offered stays as it is, for
    /// the check of chats to refuse.
    fn chosen(&self, tool: &Value) -> Option<String> {
        let namespace = tool.get("namespace").and_then(Value::as_str);
        let kind = match tool.get("type").and_then(Value::as_str)? {
            "function" => ToolKind::Function,
            "custom" => ToolKind::Custom,
            "local_shell" => return self.only(ToolKind::LocalShell),
            "shell" => return self.only(ToolKind::Shell),
            "apply_patch" => return self.only(ToolKind::ApplyPatch),
            "tool_search" => return self.only(ToolKind::ToolSearch),
            "file_search" => return self.only(ToolKind::FileSearch),
            "mcp" => {
                let label = tool.get("server_label").and_then(Value::as_str);
                let name = tool.get("name").and_then(Value::as_str)?;
                let offered = self.offered.find(ToolKind::Mcp, name, label);
                return offered.map(|tool| tool.function.clone());
            }
            _ => return None,
        };
        let name = tool.get("name").and_then(Value::as_str)?;
        let offered = self.offered.find(kind, name, namespace);
        Some(offered.map_or_else(|| name.to_owned(), |tool| tool.function.clone()))
    }

    fn only(&self, kind: ToolKind) -> Option<String> {
        let found = self.offered.0.iter().find(|tool| tool.kind == kind);
        found.map(|tool| tool.function.clone())
    }
}
