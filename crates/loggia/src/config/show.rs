//! Printing a configuration, for `loggia check`.

use std::fmt::{self, Display};

use super::settings::Config;
use super::table::Written;

/// Prints a configuration as a file that results in the same configuration, with the source of each
/// setting.
pub(crate) struct Shown<'a>(pub(crate) &'a Config);

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut tables = String::new();
        for (key, written, from) in self.0.written() {
            let line = match written {
                Written::Line(value) => format!("{key} = {value}"),
                Written::Unset(meaning) => format!("# {key}: {meaning}"),
                Written::Tables(text) => {
                    tables.push_str(&text);
                    continue;
                }
            };
            writeln!(f, "{line:40}  # {from}")?;
        }
        // In TOML, tables come after all other lines.
        f.write_str(&tables)
    }
}
