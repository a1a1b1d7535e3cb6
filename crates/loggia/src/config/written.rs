//! How each type of setting is read from a variable and written in a file. API keys are never
//! written, only whether they are set.

use std::fmt::{self, Display, Write as _};
use std::path::PathBuf;
use std::str::FromStr;

use loggia_backend::roster::Alias;
use loggia_server::Scope;

use super::database::Database;
use super::files_url::{FilesEndpoint, FilesUrl};
use super::keep_alive::KeepAlive;
use super::key_limits::{self, LimitsTable, LimitsUrl, TrustedHeaderName};
use super::keys::ApiKey;
use super::listen::Listen;
use super::lora::Lora;
use super::mmproj::Mmproj;
use super::number::{Count, Layers, Size, Switch};
use super::origin::Origin;
use super::per_model::{PerModel, PerModels};
use super::table::{Value, Written};
use super::tokens::Tokens;
use super::value::{
    CacheScope, CacheType, CollectorUrl, Engine, LogFormat, ModelName, ModerationFormat,
    OllamaPath, OllamaServer, SamplingProfile, Span,
};

/// A TOML string.
fn text(value: impl Display) -> String {
    toml::Value::String(value.to_string()).to_string()
}

/// A TOML list of strings.
pub(super) fn list<T: Display>(values: impl IntoIterator<Item = T>) -> String {
    let values: Vec<String> = values.into_iter().map(text).collect();
    format!("[{}]", values.join(", "))
}

/// Types with a single value: a string in quotes or a number.
macro_rules! one_value {
    ($($type:ty => $toml:expr,)*) => {$(
        impl Value for $type {
            fn of_text(text: &str) -> Result<Self, String> {
                <$type as FromStr>::from_str(text).map_err(|why| why.to_string())
            }

            fn written(&self, _: Origin) -> Written {
                let toml: fn(&$type) -> String = $toml;
                Written::Line(toml(self))
            }
        }
    )*};
}

one_value! {
    Listen => |it| text(it),
    Database => |it| text(it),
    FilesUrl => |it| text(it),
    FilesEndpoint => |it| text(it),
    String => |it| text(it),
    PathBuf => |it| text(it.display()),
    TrustedHeaderName => |it| text(it),
    LimitsTable => ToString::to_string,
    LimitsUrl => |it| text(it),
    SamplingProfile => |it| text(it),
    CacheScope => |it| text(it),
    ModerationFormat => |it| text(it),
    CacheType => |it| text(it),
    CollectorUrl => |it| text(it),
    KeepAlive => |it| text(it),
    LogFormat => |it| text(it),
    Size => |it| text(it),
    Span => |it| text(humantime::format_duration(it.0)),
    Switch => ToString::to_string,
    Tokens => ToString::to_string,
    Count => ToString::to_string,
    Layers => ToString::to_string,
}

/// The type of a list's elements.
trait Item: FromStr<Err: Display> {
    fn written(all: &[Self], from: Origin) -> Written;
}

impl<T: Item> Value for Vec<T> {
    /// Parses elements between commas.
    fn of_text(text: &str) -> Result<Self, String> {
        text.split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .map(|item| item.parse().map_err(|why: T::Err| why.to_string()))
            .collect()
    }

    fn written(&self, from: Origin) -> Written {
        T::written(self, from)
    }
}

impl Item for ModelName {
    fn written(all: &[Self], _: Origin) -> Written {
        Written::Line(list(all.iter().map(|model| &model.0)))
    }
}

impl Item for OllamaPath {
    fn written(all: &[Self], _: Origin) -> Written {
        Written::Line(list(all))
    }
}

impl Item for OllamaServer {
    fn written(all: &[Self], _: Origin) -> Written {
        Written::Line(list(all))
    }
}

impl Item for String {
    fn written(all: &[Self], _: Origin) -> Written {
        Written::Line(list(all))
    }
}

/// Writes tables, one piece of text per element. Writing to a `String` never fails.
fn tables<T>(all: &[T], mut write: impl FnMut(&mut String, &T) -> fmt::Result) -> Written {
    let mut tables = String::new();
    for one in all {
        let _always_taken = write(&mut tables, one);
    }
    Written::Tables(tables)
}

impl Item for Engine {
    fn written(all: &[Self], from: Origin) -> Written {
        tables(all, |f, engine| {
            let (name, url) = (text(&engine.name), text(&engine.url));
            writeln!(f, "\n[[openai]]  # {from}\nname = {name}\nurl = {url}")?;
            match &engine.key {
                Some(_) => writeln!(f, "# key: set"),
                None => writeln!(
                    f,
                    "# key: none; set it with {} or with `key` in the file",
                    engine.key_variable()
                ),
            }
        })
    }
}

impl Item for Lora {
    fn written(all: &[Self], from: Origin) -> Written {
        tables(all, |f, lora| {
            let (name, base, file) = (text(&lora.name), text(&lora.base.0), text(&lora.file.0));
            writeln!(
                f,
                "\n[lora.{name}]  # {from}\nbase = {base}\nfile = {file}\nscale = {:?}",
                lora.scale
            )
        })
    }
}

impl Item for Mmproj {
    fn written(all: &[Self], from: Origin) -> Written {
        let mut written = String::new();
        // An entry without a model's name cannot be in the table. It comes from a flag, which is
        // stronger than the file anyway.
        if all.iter().any(|mmproj| mmproj.model.is_some()) {
            let _always_taken = writeln!(written, "\n[mmproj]  # {from}");
        }
        let lines = tables(all, |f, mmproj| match &mmproj.model {
            Some(model) => writeln!(f, "{} = {}", text(model), text(mmproj)),
            None => writeln!(f, "# mmproj: {mmproj}, of the one model  # {from}"),
        });
        if let Written::Tables(lines) = lines {
            written.push_str(&lines);
        }
        Written::Tables(written)
    }
}

impl Item for ApiKey {
    fn written(all: &[Self], from: Origin) -> Written {
        tables(all, |f, key| {
            let (name, variable) = (text(&key.name), key.variable());
            writeln!(f, "\n[[key]]  # {from}\nname = {name}")?;
            writeln!(
                f,
                "# key: set, by {variable} or by `key` or `sha256` in the file"
            )?;
            entry(f, "strict", key.strict)?;
            entry(f, "lenient", key.lenient)?;
            entry(f, "models", key.models.as_ref().map(list))?;
            let words = |scopes: &Vec<Scope>| list(scopes.iter().map(|scope| scope.word()));
            entry(f, "scopes", key.scopes.as_ref().map(words))?;
            entry(f, "limits", key.limits.as_ref().map(key_limits::inline))?;
            entry(
                f,
                "may_delete_models",
                key.may_delete_models.then_some(true),
            )
        })
    }
}

impl Item for Alias {
    fn written(all: &[Self], from: Origin) -> Written {
        let mut header = format!("\n[aliases]  # {from}\n");
        tables(all, |f, alias| {
            f.push_str(&std::mem::take(&mut header));
            writeln!(f, "{} = {}", text(alias.from()), text(alias.to()))
        })
    }
}

impl Value for PerModels {
    fn of_text(text: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|why: super::value::ValueError| why.to_string())
    }

    fn written(&self, from: Origin) -> Written {
        let all: Vec<(&String, &PerModel)> = self.0.iter().collect();
        tables(&all, |f, (model, its)| {
            writeln!(f, "\n[per_model.{}]  # {from}", text(model))?;
            entry(f, "sampling_profile", its.sampling_profile.map(text))?;
            entry(f, "strict", its.strict)?;
            entry(f, "lenient", its.lenient)?;
            entry(f, "draft", its.draft.as_ref().map(|draft| text(&draft.0)))?;
            entry(f, "draft_tokens", its.draft_tokens)?;
            entry(f, "draft_always", its.draft_always)?;
            entry(f, "cache_type_k", its.cache_type_k.map(text))?;
            entry(f, "cache_type_v", its.cache_type_v.map(text))?;
            let options = Some(&its.options).filter(|options| !options.is_empty());
            entry(
                f,
                "options",
                options.map(|it| toml::Value::from(it.clone())),
            )
        })
    }
}

/// A line of a table, if there is a value.
fn entry<T: Display>(f: &mut String, key: &str, value: Option<T>) -> fmt::Result {
    value.map_or(Ok(()), |value| writeln!(f, "{key} = {value}"))
}
