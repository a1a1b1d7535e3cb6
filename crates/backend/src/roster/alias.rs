//! Aliases: other names for models, exact or with one `*`. No I/O; this module does not know the
//! models.

use std::collections::HashMap;
use std::str::FromStr;

use thiserror::Error;

/// An alias `FROM=TO`. FROM may contain one `*`, which matches any text; a `*` in TO stands for the
/// same text: `gpt-*=smollm2:135m`, `openai/*=*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alias {
    from: String,
    to: String,
}

/// The reason why aliases are invalid.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AliasError {
    /// The text has no `=`, or one side of it is empty.
    #[error("`{0}` is not a valid alias; write it as FROM=TO, for example gpt-4o=smollm2")]
    Shape(String),
    /// A side has more than one `*`, or only TO has one.
    #[error(
        "the alias `{0}` is invalid: it may have one `*` before the `=`, and one after the `=` only if there is one before it"
    )]
    Stars(String),
    /// FROM is used twice.
    #[error("there are two aliases for `{0}`; remove one")]
    Twice(String),
    /// The aliases form a loop.
    #[error("the alias for `{0}` forms a loop; point it at a model")]
    Loop(String),
}

impl Alias {
    /// Creates an alias `from` for `to`.
    pub fn new(from: impl Into<String>, to: impl Into<String>) -> Result<Self, AliasError> {
        let (from, to) = (from.into(), to.into());
        let written = || format!("{from}={to}");
        if from.is_empty() || to.is_empty() {
            return Err(AliasError::Shape(written()));
        }
        let stars = |text: &str| text.matches('*').count();
        if stars(&from) > 1 || stars(&to) > stars(&from) {
            return Err(AliasError::Stars(written()));
        }
        Ok(Self { from, to })
    }

    /// Returns the name or pattern of the alias.
    pub fn from(&self) -> &str {
        &self.from
    }

    /// Returns the target.
    pub fn to(&self) -> &str {
        &self.to
    }

    /// Returns the target for this name, if the alias matches it.
    fn apply(&self, name: &str) -> Option<String> {
        let Some((before, after)) = self.from.split_once('*') else {
            return (self.from == name).then(|| self.to.clone());
        };
        let starred = name.strip_prefix(before)?.strip_suffix(after)?;
        Some(self.to.replacen('*', starred, 1))
    }
}

impl FromStr for Alias {
    type Err = AliasError;

    fn from_str(text: &str) -> Result<Self, AliasError> {
        let (from, to) = text
            .split_once('=')
            .ok_or_else(|| AliasError::Shape(text.to_owned()))?;
        Self::new(from.trim(), to.trim())
    }
}

/// All configured aliases.
#[derive(Debug, Default)]
pub(super) struct Aliases {
    exact: HashMap<String, Alias>,
    /// Ordered by the length of the text before the `*`, then after it, the longest first.
    patterns: Vec<Alias>,
}

impl Aliases {
    pub(super) fn new(aliases: Vec<Alias>) -> Result<Self, AliasError> {
        let mut all = Self::default();
        for alias in aliases {
            let twice = AliasError::Twice(alias.from.clone());
            if !alias.from.contains('*') {
                if all.exact.insert(alias.from.clone(), alias).is_some() {
                    return Err(twice);
                }
            } else if all.patterns.iter().any(|other| other.from == alias.from) {
                return Err(twice);
            } else {
                all.patterns.push(alias);
            }
        }
        all.patterns.sort_by_key(|alias| {
            let (before, after) = alias.from.split_once('*').unwrap_or((&alias.from, ""));
            std::cmp::Reverse((before.len(), after.len()))
        });
        all.iter().try_for_each(|alias| all.check_ends(alias))?;
        Ok(all)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Alias> {
        self.exact.values().chain(&self.patterns)
    }

    /// Returns the exact aliases.
    pub(super) fn exact_ones(&self) -> impl Iterator<Item = &Alias> {
        self.exact.values()
    }

    /// Returns the exact alias for this name, and the resulting name.
    pub(super) fn exact(&self, name: &str) -> Option<(&Alias, String)> {
        self.exact.get(name).map(|alias| (alias, alias.to.clone()))
    }

    /// Returns the first pattern that matches this name, and the resulting name.
    pub(super) fn pattern(&self, name: &str) -> Option<(&Alias, String)> {
        self.patterns
            .iter()
            .find_map(|alias| Some((alias, alias.apply(name)?)))
    }

    /// Follows an alias as if no model existed, to detect loops. A pattern whose target matches
    /// itself (`gpt-*=gpt-oss`) ends there.
    fn check_ends(&self, start: &Alias) -> Result<(), AliasError> {
        // This character stands for any text that `*` matches. No name contains it.
        let mut name = start.to.replacen('*', "\u{1}", 1);
        let mut applied = vec![start];
        loop {
            let Some((next, becomes)) = self.exact(&name).or_else(|| self.pattern(&name)) else {
                return Ok(());
            };
            let fits_again = applied.last() == Some(&next) && next.from.contains('*');
            if fits_again {
                return Ok(());
            }
            if applied.contains(&next) {
                return Err(AliasError::Loop(start.from.clone()));
            }
            applied.push(next);
            name = becomes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aliases(texts: &[&str]) -> Result<Aliases, AliasError> {
        Aliases::new(
            texts
                .iter()
                .map(|text| text.parse())
                .collect::<Result<_, _>>()?,
        )
    }

    fn becomes(aliases: &Aliases, name: &str) -> Option<String> {
        aliases
            .exact(name)
            .or_else(|| aliases.pattern(name))
            .map(|(_, becomes)| becomes)
    }

    #[test]
    fn exact_beats_the_longest_prefix_which_beats_a_shorter_one() {
        let aliases = aliases(&[
            "*=any",
            "gpt-*=short",
            "gpt-4o*=long",
            "gpt-4o=exact",
            "gpt-*-mini=suffix",
        ])
        .unwrap();
        for (name, expected) in [
            ("gpt-4o", "exact"),
            ("gpt-4o-mini", "long"),
            ("gpt-3", "short"),
            ("gpt-3-mini", "suffix"),
            ("claude", "any"),
        ] {
            assert_eq!(becomes(&aliases, name).as_deref(), Some(expected), "{name}");
        }
    }

    #[test]
    fn a_star_in_the_target_is_what_the_star_stood_for() {
        let aliases = aliases(&["openai/*=*", "old-*-chat=new/*:latest"]).unwrap();
        assert_eq!(
            becomes(&aliases, "openai/gpt-4o").as_deref(),
            Some("gpt-4o")
        );
        assert_eq!(
            becomes(&aliases, "old-7b-chat").as_deref(),
            Some("new/7b:latest")
        );
        assert_eq!(
            becomes(&aliases, "old-chat"),
            None,
            "both sides of the star must be there"
        );
    }

    #[test]
    fn what_is_no_alias_is_refused() {
        for text in ["gpt-4o", "=x", "x=", " = "] {
            assert!(
                matches!(text.parse::<Alias>(), Err(AliasError::Shape(_))),
                "{text}"
            );
        }
        for text in ["a*b*=c", "a=*", "a*=**"] {
            assert!(
                matches!(text.parse::<Alias>(), Err(AliasError::Stars(_))),
                "{text}"
            );
        }
        assert_eq!(
            aliases(&["a=b", "a=c"]).unwrap_err(),
            AliasError::Twice("a".to_owned())
        );
        assert_eq!(
            aliases(&["a*=b", "a*=c"]).unwrap_err(),
            AliasError::Twice("a*".to_owned())
        );
    }

    #[test]
    fn aliases_that_lead_back_to_themselves_are_refused() {
        for texts in [
            &["a=a"][..],
            &["a=b", "b=a"],
            &["a=b", "b=c", "c=b"],
            &["x/*=*", "y=x/y"],
            &["p*=q*", "q*=p*"],
        ] {
            assert!(
                matches!(aliases(texts), Err(AliasError::Loop(_))),
                "{texts:?}"
            );
        }
        for texts in [
            &["gpt-*=gpt-oss:20b"][..],
            &["a=b", "b=c"],
            &["a*=aa*"],
            &["openai/*=*", "gpt-*=m"],
        ] {
            assert!(aliases(texts).is_ok(), "{texts:?}");
        }
    }
}
