//! A number of tokens: `8192` or `8k`.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::value::ValueError;

/// A number of tokens, at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tokens(pub(crate) NonZeroU32);

impl FromStr for Tokens {
    type Err = ValueError;

    /// `k` means 1,024, as in the names of models.
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (digits, times) = match text.trim().strip_suffix(['k', 'K']) {
            Some(digits) => (digits, 1024),
            None => (text.trim(), 1),
        };
        let tokens = digits
            .trim()
            .parse::<u32>()
            .ok()
            .and_then(|number| number.checked_mul(times));
        tokens
            .and_then(NonZeroU32::new)
            .map(Self)
            .ok_or_else(|| ValueError::Tokens(text.to_owned()))
    }
}

#[cfg(any(feature = "embedded", test))]
impl Tokens {
    pub(crate) fn get(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Display for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Tokens {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a number of tokens")]
        enum Written {
            Number(i64),
            Text(String),
        }
        let text = match Written::deserialize(input)? {
            Written::Number(number) => number.to_string(),
            Written::Text(text) => text,
        };
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_k_stands_for_1024() {
        let tokens = |text: &str| text.parse::<Tokens>().map(|tokens| tokens.0.get()).ok();
        assert_eq!(
            (tokens("8192"), tokens("8k"), tokens("128K"), tokens(" 1 k")),
            (Some(8192), Some(8192), Some(131_072), Some(1024))
        );
        for wrong in ["0", "-1", "8kb", "many", "", "k", "9999999k"] {
            assert_eq!(tokens(wrong), None, "{wrong}");
        }
    }
}
