//! Messages about mistakes on the command line. They say what is wrong and what to type instead,
//! where clap would only point to `--help`.

use std::error::Error as _;

use clap::CommandFactory as _;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::{Cli, other_programs};
use crate::config;

/// The message about a mistake; `None` if clap's own message is good enough. `about_model` gives
/// the advice for a word that is not a command, but may be a model.
pub(super) fn explained(
    error: &clap::Error,
    about_model: impl FnOnce(&str) -> String,
) -> Option<String> {
    match error.kind() {
        ErrorKind::UnknownArgument => about_flag(error),
        ErrorKind::InvalidSubcommand => {
            let word = text(error, ContextKind::InvalidSubcommand)?;
            Some(about_word(error, word, about_model))
        }
        ErrorKind::ValueValidation | ErrorKind::InvalidValue => about_value(error),
        ErrorKind::ArgumentConflict => about_conflict(error),
        _ => None,
    }
}

fn text(error: &clap::Error, kind: ContextKind) -> Option<&str> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text),
        ContextValue::Strings(texts) => texts.first().map(String::as_str),
        _ => None,
    }
}

fn about_flag(error: &clap::Error) -> Option<String> {
    let flag = name(text(error, ContextKind::InvalidArg)?);
    other_programs::about_flag(flag).or_else(|| {
        let meant = text(error, ContextKind::SuggestedArg)?;
        Some(format!("there is no flag {flag}; did you mean {meant}?"))
    })
}

fn about_word(error: &clap::Error, word: &str, about_model: impl FnOnce(&str) -> String) -> String {
    if let Some(advice) = other_programs::about_command(word) {
        return format!("{word}: {advice}");
    }
    let all = Cli::command();
    // The suggestion may be an alias of a command.
    let meant = text(error, ContextKind::SuggestedSubcommand)
        .and_then(|name| all.find_subcommand(name))
        .map(clap::Command::get_name);
    let instead = match meant {
        Some(command) => format!("did you mean `loggia {command}`?"),
        None => about_model(word),
    };
    format!("there is no command `{word}` (`loggia --help` lists the commands); {instead}")
}

/// Explains a wrong or missing value. The value itself is not shown, because it may be a secret;
/// only the setting's own message quotes it.
fn about_value(error: &clap::Error) -> Option<String> {
    let flag = name(text(error, ContextKind::InvalidArg)?);
    let example = config::example_of_flag(flag);
    let such_as = |before: &str| {
        example
            .as_ref()
            .map(|example| format!("{before}for example {example}"))
            .unwrap_or_default()
    };
    Some(match error.source() {
        Some(why) => format!("{flag}: {why}{}", such_as("; ")),
        None => format!("{flag} needs a value{}", such_as(", ")),
    })
}

fn about_conflict(error: &clap::Error) -> Option<String> {
    let flag = name(text(error, ContextKind::InvalidArg)?);
    let other = name(text(error, ContextKind::PriorArg)?);
    Some(if flag == other {
        format!("{flag} is given twice; leave one out")
    } else {
        format!("{flag} and {other} cannot be used together; leave one out")
    })
}

/// The flag without its value name: `--listen` of `--listen <ADDRESS>`.
fn name(argument: &str) -> &str {
    argument.split([' ', '=', '[']).next().unwrap_or(argument)
}
