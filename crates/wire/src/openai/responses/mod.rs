//! `POST /v1/responses`: `CreateResponse`, the response, its items and the events of its stream.
//!
//! Reading order: [`ResponseRequest`] (what a client asks), [`Item`] and [`ItemPart`] (what it sends
//! along), [`Response`] and [`OutputItem`] (what it gets), [`ResponseEvent`] (the same, as a stream).
//!
//! Clients are loose with what they send, so requests are read leniently: fields that have several
//! shapes stay JSON until their item's kind is known, and unknown fields are kept in `extra`.

mod event;
mod item;
mod output;
mod request;
mod response;

pub use event::{ResponseEvent, write_event};
pub use item::{AudioData, Item, ItemPart};
pub use output::{
    ApplyPatchCall, CustomToolCall, FunctionToolCall, ItemStatus, LocalShellCall, OutputItem,
    OutputMessage, OutputPart, OutputText, ReasoningItem, ReasoningText, RefusalText, ShellCall,
    SummaryPart, ToolSearchCall,
};
pub use request::{
    Input, Reasoning, ResponseRequest, ResponseStreamOptions, ResponseTool, TextConfig, TextFormat,
};
pub use response::{
    IncompleteDetails, InputTokensDetails, OutputTokensDetails, Response, ResponseError,
    ResponseStatus, ResponseUsage,
};
