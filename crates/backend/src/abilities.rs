//! What a model's backend can honour, so that the door can refuse the rest by name.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// One thing that a request can ask for and not every backend can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ability {
    /// `tools`: the model may call.
    Tools,
    /// `tool_choice` `required`, a named function, `allowed_tools`: the model must call.
    ToolChoice,
    /// Earlier calls whose arguments are no JSON object reach the engine as they are. Without it
    /// they are made an object ([`conversation::arguments`](crate::conversation::arguments)).
    TextArguments,
    /// `strict` functions where the model may call or not: what it calls keeps to their schemas.
    StrictTools,
    /// `parallel_tool_calls: false` holds.
    SingleToolCall,
    /// `response_format` `json_object`.
    JsonObject,
    /// `response_format` `json_schema`.
    JsonSchema,
    /// `grammar`, in GBNF, which is llama.cpp's and not OpenAI's.
    Grammar,
    /// `logit_bias`.
    LogitBias,
    /// `logprobs`, `top_logprobs`.
    Logprobs,
    /// `n` above 1.
    SeveralChoices,
    /// `seed`.
    Seed,
    /// `image_url` parts.
    Images,
    /// `image_url` parts with http(s) URLs, which it fetches by itself ([`fetch_images`](crate::fetch_images)
    /// does it for others).
    RemoteImages,
    /// `input_audio` parts.
    Audio,
    /// `file` parts.
    Files,
    /// `reasoning_effort`: whether the model reasons, or how much, can be chosen.
    Reasoning,
    /// `reasoning_effort: none`: the model can answer without reasoning, or never reasons.
    NoReasoning,
    /// `keep_alive`: the model is kept loaded for as long as the client says.
    KeepAlive,
    /// Ollama's other fields in the body (`options`, `think`, `num_ctx`, `top_k`, `min_p`,
    /// `repeat_penalty`).
    EngineOptions,
    /// `suffix` of a completion: the model has tokens for what comes before, after and between.
    FillInTheMiddle,
    /// Token ids as the `prompt` of a completion, or the `input` of embeddings.
    TokenPrompts,
    /// Several prompts in one completion.
    SeveralPrompts,
    /// `best_of` above `n`.
    BestOf,
    /// `echo` of a completion.
    Echo,
    /// `echo` and `logprobs` together: those of the prompt's tokens too; and no token at all beyond
    /// it (`max_tokens: 0`).
    PromptLogprobs,
    /// Fields that Loggia does not know reach an engine that may know them.
    UnknownFields,
    /// To generate text: `/v1/chat/completions` and `/v1/completions`. In every set but one that
    /// says otherwise: it is what a backend is for.
    Chat,
    /// `/v1/embeddings`.
    Embeddings,
    /// What OpenAI's API has and Loggia leaves to the engine: `web_search_options`, `audio`,
    /// `modalities`, `moderation`, hints and labels.
    HostedFields,
}

/// A set of abilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AbilitySet(u64);

impl Default for AbilitySet {
    /// To answer chats, and nothing else.
    fn default() -> Self {
        Self::EMPTY.with(Ability::Chat)
    }
}

impl AbilitySet {
    const EMPTY: Self = Self(0);

    /// What is assumed of an engine that speaks OpenAI's API and of which nothing else is known: it
    /// refuses what it cannot do.
    ///
    /// A list, so that an ability that is added later is not claimed for every such engine.
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

    /// These abilities, and to answer chats.
    pub fn of(abilities: &[Ability]) -> Self {
        abilities
            .iter()
            .fold(Self::default(), |set, &ability| set.with(ability))
    }

    /// The set with this ability.
    #[must_use]
    pub const fn with(self, ability: Ability) -> Self {
        Self(self.0 | 1 << ability as u64)
    }

    /// The set without this ability.
    #[must_use]
    pub const fn without(self, ability: Ability) -> Self {
        Self(self.0 & !(1 << ability as u64))
    }

    /// Whether the set has this ability.
    pub const fn has(self, ability: Ability) -> bool {
        self.0 & 1 << ability as u64 != 0
    }
}

/// What holds an answer to a JSON schema: each knows other keywords of JSON Schema, and passes over
/// the rest without a word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SchemaEngine {
    /// An engine that judges a schema by itself.
    #[default]
    Own,
    /// llama.cpp's converter of JSON schemas to grammars, which is Ollama's too.
    LlamaCpp,
    /// llguidance.
    Llguidance,
}

/// How much of a tool's `parameters` reaches a model that may call it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolSchemas {
    /// All of it.
    #[default]
    Whole,
    /// What Ollama's own types keep ([`lost_of_tools`](crate::ollama::lost_of_tools)).
    Ollama,
}

/// Whose names stand in Ollama's `options`: each engine passes over those that it does not know
/// without a word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptionNames {
    /// Nobody's that is known: there are no options here, or the engine judges them by itself.
    #[default]
    None,
    /// Ollama's.
    Ollama,
    /// The embedded engine's.
    Embedded,
}

impl OptionNames {
    /// The options that have an effect.
    pub fn names(self) -> &'static [&'static str] {
        match self {
            Self::None => &[],
            Self::Ollama => crate::ollama::OPTIONS,
            Self::Embedded => EMBEDDED_OPTIONS,
        }
    }

    /// Whether the engine refuses any other. Ollama passes it over: another version of it may know
    /// it.
    pub fn are_all(self) -> bool {
        self == Self::Embedded
    }
}

/// What the embedded engine makes something of.
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

/// The top-level fields that an engine reads of a request, where it is known: it passes over any
/// other without a word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownFields {
    /// Those of `/v1/chat/completions`.
    pub chat: Option<BTreeSet<String>>,
    /// Those of `/v1/completions`.
    pub completion: Option<BTreeSet<String>>,
    /// Those of `/v1/embeddings`.
    pub embedding: Option<BTreeSet<String>>,
}

/// What a backend can honour for one model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Abilities {
    /// What it can do.
    pub can: AbilitySet,
    /// The longest prompt and answer together, in tokens, where known.
    pub context_length: Option<u64>,
    /// What holds an answer to a JSON schema.
    pub schemas: SchemaEngine,
    /// How much of the tools' parameters a model is shown.
    #[serde(default)]
    pub tool_schemas: ToolSchemas,
    /// The names in `options` that it knows.
    pub options: OptionNames,
    /// How many tokens the model's vocabulary has, where known.
    pub vocabulary: Option<u64>,
    /// The variables of `chat_template_kwargs` that the model's chat template reads, where Loggia
    /// renders it.
    pub template_variables: BTreeSet<String>,
    /// The fields that the engine reads, where that is known. It is not told across processes.
    #[serde(skip)]
    pub fields: Option<Arc<KnownFields>>,
}

impl Abilities {
    /// Whether it can do this.
    pub fn has(&self, ability: Ability) -> bool {
        self.can.has(ability)
    }

    /// The top-level fields of a chat that the engine reads, where that is known.
    pub fn chat_fields(&self) -> Option<&BTreeSet<String>> {
        self.fields.as_ref()?.chat.as_ref()
    }

    /// The top-level fields of a completion that the engine reads, where that is known.
    pub fn completion_fields(&self) -> Option<&BTreeSet<String>> {
        self.fields.as_ref()?.completion.as_ref()
    }

    /// The top-level fields of a request for embeddings that the engine reads, where that is known.
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
