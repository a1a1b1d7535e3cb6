//! The macro that generates everything about settings from one table, which is in `settings`.

use super::origin::Origin;

/// A setting, for error messages, `--help` and the documentation.
pub(crate) struct Setting {
    /// The key of the setting in the file.
    pub(crate) key: &'static str,
    /// The environment variable in lower case, without `LOGGIA_`: usually the same as the key.
    pub(super) variable: &'static str,
    /// The default value, or a text about what happens without one.
    pub(super) default: fn() -> String,
    /// An example for the setting's variable or flag.
    pub(super) example: fn() -> String,
    /// The example as TOML.
    pub(super) in_file: fn() -> String,
    /// Whether a reload of the configuration changes it. Otherwise it takes effect after a restart.
    pub(crate) is_live: bool,
}

impl Setting {
    /// `LOGGIA_LISTEN`.
    pub(crate) fn variable(&self) -> String {
        format!("LOGGIA_{}", self.variable.to_ascii_uppercase())
    }

    /// The default for `--help`; `None` for empty lists.
    pub(crate) fn shown_default(&self) -> Option<String> {
        Some((self.default)()).filter(|default| !matches!(&**default, "empty" | "below"))
    }

    /// `listen = "127.0.0.1:11435"`.
    pub(super) fn line(&self) -> String {
        format!("{} = {}", self.key, (self.in_file)())
    }
}

/// How a value is written in a configuration file.
#[derive(PartialEq)]
pub(super) enum Written {
    /// The line with the key and its value.
    Line(String),
    /// Tables, which come after all other lines.
    Tables(String),
    /// The value is not written, because it is not set. The text says what happens then.
    Unset(&'static str),
}

/// The type of a setting.
pub(super) trait Value: Sized {
    /// Parses the text of a variable.
    fn of_text(text: &str) -> Result<Self, String>;

    /// Writes the value for a file.
    fn written(&self, from: Origin) -> Written;

    /// The value as TOML; empty for tables.
    fn toml(&self) -> String {
        match self.written(Origin::Default) {
            Written::Line(toml) => toml,
            Written::Tables(_) | Written::Unset(_) => String::new(),
        }
    }

    /// The value as the text of a variable.
    fn plain(&self) -> String {
        self.toml().trim_matches('"').to_owned()
    }
}

/// Generates from a table of settings: [`Settings`](super::settings::Settings), the settings of one source;
/// [`Config`](super::settings::Config), the resulting configuration; and the list of [`Setting`]s.
///
/// An entry is `key: Type, live { default, example "…", table "…", variable "…" }`, with its help as
/// doc comment; `live` if a reload changes the setting. The default is one of
///
/// - `default(value)`
///
/// - `unset("what happens then")`: the configuration has an `Option`
///
/// - `empty("what that means")`, for lists
///
/// - `merged("what that is")`, for tables whose entries may come from different sources
///
/// - `required("what is used otherwise")`, for values that the program always finds
macro_rules! settings {
    ($(
        $(#[doc = $help:literal])*
        $(#[arg($($arg:tt)*)])?
        $(#[serde($($serde:tt)*)])?
        $key:ident: $type:ty $(, $live:ident)? {
            $otherwise:ident($given:expr)
            $(, example $example:literal)?
            $(, table $table:literal)?
            $(, variable $variable:literal)?
        }
    )*) => {
        /// The settings of one source: flags, environment or file. The names are the keys of the
        /// file.
        ///
        /// An unknown key is an error, because it would have no effect.
        #[expect(clippy::doc_markdown, reason = "these are help texts: backticks would be shown")]
        #[derive(Debug, Clone, Default, clap::Args, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub(crate) struct Settings {
            $(
                $(#[doc = $help])*
                $(#[arg($($arg)*)])?
                $(#[serde($($serde)*)])?
                pub(crate) $key: Option<$type>,
            )*
        }

        /// The resulting configuration.
        #[expect(clippy::doc_markdown, reason = "these are help texts: backticks would be shown")]
        #[derive(Debug)]
        pub(crate) struct Config {
            $(
                $(#[doc = $help])*
                pub(crate) $key: Set<settings!(@resolved $otherwise $type)>,
            )*
        }

        impl Settings {
            /// Reads the variables `LOGGIA_…`.
            pub(super) fn of_variables(env: Environment<'_>) -> Result<Self, ConfigError> {
                Ok(Self {
                    $($key: of_variable(env, &setting::$key)?,)*
                })
            }
        }

        impl Config {
            /// Resolves the sources.
            pub(super) fn resolve(sources: &Sources<Settings>) -> Result<Self, ConfigError> {
                Ok(Self {
                    $($key: settings!(@resolve $otherwise $given, sources, $key),)*
                })
            }

            /// Each setting as written in a file, with its source.
            pub(super) fn written(&self) -> Vec<(&'static str, Written, Origin)> {
                vec![$((
                    stringify!($key),
                    settings!(@written $otherwise $given, self.$key),
                    self.$key.from,
                ),)*]
            }

            /// The keys of the settings whose values differ from those of another configuration.
            pub(crate) fn changed_since(&self, other: &Self) -> Vec<&'static str> {
                let all = [$((stringify!($key), self.$key.value != other.$key.value),)*];
                all.into_iter().filter_map(|(key, differs)| differs.then_some(key)).collect()
            }
        }

        /// Each setting, by its key.
        #[expect(non_upper_case_globals, reason = "they are called as their keys are")]
        mod setting {
            use super::*;

            $(
                pub(super) const $key: Setting = Setting {
                    key: stringify!($key),
                    variable: settings!(@first $($variable,)? stringify!($key)),
                    default: || settings!(@default $otherwise $given, $type),
                    example: || settings!(
                        @first $($example.to_owned(),)? settings!(@default $otherwise $given, $type)
                    ),
                    in_file: || settings!(
                        @first $($table.to_owned(),)?
                        <$type as Value>::of_text(&($key.example)())
                            .map(|value| value.toml())
                            .unwrap_or_default()
                    ),
                    is_live: settings!(@is_live $($live)?),
                };
            )*
        }

        /// All settings, in the order of the documentation.
        pub(crate) const SETTINGS: &[Setting] = &[$(setting::$key),*];
    };

    (@is_live live) => { true };
    (@is_live) => { false };

    (@first $first:expr $(, $rest:expr)*) => { $first };

    (@resolved unset $type:ty) => { Option<$type> };
    (@resolved $otherwise:ident $type:ty) => { $type };

    (@resolve default $given:expr, $sources:ident, $key:ident) => {
        $sources.pick(|source| source.$key.clone(), || $given)
    };
    (@resolve unset $given:expr, $sources:ident, $key:ident) => {
        $sources.pick(|source| source.$key.clone().map(Some), || None)
    };
    (@resolve empty $given:expr, $sources:ident, $key:ident) => {
        $sources.pick(|source| source.$key.clone(), Default::default)
    };
    (@resolve merged $given:expr, $sources:ident, $key:ident) => {
        $sources.merge(|source| source.$key.clone())
    };
    (@resolve required $given:expr, $sources:ident, $key:ident) => {
        $sources.find(|source| source.$key.clone()).ok_or(ConfigError::NoDataDir)?
    };

    (@written unset $given:expr, $set:expr) => {
        $set.value.as_ref().map_or(Written::Unset($given), |value| value.written($set.from))
    };
    (@written $otherwise:ident $given:expr, $set:expr) => { $set.value.written($set.from) };

    (@default default $given:expr, $type:ty) => { <$type as Value>::plain(&$given) };
    (@default $otherwise:ident $given:expr, $type:ty) => { $given.to_owned() };
}
pub(super) use settings;
