//! The macro that makes everything about settings from one table: where each one may stand, what it
//! is there, and what it is where nobody sets it. The table itself is in `settings`.

use super::origin::Origin;

/// What error messages, `--help` and the documentation need to know about a setting.
pub(crate) struct Setting {
    /// Its key in the file.
    pub(crate) key: &'static str,
    /// Its environment variable, without `LOGGIA_` and in small letters: most often the key.
    pub(super) variable: &'static str,
    /// Its default, in words or as text.
    pub(super) default: fn() -> String,
    /// What its variable, or a flag, can be set to.
    pub(super) example: fn() -> String,
    /// The same as TOML.
    pub(super) in_file: fn() -> String,
}

impl Setting {
    /// `LOGGIA_LISTEN`.
    pub(crate) fn variable(&self) -> String {
        format!("LOGGIA_{}", self.variable.to_ascii_uppercase())
    }

    /// The default as `--help` shows it: not that a list is empty.
    pub(crate) fn shown_default(&self) -> Option<String> {
        Some((self.default)()).filter(|default| !matches!(&**default, "empty" | "below"))
    }

    /// `listen = "127.0.0.1:11435"`.
    pub(super) fn line(&self) -> String {
        format!("{} = {}", self.key, (self.in_file)())
    }
}

/// How a value stands in a configuration file.
pub(super) enum Written {
    /// Behind its key.
    Line(String),
    /// As tables, which TOML wants behind all lines.
    Tables(String),
    /// Not at all: nobody has set it, and this happens.
    Unset(&'static str),
}

/// What a setting can be.
pub(super) trait Value: Sized {
    /// Reads the text of a variable.
    fn of_text(text: &str) -> Result<Self, String>;

    /// Writes it for a file.
    fn written(&self, from: Origin) -> Written;

    /// Itself as TOML; nothing for what stands in tables.
    fn toml(&self) -> String {
        match self.written(Origin::Default) {
            Written::Line(toml) => toml,
            Written::Tables(_) | Written::Unset(_) => String::new(),
        }
    }

    /// Itself as in a variable, where that is one word.
    fn plain(&self) -> String {
        self.toml().trim_matches('"').to_owned()
    }
}

/// Makes from a table of settings: [`Settings`](super::Settings), what one source says;
/// [`Config`](super::Config), what all of them come to; and the list of [`Setting`]s.
///
/// A line is `key: Type { what it is otherwise, example "…", table "…", variable "…" }`, with its
/// help as its comment. What it is otherwise is one of
///
/// - `default(value)`;
/// - `unset("what happens then")`: the configuration has an `Option`;
/// - `empty("what that means")`, for lists;
/// - `merged("what that is")`, for tables of which each source sets some entries;
/// - `required("what the program finds out for itself")`.
macro_rules! settings {
    ($(
        $(#[doc = $help:literal])*
        $(#[arg($($arg:tt)*)])?
        $(#[serde($($serde:tt)*)])?
        $key:ident: $type:ty {
            $otherwise:ident($given:expr)
            $(, example $example:literal)?
            $(, table $table:literal)?
            $(, variable $variable:literal)?
        }
    )*) => {
        /// What one source says: flags, the environment or a file. Its names are the keys of the
        /// file. A setting that it does not speak of is left open.
        ///
        /// A key that means nothing is an error: its writer believes that it has an effect.
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

        /// Every setting, resolved.
        #[expect(clippy::doc_markdown, reason = "these are help texts: backticks would be shown")]
        #[derive(Debug)]
        pub(crate) struct Config {
            $(
                $(#[doc = $help])*
                pub(crate) $key: Set<settings!(@resolved $otherwise $type)>,
            )*
        }

        impl Settings {
            /// The variables `LOGGIA_…`.
            pub(super) fn of_variables(env: Environment<'_>) -> Result<Self, ConfigError> {
                Ok(Self {
                    $($key: of_variable(env, &setting::$key)?,)*
                })
            }
        }

        impl Config {
            /// What the sources come to.
            pub(super) fn resolve(sources: &Sources<Settings>) -> Result<Self, ConfigError> {
                Ok(Self {
                    $($key: settings!(@resolve $otherwise $given, sources, $key),)*
                })
            }

            /// How each setting stands in a file, with who set it.
            pub(super) fn written(&self) -> Vec<(&'static str, Written, Origin)> {
                vec![$((
                    stringify!($key),
                    settings!(@written $otherwise $given, self.$key),
                    self.$key.from,
                ),)*]
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
                };
            )*
        }

        /// Every setting, in the order of the documentation.
        pub(crate) const SETTINGS: &[Setting] = &[$(setting::$key),*];
    };

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
