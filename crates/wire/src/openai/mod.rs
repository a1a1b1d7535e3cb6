//! OpenAI's API: chat completions (complete and streamed), responses, the older completions,
//! embeddings, stored objects, files, batches, webhooks, errors and models.
//!
//! The types follow OpenAI's published specification (mid 2026). Fields that only local engines
//! have, such as `reasoning_content`, keep the names that these engines use.

mod answer;
mod batch;
mod chunk;
mod completion;
mod content;
mod decision;
mod embedding;
mod error;
mod file;
mod format;
mod function;
mod message;
mod model;
mod moderation;
mod prompt;
mod request;
pub mod responses;
mod stored;
mod tools;
mod vector_store;
mod webhook;

pub use answer::{
    ChatCompletion, Choice, CompletionTokensDetails, CompletionUsage, FinishReason, Logprobs,
    PromptTokensDetails, ResponseMessage, TokenLogprob, TopLogprob,
};
pub use batch::{
    Batch, BatchCounts, BatchError, BatchErrors, BatchInputDetails, BatchLine, BatchLineError,
    BatchOutputDetails, BatchResponse, BatchUsage, CreateBatch,
};
pub use chunk::{ChatCompletionChunk, ChunkChoice, Delta, FunctionCallDelta, ToolCallDelta};
pub use completion::{Completion, CompletionChoice, CompletionLogprobs, CompletionRequest};
pub use content::{Content, File, Part, PartKind};
pub use decision::{
    ChoiceProbability, Decision, DecisionAnswer, DecisionInputTokens, DecisionOutputTokens,
    DecisionRequest, DecisionUsage, LevelProbability, Question, QuestionChoice, QuestionKind,
    QuestionLevel,
};
pub use embedding::{
    Embedding, EmbeddingList, EmbeddingRequest, EmbeddingUsage, EncodingFormat, Vector,
};
pub use error::{ErrorBody, ErrorObject};
pub use file::{CompleteUpload, CreateUpload, ExpiresAfter, FileObject, Upload, UploadPart};
pub use format::{JsonSchemaFormat, ResponseFormat};
pub use function::{FunctionDefinition, GrammarSyntax, InputGrammar};
pub use message::{Message, Role};
pub use model::{DeletedModel, Model, ModelList};
pub use moderation::{Moderation, ModerationRequest, ModerationResult};
pub use prompt::{OnePrompt, Prompt};
pub use request::{ChatCompletionRequest, Stop, StreamOptions};
pub use stored::{CreateConversation, CreateItems, Deleted, Page, UpdateMetadata};
pub use tools::{FunctionCall, FunctionName, Tool, ToolCall, ToolChoice, ToolMode};
pub use vector_store::{
    AddVectorStoreFile, ChunkSizes, ChunkingStrategy, CreateFileBatch, CreateVectorStore,
    FileCounts, HybridSearch, Queries, RankingOptions, SearchVectorStore, TextContent,
    UpdateVectorStore, UpdateVectorStoreFile, VectorStore, VectorStoreExpiry, VectorStoreFile,
    VectorStoreFileBatch, VectorStoreFileError, VectorStorePage, VectorStoreSearchResult,
};
pub use webhook::{
    CreateWebhookEndpoint, RotateWebhookSecret, TestWebhook, UpdateWebhookEndpoint,
    WebhookEndpoint, WebhookTestResult,
};
