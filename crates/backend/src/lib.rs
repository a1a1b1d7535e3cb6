//! The trait [`Backend`] between OpenAI's API and the engines, and the backends that need no C++.
//!
//! Reading order: [`Backend`] (the trait), [`Call`] (its input), [`Reply`] and [`Event`] (its
//! output), [`Embeddings`] (its output for embeddings), [`TokenCount`], [`Wrap`] (a wrapper around a backend),
//! [`BackendError`] (errors), [`Abilities`] (what a backend can honour for a model).
//!
//! Then the backends: [`ollama`] translates, [`openai`] passes through, [`roster`] finds the
//! backend that has a model, [`fleet`] makes one backend of several servers, [`queue`] lets requests wait for their turn, [`emulate`] and [`fetch_images`] wrap a backend and add what it lacks,
//! [`process`] connects to a backend in another process. [`conversation`] adapts conversations to
//! engines and chat templates.
//!
//! To add a backend, implement [`Backend`]. Three methods are required.
#![forbid(unsafe_code)]

mod abilities;
mod audio;
mod backend;
mod call;
mod content;
pub mod conversation;
mod count;
pub mod data_url;
mod embedding;
pub mod emulate;
mod error;
mod event;
pub mod fetch_images;
pub mod fleet;
pub mod http;
pub mod input_grammar;
mod nearest;
pub mod ollama;
mod ollama_api;
pub mod openai;
pub mod process;
pub mod queue;
mod reasoning;
pub mod references;
mod rerank;
mod retry_after;
pub mod roster;
pub mod schema;
pub mod tool_calls;
mod trace;
mod transcript;
mod wrap;

pub use abilities::{
    Abilities, Ability, AbilitySet, KnownFields, OptionNames, SchemaEngine, ToolSchemas,
};
pub use audio::{Audio, AudioCall, AudioPiece, AudioReply, AudioTask, Recording};
pub use backend::Backend;
pub use call::{Call, CallHead, ChatCall, CompletionCall, EmbeddingCall, Priority, Profile, Work};
pub use content::{Content, ContentReader};
pub use count::TokenCount;
pub use embedding::{Embeddings, normalise};
pub use error::{BackendError, NotDeleted, Phase, WorkKind};
pub use event::{
    Chunk, EarlyEnd, Event, Events, PromptUsage, Reply, ServedBy, ServerTool, Waiting, fingerprint,
};
pub use nearest::nearest;
pub use ollama_api::{
    OllamaCall, OllamaPiece, OllamaReply, OllamaRequest, OllamaRoute, UnknownOllamaRoute,
};
pub use queue::PlaceInQueue;
pub use rerank::{Rerank, RerankCall, Reranked};
pub use trace::Trace;
pub use transcript::{Transcript, TranscriptSegment};
pub use wrap::Wrap;
