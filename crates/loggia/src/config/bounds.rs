//! The two tables of limits for one request: `[ceilings]` and `[images]`. Each entry replaces one
//! default.

use std::str::FromStr;
use std::time::Duration;

use loggia_api::Ceilings;
use loggia_backend::fetch_images;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use super::entries::entries;
use super::number::{Count, Size};
use super::origin::Origin;
use super::sources::Merge;
use super::table::{Value, Written};
use super::value::{Span, ValueError};
use super::written;

/// The type of an entry, for a limit of a library.
trait Entry<Limit>: Sized {
    fn limit(&self) -> Limit;

    /// A limit as TOML; `None` if there is no limit.
    fn toml(limit: &Limit) -> Option<String>;
}

/// Defines a table of the configuration file. Its entries have the names of the limits that they
/// set.
macro_rules! table {
    ($name:literal, $(#[$about:meta])* $table:ident, $limits:ty {
        $($(#[$attribute:meta])* $entry:ident: $type:ty $(, example $example:literal)?;)*
    }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Default, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub(crate) struct $table {
            $($(#[$attribute])* $entry: Option<$type>,)*
        }

        impl $table {
            /// The limits; entries that are not set have their defaults.
            pub(crate) fn limits(&self) -> $limits {
                let mut limits = <$limits>::default();
                $(
                    if let Some(entry) = &self.$entry {
                        limits.$entry = entry.limit();
                    }
                )*
                limits
            }

            /// An example of a line that sets an entry, for error messages.
            fn example(entry: &str) -> Option<String> {
                let limits = <$limits>::default();
                $(
                    if entry == stringify!($entry) {
                        let value = [$(Some($example.to_owned()),)? <$type as Entry<_>>::toml(&limits.$entry)];
                        return Some(format!("{entry} = {}", value.into_iter().flatten().next()?));
                    }
                )*
                None
            }
        }

        /// Tables are equal if they set the same limits.
        impl PartialEq for $table {
            fn eq(&self, other: &Self) -> bool {
                self.limits() == other.limits()
            }
        }

        impl Merge for $table {
            fn or(self, weaker: Self) -> Self {
                Self { $($entry: self.$entry.or(weaker.$entry),)* }
            }
        }

        impl FromStr for $table {
            type Err = ValueError;

            fn from_str(text: &str) -> Result<Self, ValueError> {
                entries(text)
            }
        }

        impl Value for $table {
            fn of_text(text: &str) -> Result<Self, String> {
                text.parse().map_err(|why: ValueError| why.to_string())
            }

            fn written(&self, from: Origin) -> Written {
                let limits = self.limits();
                let mut text = format!("\n[{}]  # {from}\n", $name);
                $(
                    text.push_str(&match <$type as Entry<_>>::toml(&limits.$entry) {
                        Some(toml) => format!("{} = {toml}\n", stringify!($entry)),
                        None => format!("# {}: no limit of its own\n", stringify!($entry)),
                    });
                )*
                Written::Tables(text)
            }
        }
    };
}

table! { "ceilings",
    /// `[ceilings]`: the most that one request may ask for.
    CeilingsTable, Ceilings {
        choices: usize;
        messages: usize;
        prompts: usize;
        inputs: usize;
        tools: usize;
        media: usize;
        media_bytes: Size;
        schema_bytes: Size;
        schema_depth: usize;
        logit_bias: usize;
        stop_bytes: Size;
        answer_tokens: Count, example "4096";
        whole_time: Span;
    }
}

table! { "images",
    /// `[images]`: what fetching the images of one request may cost, and where they may come from.
    ImagesTable, fetch_images::Limits {
        bytes: Size;
        total_bytes: Size;
        fetches: usize;
        side_by_side: usize;
        time: Span;
        redirects: usize;
        ports: Vec<u16>;
        #[serde(deserialize_with = "networks")]
        networks: Vec<fetch_images::Network>, example r#"["10.1.2.0/24"]"#;
    }
}

/// An example of a line that sets an entry of one of these tables, for error messages.
pub(super) fn example(table: &str, entry: &str) -> Option<String> {
    match table {
        "ceilings" => CeilingsTable::example(entry),
        "images" => ImagesTable::example(entry),
        _ => None,
    }
}

impl Entry<usize> for usize {
    fn limit(&self) -> usize {
        *self
    }

    fn toml(limit: &usize) -> Option<String> {
        Some(limit.to_string())
    }
}

impl Entry<usize> for Size {
    fn limit(&self) -> usize {
        self.length()
    }

    fn toml(limit: &usize) -> Option<String> {
        Some(Size::of(*limit).toml())
    }
}

impl Entry<Option<u32>> for Count {
    fn limit(&self) -> Option<u32> {
        Some(self.get())
    }

    fn toml(limit: &Option<u32>) -> Option<String> {
        limit.map(|limit| limit.to_string())
    }
}

impl Entry<Duration> for Span {
    fn limit(&self) -> Duration {
        self.0
    }

    fn toml(limit: &Duration) -> Option<String> {
        Some(Span(*limit).toml())
    }
}

impl Entry<Option<Duration>> for Span {
    /// Zero means no limit, as for the heartbeat.
    fn limit(&self) -> Option<Duration> {
        Some(self.0).filter(|time| !time.is_zero())
    }

    fn toml(limit: &Option<Duration>) -> Option<String> {
        Some(Span(limit.unwrap_or_default()).toml())
    }
}

impl Entry<Self> for Vec<u16> {
    fn limit(&self) -> Self {
        self.clone()
    }

    fn toml(limit: &Self) -> Option<String> {
        Some(format!("{limit:?}"))
    }
}

impl Entry<Self> for Vec<fetch_images::Network> {
    fn limit(&self) -> Self {
        self.clone()
    }

    fn toml(limit: &Self) -> Option<String> {
        Some(written::list(limit))
    }
}

fn networks<'de, D: Deserializer<'de>>(
    input: D,
) -> Result<Option<Vec<fetch_images::Network>>, D::Error> {
    let texts = Vec::<String>::deserialize(input)?;
    texts
        .iter()
        .map(|text| text.parse().map_err(D::Error::custom))
        .collect::<Result<_, _>>()
        .map(Some)
}
