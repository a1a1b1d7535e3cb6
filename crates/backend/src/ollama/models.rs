//! Translates `/api/tags`, `/api/show` and `/api/ps` to OpenAI's models and their abilities.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use loggia_wire::ollama::{ListedModel, RunningModels, Show, Tags};
use loggia_wire::openai::Model;
use serde_json::json;

use super::names;
use crate::{Abilities, Ability, AbilitySet, OptionNames, SchemaEngine, ToolSchemas, fingerprint};

/// How long properties are cached. A model can be replaced under the same name.
const BELIEVED_FOR: Duration = Duration::from_mins(5);

/// The maximum number of cached models. Clients choose the names, so the number must be limited.
const REMEMBERED: usize = 1024;

/// Abilities of Ollama that do not depend on the model.
const ALWAYS: [Ability; 9] = [
    // If the template does not support tools, the system message describes them
    // (`tool_calls::with_described_tools`).
    Ability::Tools,
    Ability::SingleToolCall,
    Ability::JsonObject,
    Ability::JsonSchema,
    Ability::Logprobs,
    Ability::Seed,
    Ability::KeepAlive,
    Ability::EngineOptions,
    // `think: false`, which models without reasoning accept too.
    Ability::NoReasoning,
];

/// The abilities for Ollama's capabilities of a model.
const CAPABILITIES: [(&str, Ability); 6] = [
    ("completion", Ability::Chat),
    ("embedding", Ability::Embeddings),
    ("thinking", Ability::Reasoning),
    ("vision", Ability::Images),
    ("audio", Ability::Audio),
    // The model's template supports a suffix.
    ("insert", Ability::FillInTheMiddle),
];

/// The known properties of one model.
#[derive(Debug)]
pub(super) struct ModelProperties {
    pub(super) abilities: Arc<Abilities>,
    pub(super) fingerprint: Arc<str>,
    /// Whether the model's template supports tools, calls and results.
    pub(super) knows_tools: bool,
    /// The largest context size that Loggia may request. `None` if it is unknown, or if the
    /// Modelfile sets the size.
    pub(super) context_most: Option<u64>,
    /// The token limit for answers, if the Modelfile sets one. A negative value means no limit.
    pub(super) num_predict: Option<i64>,
    /// Whether Ollama reports how long a prompt is: older versions truncate it silently, and then
    /// count the rest.
    pub(super) counts_prompts: bool,
    /// The context size that was last chosen or found loaded. 0 if neither has happened.
    context_kept: AtomicU64,
}

impl ModelProperties {
    /// Returns the context size that was last chosen or found loaded.
    pub(super) fn context_kept(&self) -> Option<u64> {
        Some(self.context_kept.load(Ordering::Relaxed)).filter(|&size| size > 0)
    }

    /// Stores a context size. Returns whether it is new.
    pub(super) fn keep_context(&self, size: u64) -> bool {
        self.context_kept.swap(size, Ordering::Relaxed) != size
    }
}

impl ModelProperties {
    pub(super) fn from_show(backend: &str, show: &Show, digest: &str, version: &str) -> Self {
        Self {
            abilities: Arc::new(abilities(show)),
            fingerprint: fingerprint(&["ollama", backend, digest, version]),
            knows_tools: is_told(show, "tools"),
            context_most: show.context_length().filter(|_| show.num_ctx().is_none()),
            num_predict: show.num_predict(),
            counts_prompts: !cuts_in_silence(version),
            context_kept: AtomicU64::new(0),
        }
    }

    /// Returns the properties of a model that the service reports nothing about: all features are
    /// tried.
    pub(super) fn nothing(backend: &str, model: &str) -> Self {
        let can = CAPABILITIES
            .iter()
            .fold(AbilitySet::of(&ALWAYS), |set, &(_, ability)| {
                set.with(ability)
            });
        Self {
            abilities: Arc::new(able(can, None)),
            fingerprint: fingerprint(&["ollama", backend, model]),
            knows_tools: true,
            context_most: None,
            num_predict: None,
            counts_prompts: true,
            context_kept: AtomicU64::new(0),
        }
    }
}

/// A cache of the properties of recently used models. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct ModelMemory {
    models: Arc<Mutex<Remembered>>,
    /// Whether the warning about an old Ollama has been logged.
    told_old: Arc<AtomicBool>,
}

/// The properties and their age, by the model's name.
type Remembered = HashMap<String, (Instant, Arc<ModelProperties>)>;

impl ModelMemory {
    pub(super) fn recall(&self, model: &str) -> Option<Arc<ModelProperties>> {
        let known = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, known) = known.get(model)?;
        (since.elapsed() < BELIEVED_FOR).then(|| Arc::clone(known))
    }

    pub(super) fn keep(&self, model: &str, what: Arc<ModelProperties>) {
        let mut known = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(model.to_owned(), (Instant::now(), what));
    }

    /// Removes a deleted model from the cache.
    pub(super) fn forget(&self, model: &str) {
        self.models
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(model);
    }

    /// Returns true once, if this version truncates long prompts silently and no warning has been
    /// logged yet.
    pub(super) fn is_first_to_tell_old(&self, version: &str) -> bool {
        cuts_in_silence(version) && !self.told_old.swap(true, Ordering::Relaxed)
    }
}

/// The first version that supports `truncate` and `shift`.
const FIRST_NOT_TO_CUT: [u32; 3] = [0, 12, 6];

/// Returns whether a version is older than that. Builds without a version report `0.0.0`, which
/// counts as new.
fn cuts_in_silence(version: &str) -> bool {
    let numbers = version
        .split(['-', '+'])
        .next()
        .unwrap_or_default()
        .split('.');
    let numbers: Option<Vec<u32>> = numbers.map(|number| number.parse().ok()).collect();
    numbers.is_some_and(|numbers| {
        numbers.iter().any(|&number| number > 0) && numbers.as_slice() < FIRST_NOT_TO_CUT.as_slice()
    })
}

fn abilities(show: &Show) -> Abilities {
    let mut set = AbilitySet::of(&ALWAYS);
    for (name, ability) in CAPABILITIES {
        set = if is_told(show, name) {
            set.with(ability)
        } else {
            set.without(ability)
        };
    }
    // If the template does not support tools, a message describes them.
    let tool_schemas = if is_told(show, "tools") {
        ToolSchemas::Ollama
    } else {
        ToolSchemas::Whole
    };
    Abilities {
        tool_schemas,
        ..able(set, context_length(show))
    }
}

/// Returns the size of the context: the model's, or the smaller one of its Modelfile. Loggia chooses
/// no size for a model whose Modelfile does.
fn context_length(show: &Show) -> Option<u64> {
    let sizes = [show.context_length(), show.num_ctx()];
    sizes.into_iter().flatten().min()
}

/// Returns whether Ollama reports this capability. Versions before 0.6 report none, and all
/// features are tried.
fn is_told(show: &Show, name: &str) -> bool {
    show.capabilities.is_empty()
        || show
            .capabilities
            .iter()
            .any(|capability| capability == name)
}

fn able(can: AbilitySet, context_length: Option<u64>) -> Abilities {
    Abilities {
        can,
        context_length,
        schemas: SchemaEngine::LlamaCpp,
        options: OptionNames::Ollama,
        tool_schemas: ToolSchemas::Ollama,
        ..Abilities::default()
    }
}

/// Returns the list for `/v1/models`.
pub(super) fn list(tags: &Tags) -> Vec<Model> {
    tags.models
        .iter()
        .map(|listed| model(&listed.name, listed))
        .collect()
}

/// Returns the model with this name, as Ollama compares names. An exact match takes precedence.
pub(super) fn find<'a>(tags: &'a Tags, id: &str) -> Option<&'a ListedModel> {
    let exactly = tags.models.iter().find(|listed| listed.name == id);
    exactly.or_else(|| {
        tags.models
            .iter()
            .find(|listed| names::are_same(&listed.name, id))
    })
}

/// Returns the digest of this model's manifest.
pub(super) fn digest(tags: &Tags, id: &str) -> Option<String> {
    find(tags, id).map(|listed| listed.digest.clone())
}

/// Returns the model for `/v1/models/{id}`, with properties that OpenAI's API does not have.
pub(super) fn described(
    id: &str,
    listed: &ListedModel,
    show: &Show,
    running: &RunningModels,
    chosen: Option<u64>,
) -> Model {
    let mut model = model(id, listed);
    let loaded = loaded_context(running, &listed.name);
    let fields = [
        ("context_length", json!(show.context_length())),
        ("chosen_context_length", json!(chosen)),
        ("loaded_context_length", json!(loaded)),
        ("capabilities", json!(show.capabilities)),
        ("family", json!(show.details.family)),
        ("parameter_size", json!(show.details.parameter_size)),
        ("quantization_level", json!(show.details.quantization_level)),
        ("size", json!(listed.size)),
    ];
    model.extra.extend(
        fields
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(k, v)| (k.to_owned(), v)),
    );
    model
}

/// Returns the context size that a model is loaded with, if it is loaded.
pub(super) fn loaded_context(running: &RunningModels, id: &str) -> Option<u64> {
    running
        .models
        .iter()
        .find(|loaded| names::are_same(&loaded.name, id))?
        .context_length
}

fn model(id: &str, listed: &ListedModel) -> Model {
    let modified: Option<Timestamp> = listed.modified_at.parse().ok();
    let created = modified
        .and_then(|modified| u64::try_from(modified.as_second()).ok())
        .unwrap_or(0);
    Model::new(id, created, owner(id))
}

/// Returns `library` for Ollama's own models, otherwise the part before the slash, as Ollama's own
/// `/v1` does.
fn owner(id: &str) -> &str {
    id.rsplit_once('/').map_or("library", |(owner, _)| owner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_context_is_the_models_or_the_smaller_one_of_its_modelfile() {
        let context = |parameters: &str| {
            let show = json!({"parameters": parameters, "capabilities": ["completion"],
                "model_info": {"general.architecture": "a", "a.context_length": 8192}});
            abilities(&serde_json::from_value(show).unwrap()).context_length
        };
        assert_eq!(context(""), Some(8192));
        assert_eq!(context("num_ctx    2048"), Some(2048));
        assert_eq!(context("num_ctx    100000"), Some(8192));
    }

    #[test]
    fn an_ollama_that_cuts_in_silence_is_told_of_once() {
        for old in ["0.12.5", "0.6.0", "0.1.48", "0.12.5-rc1"] {
            let memory = ModelMemory::default();
            assert!(memory.is_first_to_tell_old(old), "{old}");
            assert!(!memory.clone().is_first_to_tell_old(old), "{old}");
        }
        for other in [
            "0.12.6",
            "0.33.0",
            "1.0.0",
            "0.12.6-rc0",
            "0.0.0",
            "",
            "main",
            "0.x",
        ] {
            assert!(
                !ModelMemory::default().is_first_to_tell_old(other),
                "{other}"
            );
        }
    }
}
