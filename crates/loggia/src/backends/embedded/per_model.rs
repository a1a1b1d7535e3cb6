//! Checks the `per_model` entries of embedded models: the engine must be able to honour them.

use loggia_backend::roster::Alias;
use loggia_llama::check_options;

use super::super::model_files::EmbeddedModel;
use super::model_spec::ModelSpec;
use crate::config::Config;

/// Checks the entries for embedded models; entries for other models are passed to their backends.
///
/// # Errors
///
/// The message about the first wrong one.
pub(in crate::backends) fn check(
    models: &[EmbeddedModel],
    aliases: &[Alias],
    config: &Config,
) -> Result<(), String> {
    let is_alone = config.ollama.is_empty() && config.openai.is_empty();
    for model in models {
        let spec = ModelSpec::of(model, config);
        let its = config.per_model.0.get(&model.name);
        let is_special = its.is_some_and(|its| {
            its.draft.is_some() || its.cache_type_k.is_some() || its.cache_type_v.is_some()
        });
        if is_special {
            let checked = if spec.whisper.is_some() {
                Err("a Whisper model has neither a draft model nor a cache".to_owned())
            } else {
                spec.forecast().map(drop)
            };
            checked.map_err(|why| format!("per_model.{}: {why}", model.name))?;
        }
    }
    for (name, its) in &config.per_model.0 {
        let options = its.policy().options;
        let Some(model) = embedded(name, models, aliases, is_alone).filter(|_| !options.is_empty())
        else {
            continue;
        };
        // An unreadable file is reported when it is loaded.
        let spec = ModelSpec::of(model, config);
        let Ok(forecast) = spec.forecast() else {
            continue;
        };
        if !spec.continues_texts(&forecast) {
            return Err(format!(
                "per_model.{name}: options: embedding, reranking and Whisper models on the embedded engine have no options"
            ));
        }
        check_options(&options, forecast.context)
            .map_err(|why| format!("per_model.{name}: {why}"))?;
    }
    Ok(())
}

/// The embedded model that a name resolves to. Patterns only apply to names that no model has, so
/// they are used only if all models are known.
fn embedded<'a>(
    name: &str,
    models: &'a [EmbeddedModel],
    aliases: &[Alias],
    is_alone: bool,
) -> Option<&'a EmbeddedModel> {
    let mut name = name.to_owned();
    // The roster does not apply an alias twice.
    for _ in 0..=aliases.len() {
        if let Some(alias) = aliases.iter().find(|alias| alias.from() == name) {
            alias.first().clone_into(&mut name);
            continue;
        }
        let bare = name.strip_prefix("embedded/").unwrap_or(&name);
        if let Some(model) = models
            .iter()
            .find(|model| model.name == bare || model.name == name)
        {
            return Some(model);
        }
        let patterns = aliases
            .iter()
            .filter(|_| is_alone)
            .filter_map(|alias| Some((alias, starred(alias, &name)?)));
        let (alias, text) = patterns.max_by_key(|(alias, _)| alias.from().len())?;
        name = alias.first().replacen('*', text, 1);
    }
    None
}

/// The text that `*` of a pattern stands for.
fn starred<'a>(alias: &Alias, name: &'a str) -> Option<&'a str> {
    let (before, after) = alias.from().split_once('*')?;
    name.strip_prefix(before)?.strip_suffix(after)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn an_entry_is_an_embedded_models_by_its_name_or_by_an_alias() {
        let file = PathBuf::from("m.gguf");
        let local = |name: &str| EmbeddedModel {
            file: file.clone(),
            stored: true,
            adapter: None,
            mmproj: None,
            whisper: None,
            draft: None,
            name: name.to_owned(),
        };
        let models = [local("smollm2:135m"), local("qwen3:4b")];
        let aliases = [
            ("agent", "qwen3:4b"),
            ("other", "llama3:8b"),
            ("gpt-*", "agent"),
            ("gpt-4*", "smollm2:135m"),
        ];
        let aliases = aliases.map(|(from, to)| Alias::new(from, to).unwrap());
        let leads_to = |name, is_alone| {
            embedded(name, &models, &aliases, is_alone).map(|model| model.name.as_str())
        };
        assert_eq!(leads_to("qwen3:4b", false), Some("qwen3:4b"));
        assert_eq!(leads_to("embedded/qwen3:4b", false), Some("qwen3:4b"));
        assert_eq!(leads_to("agent", false), Some("qwen3:4b"));
        assert_eq!(leads_to("other", true), None);
        assert_eq!(leads_to("gpt-3", true), Some("qwen3:4b"));
        assert_eq!(leads_to("gpt-4o", true), Some("smollm2:135m"));
        assert_eq!(
            leads_to("gpt-4o", false),
            None,
            "another backend may have a model of this name"
        );
    }
}
