//! `[per_model."NAME"]`: settings of one model or alias.

use std::collections::BTreeMap;
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
