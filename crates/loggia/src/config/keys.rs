//! `[[key]]`: who may use the API. A key is read from the file or from a variable, never from a
//! flag, where every user of the machine could see it; what is kept of it is its SHA-256.

use std::str::FromStr;
use std::sync::Arc;

use loggia_api::{Caller, ModelPattern};
use loggia_server::{KeyDigest, Keys};
use serde::{Deserialize, Deserializer};

use super::environment::Environment;
use super::error::ConfigError;
use super::list::list;
use super::value::{ValueError, is_plain_name, strictness, text, variable};

/// The shortest key. 16 random characters are some 95 bits: nobody guesses them.
const SHORTEST: usize = 16;

/// How the variables that hold keys begin.
const PREFIX: &str = "LOGGIA_KEY_";

/// A key, by its name. Where its text is to come from the environment, its digest is not here
/// before [`give_digests`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "KeyTable")]
pub(crate) struct ApiKey {
    pub(crate) name: String,
    pub(crate) digest: Option<KeyDigest>,
    pub(crate) strict: Option<bool>,
    pub(crate) lenient: Option<bool>,
    pub(crate) models: Option<Vec<ModelPattern>>,
    pub(crate) may_delete_models: bool,
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
        })
    }
}

/// A name alone, as `LOGGIA_KEYS` lists them.
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
        };
        nothing_else.try_into()
    }
}

impl ApiKey {
    /// The environment variable that holds it: `LOGGIA_KEY_MY_PHONE` for `my-phone`.
    pub(crate) fn variable(&self) -> String {
        format!("{PREFIX}{}", variable(&self.name))
    }

    fn caller(&self) -> Caller {
        Caller {
            name: self.name.as_str().into(),
            strictness: strictness(self.strict, self.lenient),
            models: self.models.as_deref().map(Arc::from),
            may_delete_models: self.may_delete_models,
        }
    }
}

/// The keys as the server wants them.
pub(crate) fn keys(all: &[ApiKey]) -> Keys {
    Keys::new(
        all.iter()
            .filter_map(|key| Some((key.digest?, key.caller()))),
    )
}

/// Gives each key what the environment holds for its name. Every key has a name and a text of its
/// own.
pub(super) fn give_digests(keys: &mut [ApiKey], env: Environment<'_>) -> Result<(), ConfigError> {
    for at in 0..keys.len() {
        let (before, rest) = keys.split_at_mut(at);
        let key = &mut rest[0];
        let name = key.variable();
        if let Some(text) = env(&name) {
            // Files that hold a key tend to end with a line end.
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

/// A variable that looks as if it held a key, and holds none: whoever set it believes that it opens
/// something, or keeps others out.
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
