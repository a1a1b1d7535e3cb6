//! `/api/tags`, `/api/show`, `/api/ps` → OpenAI's models, and what each can do.

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

/// How long what is known of a model is believed: a model can be made anew under the same name.
const BELIEVED_FOR: Duration = Duration::from_mins(5);

/// How many models are remembered. Names come from clients, so there must be an end to them.
const REMEMBERED: usize = 1024;

/// What Ollama can do whatever the model.
const ALWAYS: [Ability; 9] = [
    // Where its template knows nothing of them, tools are told in the system message
    // (`tool_calls::told`).
    Ability::Tools,
    Ability::SingleToolCall,
    Ability::JsonObject,
    Ability::JsonSchema,
    Ability::Logprobs,
    Ability::Seed,
    Ability::KeepAlive,
    Ability::EngineOptions,
    // `think: false`, which a model that does not reason takes too.
    Ability::NoReasoning,
];

/// What a model can do, by Ollama's name for it.
const CAPABILITIES: [(&str, Ability); 6] = [
    ("completion", Ability::Chat),
    ("embedding", Ability::Embeddings),
    ("thinking", Ability::Reasoning),
    ("vision", Ability::Images),
    ("audio", Ability::Audio),
    // Its template has a place for what comes after.
    ("insert", Ability::FillInTheMiddle),
];

/// What is known of one model.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) abilities: Arc<Abilities>,
    pub(super) fingerprint: Arc<str>,
    /// Whether its template has a place for tools, calls and results.
    pub(super) knows_tools: bool,
    /// The most tokens that Loggia may ask a context to hold. `None` where nothing is known, or the
    /// Modelfile sets the size.
    pub(super) context_most: Option<u64>,
    /// The most tokens of an answer, where the Modelfile sets it; no limit below 0.
    pub(super) num_predict: Option<i64>,
    /// The context size that was last chosen or found loaded; 0 where neither has happened.
    context_kept: AtomicU64,
}

impl Known {
    /// The context size that was last chosen or found loaded.
    pub(super) fn context_kept(&self) -> Option<u64> {
        Some(self.context_kept.load(Ordering::Relaxed)).filter(|&size| size > 0)
    }

    /// Remembers a context size; tells whether it is a new one.
    pub(super) fn keep_context(&self, size: u64) -> bool {
        self.context_kept.swap(size, Ordering::Relaxed) != size
    }
}

impl Known {
    pub(super) fn from_show(backend: &str, show: &Show, digest: &str, version: &str) -> Self {
        Self {
            abilities: Arc::new(abilities(show)),
            fingerprint: fingerprint(&["ollama", backend, digest, version]),
            knows_tools: is_told(show, "tools"),
            context_most: show.context_length().filter(|_| show.num_ctx().is_none()),
            num_predict: show.num_predict(),
            context_kept: AtomicU64::new(0),
        }
    }

    /// The service does not tell: everything is tried.
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
            context_kept: AtomicU64::new(0),
        }
    }
}

/// What is known of the models asked about lately. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct ModelMemory {
    models: Arc<Mutex<Remembered>>,
    /// Whether the log tells that this Ollama is old.
    told_old: Arc<AtomicBool>,
}

/// By the model's name, and since when.
type Remembered = HashMap<String, (Instant, Arc<Known>)>;

impl ModelMemory {
    pub(super) fn recall(&self, model: &str) -> Option<Arc<Known>> {
        let known = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, known) = known.get(model)?;
        (since.elapsed() < BELIEVED_FOR).then(|| Arc::clone(known))
    }

    pub(super) fn keep(&self, model: &str, what: Arc<Known>) {
        let mut known = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(model.to_owned(), (Instant::now(), what));
    }

    /// What is known of a model that is there no more.
    pub(super) fn forget(&self, model: &str) {
        self.models
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(model);
    }

    /// Whether this version cuts long prompts in silence and nobody has been told yet: true once.
    pub(super) fn is_first_to_tell_old(&self, version: &str) -> bool {
        cuts_in_silence(version) && !self.told_old.swap(true, Ordering::Relaxed)
    }
}

/// The first version that knows `truncate` and `shift`.
const FIRST_NOT_TO_CUT: [u32; 3] = [0, 12, 6];

/// Whether a version is older than that. One built without a number says `0.0.0`, which tells
/// nothing.
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
    // Where its template knows nothing of tools they are told of in a message.
    let tool_schemas = if is_told(show, "tools") {
        ToolSchemas::Ollama
    } else {
        ToolSchemas::Whole
    };
    Abilities {
        tool_schemas,
        ..able(set, show.context_length())
    }
}

/// Whether Ollama tells of this capability. Versions before 0.6 tell of none: then everything is
/// tried.
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

/// `/v1/models`.
pub(super) fn list(tags: &Tags) -> Vec<Model> {
    tags.models
        .iter()
        .map(|listed| model(&listed.name, listed))
        .collect()
}

/// The model of this name, as Ollama reads names; one that is called exactly so comes first.
pub(super) fn find<'a>(tags: &'a Tags, id: &str) -> Option<&'a ListedModel> {
    let exactly = tags.models.iter().find(|listed| listed.name == id);
    exactly.or_else(|| {
        tags.models
            .iter()
            .find(|listed| names::are_same(&listed.name, id))
    })
}

/// The digest of this model's manifest.
pub(super) fn digest(tags: &Tags, id: &str) -> Option<String> {
    find(tags, id).map(|listed| listed.digest.clone())
}

/// `/v1/models/{id}`: what OpenAI's API has no field for rides beside its four.
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

/// The context size that a model is loaded with, where it is.
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

/// `library` for Ollama's own, else the name before the slash: as Ollama's own layer has it.
fn owner(id: &str) -> &str {
    id.rsplit_once('/').map_or("library", |(owner, _)| owner)
}

#[cfg(test)]
mod tests {
    use super::*;

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
