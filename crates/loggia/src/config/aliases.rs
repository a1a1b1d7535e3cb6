//! `[aliases]` in the file: other names for models.

use std::collections::BTreeMap;

use loggia_backend::roster::Alias;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// Reads the table: `"gpt-*" = "smollm2:135m"`.
pub(super) fn table<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Vec<Alias>>, D::Error> {
    let table = BTreeMap::<String, String>::deserialize(input)?;
    let aliases = table
        .into_iter()
        .map(|(from, to)| Alias::new(from, to).map_err(D::Error::custom));
    aliases.collect::<Result<_, _>>().map(Some)
}
