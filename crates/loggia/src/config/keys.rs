//! `[[key]]`: the API keys. They come from the file or from variables, never from flags, which
//! every user of the machine can read. Only their SHA-256 digests are kept.

use std::str::FromStr;
use std::sync::Arc;

use loggia_api::{Caller, ModelPattern};
use loggia_server::{Holder, KeyDigest, KeyLimits, Scope};
use serde::{Deserialize, Deserializer};

use super::environment::Environment;
use super::error::ConfigError;
use super::key_limits::LimitsTable;
use super::list::list;
use super::value::{ValueError, is_plain_name, strictness, text, variable};

/// The shortest accepted key: 16 random characters are about 95 bits.
const SHORTEST: usize = 16;

/// The prefix of variables that have keys.
const PREFIX: &str = "LOGGIA_KEY_";

/// An API key. If its value is in the environment, [`give_digests`] sets the digest.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "KeyTable")]
pub(crate) struct ApiKey {
    pub(crate) name: String,
    pub(crate) digest: Option<KeyDigest>,
    pub(crate) strict: Option<bool>,
    pub(crate) lenient: Option<bool>,
    pub(crate) models: Option<Vec<ModelPattern>>,
    pub(crate) may_delete_models: bool,
    pub(crate) scopes: Option<Vec<Scope>>,
    pub(crate) limits: Option<KeyLimits>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyTable {
    name: String,
    #[serde(default, deserialize_with = "secret")]
    key: Option<String>,
    #[serde(default, deserialize_with = "secret")]
    sha256: Option<String>,
    strict: Option<bool>,
    lenient: Option<bool>,
    #[serde(default, deserialize_with = "list")]
    models: Option<Vec<String>>,
    #[serde(default)]
    may_delete_models: bool,
    scopes: Option<Vec<Scope>>,
    limits: Option<LimitsTable>,
}

impl TryFrom<KeyTable> for ApiKey {
    type Error = ValueError;

    fn try_from(table: KeyTable) -> Result<Self, ValueError> {
        let KeyTable {
            name,
            key,
            sha256,
            strict,
            lenient,
            models,
            may_delete_models,
            scopes,
            limits,
        } = table;
        if !is_plain_name(&name) {
            return Err(ValueError::KeyName(name));
        }
        let digest = match (key, sha256) {
            (Some(_), Some(_)) => return Err(ValueError::KeyTwice(name)),
            (Some(key), None) => Some(digest(&key)?),
            (None, Some(sha256)) => {
                Some(KeyDigest::from_hex(&sha256).ok_or(ValueError::KeyDigest)?)
            }
            (None, None) => None,
        };
        let models = models
            .map(|models| models.iter().map(|model| model.parse()).collect())
            .transpose()?;
        Ok(Self {
            name,
            digest,
            strict,
            lenient,
            models,
            may_delete_models,
            scopes,
            limits: limits.map(|limits| limits.0),
        })
    }
}

/// Parses a name, as `LOGGIA_KEYS` lists them. The key itself comes from another variable.
impl FromStr for ApiKey {
    type Err = ValueError;

    fn from_str(name: &str) -> Result<Self, ValueError> {
        let name = name.to_owned();
        let nothing_else = KeyTable {
            name,
            key: None,
            sha256: None,
            strict: None,
            lenient: None,
            models: None,
            may_delete_models: false,
            scopes: None,
            limits: None,
        };
        nothing_else.try_into()
    }
}

impl ApiKey {
    /// The variable that has this key: `LOGGIA_KEY_MY_PHONE` for `my-phone`.
    pub(crate) fn variable(&self) -> String {
        format!("{PREFIX}{}", variable(&self.name))
    }

    fn holder(&self) -> Holder {
        let caller = Caller {
            name: self.name.as_str().into(),
            strictness: strictness(self.strict, self.lenient),
            models: self.models.as_deref().map(Arc::from),
            may_delete_models: self.may_delete_models,
            may_have_priority: false,
        };
        let mut holder = Holder::from(caller);
        if let Some(scopes) = &self.scopes {
            holder = holder.with_scopes(scopes.iter().copied().collect());
        }
        match &self.limits {
            Some(limits) => holder.with_limits(limits.clone()),
            None => holder,
        }
    }
}

/// The keys for the server, each with its holder.
pub(crate) fn keys(all: &[ApiKey]) -> Vec<(KeyDigest, Holder)> {
    all.iter()
        .filter_map(|key| Some((key.digest?, key.holder())))
        .collect()
}

/// Sets the digests of keys whose values are in the environment. Fails if two keys have the same
/// name or value, or if one has no value.
pub(super) fn give_digests(keys: &mut [ApiKey], env: Environment<'_>) -> Result<(), ConfigError> {
    for at in 0..keys.len() {
        let (before, rest) = keys.split_at_mut(at);
        let key = &mut rest[0];
        let name = key.variable();
        if let Some(text) = env(&name) {
            // Files with a key often end with a newline.
            let found = digest(text.trim());
            key.digest = Some(found.map_err(|why| ConfigError::Variable {
                name,
                why: why.to_string(),
            })?);
        } else if key.digest.is_none() {
            return Err(ConfigError::NoKey {
                name: key.name.clone(),
                variable: name,
            });
        }
        if let Some(other) = before
            .iter()
            .find(|other| other.variable() == key.variable() || other.digest == key.digest)
        {
            return Err(ConfigError::TwoKeys(other.name.clone(), key.name.clone()));
        }
    }
    Ok(())
}

/// Fails if a variable has a key that is not configured: it would have no effect.
pub(crate) fn of_nobody(
    keys: &[ApiKey],
    mut variables: impl Iterator<Item = String>,
) -> Result<(), ConfigError> {
    let is_of_nobody =
        |name: &String| name.starts_with(PREFIX) && !keys.iter().any(|key| key.variable() == *name);
    variables
        .find(is_of_nobody)
        .map_or(Ok(()), |name| Err(ConfigError::KeyOfNobody(name)))
}

fn digest(key: &str) -> Result<KeyDigest, ValueError> {
    let fit = key.len() >= SHORTEST && key.bytes().all(|byte| byte.is_ascii_graphic());
    fit.then(|| KeyDigest::of(key)).ok_or(ValueError::ApiKey)
}

fn secret<'de, D: Deserializer<'de>>(input: D) -> Result<Option<String>, D::Error> {
    text(input).map(Some)
}
