//! Anthropic's Messages API: `POST /v1/messages`, its stream, errors, counts of tokens,
//! models, batches and files.
//!
//! Reading order: [`MessagesRequest`] and [`Block`] (what a client sends), [`Message`] and
//! [`ContentBlock`] (the answer), [`StreamEvent`] (the same as a stream), [`ErrorResponse`],
//! [`ModelInfo`], [`MessageBatch`], [`FileMetadata`].
//!
//! The types follow the API that the official SDKs of November 2026 describe. Requests are read
//! leniently: fields that have several forms stay JSON until the type of their block is known, and
//! unknown fields are kept in `extra`.

mod batch;
mod block;
mod error;
mod event;
mod file;
mod message;
mod model;
mod request;

pub use batch::{
    DeletedMessageBatch, MessageBatch, MessageBatchCounts, MessageBatchLine, MessageBatchPage,
    MessageBatchRequest, MessageBatchResult,
};
pub use block::{Block, Content, InputMessage};
pub use error::{ErrorObject, ErrorResponse};
pub use event::{Delta, MessageDelta, StreamEvent, write_event, write_text_delta};
pub use file::{DeletedFile, FileMetadata, FilePage};
pub use message::{
    CacheCreation, ContentBlock, ContextManagement, Diagnostics, IterationKind, IterationUsage,
    Message, OutputTokensDetails, SafeguardResult, SafeguardStatus, StopDetails, StopReason, Usage,
};
pub use model::{ModelInfo, ModelPage};
pub use request::{MessagesRequest, OutputConfig, OutputFormat, Thinking, Tool, ToolChoice};
