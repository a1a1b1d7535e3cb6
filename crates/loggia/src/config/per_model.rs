//! `[per_model."NAME"]`: settings of one model, or of one alias.

use std::collections::BTreeMap;
use std::str::FromStr;

use loggia_api::ModelPolicy;
use loggia_backend::Profile;
use serde::Deserialize;

use super::entries::entries;
use super::value::{ModelName, SamplingProfile, ValueError, strictness};

/// The settings of single models, by their names.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(transparent)]
pub(crate) struct PerModels(pub(crate) BTreeMap<String, PerModel>);

impl FromStr for PerModels {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        entries(text)
    }
}

/// The settings that one model, or one alias, can have to itself.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PerModel {
    pub(crate) sampling_profile: Option<SamplingProfile>,
    pub(crate) strict: Option<bool>,
    pub(crate) lenient: Option<bool>,
    /// Ollama's options, for requests that do not say otherwise.
    #[serde(default)]
    pub(crate) options: toml::Table,
    /// A smaller model that guesses ahead for an embedded one.
    pub(crate) draft: Option<ModelName>,
    /// The most tokens that it guesses in a step.
    pub(crate) draft_tokens: Option<u32>,
    /// Whether it guesses without measuring whether that pays.
    pub(crate) draft_always: Option<bool>,
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
