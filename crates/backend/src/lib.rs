//! The seam between OpenAI's API and whatever holds a model, and what stands behind it without C++.
//!
//! Reading order: [`Backend`] (what a backend is), [`Call`] (what goes in), [`Reply`] and [`Event`]
//! (what comes out), [`Embeddings`] (the same for vectors), [`Wrap`] (a backend around another), [`BackendError`] (how it goes wrong), [`Abilities`] (what a model's backend can
//! honour), then the backends themselves: [`ollama`] translates; [`openai`] passes through;
//! [`roster`] finds the backend that has a model; [`emulate`] and [`fetch_images`] stand around a backend
//! and do what it cannot; [`process`] reaches one in another process; [`conversation`] is what they
//! share: conversations in a form that engines and chat templates take.
//!
//! To add a backend, implement [`Backend`]; three methods are needed.
#![forbid(unsafe_code)]

mod abilities;
mod backend;
mod call;
pub mod conversation;
pub mod data_url;
mod embedding;
pub mod emulate;
mod error;
mod event;
pub mod fetch_images;
pub mod http;
mod nearest;
pub mod ollama;
pub mod openai;
pub mod process;
mod reasoning;
pub mod references;
mod retry_after;
pub mod roster;
pub mod schema;
pub mod tool_calls;
mod wrap;

pub use abilities::{
    Abilities, Ability, AbilitySet, KnownFields, OptionNames, SchemaEngine, ToolSchemas,
};
pub use backend::Backend;
pub use call::{Call, CallHead, ChatCall, CompletionCall, EmbeddingCall, Profile, Work};
pub use embedding::{Embeddings, normalise};
pub use error::{BackendError, NotDeleted, Phase, WorkKind};
pub use event::{Chunk, EarlyEnd, Event, Events, Reply, ServedBy, Waiting, fingerprint};
pub use nearest::nearest;
pub use wrap::Wrap;
