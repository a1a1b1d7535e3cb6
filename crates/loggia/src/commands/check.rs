//! `loggia check`: prints the resulting configuration and tests what can be reached. Everything
//! except the settings is a TOML comment, so the output is itself a configuration file.

use std::fmt::Write as _;

use loggia_backend::roster::{Survey, SurveyedAlias, SurveyedBackend};
use tokio::runtime::Handle;

use crate::backends::{Backends, Draft, ModelError, SetupError};
use crate::config::{Config, Shown};
use crate::models;
use crate::state;

/// The output, and whether everything that is configured can be reached.
pub(crate) async fn check(config: &Config, runtime: &Handle) -> Result<(String, bool), SetupError> {
    let Backends {
        roster,
        parts,
        mut missing,
        drafts,
        caches,
        ..
    } = Backends::of(config, None, runtime)?;
    let mut text = format!("{}\n", Shown(config));
    for notice in config.notices() {
        let _ = writeln!(text, "# {notice}");
    }
    if config.names_no_backend() && matches!(missing[..], [(_, ModelError::NotHere(..))]) {
        // The default model was not configured, so it may be missing.
        missing.clear();
        let _ = writeln!(
            text,
            "# embedded: the default model, {}, is missing; `loggia serve` downloads it",
            models::DEFAULT
        );
    }
    for (model, why) in &missing {
        let _ = writeln!(text, "# embedded: {model}: NOT REACHED: {why}");
    }
    for (
        model,
        Draft {
            file,
            tokens,
            always,
        },
    ) in &drafts
    {
        let when = if *always {
            "in every step"
        } else {
            "if it is measured to be faster"
        };
        let _ = writeln!(
            text,
            "# embedded: {model} has the draft model {}: at most {tokens} tokens, {when}",
            file.display()
        );
    }
    text.push_str(&caches(config));
    let (store, store_is_well) = state::report(config).await;
    text.push_str(&store);
    parts.servers.resolve().await;
    let survey = roster.survey().await;
    text.push_str(&report(&survey, &parts.places()));
    let all_well = store_is_well
        && missing.is_empty()
        && survey.backends.iter().all(|backend| backend.models.is_ok())
        && survey.aliases.iter().all(|alias| !is_dangling(alias));
    Ok((text, all_well))
}

/// Whether an alias with a fixed target leads to no model.
fn is_dangling(alias: &SurveyedAlias) -> bool {
    alias.leads_to.is_none() && !alias.to.contains('*')
}

fn report(survey: &Survey, places: &[(String, String)]) -> String {
    let mut text = String::new();
    for backend in &survey.backends {
        let place = places
            .iter()
            .find(|(name, _)| *name == *backend.name)
            .map_or("", |(_, place)| place);
        let _ = writeln!(text, "# {} at {place}: {}", backend.name, found(backend));
        for model in backend.models.iter().flatten() {
            let _ = match &model.shadowed_by {
                None => writeln!(text, "#   {}", model.id),
                Some(other) => {
                    writeln!(
                        text,
                        "#   {}/{}  (plain `{}` means {other})",
                        backend.name, model.id, model.id
                    )
                }
            };
        }
    }
    for alias in &survey.aliases {
        let SurveyedAlias { from, to, leads_to } = alias;
        let _ = match leads_to {
            Some(place) => writeln!(text, "# alias {from} means {to}, that is {place}"),
            None if is_dangling(alias) => {
                writeln!(
                    text,
                    "# alias {from} means {to}: NOT REACHED: there is no such model"
                )
            }
            None => writeln!(text, "# alias {from} means {to}"),
        };
    }
    text
}

fn found(backend: &SurveyedBackend) -> String {
    match &backend.models {
        Ok(models) if models.is_empty() => "reached, but it has no model".to_owned(),
        Ok(models) if models.len() == 1 => "1 model".to_owned(),
        Ok(models) => format!("{} models", models.len()),
        Err(why) => format!("NOT REACHED: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use loggia_backend::BackendError;
    use loggia_backend::roster::Found;

    use super::*;

    fn backend(name: &str, models: &[(&str, Option<&str>)]) -> SurveyedBackend {
        let found = |(id, by): &(&str, Option<&str>)| Found {
            id: (*id).to_owned(),
            shadowed_by: by.map(str::to_owned),
        };
        SurveyedBackend {
            name: name.into(),
            models: Ok(models.iter().map(found).collect()),
        }
    }

    fn alias(from: &str, to: &str, leads_to: Option<&str>) -> SurveyedAlias {
        SurveyedAlias {
            from: from.to_owned(),
            to: to.to_owned(),
            leads_to: leads_to.map(str::to_owned),
        }
    }

    #[test]
    fn who_shadows_whom_and_what_cannot_be_reached_is_said() {
        let down = BackendError::Unreachable {
            backend: "down".to_owned(),
        };
        let survey = Survey {
            backends: vec![
                backend("embedded", &[("m", None)]),
                backend("vllm", &[("m", Some("embedded/m")), ("n", None)]),
                backend("empty", &[]),
                SurveyedBackend {
                    name: "down".into(),
                    models: Err(down),
                },
            ],
            aliases: vec![
                alias("gpt-*", "n", Some("vllm/n")),
                alias("openai/*", "*", None),
                alias("x", "nothing", None),
            ],
        };
        let places = [
            ("embedded", "this machine"),
            ("vllm", "http://gpu"),
            ("empty", "http://e"),
            ("down", "http://d"),
        ];
        let places = places.map(|(name, place)| (name.to_owned(), place.to_owned()));
        assert_eq!(
            report(&survey, &places),
            "\
# embedded at this machine: 1 model
#   m
# vllm at http://gpu: 2 models
#   vllm/m  (plain `m` means embedded/m)
#   n
# empty at http://e: reached, but it has no model
# down at http://d: NOT REACHED: the backend `down` cannot be reached; check that it is running
# alias gpt-* means n, that is vllm/n
# alias openai/* means *
# alias x means nothing: NOT REACHED: there is no such model
"
        );
    }
}
