//! The text of a key that is created while servers run, and the parts of it that are stored.
//!
//! `sk-loggia-` and ten letters and digits are its prefix, by which the key is found and shown;
//! then come 256 random bits. Because so many bits cannot be guessed, SHA-256 without a salt is
//! enough.

use loggia_api::store::{StoredKey, StoredSecret};
use rand::RngExt as _;
use rand::distr::Alphanumeric;
use serde::{Deserialize, Serialize};

use super::KeyDigest;
use super::holder::Scope;
use crate::limits::KeyLimits;

const MARK: &str = "sk-loggia-";

/// The length of the part by which a key is found.
pub(crate) const PREFIX: usize = 20;

/// The length of the secret part: 43 letters and digits have 256 bits.
const SECRET: usize = 43;

/// The prefix of a key.
pub(crate) type Prefix = [u8; PREFIX];

/// The prefix of a text that may be such a key.
pub(crate) fn prefix(key: &[u8]) -> Option<&Prefix> {
    let (prefix, _) = key.split_first_chunk::<PREFIX>()?;
    let may_be_one = key.len() == PREFIX + SECRET && prefix.starts_with(MARK.as_bytes());
    may_be_one.then_some(prefix)
}

/// Creates the text of a new key, and the parts of it that are stored.
pub fn new_secret() -> (String, StoredSecret) {
    let mut rng = rand::rng();
    let mut text = MARK.to_owned();
    while text.len() < PREFIX + SECRET {
        text.push(char::from(rng.sample(Alphanumeric)));
    }
    let stored = StoredSecret {
        prefix: text[..PREFIX].to_owned(),
        digest: KeyDigest::of(&text).hex(),
    };
    (text, stored)
}

/// The scopes and limits of a key, as they are stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeySettings {
    /// The scopes of the key. `None`: chat and files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<Scope>>,
    /// The models that the key may use; patterns may contain one `*`. `None`: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub models: Option<Vec<String>>,
    /// Whether the key may delete those models.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub may_delete_models: bool,
    /// The key's limits, for example requests per minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<KeyLimits>,
    /// The tokens that the key may use in its life.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<u64>,
}

/// A key that was just created. Only now its text is known.
#[derive(Debug)]
pub struct NewKey {
    /// The text, to be shown once.
    pub text: String,
    /// The stored form of the key.
    pub stored: StoredKey,
}

impl NewKey {
    /// Creates a key. The times are Unix seconds.
    pub fn new(name: &str, settings: &KeySettings, now: i64, expires: Option<i64>) -> Self {
        let (text, secret) = new_secret();
        let id = rand::rng().sample_iter(Alphanumeric).take(16);
        let id: String = id.map(char::from).collect();
        let stored = StoredKey {
            id: format!("key_{id}"),
            name: name.to_owned(),
            secret,
            earlier: None,
            // Cannot fail: all keys of maps are texts.
            settings: serde_json::to_string(settings).unwrap_or_default(),
            created: now,
            expires,
            revoked: None,
            used: 0,
        };
        Self { text, stored }
    }
}

/// Whether a text can be the name of a key: letters, digits, `-`, `_` and `.`, at most 64.
pub fn is_key_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=64).contains(&name.len()) && name.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_is_found_by_its_prefix_and_known_by_its_digest() {
        let (text, stored) = new_secret();
        let (other, _) = new_secret();
        assert_ne!(text, other);
        assert_eq!(text.len(), PREFIX + SECRET);
        let found = prefix(text.as_bytes()).expect("a prefix");
        assert_eq!(&found[..], stored.prefix.as_bytes());
        assert_eq!(stored.digest, KeyDigest::of(&text).hex());
        assert!(prefix(&text.as_bytes()[1..]).is_none());
        assert!(prefix(&text.as_bytes()[..PREFIX + SECRET - 1]).is_none());
        assert!(prefix(b"").is_none());
    }

    #[test]
    fn settings_are_stored_as_short_as_they_are() {
        let text = |settings: &KeySettings| serde_json::to_string(settings).expect("JSON");
        assert_eq!(text(&KeySettings::default()), "{}");
        let settings = KeySettings {
            scopes: Some(vec![Scope::Admin]),
            budget: Some(5),
            ..KeySettings::default()
        };
        assert_eq!(text(&settings), r#"{"scopes":["admin"],"budget":5}"#);
        let again: KeySettings = serde_json::from_str(&text(&settings)).expect("settings");
        assert_eq!(again, settings);
    }

    #[test]
    fn names_are_plain() {
        assert!(is_key_name("team-a_1.x"));
        for name in ["", "a b", "a/b", "user:x", "é", &"x".repeat(65)] {
            assert!(!is_key_name(name), "{name}");
        }
    }
}
