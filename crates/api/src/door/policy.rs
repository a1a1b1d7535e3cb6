//! What the door lets pass: a value that the server makes from its configuration.

use std::collections::HashMap;
use std::time::Duration;

use loggia_backend::Profile;
use serde_json::{Map, Value};

/// What becomes of fields that a model's backend cannot honour (`docs/dialects.md`, part 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strictness {
    /// Whatever cannot be honoured is refused, hints and unknown fields too.
    Strict,
    /// What cannot be honoured is dropped and named in `x-loggia-ignored`. Refused is what would
    /// give an answer that the client asked to be protected from: a format that cannot hold, a call
    /// that cannot be made.
    #[default]
    Plain,
    /// That is dropped too, and named in `x-loggia-ignored`.
    Lenient,
}

/// What the door lets pass, and how long it waits.
#[derive(Clone, Debug)]
pub struct Policy {
    /// What becomes of fields that cannot be honoured.
    pub strictness: Strictness,
    /// How sampling fields are read.
    pub profile: Profile,
    /// What is otherwise for some models, by the name that the client asks for: an alias can have
    /// its own.
    pub models: HashMap<String, ModelPolicy>,
    /// The most bytes of a request's body; past that, 413.
    pub body_limit: usize,
    /// How long a request's body may take to come; past that, 408.
    pub body_within: Duration,
    /// How long a stream waits for the engine before it is begun with 200 and heartbeats. `None`:
    /// as long as it takes.
    pub heartbeat_after: Option<Duration>,
    /// How often a heartbeat is sent from then on, while there is nothing else to send. Zero: only
    /// the first one.
    pub heartbeat_every: Duration,
    /// The most that one request may ask for.
    pub ceilings: Ceilings,
    /// Whether a request without a [`Caller`](crate::Caller) may delete models. Never for a web
    /// page.
    pub deletes_without_key: bool,
}

/// What is otherwise for one model; what is `None` is as for all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelPolicy {
    /// What becomes of fields that cannot be honoured.
    pub strictness: Option<Strictness>,
    /// How sampling fields are read.
    pub profile: Option<Profile>,
    /// Ollama's `options` (`num_ctx`, `top_k`, …) that hold where the request does not say
    /// otherwise. For backends that take them.
    pub options: Map<String, Value>,
}

/// The most that one request may ask for; past that, a 400 that names the field and the number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ceilings {
    /// `n`, and `best_of` of a completion.
    pub choices: usize,
    /// Entries of `messages`.
    pub messages: usize,
    /// Prompts of one completion.
    pub prompts: usize,
    /// Entries of `input` of embeddings.
    pub inputs: usize,
    /// Entries of `tools` and `functions`.
    pub tools: usize,
    /// Images, sounds and files in all messages together.
    pub media: usize,
    /// Bytes of `data:` URLs and sounds in all messages together, as they are sent (in base64).
    pub media_bytes: usize,
    /// Bytes of one JSON schema.
    pub schema_bytes: usize,
    /// How deep a JSON schema may nest.
    pub schema_depth: usize,
    /// Entries of `logit_bias`.
    pub logit_bias: usize,
    /// Bytes of one stop string.
    pub stop_bytes: usize,
    /// Tokens of an answer where the client names no limit. `None`: the model's context is the
    /// limit.
    pub answer_tokens: Option<u32>,
    /// How long a request may take altogether. `None`: as long as the engine goes on sending.
    pub whole_time: Option<Duration>,
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
            deletes_without_key: false,
        }
    }
}

impl Policy {
    /// How sampling fields are read for this model.
    pub fn profile_of(&self, model: &str) -> Profile {
        self.models
            .get(model)
            .and_then(|its| its.profile)
            .unwrap_or(self.profile)
    }

    /// What becomes of fields that this model cannot honour.
    pub fn strictness_of(&self, model: &str) -> Strictness {
        self.models
            .get(model)
            .and_then(|its| its.strictness)
            .unwrap_or(self.strictness)
    }

    /// Options for this model, where there are any.
    pub(crate) fn options_of(&self, model: &str) -> Option<&Map<String, Value>> {
        self.models
            .get(model)
            .map(|its| &its.options)
            .filter(|options| !options.is_empty())
    }
}
