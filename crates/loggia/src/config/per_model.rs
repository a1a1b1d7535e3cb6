//! `[per_model."NAME"]`: settings of one model or alias.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use loggia_api::ModelPolicy;
use loggia_backend::Profile;
use serde::Deserialize;

use super::entries::entries;
use super::value::{CacheType, ModelName, SamplingProfile, ValueError, strictness};

/// The settings of single models, by model name.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(transparent)]
pub(crate) struct PerModels(pub(crate) BTreeMap<String, PerModel>);

impl PerModels {
    /// The entries that differ from other ones and are not part of the policy: the embedded engine
    /// reads them when it starts.
    pub(super) fn of_engine_changed_since(&self, other: &Self) -> Vec<&'static str> {
        let mut changed = BTreeSet::new();
        for name in self.0.keys().chain(other.0.keys()) {
            let (none, now, before) = (PerModel::default(), self.0.get(name), other.0.get(name));
            let (now, before) = (now.unwrap_or(&none), before.unwrap_or(&none));
            changed.extend(now.of_engine_changed_since(before));
        }
        changed.into_iter().collect()
    }
}

impl FromStr for PerModels {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        entries(text)
    }
}

/// The settings of one model or alias.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PerModel {
    pub(crate) sampling_profile: Option<SamplingProfile>,
    pub(crate) strict: Option<bool>,
    pub(crate) lenient: Option<bool>,
    /// Ollama's options, for requests that do not set them.
    #[serde(default)]
    pub(crate) options: toml::Table,
    /// The draft model of an embedded model, for speculative decoding.
    pub(crate) draft: Option<ModelName>,
    /// The most tokens that the draft proposes in a step.
    pub(crate) draft_tokens: Option<u32>,
    /// Whether to use the draft even if it is measured to be slower.
    pub(crate) draft_always: Option<bool>,
    /// The number format of keys in the KV cache of an embedded model.
    pub(crate) cache_type_k: Option<CacheType>,
    /// The number format of values.
    pub(crate) cache_type_v: Option<CacheType>,
}

impl PerModel {
    fn of_engine_changed_since(&self, other: &Self) -> Vec<&'static str> {
        // All fields, so that a new one is not forgotten.
        let Self {
            sampling_profile: _,
            strict: _,
            lenient: _,
            options: _,
            draft,
            draft_tokens,
            draft_always,
            cache_type_k,
            cache_type_v,
        } = self;
        let entries = [
            ("per_model.draft", *draft != other.draft),
            (
                "per_model.draft_tokens",
                *draft_tokens != other.draft_tokens,
            ),
            (
                "per_model.draft_always",
                *draft_always != other.draft_always,
            ),
            (
                "per_model.cache_type_k",
                *cache_type_k != other.cache_type_k,
            ),
            (
                "per_model.cache_type_v",
                *cache_type_v != other.cache_type_v,
            ),
        ];
        let changed = entries.into_iter().filter(|(_, differs)| *differs);
        changed.map(|(entry, _)| entry).collect()
    }

    pub(crate) fn policy(&self) -> ModelPolicy {
        let options = self
            .options
            .iter()
            .filter_map(|(name, value)| Some((name.clone(), json(value)?)));
        ModelPolicy {
            strictness: strictness(self.strict, self.lenient),
            profile: self.sampling_profile.map(Profile::from),
            options: options.collect(),
        }
    }
}

fn json(value: &toml::Value) -> Option<serde_json::Value> {
    serde_json::to_value(value).ok()
}
