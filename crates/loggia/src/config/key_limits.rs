//! `[limits]`, and the header of a trusted proxy.

use std::fmt;
use std::str::FromStr;

use http::HeaderName;
use loggia_server::KeyLimits;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use super::entries::entries;
use super::value::ValueError;

/// The limits of each key that has none of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LimitsTable(pub(crate) KeyLimits);

impl FromStr for LimitsTable {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        entries(text).map(Self).and_then(Self::checked)
    }
}

impl LimitsTable {
    fn checked(self) -> Result<Self, ValueError> {
        match self.0.mistake() {
            Some(mistake) => Err(ValueError::Entry(mistake)),
            None => Ok(self),
        }
    }
}

impl<'de> Deserialize<'de> for LimitsTable {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let table = KeyLimits::deserialize(input).map(Self)?;
        table.checked().map_err(D::Error::custom)
    }
}

/// Writes an inline table.
impl fmt::Display for LimitsTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        inline(&self.0).fmt(f)
    }
}

/// Limits as an inline table.
pub(super) fn inline(limits: &KeyLimits) -> toml::Value {
    // Cannot fail: all keys of maps are texts.
    toml::Value::try_from(limits).unwrap_or_else(|_| toml::Value::Table(toml::Table::new()))
}

/// The address of a Valkey or Redis. Its password is never shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct LimitsUrl(url::Url);

impl LimitsUrl {
    /// The whole address, for the connection.
    pub(crate) fn with_password(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for LimitsUrl {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let url = url::Url::parse(text).ok();
        let url =
            url.filter(|url| matches!(url.scheme(), "redis" | "valkey" | "redis+unix" | "unix"));
        url.map(Self).ok_or(ValueError::LimitsUrl)
    }
}

impl TryFrom<String> for LimitsUrl {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        text.parse()
    }
}

/// Shows the address without its password.
impl fmt::Display for LimitsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut url = self.0.clone();
        // This fails for addresses without a host, which have no password either.
        let _ = url.set_password(None);
        url.set_query(None);
        url.fmt(f)
    }
}

impl fmt::Debug for LimitsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LimitsUrl({self})")
    }
}

/// The name of a header.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct TrustedHeaderName(pub(crate) HeaderName);

impl FromStr for TrustedHeaderName {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let name = text.trim().parse();
        name.map(Self)
            .map_err(|_| ValueError::HeaderName(text.to_owned()))
    }
}

impl TryFrom<String> for TrustedHeaderName {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        text.parse()
    }
}

impl fmt::Display for TrustedHeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_written_as_they_are_read() {
        let text = r#"requests_per_minute=60,models={ "big-*" = { streams = 1 } }"#;
        let limits: LimitsTable = text.parse().expect("limits");
        assert_eq!(limits.0.requests_per_minute, Some(60));
        assert_eq!(limits.to_string().parse(), Ok(limits));
        for wrong in ["requests=1", "streams=0", "tokens_per_day=many"] {
            assert!(wrong.parse::<LimitsTable>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_address_is_shown_without_its_password() {
        let url: LimitsUrl = "redis://me:secret@host:6379/1".parse().expect("an address");
        assert_eq!(url.to_string(), "redis://me@host:6379/1");
        assert!(!format!("{url:?}").contains("secret"));
        for text in ["", "host:6379", "http://host", "rediss://host"] {
            assert!(text.parse::<LimitsUrl>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_header_has_a_name() {
        let name: TrustedHeaderName = "X-Forwarded-User".parse().expect("a name");
        assert_eq!(name.to_string(), "x-forwarded-user");
        assert!("two words".parse::<TrustedHeaderName>().is_err());
    }
}
