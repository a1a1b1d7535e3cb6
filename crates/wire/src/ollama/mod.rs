//! Ollama's native API: `/api/chat`, `/api/generate`, `/api/embed`, `/api/tags`, `/api/show`,
//! `/api/ps`, `/api/version`, `/api/delete`, and its errors.
//!
//! Types that are only read borrow from the input bytes. Types that are only written own as little
//! as possible. The facts come from recordings of a real server (`fixtures/ollama`), not from
//! Ollama's manual.

mod chat;
mod embed;
mod error;
mod generate;
mod models;

pub use chat::{
    ChatLine, ChatMessage, ChatRequest, FunctionCall, LineFunction, LineMessage, LineToolCall,
    Options, Think, ToolCall,
};
pub use embed::{EmbedAnswer, EmbedRequest};
pub use error::{ErrorLine, InnerError};
pub use generate::{GenerateLine, GenerateRequest};
pub use models::{
    DeleteRequest, Details, ListedModel, RunningModel, RunningModels, Show, ShowRequest, Tags,
    UnloadRequest, Version,
};
