//! How much a model reasons, in the fields of all dialects: `reasoning_effort` (OpenAI), `think`
//! (Ollama), `reasoning` (`OpenRouter`), `thinking` (Anthropic, `DeepSeek`, Z.ai),
//! `enable_thinking` (Qwen) and `chat_template_kwargs` (llama.cpp, vLLM, `SGLang`).
//!
//! All are converted to one: `reasoning_effort`, or `think: true` if there is no level. Fields that
//! contradict a stronger field, or that the model does not support, are listed as ignored. An
//! engine that speaks OpenAI's API receives all fields unchanged.

use loggia_backend::{Abilities, Ability};
use loggia_wire::Extra;
use loggia_wire::openai::ChatCompletionRequest as Request;
use serde_json::{Map, Value};

use crate::admit::checks::one_of;
use crate::{ApiError, Strictness};

/// The valid values of `reasoning_effort`.
const EFFORTS: &[&str] = &["none", "minimal", "low", "medium", "high", "xhigh", "max"];

/// The valid values of Ollama's `think`, besides true and false.
const LEVELS: &[&str] = &["high", "medium", "low", "max"];

/// The field with variables for chat templates, which llama-server, vLLM and `SGLang` read.
pub(crate) const TEMPLATE: &str = "chat_template_kwargs";

/// The maximum size of all values for a chat template, in bytes. The template may repeat them in
/// each message.
const MOST_VARIABLES: usize = 16 << 10;

/// The maximum nesting depth of a value for a chat template.
const DEEPEST: usize = 16;

/// How much the model should reason.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Effort {
    Off,
    /// Reason, at the model's own level.
    On,
    Level(String),
}

impl Effort {
    fn of_switch(on: bool) -> Self {
        if on { Self::On } else { Self::Off }
    }

    /// Parses `reasoning_effort`. Returns `None` for an unknown word.
    fn of_word(word: &str) -> Option<Self> {
        match word {
            "none" => Some(Self::Off),
            level => EFFORTS
                .contains(&level)
                .then(|| Self::Level(level.to_owned())),
        }
    }

    /// Returns whether a model that follows one follows the other too.
    fn agrees_with(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Level(one), Self::Level(other)) => one == other,
            (Self::Off, other) => *other == Self::Off,
            (_, other) => *other != Self::Off,
        }
    }
}

/// The name and value of a field about reasoning.
#[derive(Debug)]
struct ReasoningField {
    name: &'static str,
    effort: Effort,
}

/// All fields about reasoning of a request, the strongest first.
#[derive(Debug, Default)]
struct ReasoningFields {
    fields: Vec<ReasoningField>,
    /// The names of fields that have no meaning here.
    unread: Vec<String>,
}

/// Converts the fields about reasoning to one. Returns the names of the ignored fields.
///
/// # Errors
/// With `--strict`, fails for the first ignored field.
pub(crate) fn settle(
    request: &mut Request,
    can: &Abilities,
    strictness: Strictness,
) -> Result<Vec<String>, ApiError> {
    if can.has(Ability::UnknownFields) {
        return Ok(Vec::new());
    }
    let passes_template = can
        .chat_fields()
        .is_some_and(|fields| fields.contains(TEMPLATE));
    if passes_template && !has_other_fields(&request.extra) {
        return settle_effort_alone(request, can, strictness);
    }
    let ReasoningFields {
        mut fields,
        mut unread,
    } = take(request, can, passes_template, strictness)?;
    let mut effort = fields.first().map(|first| first.effort.clone());
    let agrees = |field: &ReasoningField| {
        effort
            .as_ref()
            .is_none_or(|effort| effort.agrees_with(&field.effort))
    };
    let (agreeing, overridden): (Vec<ReasoningField>, Vec<ReasoningField>) =
        fields.drain(..).partition(agrees);
    unread.extend(overridden.into_iter().map(|field| field.name.to_owned()));
    // "On" without a level uses the level of a weaker field.
    if effort == Some(Effort::On)
        && let Some(field) = agreeing
            .iter()
            .find(|field| matches!(field.effort, Effort::Level(_)))
    {
        effort = Some(field.effort.clone());
    }
    if effort
        .as_ref()
        .is_some_and(|effort| !is_supported(effort, can))
    {
        unread.extend(agreeing.into_iter().map(|field| field.name.to_owned()));
        effort = None;
    }
    put(request, effort, passes_template, can);
    match unread.first() {
        Some(first) if strictness == Strictness::Strict => Err(ApiError::unsupported(first)),
        _ => Ok(unread),
    }
}

/// Handles an engine that reads `chat_template_kwargs` itself: it receives them unchanged.
fn settle_effort_alone(
    request: &mut Request,
    can: &Abilities,
    strictness: Strictness,
) -> Result<Vec<String>, ApiError> {
    let Some(effort) = &request.reasoning_effort else {
        return Ok(Vec::new());
    };
    if Effort::of_word(effort).is_some_and(|effort| is_supported(&effort, can)) {
        return Ok(Vec::new());
    }
    if strictness == Strictness::Strict {
        one_of("reasoning_effort", Some(effort), EFFORTS)?;
        return Err(ApiError::unsupported("reasoning_effort"));
    }
    request.reasoning_effort = None;
    Ok(vec!["reasoning_effort".to_owned()])
}

fn is_supported(effort: &Effort, can: &Abilities) -> bool {
    can.has(if *effort == Effort::Off {
        Ability::NoReasoning
    } else {
        Ability::Reasoning
    })
}

fn has_other_fields(extra: &Extra) -> bool {
    ["think", "reasoning", "thinking", "enable_thinking"]
        .into_iter()
        .any(|name| extra.contains_key(name))
}

/// Removes the fields about reasoning from a request and returns them.
fn take(
    request: &mut Request,
    can: &Abilities,
    passes_template: bool,
    strictness: Strictness,
) -> Result<ReasoningFields, ApiError> {
    let mut fields = ReasoningFields::default();
    if let Some(think) = request.extra.shift_remove("think") {
        fields.think(think, &mut request.extra, strictness)?;
    }
    if let Some(effort) = request.reasoning_effort.take() {
        if strictness == Strictness::Strict {
            one_of("reasoning_effort", Some(&effort), EFFORTS)?;
        }
        fields.add_or_list("reasoning_effort", Effort::of_word(&effort));
    }
    if let Some(reasoning) = request.extra.shift_remove("reasoning") {
        fields.reasoning(&reasoning);
    }
    if let Some(thinking) = request.extra.shift_remove("thinking") {
        fields.thinking(&thinking);
    }
    if let Some(switch) = request
        .extra
        .shift_remove("enable_thinking")
        .filter(|switch| !switch.is_null())
    {
        fields.add_or_list("enable_thinking", switch.as_bool().map(Effort::of_switch));
    }
    if passes_template {
        let own = request.extra.get(TEMPLATE).and_then(Value::as_object);
        fields.template_first(own);
        return Ok(fields);
    }
    if let Some(variables) = request
        .extra
        .shift_remove(TEMPLATE)
        .filter(|variables| !variables.is_null())
    {
        let kept = fields.template(variables, can);
        if !kept.is_empty() {
            request
                .extra
                .insert(TEMPLATE.to_owned(), Value::Object(kept));
        }
    }
    Ok(fields)
}

impl ReasoningFields {
    fn add_or_list(&mut self, name: &'static str, effort: Option<Effort>) {
        match effort {
            Some(effort) => self.fields.push(ReasoningField { name, effort }),
            None => self.unread.push(name.to_owned()),
        }
    }

    /// Reads Ollama's field. A wrong type is refused later, as for its other fields.
    fn think(
        &mut self,
        think: Value,
        extra: &mut Extra,
        strictness: Strictness,
    ) -> Result<(), ApiError> {
        match think {
            Value::Null => {}
            Value::Bool(on) => self.add_or_list("think", Some(Effort::of_switch(on))),
            Value::String(level) => {
                if strictness == Strictness::Strict {
                    one_of("think", Some(&level), LEVELS)?;
                }
                let level = LEVELS
                    .contains(&level.as_str())
                    .then_some(Effort::Level(level));
                self.add_or_list("think", level);
            }
            other => _ = extra.insert("think".to_owned(), other),
        }
        Ok(())
    }

    /// Reads `{"effort": "low"}` or `{"enabled": false}`.
    fn reasoning(&mut self, reasoning: &Value) {
        let Value::Object(fields) = reasoning else {
            if !reasoning.is_null() {
                self.unread.push("reasoning".to_owned());
            }
            return;
        };
        for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
            match (name.as_str(), value) {
                ("effort", Value::String(word)) => {
                    self.add_or_list("reasoning.effort", Effort::of_word(word));
                }
                ("enabled", Value::Bool(on)) => {
                    self.add_or_list("reasoning.enabled", Some(Effort::of_switch(*on)));
                }
                _ => self.unread.push(format!("reasoning.{name}")),
            }
        }
    }

    /// Reads `{"type": "disabled"}` or `false`.
    fn thinking(&mut self, thinking: &Value) {
        match thinking {
            Value::Null => {}
            Value::Bool(on) => self.add_or_list("thinking", Some(Effort::of_switch(*on))),
            Value::Object(fields) => {
                match fields.get("type").and_then(Value::as_str) {
                    Some("enabled") => self.add_or_list("thinking", Some(Effort::On)),
                    Some("disabled") => self.add_or_list("thinking", Some(Effort::Off)),
                    // The model's default.
                    Some("adaptive" | "auto") => {}
                    _ => self.unread.push("thinking.type".to_owned()),
                }
                let others = fields
                    .iter()
                    .filter(|(name, value)| *name != "type" && !value.is_null());
                self.unread
                    .extend(others.map(|(name, _)| format!("thinking.{name}")));
            }
            _ => self.unread.push("thinking".to_owned()),
        }
    }

    /// Moves the variables to the front: if the engine reads them itself, they take precedence.
    fn template_first(&mut self, variables: Option<&Map<String, Value>>) {
        let fields = variables
            .into_iter()
            .flatten()
            .filter_map(|(name, value)| field_of_variable(name, value));
        self.fields.splice(0..0, fields.collect::<Vec<_>>());
    }

    /// Returns the variables that the model's template reads.
    fn template(&mut self, variables: Value, can: &Abilities) -> Map<String, Value> {
        let mut kept = Map::new();
        let Value::Object(variables) = variables else {
            self.unread.push(TEMPLATE.to_owned());
            return kept;
        };
        let mut room = MOST_VARIABLES;
        for (name, value) in variables.into_iter().filter(|(_, value)| !value.is_null()) {
            if let Some(fields) = field_of_variable(&name, &value) {
                self.fields.push(fields);
                continue;
            }
            let size = value.to_string().len();
            let fits = size <= room && !is_deeper(&value, DEEPEST);
            if can.template_variables.contains(&name) && fits {
                room -= size;
                kept.insert(name, value);
            } else {
                self.unread.push(format!("{TEMPLATE}.{name}"));
            }
        }
        kept
    }
}

/// Returns whether a value is nested deeper than `most`.
fn is_deeper(value: &Value, most: usize) -> bool {
    let deeper = |inner: &Value| most == 0 || is_deeper(inner, most - 1);
    match value {
        Value::Array(items) => items.iter().any(deeper),
        Value::Object(fields) => fields.values().any(deeper),
        _ => false,
    }
}

/// Interprets a template variable about reasoning.
fn field_of_variable(name: &str, value: &Value) -> Option<ReasoningField> {
    let (name, effort) = match (name, value) {
        ("enable_thinking", Value::Bool(on)) => (
            "chat_template_kwargs.enable_thinking",
            Effort::of_switch(*on),
        ),
        ("thinking", Value::Bool(on)) => ("chat_template_kwargs.thinking", Effort::of_switch(*on)),
        ("reasoning_effort", Value::String(word)) => (
            "chat_template_kwargs.reasoning_effort",
            Effort::of_word(word)?,
        ),
        _ => return None,
    };
    Some(ReasoningField { name, effort })
}

/// Writes the result into the field that engines read.
fn put(request: &mut Request, effort: Option<Effort>, passes_template: bool, can: &Abilities) {
    match effort {
        // A model that does not reason has no effort "none".
        Some(Effort::Off) if !can.has(Ability::Reasoning) => {}
        Some(Effort::Off) => request.reasoning_effort = Some("none".to_owned()),
        Some(Effort::Level(level)) => request.reasoning_effort = Some(level),
        Some(Effort::On) if passes_template => {
            let variables = request
                .extra
                .entry(TEMPLATE)
                .or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(variables) = variables {
                variables
                    .entry("enable_thinking")
                    .or_insert(Value::Bool(true));
            }
        }
        Some(Effort::On) if can.has(Ability::EngineOptions) => {
            request.extra.insert("think".to_owned(), Value::Bool(true));
        }
        // Without the field, the model follows its default.
        Some(Effort::On) | None => {}
    }
}

#[cfg(test)]
mod tests {
    use loggia_backend::AbilitySet;
    use serde_json::json;

    use super::*;
    use crate::admit::fields;

    /// Returns the remaining variables for a template that reads `date_string` and
    /// `documents_style`.
    fn settled(variables: &Value, strictness: Strictness) -> Result<(Value, Vec<String>), String> {
        let asked = json!({"model": "m", "messages": [], TEMPLATE: variables});
        let mut request: Request = serde_json::from_value(asked).unwrap();
        let can = Abilities {
            can: AbilitySet::of(&[Ability::Reasoning, Ability::NoReasoning]),
            template_variables: ["date_string", "documents_style"].map(str::to_owned).into(),
            ..Abilities::default()
        };
        let ignored = fields::settle(&mut request, &can, strictness)
            .map_err(|refused| refused.error.param.unwrap_or_default())?;
        let kept = request.extra.get(TEMPLATE).cloned();
        Ok((kept.unwrap_or_default(), ignored))
    }

    #[test]
    fn variables_that_the_template_reads_reach_it_and_others_are_named() {
        let deep = |levels: usize| (0..levels).fold(json!(1), |inner, _| json!([inner]));
        let text = |bytes: usize| "x".repeat(bytes);
        for (variables, kept, named) in [
            (
                json!({"date_string": "1 May", "other": 1}),
                json!({"date_string": "1 May"}),
                Some("other"),
            ),
            (
                json!({"enable_thinking": false, "date_string": 5}),
                json!({"date_string": 5}),
                None,
            ),
            (
                json!({"date_string": null, "messages": []}),
                Value::Null,
                Some("messages"),
            ),
            (
                json!({"date_string": deep(16)}),
                json!({"date_string": deep(16)}),
                None,
            ),
            (
                json!({"date_string": deep(17)}),
                Value::Null,
                Some("date_string"),
            ),
            (
                json!({"date_string": text(10_000), "documents_style": text(10_000)}),
                json!({"date_string": text(10_000)}),
                Some("documents_style"),
            ),
        ] {
            let names: Vec<String> = named
                .map(|name| format!("{TEMPLATE}.{name}"))
                .into_iter()
                .collect();
            assert_eq!(
                settled(&variables, Strictness::Plain),
                Ok((kept, names.clone()))
            );
            let strict = settled(&variables, Strictness::Strict);
            assert_eq!(strict.err(), names.first().cloned());
        }
    }
}
