//! The abilities of a backend for one model: what it can honour. `loggia-api` refuses or lists the
//! fields that need other abilities.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A feature that requests can use and that some backends lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ability {
    /// `tools`: the model may call functions.
    Tools,
    /// `tool_choice` with `required`, a function or `allowed_tools`: the model must call.
    ToolChoice,
    /// The engine accepts earlier calls whose arguments are not a JSON object. For other engines
    /// the arguments are made an object
    /// ([`conversation::arguments`](crate::conversation::arguments)).
    TextArguments,
    /// `strict` functions under `tool_choice: auto`: the arguments of a call match the schema.
    StrictTools,
    /// Grammars of custom tools: the text of a call matches the grammar. For optional calls,
    /// [`StrictTools`](Self::StrictTools) is needed too.
    InputGrammars,
    /// `parallel_tool_calls: false`: at most one call per answer.
    SingleToolCall,
    /// `response_format` `json_object`.
    JsonObject,
    /// `response_format` `json_schema`.
    JsonSchema,
    /// `grammar`, in GBNF: a field of llama.cpp, not of OpenAI.
    Grammar,
    /// `logit_bias`.
    LogitBias,
    /// `logprobs` and `top_logprobs`.
    Logprobs,
    /// `n` above 1.
    SeveralChoices,
    /// `seed`.
    Seed,
    /// `image_url` parts.
    Images,
    /// `image_url` parts with http(s) URLs: the engine fetches the images.
    /// [`fetch_images`](crate::fetch_images) does it for other engines.
    RemoteImages,
    /// `input_audio` parts.
    Audio,
    /// `file` parts.
    Files,
    /// `reasoning_effort`: the client can choose whether the model reasons, or how much.
    Reasoning,
    /// `reasoning_effort: none`: the model can answer without reasoning, or never reasons.
    NoReasoning,
    /// `keep_alive`: the client chooses how long the model stays loaded.
    KeepAlive,
    /// Other fields of Ollama's API in the body (`options`, `think`, `num_ctx`, `top_k`, `min_p`,
    /// `repeat_penalty`).
    EngineOptions,
    /// `suffix` of a completion: the model has special tokens for filling a gap.
    FillInTheMiddle,
    /// Token ids as the `prompt` of a completion or the `input` of embeddings.
    TokenPrompts,
    /// Several prompts in one completion.
    SeveralPrompts,
    /// `best_of` above `n`.
    BestOf,
    /// `echo` of a completion.
    Echo,
    /// `echo` with `logprobs`: log-probabilities of the prompt's tokens too, and no further token
    /// if `max_tokens` is 0.
    PromptLogprobs,
    /// The engine receives fields that Loggia does not know.
    UnknownFields,
    /// Text generation: `/v1/chat/completions` and `/v1/completions`. Every set has this ability
    /// unless it is removed.
    Chat,
    /// `/v1/embeddings`.
    Embeddings,
    /// `continue_final_message`: the answer continues the last message.
    Continuation,
    /// Fields of OpenAI's API that Loggia passes to the engine: `web_search_options`, `audio`,
    /// `modalities`, `moderation`, hints and labels.
    HostedFields,
    /// `service_tier`: requests wait in a [`Queue`](crate::queue::Queue), which knows priorities.
    ServiceTier,
}

/// A set of abilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AbilitySet(u64);

impl Default for AbilitySet {
    /// Returns the set that contains only [`Ability::Chat`].
    fn default() -> Self {
        Self::EMPTY.with(Ability::Chat)
    }
}

impl AbilitySet {
    const EMPTY: Self = Self(0);

    /// The abilities assumed for an unknown engine that speaks OpenAI's API. It refuses what it
    /// cannot do.
    ///
    /// The set is a list, so that no ability added later is claimed for such engines.
    pub const OPENAI_ENGINE: Self = Self::EMPTY
        .with(Ability::Tools)
        .with(Ability::ToolChoice)
        .with(Ability::TextArguments)
        .with(Ability::StrictTools)
        .with(Ability::SingleToolCall)
        .with(Ability::JsonObject)
        .with(Ability::JsonSchema)
        .with(Ability::Grammar)
        .with(Ability::LogitBias)
        .with(Ability::Logprobs)
        .with(Ability::SeveralChoices)
        .with(Ability::Seed)
        .with(Ability::Images)
        .with(Ability::RemoteImages)
        .with(Ability::Audio)
        .with(Ability::Files)
        .with(Ability::Reasoning)
        .with(Ability::NoReasoning)
        .with(Ability::KeepAlive)
        .with(Ability::EngineOptions)
        .with(Ability::FillInTheMiddle)
        .with(Ability::TokenPrompts)
        .with(Ability::SeveralPrompts)
        .with(Ability::BestOf)
        .with(Ability::Echo)
        .with(Ability::PromptLogprobs)
        .with(Ability::UnknownFields)
        .with(Ability::Chat)
        .with(Ability::Embeddings)
        .with(Ability::HostedFields);

    /// Creates a set with these abilities and [`Ability::Chat`].
    pub fn of(abilities: &[Ability]) -> Self {
        abilities
            .iter()
            .fold(Self::default(), |set, &ability| set.with(ability))
    }

    /// Returns the set with this ability added.
    #[must_use]
    pub const fn with(self, ability: Ability) -> Self {
        Self(self.0 | 1 << ability as u64)
    }

    /// Returns the set with this ability removed.
    #[must_use]
    pub const fn without(self, ability: Ability) -> Self {
        Self(self.0 & !(1 << ability as u64))
    }

    /// Returns the abilities that both sets contain.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Returns whether the set contains this ability.
    pub const fn has(self, ability: Ability) -> bool {
        self.0 & 1 << ability as u64 != 0
    }
}

/// The implementation that constrains answers to a JSON schema. Each supports other keywords of
/// JSON Schema and silently ignores the rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SchemaEngine {
    /// The engine checks the schema itself.
    #[default]
    Own,
    /// llama.cpp's converter from JSON schemas to grammars, which Ollama uses too.
    LlamaCpp,
    /// llguidance, which vLLM and `SGLang` can use.
    Llguidance,
}

/// How much of a tool's `parameters` the model sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolSchemas {
    /// The complete schema.
    #[default]
    Whole,
    /// The part that Ollama's types keep ([`lost_of_tools`](crate::ollama::lost_of_tools)).
    Ollama,
}

/// The engine whose names `options` may contain. Each engine silently ignores unknown options.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptionNames {
    /// No known names: the model has no options, or the engine checks them itself.
    #[default]
    None,
    /// The options of Ollama.
    Ollama,
    /// The options of the embedded engine.
    Embedded,
}

impl OptionNames {
    /// Returns the names of the options that have an effect.
    pub fn names(self) -> &'static [&'static str] {
        match self {
            Self::None => &[],
            Self::Ollama => crate::ollama::OPTIONS,
            Self::Embedded => EMBEDDED_OPTIONS,
        }
    }

    /// Returns whether the list of names is complete, so that the engine refuses others. Ollama's
    /// list is not: another version may know more.
    pub fn are_all(self) -> bool {
        self == Self::Embedded
    }
}

/// The options that the embedded engine supports.
const EMBEDDED_OPTIONS: &[&str] = &[
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "seed",
    "stop",
    "num_predict",
    "num_ctx",
    "presence_penalty",
    "frequency_penalty",
    "repeat_penalty",
    "repeat_last_n",
];

/// The top-level fields that an engine reads, if known. It silently ignores all others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownFields {
    /// The fields of `/v1/chat/completions`.
    pub chat: Option<BTreeSet<String>>,
    /// The fields of `/v1/completions`.
    pub completion: Option<BTreeSet<String>>,
    /// The fields of `/v1/embeddings`.
    pub embedding: Option<BTreeSet<String>>,
}

/// The abilities and properties of a backend for one model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Abilities {
    /// The set of abilities.
    pub can: AbilitySet,
    /// The context length in tokens (prompt and answer together), if known.
    pub context_length: Option<u64>,
    /// The implementation that constrains answers to a JSON schema.
    pub schemas: SchemaEngine,
    /// How much of a tool's `parameters` the model sees.
    #[serde(default)]
    pub tool_schemas: ToolSchemas,
    /// The engine whose names `options` may contain.
    pub options: OptionNames,
    /// The size of the model's vocabulary in tokens, if known.
    pub vocabulary: Option<u64>,
    /// The variables of `chat_template_kwargs` that the model's chat template reads, if Loggia
    /// renders the template.
    pub template_variables: BTreeSet<String>,
    /// The top-level fields that the engine reads, if known. Not sent between processes.
    #[serde(skip)]
    pub fields: Option<Arc<KnownFields>>,
}

impl Abilities {
    /// Returns whether the backend has this ability.
    pub fn has(&self, ability: Ability) -> bool {
        self.can.has(ability)
    }

    /// Returns the top-level fields of a chat that the engine reads, if known.
    pub fn chat_fields(&self) -> Option<&BTreeSet<String>> {
        self.fields.as_ref()?.chat.as_ref()
    }

    /// Returns the top-level fields of a completion that the engine reads, if known.
    pub fn completion_fields(&self) -> Option<&BTreeSet<String>> {
        self.fields.as_ref()?.completion.as_ref()
    }

    /// Returns the top-level fields of an embeddings request that the engine reads, if known.
    pub fn embedding_fields(&self) -> Option<&BTreeSet<String>> {
        self.fields.as_ref()?.embedding.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_put_in() {
        let set = AbilitySet::of(&[Ability::Tools, Ability::HostedFields]).without(Ability::Tools);
        assert!(set.has(Ability::HostedFields) && !set.has(Ability::Tools));
        assert!(AbilitySet::OPENAI_ENGINE.has(Ability::UnknownFields));
        assert!(set.has(Ability::Chat) && !set.without(Ability::Chat).has(Ability::Chat));
    }
}
