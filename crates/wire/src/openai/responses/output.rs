//! The items of a response's output.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::openai::TokenLogprob;

/// One item of `output`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum OutputItem {
    /// What the model says.
    Message(OutputMessage),
    /// What it thinks before.
    Reasoning(ReasoningItem),
    /// A call of a function.
    FunctionCall(FunctionToolCall),
    /// A call of a tool that takes free text.
    CustomToolCall(CustomToolCall),
    /// A call of the client's shell, the older form.
    LocalShellCall(LocalShellCall),
    /// A call of the client's shell.
    ShellCall(ShellCall),
    /// A patch of the client's files.
    ApplyPatchCall(ApplyPatchCall),
    /// A search for tools that the client runs.
    ToolSearchCall(ToolSearchCall),
}

impl OutputItem {
    /// Its id.
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
        }
    }

    /// Sets how far it has come. A patch knows no incomplete state: it stays as it is.
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
        }
    }
}

/// How far an item has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ItemStatus {
    /// More is to come.
    InProgress,
    /// It is all there.
    Completed,
    /// It was cut.
    Incomplete,
}

/// `OutputMessage`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutputMessage {
    /// `msg_…`.
    pub id: String,
    /// How far it has come.
    pub status: ItemStatus,
    /// `assistant`.
    pub role: String,
    /// What is said.
    pub content: Vec<OutputPart>,
}

/// A part of a message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum OutputPart {
    /// Text.
    OutputText(OutputText),
    /// What the model refuses to say.
    Refusal(RefusalText),
    /// Raw reasoning.
    ReasoningText(ReasoningText),
}

/// `OutputTextContent`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OutputText {
    /// The text.
    pub text: String,
    /// Citations; local models give none.
    pub annotations: Vec<Value>,
    /// Log-probabilities of its tokens, where asked for.
    pub logprobs: Vec<TokenLogprob>,
}

/// `RefusalContent`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusalText {
    /// The text.
    pub refusal: String,
}

/// `ReasoningTextContent`, without its type.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReasoningText {
    /// The text.
    pub text: String,
}

/// `SummaryTextContent`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum SummaryPart {
    /// Text.
    SummaryText {
        /// The text.
        text: String,
    },
}

/// `ReasoningItem`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReasoningItem {
    /// `rs_…`.
    pub id: String,
    /// Summaries, where asked for.
    pub summary: Vec<SummaryPart>,
    /// The raw text, where no summary was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub content: Vec<OutputPart>,
    /// How far it has come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<ItemStatus>,
}

/// `FunctionToolCall`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionToolCall {
    /// `fc_…`.
    pub id: String,
    /// How far it has come.
    pub status: ItemStatus,
    /// What its output names.
    pub call_id: String,
    /// The function's name.
    pub name: String,
    /// The namespace of the function, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// JSON, as a text.
    pub arguments: String,
    /// Whether its output may come later than in the next request; written where it may.
    #[serde(default, rename = "async", skip_serializing_if = "std::ops::Not::not")]
    pub is_async: bool,
}

/// `CustomToolCall`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustomToolCall {
    /// `ctc_…`.
    pub id: String,
    /// How far it has come.
    pub status: ItemStatus,
    /// What its output names.
    pub call_id: String,
    /// The tool's name.
    pub name: String,
    /// The namespace of the tool, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Free text.
    pub input: String,
    /// Whether its output may come later than in the next request; written where it may.
    #[serde(default, rename = "async", skip_serializing_if = "std::ops::Not::not")]
    pub is_async: bool,
}

/// `LocalShellToolCall`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LocalShellCall {
    /// `lsh_…`.
    pub id: String,
    /// How far it has come.
    pub status: ItemStatus,
    /// What its output names.
    pub call_id: String,
    /// `LocalShellExecAction`.
    pub action: Value,
}

/// `FunctionShellCall`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShellCall {
    /// `sh_…`.
    pub id: String,
    /// How far it has come.
    pub status: ItemStatus,
    /// What its output names.
    pub call_id: String,
    /// `FunctionShellAction`.
    pub action: Value,
    /// Where it runs: at the client.
    pub environment: Value,
}

/// `ApplyPatchToolCall`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApplyPatchCall {
    /// `apc_…`.
    pub id: String,
    /// How far it has come.
    pub status: ItemStatus,
    /// What its output names.
    pub call_id: String,
    /// The file and what becomes of it.
    pub operation: Value,
}

/// `ToolSearchCall`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolSearchCall {
    /// `tsc_…`.
    pub id: String,
    /// How far it has come.
    pub status: ItemStatus,
    /// What its output names.
    pub call_id: String,
    /// `client`.
    pub execution: String,
    /// What is looked for.
    pub arguments: Value,
}
