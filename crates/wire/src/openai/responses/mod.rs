//! `POST /v1/responses`: the request, the response, its items and the events of its stream.
//!
//! Reading order: [`ResponseRequest`] (the request), [`Item`] and [`ItemPart`] (its input),
//! [`Response`] and [`OutputItem`] (the answer), [`ResponseEvent`] (the answer as a stream),
//! [`InputTokens`] (a count of the input).
//!
//! Parsing a request is lenient, because clients take liberties: a field that has several shapes
//! stays JSON until the type of its item is known, and unknown fields are kept in `extra`.

mod event;
mod input_tokens;
mod item;
mod output;
mod request;
mod response;
mod tool_texts;

pub use event::{ResponseEvent, SteerRef, write_event, write_text_delta};
pub use input_tokens::InputTokens;
pub use item::{AudioData, Item, ItemPart};
pub use output::{
    ApplyPatchCall, CompactionItem, CustomToolCall, FileSearchCall, FileSearchStatus,
    FunctionToolCall, ItemStatus, LocalShellCall, McpApprovalRequest, McpCall, McpCallStatus,
    McpListTools, OutputItem, OutputMessage, OutputPart, OutputText, ReasoningItem, ReasoningText,
    RefusalText, ShellCall, SummaryPart, ToolSearchCall,
};
pub use request::{
    Input, Reasoning, ResponseRequest, ResponseStreamOptions, ResponseTool, TextConfig, TextFormat,
};
pub use response::{
    CompactedResponse, ConversationRef, IncompleteDetails, InputTokensDetails, InputTransformation,
    OutputTokensDetails, Response, ResponseError, ResponseStatus, ResponseUsage,
};
pub use tool_texts::tool_texts;
