//! Aliases: other names for models, exact or with one `*`. No I/O; this module does not know the
//! models.

use std::collections::HashMap;
use std::str::FromStr;

use thiserror::Error;

/// The largest share of a target.
const LARGEST_SHARE: u32 = 1_000_000;

/// An alias `FROM=TO`. FROM may contain one `*`, which matches any text; a `*` in TO stands for the
/// same text: `gpt-*=smollm2:135m`, `openai/*=*`.
///
/// TO may be several targets. `a|b` is `b` while `a` cannot answer. `a@9|b@1` is `a` for nine of ten
/// requests, and the other one while one of them cannot answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alias {
    from: String,
    to: String,
    targets: Vec<Target>,
}

/// A target of an alias.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    to: String,
    /// The target's share of the requests, if the targets have shares.
    share: Option<u32>,
}

/// How the first of several targets is chosen if they have shares.
#[derive(Clone, Copy, Debug)]
pub(super) enum Choice {
    /// The first one in the configuration.
    AsWritten,
    /// The one with the largest share.
    LargestShare,
    /// By a number that is another one for each request: over many, each target has its share.
    Turn(u64),
}

/// The reason why aliases are invalid.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AliasError {
    /// The text has no `=`, or one side of it is empty.
    #[error("`{0}` is not a valid alias; write it as FROM=TO, for example gpt-4o=smollm2")]
    Shape(String),
    /// Only some targets have a share, or a share is 0 or too large.
    #[error(
        "the alias `{0}` is invalid: give all targets a share from 1 to {LARGEST_SHARE}, as in chat=a@9|b@1, or none"
    )]
    Shares(String),
    /// A side has more than one `*`, or only TO has one.
    #[error(
        "the alias `{0}` is invalid: it may have one `*` before the `=`, and one after the `=` only if there is one before it"
    )]
    Stars(String),
    /// The alias name FROM is used twice.
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
        let targets = to.split('|').map(|target| Target::parse(target.trim()));
        let targets = targets.collect::<Option<Vec<_>>>();
        let targets = targets.ok_or_else(|| AliasError::Shares(written()))?;
        if from.is_empty() || targets.iter().any(|target| target.to.is_empty()) {
            return Err(AliasError::Shape(written()));
        }
        let stars = |text: &str| text.matches('*').count();
        let most = stars(&from);
        if most > 1 || targets.iter().any(|target| stars(&target.to) > most) {
            return Err(AliasError::Stars(written()));
        }
        let have_shares = targets[0].share.is_some();
        if targets
            .iter()
            .any(|target| target.share.is_some() != have_shares)
        {
            return Err(AliasError::Shares(written()));
        }
        Ok(Self { from, to, targets })
    }

    /// Returns the name or pattern of the alias.
    pub fn from(&self) -> &str {
        &self.from
    }

    /// Returns the targets, as they are configured.
    pub fn to(&self) -> &str {
        &self.to
    }

    /// Returns the first target.
    pub fn first(&self) -> &str {
        &self.targets[0].to
    }

    /// Returns whether there are several targets.
    pub(super) fn has_several(&self) -> bool {
        self.targets.len() > 1
    }

    /// Returns the text that the `*` matches, or an empty text without `*`. `None` if the alias does
    /// not match this name.
    fn starred<'a>(&self, name: &'a str) -> Option<&'a str> {
        let Some((before, after)) = self.from.split_once('*') else {
            return (self.from == name).then_some("");
        };
        name.strip_prefix(before)?.strip_suffix(after)
    }

    /// Returns the targets for a name that the alias matches, in the order in which they are asked.
    pub(super) fn targets_for(&self, name: &str, choice: Choice) -> Vec<String> {
        let starred = self.starred(name).unwrap_or_default();
        let mut targets: Vec<&Target> = self.targets.iter().collect();
        targets.swap(0, self.chosen(choice));
        let target = |target: &Target| target.to.replacen('*', starred, 1);
        targets.into_iter().map(target).collect()
    }

    /// Returns the position of the target that is asked first.
    fn chosen(&self, choice: Choice) -> usize {
        let share = |target: &Target| u64::from(target.share.unwrap_or_default());
        let all: u64 = self.targets.iter().map(share).sum();
        let turn = match choice {
            Choice::AsWritten => return 0,
            Choice::LargestShare => {
                let largest = self.targets.iter().map(share).max();
                let is_it = |target: &Target| Some(share(target)) == largest;
                return self.targets.iter().position(is_it).unwrap_or(0);
            }
            Choice::Turn(turn) => turn,
        };
        let Some(mut rest) = spread(turn).checked_rem(all) else {
            return 0;
        };
        let is_it = |target: &Target| {
            let is_it = rest < share(target);
            rest = rest.saturating_sub(share(target));
            is_it
        };
        self.targets.iter().position(is_it).unwrap_or(0)
    }
}

impl Target {
    /// Parses `MODEL` or `MODEL@SHARE`. `None` if the share is invalid.
    fn parse(text: &str) -> Option<Self> {
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let (to, share) = match text.rsplit_once('@') {
            Some((to, share)) if is_number(share) => {
                let share = share.parse().ok();
                let share = share.filter(|share| (1..=LARGEST_SHARE).contains(share));
                (to.trim_end(), Some(share?))
            }
            _ => (text, None),
        };
        Some(Self {
            to: to.to_owned(),
            share,
        })
    }
}

/// Spreads consecutive numbers evenly over all numbers (`SplitMix64`).
fn spread(number: u64) -> u64 {
    let mut mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
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

    /// Returns the exact alias for this name.
    pub(super) fn exact(&self, name: &str) -> Option<&Alias> {
        self.exact.get(name)
    }

    /// Returns the first pattern that matches this name.
    pub(super) fn pattern(&self, name: &str) -> Option<&Alias> {
        let mut patterns = self.patterns.iter();
        patterns.find(|alias| alias.starred(name).is_some())
    }

    /// Returns whether an alias has several targets.
    pub(super) fn have_several(&self) -> bool {
        self.iter().any(Alias::has_several)
    }

    /// Follows an alias as if no model existed, to detect loops. A pattern whose target matches
    /// itself (`gpt-*=gpt-oss`) ends there.
    fn check_ends(&self, start: &Alias) -> Result<(), AliasError> {
        // This character stands for any text that `*` matches. No name contains it.
        let name = start.from.replacen('*', "\u{1}", 1);
        if self.follow(start, &name, &mut Vec::new()) {
            Ok(())
        } else {
            Err(AliasError::Loop(start.from.clone()))
        }
    }

    /// Returns whether all targets of an alias end without returning to one that was applied.
    fn follow<'a>(&'a self, alias: &'a Alias, name: &str, applied: &mut Vec<&'a Alias>) -> bool {
        applied.push(alias);
        let all_end = alias
            .targets_for(name, Choice::AsWritten)
            .iter()
            .all(|target| {
                let Some(next) = self.exact(target).or_else(|| self.pattern(target)) else {
                    return true;
                };
                let fits_again = applied.last() == Some(&next) && next.from.contains('*');
                fits_again || !applied.contains(&next) && self.follow(next, target, applied)
            });
        applied.pop();
        all_end
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
        let alias = aliases.exact(name).or_else(|| aliases.pattern(name))?;
        alias
            .targets_for(name, Choice::AsWritten)
            .into_iter()
            .next()
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
    fn targets_with_shares_are_first_as_often_as_their_shares_say() {
        let alias: Alias = "chat-* = a/*@90 | b/*@10".parse().unwrap();
        let targets = alias.targets_for("chat-4b", Choice::AsWritten);
        assert_eq!(targets, ["a/4b", "b/4b"]);
        let first = |turn| {
            let targets = alias.targets_for("chat-4b", Choice::Turn(turn));
            targets.into_iter().next().unwrap()
        };
        let of_b = (0..1000).filter(|turn| first(*turn) == "b/4b").count();
        assert!((80..=120).contains(&of_b), "{of_b}");
        for (text, largest) in [("x=a@1|b@9", "b"), ("x=a@5|b@5", "a"), ("x=a|b", "a")] {
            let alias: Alias = text.parse().unwrap();
            let targets = alias.targets_for("x", Choice::LargestShare);
            assert_eq!(targets[0], largest, "{text}");
        }
        let in_order: Alias = "x=a|b|me@home".parse().unwrap();
        for turn in 0..100 {
            let targets = in_order.targets_for("x", Choice::Turn(turn));
            assert_eq!(targets, ["a", "b", "me@home"]);
        }
        for text in ["x=a@1|b", "x=a@0|b@1", "x=a@1|b@1000001"] {
            assert!(
                matches!(text.parse::<Alias>(), Err(AliasError::Shares(_))),
                "{text}"
            );
        }
        for text in ["x=a|", "x=|a", "x=@3"] {
            assert!(
                matches!(text.parse::<Alias>(), Err(AliasError::Shape(_))),
                "{text}"
            );
        }
    }

    #[test]
    fn aliases_that_lead_back_to_themselves_are_refused() {
        for texts in [
            &["a=a"][..],
            &["a=b", "b=a"],
            &["a=b", "b=c", "c=b"],
            &["x/*=*", "y=x/y"],
            &["a=m|b", "b=n|a"],
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
