//! Ollama's own fields (`options` and others), which clients send together with OpenAI's. The
//! engine interprets them. This module checks them and finds those that no engine would use.

use loggia_backend::{Abilities, Ability};
use loggia_wire::Extra;
use loggia_wire::openai::ChatCompletionRequest as Request;
use serde_json::{Map, Value, json};

use crate::{ApiError, Strictness};

/// The names of the fields.
const FIELDS: [&str; 7] = [
    "options",
    "keep_alive",
    "think",
    "num_ctx",
    "top_k",
    "min_p",
    "repeat_penalty",
];

/// Removes fields with the value null, which means absent.
pub(crate) fn drop_nulls(extra: &mut Extra) {
    for name in FIELDS {
        if extra.get(name).is_some_and(Value::is_null) {
            extra.remove(name);
        }
    }
    if let Some(Value::Object(options)) = extra.get_mut("options") {
        options.retain(|_, value| !value.is_null());
    }
}

/// Returns whether `options` limit the length of the answer: only if the engine reads them. Engines
/// that speak OpenAI's API receive them too, but most ignore them.
pub(crate) fn limit_the_answer(extra: &Extra, can: &Abilities) -> bool {
    let limit = extra
        .get("options")
        .and_then(|options| options.get("num_predict"));
    can.has(Ability::EngineOptions)
        && !can.has(Ability::UnknownFields)
        && limit.is_some_and(|limit| !limit.is_null())
}

/// Returns the options that the engine does not know. They are sent anyway, because another version
/// of the engine may know them.
pub(crate) fn unknown(extra: &Extra, can: &Abilities) -> Vec<String> {
    let known = can.options.names();
    match extra.get("options") {
        Some(Value::Object(options)) if can.has(Ability::EngineOptions) && !known.is_empty() => {
            let unknown = options
                .keys()
                .filter(|name| !known.contains(&name.as_str()));
            unknown.map(|name| format!("options.{name}")).collect()
        }
        _ => Vec::new(),
    }
}

/// Removes the options that the engine would refuse, or refuses the request with `--strict`.
/// Returns their names.
pub(crate) fn settle_refused(
    extra: &mut Extra,
    can: &Abilities,
    strictness: Strictness,
) -> Result<Vec<String>, ApiError> {
    if !can.options.are_all() {
        return Ok(Vec::new());
    }
    let refused = unknown(extra, can);
    if let Some(first) = refused.first().filter(|_| strictness == Strictness::Strict) {
        return Err(ApiError::unsupported(first));
    }
    if let Some(Value::Object(options)) = extra.get_mut("options") {
        options.retain(|name, _| can.options.names().contains(&name.as_str()));
    }
    Ok(refused)
}

/// Removes a `num_ctx` above the embedded engine's context size, so that the context size applies,
/// or refuses the request with `--strict`. Returns its names. Ollama uses as much as the model
/// supports.
pub(crate) fn settle_context(
    extra: &mut Extra,
    can: &Abilities,
    strictness: Strictness,
) -> Result<Vec<String>, ApiError> {
    let Some(most) = can.context_length.filter(|_| can.options.are_all()) else {
        return Ok(Vec::new());
    };
    let is_more = |value: Option<&Value>| {
        value
            .and_then(Value::as_u64)
            .is_some_and(|asked| asked > most)
    };
    let mut dropped = Vec::new();
    if is_more(extra.get("num_ctx")) {
        extra.shift_remove("num_ctx");
        dropped.push("num_ctx".to_owned());
    }
    if let Some(Value::Object(options)) = extra.get_mut("options")
        && is_more(options.get("num_ctx"))
    {
        options.shift_remove("num_ctx");
        dropped.push("options.num_ctx".to_owned());
    }
    match dropped.first() {
        Some(first) if strictness == Strictness::Strict => {
            let message =
                format!("Invalid value for '{first}': this model's context has {most} tokens.");
            Err(ApiError::invalid(first.as_str(), "invalid_value", message))
        }
        _ => Ok(dropped),
    }
}

/// Handles settings that are sent twice with different values: refuses the request with `--strict`,
/// otherwise ignores the weaker one. A separate field takes precedence over `options`.
pub(crate) fn settle_overridden(
    request: &mut Request,
    can: &Abilities,
    strictness: Strictness,
) -> Result<Vec<String>, ApiError> {
    if !can.has(Ability::EngineOptions) {
        return Ok(Vec::new());
    }
    let overridden = remove_overridden_options(request);
    match overridden.first() {
        Some((loses, wins)) if strictness == Strictness::Strict => Err(said_twice(loses, wins)),
        _ => Ok(overridden.into_iter().map(|(loses, _)| loses).collect()),
    }
}

/// Removes the `options` for which a separate field has another value. Returns the names of both.
fn remove_overridden_options(request: &mut Request) -> Vec<(String, &'static str)> {
    let stop = request.stop.as_ref().map(|stop| json!(stop));
    let fields = [
        (
            "temperature",
            "temperature",
            request.temperature.map(Value::from),
        ),
        ("top_p", "top_p", request.top_p.map(Value::from)),
        ("seed", "seed", request.seed.map(Value::from)),
        ("stop", "stop", stop),
        (
            "presence_penalty",
            "presence_penalty",
            request.presence_penalty.map(Value::from),
        ),
        (
            "frequency_penalty",
            "frequency_penalty",
            request.frequency_penalty.map(Value::from),
        ),
        (
            "num_predict",
            "max_completion_tokens",
            request.max_completion_tokens.map(Value::from),
        ),
        (
            "num_predict",
            "max_tokens",
            request.max_tokens.map(Value::from),
        ),
        ("num_ctx", "num_ctx", request.extra.get("num_ctx").cloned()),
        ("top_k", "top_k", request.extra.get("top_k").cloned()),
        ("min_p", "min_p", request.extra.get("min_p").cloned()),
        (
            "repeat_penalty",
            "repeat_penalty",
            request.extra.get("repeat_penalty").cloned(),
        ),
    ];
    let Some(Value::Object(options)) = request.extra.get_mut("options") else {
        return Vec::new();
    };
    let mut overridden = Vec::new();
    for (option, field, wins) in fields {
        if let Some(wins) = wins
            && options
                .get(option)
                .is_some_and(|said| !means_the_same(said, &wins))
        {
            options.shift_remove(option);
            overridden.push((format!("options.{option}"), field));
        }
    }
    overridden
}

/// Compares values: 1 equals 1.0, and one stop string equals a list of it.
fn means_the_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one.as_f64() == other.as_f64(),
        (Value::String(_), Value::Array(all)) => all.as_slice() == std::slice::from_ref(one),
        _ => one == other,
    }
}

fn said_twice(loses: &str, wins: &str) -> ApiError {
    let message = format!(
        "The '{loses}' parameter is not allowed together with '{wins}', which would take precedence; send only one of them."
    );
    ApiError::invalid(loses, "invalid_value", message)
}

/// Returns whether this is a field of Ollama that reaches the engine. Refuses an invalid type or
/// value.
pub(crate) fn is_one(name: &str, extra: &Extra, can: &Abilities) -> Result<bool, ApiError> {
    let ability = if name == "keep_alive" {
        Ability::KeepAlive
    } else {
        Ability::EngineOptions
    };
    if !FIELDS.contains(&name) || !can.has(ability) {
        return Ok(false);
    }
    let expected = match (name, extra.get(name)) {
        (_, None)
        | ("think", Some(Value::Bool(_) | Value::String(_)))
        | ("options", Some(Value::Object(_)))
        | ("keep_alive", Some(Value::Number(_) | Value::String(_)))
        | ("num_ctx" | "top_k" | "min_p" | "repeat_penalty", Some(Value::Number(_))) => {
            return Ok(true);
        }
        ("think", _) => "a boolean or a string",
        ("options", _) => "an object",
        ("keep_alive", _) => "a number or a string",
        _ => "a number",
    };
    Err(ApiError::invalid(
        name,
        "invalid_type",
        format!("Invalid type for '{name}': expected {expected}."),
    ))
}

/// Adds the configured `options` of the model. The values of the request take precedence.
pub(crate) fn add(extra: &mut Extra, options: &Map<String, Value>) {
    let beside = |name: &String| extra.contains_key(name);
    let missing: Vec<_> = options.iter().filter(|(name, _)| !beside(name)).collect();
    let all = extra
        .entry("options")
        .or_insert_with(|| Value::Object(Map::new()));
    let Value::Object(all) = all else { return };
    for (name, value) in missing {
        all.entry(name.as_str()).or_insert_with(|| value.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admit::fields::settle;
    use loggia_backend::{AbilitySet, OptionNames};

    /// The server's own limit on answers applies unless the engine reads the limit in `options`.
    #[test]
    fn options_limit_an_answer_only_where_the_engine_reads_them() {
        let reads = Abilities {
            can: AbilitySet::of(&[Ability::EngineOptions]),
            ..Abilities::default()
        };
        let speaks_openai = Abilities {
            can: AbilitySet::OPENAI_ENGINE,
            ..Abilities::default()
        };
        for (options, limited) in [
            (json!({"num_predict": 5}), true),
            (json!({"num_predict": null}), false),
            (json!({"top_k": 5}), false),
            (json!(null), false),
        ] {
            let extra = Extra::from_iter([("options".to_owned(), options.clone())]);
            assert_eq!(limit_the_answer(&extra, &reads), limited, "{options}");
            assert!(!limit_the_answer(&extra, &speaks_openai), "{options}");
            assert!(
                !limit_the_answer(&extra, &Abilities::default()),
                "{options}"
            );
        }
    }

    #[test]
    fn keep_alive_is_named_where_models_stay_loaded_anyway() {
        let asked = json!({"model": "m", "messages": [], "keep_alive": "5m", "top_k": 5});
        let mut request = serde_json::from_value(asked).unwrap();
        let can = Abilities {
            can: AbilitySet::of(&[Ability::EngineOptions]),
            ..Abilities::default()
        };
        assert_eq!(
            settle(&mut request, &can, Strictness::Plain).unwrap(),
            ["keep_alive"]
        );
    }

    #[test]
    fn a_context_larger_than_the_engines_is_the_engines_and_named() {
        let asked = json!({"model": "m", "messages": [], "num_ctx": 131_072, "options": {"num_ctx": 4096, "top_k": 5}});
        let request = || serde_json::from_value::<Request>(asked.clone()).unwrap();
        let can = AbilitySet::of(&[Ability::EngineOptions]);
        let can = Abilities {
            can,
            options: OptionNames::Embedded,
            context_length: Some(2048),
            ..Abilities::default()
        };
        let mut plain = request();
        assert_eq!(
            settle(&mut plain, &can, Strictness::Plain).unwrap(),
            ["num_ctx", "options.num_ctx"]
        );
        assert_eq!(
            serde_json::to_value(plain.extra).unwrap(),
            json!({"options": {"top_k": 5}})
        );
        let refused = settle(&mut request(), &can, Strictness::Strict).unwrap_err();
        assert_eq!(refused.error.param.as_deref(), Some("num_ctx"));
        let can = Abilities {
            options: OptionNames::Ollama,
            ..can
        };
        assert_eq!(
            settle(&mut request(), &can, Strictness::Plain).unwrap(),
            ["options.num_ctx"],
            "as overridden"
        );
    }

    #[test]
    fn an_option_that_the_engine_refuses_is_dropped_and_named_and_strict_refuses_it() {
        let asked = json!({"model": "m", "messages": [], "options": {"top_k": 5, "mirostat": 1}});
        let request = || serde_json::from_value::<Request>(asked.clone()).unwrap();
        let can = AbilitySet::of(&[Ability::EngineOptions]);
        let can = Abilities {
            can,
            options: OptionNames::Embedded,
            ..Abilities::default()
        };
        let refused = settle(&mut request(), &can, Strictness::Strict).unwrap_err();
        assert_eq!(refused.error.param.as_deref(), Some("options.mirostat"));
        assert_eq!(refused.error.code.as_deref(), Some("unsupported_parameter"));
        for strictness in [Strictness::Plain, Strictness::Lenient] {
            let mut request = request();
            assert_eq!(
                settle(&mut request, &can, strictness).unwrap(),
                ["options.mirostat"]
            );
            assert_eq!(request.extra["options"], json!({"top_k": 5}));
        }
    }
}
