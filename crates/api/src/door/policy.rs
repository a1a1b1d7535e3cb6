//! [`Policy`]: what the door accepts. The server creates it from its configuration.

use std::collections::HashMap;
use std::time::Duration;

use loggia_backend::{OllamaRoute, Profile};
use serde_json::{Map, Value};

use crate::moderations::format::ModerationFormat;

/// How to handle fields that a model's backend cannot honour (`docs/dialects.md`, part 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strictness {
    /// Refuse all fields that cannot be honoured, hints and unknown fields included.
    Strict,
    /// Ignore fields that cannot be honoured, and list them in `x-loggia-ignored`. Refuse only
    /// those that protect the client from a wrong answer: a format that cannot be enforced, a call
    /// that cannot be forced.
    #[default]
    Plain,
    /// Ignore all fields that cannot be honoured, and list them in `x-loggia-ignored`.
    Lenient,
}

/// The limits of the door: how much it accepts, and how long it waits.
#[derive(Clone, Debug)]
pub struct Policy {
    /// How to handle fields that cannot be honoured.
    pub strictness: Strictness,
    /// How sampling fields are interpreted.
    pub profile: Profile,
    /// Settings for single models, by the name that the client sends. An alias can have its own.
    pub models: HashMap<String, ModelPolicy>,
    /// The maximum size of a request's body in bytes. A larger body gets a 413.
    pub body_limit: usize,
    /// The time limit for receiving a request's body. A slower body gets a 408.
    pub body_within: Duration,
    /// How long a stream waits for the engine before it begins with status 200 and heartbeats.
    /// `None`: without limit.
    pub heartbeat_after: Option<Duration>,
    /// The interval of heartbeats after that, if there is nothing else to send. Zero: only the
    /// first one.
    pub heartbeat_every: Duration,
    /// The limits of one request.
    pub ceilings: Ceilings,
    /// The limits of files.
    pub files: FileLimits,
    /// The maximum size of a recording to transcribe or translate in bytes. A larger one gets a 413
    /// before it has been read completely.
    pub recording_bytes: u64,
    /// The name of the model that computes the vectors of new vector stores. `None`: none can be
    /// created.
    pub embedding_model: Option<String>,
    /// Whether a request without a [`Caller`](crate::Caller) may delete models. Never applies to
    /// web pages.
    pub deletes_without_key: bool,
    /// The model of `POST /v1/moderations` for requests that name none, or one of OpenAI's.
    pub moderation_model: Option<String>,
    /// The format of that model's prompts and answers. `None`: that of a model with its name.
    pub moderation_format: Option<ModerationFormat>,
    /// The routes of Ollama's own API that are passed on to Ollama servers. Who may use those that
    /// change models is for the server to decide
    /// ([`Door::changes_models_of_ollama`](crate::Door::changes_models_of_ollama)).
    pub ollama_api: Vec<OllamaRoute>,
}

/// Settings for one model. `None` means the general setting.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelPolicy {
    /// How to handle fields that cannot be honoured.
    pub strictness: Option<Strictness>,
    /// How sampling fields are interpreted.
    pub profile: Option<Profile>,
    /// Default values for Ollama's `options` (`num_ctx`, `top_k`, …), for backends that support
    /// them. The request takes precedence.
    pub options: Map<String, Value>,
}

/// The limits of one request. A request above a limit gets a 400 with the field and the limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ceilings {
    /// The maximum of `n`, and of a completion's `best_of`.
    pub choices: usize,
    /// The maximum number of `messages`.
    pub messages: usize,
    /// The maximum number of prompts of one completion.
    pub prompts: usize,
    /// The maximum number of inputs of one embeddings request.
    pub inputs: usize,
    /// The maximum number of `tools` and `functions`.
    pub tools: usize,
    /// The maximum number of images, audio parts and files in all messages.
    pub media: usize,
    /// The maximum size of `data:` URLs and audio in all messages, in bytes as sent (base64).
    pub media_bytes: usize,
    /// The maximum size of one JSON schema in bytes.
    pub schema_bytes: usize,
    /// The maximum nesting depth of a JSON schema.
    pub schema_depth: usize,
    /// The maximum number of entries of `logit_bias`.
    pub logit_bias: usize,
    /// The maximum length of one stop string in bytes.
    pub stop_bytes: usize,
    /// The token limit of an answer if the client sets none. `None`: limited by the model's
    /// context.
    pub answer_tokens: Option<u32>,
    /// The time limit for a complete request. `None`: as long as the engine keeps sending.
    pub whole_time: Option<Duration>,
}

/// The limits of files. A file above a limit gets a 413 before it has been read completely.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileLimits {
    /// The maximum size of one file in bytes.
    pub file_bytes: u64,
    /// The maximum size of all files of one API key in bytes; without API keys, of all files. Each
    /// file counts [a little](FileLimits::OVERHEAD) more than its content.
    pub key_bytes: u64,
    /// The maximum size of one part of an upload in bytes.
    pub part_bytes: u64,
}

impl FileLimits {
    /// The bytes that a file counts besides its content, so that empty files are limited too.
    pub const OVERHEAD: u64 = 4 << 10;
}

impl Default for FileLimits {
    fn default() -> Self {
        Self {
            // OpenAI's own limits for a file, and for a part.
            file_bytes: 512 << 20,
            key_bytes: 16 << 30,
            part_bytes: 64 << 20,
        }
    }
}

impl Default for Ceilings {
    fn default() -> Self {
        Self {
            choices: 16,
            messages: 4096,
            prompts: 128,
            // OpenAI's own limit.
            inputs: 2048,
            // OpenAI's own limit.
            tools: 128,
            media: 64,
            media_bytes: 24 << 20,
            schema_bytes: 256 << 10,
            schema_depth: 32,
            // OpenAI's own limit.
            logit_bias: 300,
            stop_bytes: 512,
            answer_tokens: None,
            whole_time: Some(Duration::from_hours(1)),
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            strictness: Strictness::default(),
            profile: Profile::default(),
            models: HashMap::new(),
            body_limit: 32 << 20,
            body_within: Duration::from_mins(2),
            heartbeat_after: Some(Duration::from_secs(10)),
            heartbeat_every: Duration::from_secs(10),
            ceilings: Ceilings::default(),
            files: FileLimits::default(),
            // Two hours of WAV as speech is usually recorded: 16 kHz, 16 bits.
            recording_bytes: 256 << 20,
            embedding_model: None,
            deletes_without_key: false,
            moderation_model: None,
            moderation_format: None,
            ollama_api: Vec::new(),
        }
    }
}

impl Policy {
    /// Returns the profile for this model.
    pub fn profile_of(&self, model: &str) -> Profile {
        self.models
            .get(model)
            .and_then(|its| its.profile)
            .unwrap_or(self.profile)
    }

    /// Returns the strictness for this model.
    pub fn strictness_of(&self, model: &str) -> Strictness {
        self.models
            .get(model)
            .and_then(|its| its.strictness)
            .unwrap_or(self.strictness)
    }

    /// Returns the configured options for this model, if any.
    pub(crate) fn options_of(&self, model: &str) -> Option<&Map<String, Value>> {
        self.models
            .get(model)
            .map(|its| &its.options)
            .filter(|options| !options.is_empty())
    }
}
