//! The items of MCP servers: their lists of tools, and the calls that Loggia makes.

use loggia_backend::ServerTool;
use loggia_wire::openai::responses::{
    ItemStatus, McpApprovalRequest, McpCall, McpCallStatus, McpListTools, OutputItem, ResponseEvent,
};
use serde_json::Value;

use super::{Open, ResponseWriter, Written};

impl ResponseWriter {
    /// Writes the work of the server itself: on a tool that it runs, or on the conversation.
    pub(super) fn server_tool(&mut self, tool: ServerTool, out: &mut Vec<u8>) -> Written {
        self.begin(out)?;
        match tool {
            ServerTool::Listed { server, tools } => self.listed(server, tools, out),
            ServerTool::NeedsApproval {
                server,
                name,
                arguments,
            } => {
                self.close(ItemStatus::Completed, out)?;
                let item = OutputItem::McpApprovalRequest(McpApprovalRequest {
                    id: self.item_id("mcpr_"),
                    server_label: server,
                    name,
                    arguments,
                });
                self.add(item, out)?;
                self.done(out)
            }
            ServerTool::Begun {
                server,
                name,
                arguments,
                approval,
            } => {
                self.close(ItemStatus::Completed, out)?;
                let item = OutputItem::McpCall(McpCall {
                    id: self.item_id("mcp_"),
                    server_label: server,
                    name,
                    arguments: String::new(),
                    output: None,
                    error: None,
                    status: McpCallStatus::InProgress,
                    approval_request_id: approval,
                });
                self.add(item, out)?;
                self.open = Open::McpCall;
                self.mcp_call_begun(arguments, out)
            }
            ServerTool::Ended { result } => self.mcp_call_ended(result, out),
            ServerTool::SearchBegun { queries } => self.search_begun(queries, out),
            ServerTool::SearchEnded { results } => self.search_ended(results, out),
            ServerTool::Cited { file_id, filename } => self.cited(&file_id, &filename, out),
            ServerTool::Compacted {
                encrypted_content, ..
            } => self.compacted(encrypted_content.unwrap_or_default(), out),
        }
    }

    fn listed(&mut self, server: String, tools: Vec<Value>, out: &mut Vec<u8>) -> Written {
        let item = OutputItem::McpListTools(McpListTools {
            id: self.item_id("mcpl_"),
            server_label: server,
            tools: Vec::new(),
        });
        self.add(item, out)?;
        let output_index = self.response.output.len() - 1;
        let Some(OutputItem::McpListTools(item)) = self.response.output.last_mut() else {
            return Ok(());
        };
        item.tools = tools;
        let item_id = item.id.as_str();
        self.events.write(
            &ResponseEvent::McpListingTools {
                item_id,
                output_index,
            },
            out,
        )?;
        self.events.write(
            &ResponseEvent::McpListedTools {
                item_id,
                output_index,
            },
            out,
        )?;
        self.done(out)
    }

    fn mcp_call_begun(&mut self, arguments: String, out: &mut Vec<u8>) -> Written {
        let output_index = self.response.output.len() - 1;
        let Some(OutputItem::McpCall(item)) = self.response.output.last_mut() else {
            return Ok(());
        };
        item.arguments = arguments;
        let (item_id, arguments) = (item.id.as_str(), item.arguments.as_str());
        self.events.write(
            &ResponseEvent::McpCalling {
                item_id,
                output_index,
            },
            out,
        )?;
        if !arguments.is_empty() {
            let event = ResponseEvent::McpArgumentsDelta {
                item_id,
                output_index,
                delta: arguments,
            };
            self.events.write(&event, out)?;
        }
        let event = ResponseEvent::McpArgumentsDone {
            item_id,
            output_index,
            arguments,
        };
        self.events.write(&event, out)
    }

    fn mcp_call_ended(&mut self, result: Result<String, Value>, out: &mut Vec<u8>) -> Written {
        let output_index = self.response.output.len().saturating_sub(1);
        let Some(OutputItem::McpCall(item)) = self.response.output.last_mut() else {
            return Ok(());
        };
        let item_id = item.id.as_str();
        let event = match result {
            Ok(text) => {
                item.output = Some(text);
                item.status = McpCallStatus::Completed;
                ResponseEvent::McpCalled {
                    item_id,
                    output_index,
                }
            }
            Err(error) => {
                item.error = Some(error);
                item.status = McpCallStatus::Failed;
                ResponseEvent::McpFailed {
                    item_id,
                    output_index,
                }
            }
        };
        self.events.write(&event, out)?;
        self.open = Open::Nothing;
        self.done(out)
    }
}
