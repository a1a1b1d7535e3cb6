//! The address of a PostgreSQL database. Its password is never shown.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

use super::value::ValueError;

/// `postgres://user:password@host/database`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Database(url::Url);

impl Database {
    /// The whole address, for the connection.
    pub(crate) fn with_password(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for Database {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let url = url::Url::parse(text).ok();
        let url = url.filter(|url| matches!(url.scheme(), "postgres" | "postgresql"));
        url.map(Self).ok_or(ValueError::Database)
    }
}

impl TryFrom<String> for Database {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        text.parse()
    }
}

/// Shows the address without its password.
impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut url = self.0.clone();
        // This fails for addresses without a host, which have no password either.
        let _ = url.set_password(None);
        let pairs = self.0.query_pairs();
        let shown: Vec<_> = pairs.filter(|(name, _)| name != "password").collect();
        if shown.len() < self.0.query_pairs().count() {
            url.set_query(None);
            if !shown.is_empty() {
                url.query_pairs_mut().extend_pairs(shown);
            }
        }
        url.fmt(f)
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Database({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_a_database_is_shown_without_its_password() {
        for (text, shown) in [
            ("postgres://host/db", "postgres://host/db"),
            (
                "postgresql://me:secret@host:5433/db?sslmode=require",
                "postgresql://me@host:5433/db?sslmode=require",
            ),
            (
                "postgres://me@localhost/db?host=/run/pg&password=secret",
                "postgres://me@localhost/db?host=%2Frun%2Fpg",
            ),
            (
                "postgres://me@host/db?password=secret",
                "postgres://me@host/db",
            ),
        ] {
            let database: Database = text.parse().expect(text);
            assert_eq!(database.to_string(), shown);
            assert!(!format!("{database:?}").contains("secret"));
            assert_eq!(database.with_password(), text);
        }
        for text in ["", "state.db", "mysql://host/db", "secret"] {
            let error = text.parse::<Database>().expect_err(text);
            assert!(!error.to_string().contains("secret"));
        }
    }
}
