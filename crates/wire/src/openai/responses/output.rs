//! The items of a response's output.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::openai::TokenLogprob;

/// An item of `output`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum OutputItem {
    /// A message of the model.
    Message(OutputMessage),
    /// The reasoning before the answer.
    Reasoning(ReasoningItem),
    /// A call of a function.
    FunctionCall(FunctionToolCall),
    /// A call of a custom tool, which takes free text.
    CustomToolCall(CustomToolCall),
    /// A call of the client's shell (older form).
    LocalShellCall(LocalShellCall),
    /// A call of the client's shell.
    ShellCall(ShellCall),
    /// A patch of the client's files.
    ApplyPatchCall(ApplyPatchCall),
    /// A search for tools, which the client runs.
    ToolSearchCall(ToolSearchCall),
    /// A summary of the conversation, in place of it.
    Compaction(CompactionItem),
    /// The tools of an MCP server.
    McpListTools(McpListTools),
    /// A call of a tool of an MCP server, which the server made.
    McpCall(McpCall),
    /// A question to the client: whether a tool of an MCP server may be called.
    McpApprovalRequest(McpApprovalRequest),
    /// A search in files, which the server made.
    FileSearchCall(FileSearchCall),
}

impl OutputItem {
    /// Returns the id of the item.
    pub fn id(&self) -> &str {
        match self {
            Self::Message(item) => &item.id,
            Self::Reasoning(item) => &item.id,
            Self::FunctionCall(item) => &item.id,
            Self::CustomToolCall(item) => &item.id,
            Self::LocalShellCall(item) => &item.id,
            Self::ShellCall(item) => &item.id,
            Self::ApplyPatchCall(item) => &item.id,
            Self::ToolSearchCall(item) => &item.id,
            Self::Compaction(item) => &item.id,
            Self::McpListTools(item) => &item.id,
            Self::McpCall(item) => &item.id,
            Self::McpApprovalRequest(item) => &item.id,
            Self::FileSearchCall(item) => &item.id,
        }
    }

    /// Returns the item as it was when it began: without content, arguments and input.
    #[must_use]
    pub fn begun(&self) -> Self {
        let mut begun = self.clone();
        begun.set_status(ItemStatus::InProgress);
        match &mut begun {
            Self::Message(item) => item.content.clear(),
            Self::Reasoning(item) => {
                item.summary.clear();
                item.content.clear();
                item.encrypted_content = None;
            }
            Self::Compaction(item) => item.encrypted_content.clear(),
            Self::McpListTools(item) => item.tools.clear(),
            Self::McpCall(item) => {
                item.arguments.clear();
                item.output = None;
                item.error = None;
            }
            Self::FileSearchCall(item) => item.results = None,
            Self::FunctionCall(item) => item.arguments.clear(),
            Self::CustomToolCall(item) => item.input.clear(),
            Self::LocalShellCall(_)
            | Self::ShellCall(_)
            | Self::ApplyPatchCall(_)
            | Self::ToolSearchCall(_)
            | Self::McpApprovalRequest(_) => {}
        }
        begun
    }

    /// Sets the status of the item. A patch has no status `incomplete`, so it keeps its own.
    pub fn set_status(&mut self, status: ItemStatus) {
        match self {
            Self::Message(item) => item.status = status,
            Self::Reasoning(item) => item.status = Some(status),
            Self::FunctionCall(item) => item.status = status,
            Self::CustomToolCall(item) => item.status = status,
            Self::LocalShellCall(item) => item.status = status,
            Self::ShellCall(item) => item.status = status,
            Self::ApplyPatchCall(item) => {
                if status != ItemStatus::Incomplete {
                    item.status = status;
                }
            }
            Self::ToolSearchCall(item) => item.status = status,
            Self::McpCall(item) if item.status != McpCallStatus::Failed => {
                item.status = status.into();
            }
            Self::FileSearchCall(item) if item.status != FileSearchStatus::Failed => {
                item.status = status.into();
            }
            Self::Compaction(_)
            | Self::McpListTools(_)
            | Self::McpCall(_)
            | Self::McpApprovalRequest(_)
            | Self::FileSearchCall(_) => {}
        }
    }
}

/// The status of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ItemStatus {
    /// The item is being generated.
    InProgress,
    /// The item is complete.
    Completed,
    /// The item was cut short.
    Incomplete,
}

/// `OutputMessage`: a message of the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutputMessage {
    /// The id, `msg_…`.
    pub id: String,
    /// The status of the item.
    pub status: ItemStatus,
    /// Always `assistant`.
    pub role: String,
    /// The parts of the message.
    pub content: Vec<OutputPart>,
}

/// A part of a message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum OutputPart {
    /// A text.
    OutputText(OutputText),
    /// A refusal by the model.
    Refusal(RefusalText),
    /// Raw reasoning.
    ReasoningText(ReasoningText),
}

impl OutputPart {
    /// Returns the part as it was when it began: without text.
    #[must_use]
    pub fn begun(&self) -> Self {
        match self {
            Self::OutputText(_) => Self::OutputText(OutputText::default()),
            Self::Refusal(_) => Self::Refusal(RefusalText::default()),
            Self::ReasoningText(_) => Self::ReasoningText(ReasoningText::default()),
        }
    }
}

/// `OutputTextContent`: a text.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OutputText {
    /// The text.
    pub text: String,
    /// Citations of files.
    pub annotations: Vec<Value>,
    /// The log-probabilities of the tokens, if the client requested them.
    pub logprobs: Vec<TokenLogprob>,
}

/// `RefusalContent`: a refusal by the model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusalText {
    /// The text of the refusal.
    pub refusal: String,
}

/// `ReasoningTextContent`: raw reasoning, without its type.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReasoningText {
    /// The text.
    pub text: String,
}

/// `SummaryTextContent`: a part of a summary of the reasoning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum SummaryPart {
    /// A text.
    SummaryText {
        /// The text.
        text: String,
    },
}

/// `ReasoningItem`: the reasoning before the answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReasoningItem {
    /// The id, `rs_…`.
    pub id: String,
    /// The summaries, if the client requested them.
    pub summary: Vec<SummaryPart>,
    /// The raw text, if the client requested no summary.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub content: Vec<OutputPart>,
    /// The status of the item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<ItemStatus>,
    /// The reasoning, sealed for the server, if the request asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encrypted_content: Option<String>,
}

/// `FunctionToolCall`: a call of a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionToolCall {
    /// The id of the item, `fc_…`.
    pub id: String,
    /// The status of the item.
    pub status: ItemStatus,
    /// The id of the call, which the item with the output repeats.
    pub call_id: String,
    /// The name of the function.
    pub name: String,
    /// The namespace of the function, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The arguments: JSON, as a string.
    pub arguments: String,
    /// Whether the output may come later than in the next request. Written only if true.
    #[serde(default, rename = "async", skip_serializing_if = "std::ops::Not::not")]
    pub is_async: bool,
}

/// `CustomToolCall`: a call of a custom tool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustomToolCall {
    /// The id of the item, `ctc_…`.
    pub id: String,
    /// The status of the item.
    pub status: ItemStatus,
    /// The id of the call, which the item with the output repeats.
    pub call_id: String,
    /// The name of the tool.
    pub name: String,
    /// The namespace of the tool, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The input: free text.
    pub input: String,
    /// Whether the output may come later than in the next request. Written only if true.
    #[serde(default, rename = "async", skip_serializing_if = "std::ops::Not::not")]
    pub is_async: bool,
}

/// `LocalShellToolCall`: a call of the client's shell (older form).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LocalShellCall {
    /// The id of the item, `lsh_…`.
    pub id: String,
    /// The status of the item.
    pub status: ItemStatus,
    /// The id of the call, which the item with the output repeats.
    pub call_id: String,
    /// `LocalShellExecAction`: the command.
    pub action: Value,
}

/// `FunctionShellCall`: a call of the client's shell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShellCall {
    /// The id of the item, `sh_…`.
    pub id: String,
    /// The status of the item.
    pub status: ItemStatus,
    /// The id of the call, which the item with the output repeats.
    pub call_id: String,
    /// `FunctionShellAction`: the commands.
    pub action: Value,
    /// The place where the commands run: always the client.
    pub environment: Value,
}

/// `ApplyPatchToolCall`: a patch of the client's files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApplyPatchCall {
    /// The id of the item, `apc_…`.
    pub id: String,
    /// The status of the item.
    pub status: ItemStatus,
    /// The id of the call, which the item with the output repeats.
    pub call_id: String,
    /// The file, and the change to it.
    pub operation: Value,
}

/// `ToolSearchCall`: a search for tools.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolSearchCall {
    /// The id of the item, `tsc_…`.
    pub id: String,
    /// The status of the item.
    pub status: ItemStatus,
    /// The id of the call, which the item with the output repeats.
    pub call_id: String,
    /// Always `client`: the client runs the search.
    pub execution: String,
    /// The arguments of the search.
    pub arguments: Value,
}

/// `CompactionBody`: a summary of the conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompactionItem {
    /// The id, `cmp_…`.
    pub id: String,
    /// The summary, sealed for the server.
    pub encrypted_content: String,
}

/// `MCPListTools`: the tools of an MCP server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct McpListTools {
    /// The id, `mcpl_…`.
    pub id: String,
    /// The name that the request gives the server.
    pub server_label: String,
    /// The tools: `name`, `description`, `input_schema`, `annotations`.
    pub tools: Vec<Value>,
}

/// `MCPToolCall`: a call of a tool of an MCP server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct McpCall {
    /// The id, `mcp_…`.
    pub id: String,
    /// The name that the request gives the server.
    pub server_label: String,
    /// The name of the tool.
    pub name: String,
    /// The arguments, as JSON in a string.
    pub arguments: String,
    /// The text of the result.
    pub output: Option<String>,
    /// The reason of the failure: `type`, and the fields of the type.
    pub error: Option<Value>,
    /// The status of the call.
    pub status: McpCallStatus,
    /// The approval request that the client granted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval_request_id: Option<String>,
}

/// `MCPToolCallStatus`: the status of a call of a tool of an MCP server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum McpCallStatus {
    /// The call has not ended.
    InProgress,
    /// The call has a result.
    Completed,
    /// The response ended before the call did.
    Incomplete,
    /// The call failed.
    Failed,
}

impl From<ItemStatus> for McpCallStatus {
    fn from(status: ItemStatus) -> Self {
        match status {
            ItemStatus::InProgress => Self::InProgress,
            ItemStatus::Completed => Self::Completed,
            ItemStatus::Incomplete => Self::Incomplete,
        }
    }
}

/// `MCPApprovalRequest`: a question whether a tool may be called.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct McpApprovalRequest {
    /// The id, `mcpr_…`.
    pub id: String,
    /// The name that the request gives the server.
    pub server_label: String,
    /// The name of the tool.
    pub name: String,
    /// The arguments, as JSON in a string.
    pub arguments: String,
}

/// `FileSearchToolCall`: a search in files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FileSearchCall {
    /// The id, `fs_…`.
    pub id: String,
    /// The status of the search.
    pub status: FileSearchStatus,
    /// The queries of the search.
    pub queries: Vec<String>,
    /// The results, if the client wants them.
    pub results: Option<Vec<Value>>,
}

/// The status of a search in files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileSearchStatus {
    /// The search begins.
    InProgress,
    /// The search has not ended.
    Searching,
    /// The search has results.
    Completed,
    /// The response ended before the search did.
    Incomplete,
    /// The search failed.
    Failed,
}

impl From<ItemStatus> for FileSearchStatus {
    fn from(status: ItemStatus) -> Self {
        match status {
            ItemStatus::InProgress => Self::InProgress,
            ItemStatus::Completed => Self::Completed,
            ItemStatus::Incomplete => Self::Incomplete,
        }
    }
}
