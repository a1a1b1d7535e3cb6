//! How much the holder of a key may use: requests and tokens a minute, tokens a day, and answers
//! at once, of all models together and of single models.
//!
//! Reading order: [`KeyLimits`] (what an operator sets), `bucket.rs` (one limit, pure), `local.rs`
//! (the limits of all callers in this process), `shared/` (the same in Valkey or Redis, for
//! several servers), `meter.rs` (a request's way through them), `headers.rs` (what a client is
//! told).

mod bucket;
pub(crate) mod headers;
mod local;
pub(crate) mod meter;
mod shared;

use std::collections::BTreeMap;
use std::sync::Arc;

use loggia_api::ModelPattern;
use serde::{Deserialize, Serialize};

use bucket::Rate;

pub use shared::{BadLimitsUrl, SharedLimits};

/// The limits of a key, of all models together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeyLimits {
    /// The maximum number of requests per minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u64>,
    /// Tokens a minute, of prompts and answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_minute: Option<u64>,
    /// Tokens a day, of prompts and answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_day: Option<u64>,
    /// Answers at once, streamed or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub streams: Option<u64>,
    /// The limits of single models, in addition; patterns may contain one `*`. The longest pattern
    /// that fits counts.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub models: BTreeMap<String, Limits>,
}

/// The limits of a key for a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// The maximum number of requests per minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u64>,
    /// Tokens a minute, of prompts and answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_minute: Option<u64>,
    /// Tokens a day, of prompts and answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_day: Option<u64>,
    /// Answers at once, streamed or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub streams: Option<u64>,
}

impl KeyLimits {
    /// The limits of all models together.
    pub(crate) fn all(&self) -> Limits {
        Limits {
            requests_per_minute: self.requests_per_minute,
            tokens_per_minute: self.tokens_per_minute,
            tokens_per_day: self.tokens_per_day,
            streams: self.streams,
        }
    }

    /// The limits that a request for a model has to keep.
    fn of(&self, caller: Option<&str>, model: &str) -> Vec<Ruled> {
        let caller = caller.unwrap_or_default();
        let mut ruled = Vec::with_capacity(2);
        if self.all() != Limits::default() {
            ruled.push(Ruled {
                name: caller.into(),
                limits: self.all(),
                model: None,
            });
        }
        let found = self.models.iter().filter(|(pattern, _)| {
            let pattern = pattern.parse::<ModelPattern>();
            pattern.is_ok_and(|pattern| pattern.fits(model))
        });
        let found = found.max_by_key(|(pattern, _)| pattern.len());
        if let Some((pattern, limits)) = found {
            ruled.push(Ruled {
                // No name of a caller contains a space.
                name: format!("{caller} {pattern}").into(),
                limits: *limits,
                model: Some(model.into()),
            });
        }
        ruled
    }

    /// Returns the error in the limits, in words for the person who set them.
    pub fn mistake(&self) -> Option<String> {
        let wrong = self
            .models
            .keys()
            .find_map(|pattern| pattern.parse::<ModelPattern>().err());
        if let Some(error) = wrong {
            return Some(error.to_string());
        }
        let mut all = self.models.values().copied().chain([self.all()]);
        let is_zero = |limits: Limits| {
            let each = [
                limits.requests_per_minute,
                limits.tokens_per_minute,
                limits.tokens_per_day,
                limits.streams,
            ];
            each.contains(&Some(0))
        };
        all.any(is_zero)
            .then(|| "a limit must be at least 1; leave it out for no limit".to_owned())
    }
}

/// Limits, and the name under which their use is counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ruled {
    pub(crate) name: Arc<str>,
    pub(crate) limits: Limits,
    /// The model, if these are the limits of one model.
    pub(crate) model: Option<Arc<str>>,
}

/// One of the four limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Requests,
    Tokens,
    TokensOfDay,
    Streams,
}

impl Limits {
    pub(crate) fn requests(&self) -> Option<Rate> {
        self.requests_per_minute.map(Rate::a_minute)
    }

    pub(crate) fn tokens(&self) -> Option<Rate> {
        self.tokens_per_minute.map(Rate::a_minute)
    }

    pub(crate) fn tokens_of_day(&self) -> Option<Rate> {
        self.tokens_per_day.map(Rate::a_day)
    }

    /// The largest number of tokens that one request can have.
    pub(crate) fn most_tokens(&self) -> u64 {
        let each = [self.tokens_per_minute, self.tokens_per_day];
        each.into_iter().flatten().min().unwrap_or(u64::MAX)
    }

    /// Returns the limits of one of several servers, while it cannot reach the others. Each limit
    /// is at least one.
    pub(crate) fn share(&self, servers: u64) -> Self {
        let share = |limit: Option<u64>| limit.map(|limit| (limit / servers.max(1)).max(1));
        Self {
            requests_per_minute: share(self.requests_per_minute),
            tokens_per_minute: share(self.tokens_per_minute),
            tokens_per_day: share(self.tokens_per_day),
            streams: share(self.streams),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_keeps_the_limits_of_its_key_and_of_its_model() {
        let text =
            r#"{"requests_per_minute":60,"models":{"big-*":{"streams":1},"*":{"streams":4}}}"#;
        let limits: KeyLimits = serde_json::from_str(text).expect("limits");
        let names = |model: &str| {
            let ruled = limits.of(Some("alice"), model);
            let names = ruled.iter().map(|ruled| ruled.name.to_string());
            names.collect::<Vec<_>>()
        };
        assert_eq!(names("big-1"), ["alice", "alice big-*"]);
        assert_eq!(names("small"), ["alice", "alice *"]);
        assert_eq!(KeyLimits::default().of(None, "m"), []);
        assert_eq!(limits.mistake(), None);
        let again = serde_json::to_string(&limits).expect("JSON");
        assert_eq!(
            serde_json::from_str::<KeyLimits>(&again).expect("limits"),
            limits
        );
    }

    #[test]
    fn mistakes_are_named() {
        for text in [
            r#"{"streams":0}"#,
            r#"{"models":{"a":{"tokens_per_day":0}}}"#,
            r#"{"models":{"a**":{}}}"#,
        ] {
            let limits: KeyLimits = serde_json::from_str(text).expect("limits");
            assert!(limits.mistake().is_some(), "{text}");
        }
        assert!(serde_json::from_str::<KeyLimits>(r#"{"requests":1}"#).is_err());
    }

    #[test]
    fn a_share_is_a_part_and_never_nothing() {
        let limits = Limits {
            requests_per_minute: Some(10),
            streams: Some(2),
            ..Limits::default()
        };
        let share = limits.share(3);
        assert_eq!(
            (share.requests_per_minute, share.streams),
            (Some(3), Some(1))
        );
        assert_eq!(share.tokens_per_day, None);
    }
}
