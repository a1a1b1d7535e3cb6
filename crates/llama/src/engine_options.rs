//! Ollama's options in a request, as far as this engine supports them. Clients send them in the
//! object `options`, and some of them as top-level fields beside OpenAI's own.
//!
//! They are read before the prompt, because `num_ctx` also limits the prompt. OpenAI's own fields
//! take precedence over them (`request.rs`).

use std::ops::RangeInclusive;

use loggia_backend::BackendError;
use loggia_wire::openai::ChatCompletionRequest;
use serde_json::{Map, Value};

/// The options that clients also send as top-level fields. These take precedence over the same
/// names in `options`.
const TOP_LEVEL: [&str; 4] = ["top_k", "min_p", "repeat_penalty", "num_ctx"];

/// The maximum number of stop strings in `options`, and the maximum length of each in bytes. Every
/// generated token is compared with all of them.
const MOST_STOPS: usize = 16;
const LONGEST_STOP: usize = 512;

/// The Ollama options of one request. An option that the request does not set is `None`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct EngineOptions {
    /// The maximum number of tokens, prompt and answer together: `num_ctx`, or the server's
    /// context.
    pub(crate) context: usize,
    pub(crate) temperature: Option<f32>,
    pub(crate) top_p: Option<f32>,
    pub(crate) top_k: Option<u32>,
    pub(crate) min_p: Option<f32>,
    pub(crate) seed: Option<i64>,
    pub(crate) num_predict: Option<usize>,
    pub(crate) stop: Option<Vec<String>>,
    pub(crate) presence_penalty: Option<f32>,
    pub(crate) frequency_penalty: Option<f32>,
    pub(crate) repeat_penalty: Option<f32>,
    pub(crate) repeat_last_n: Option<usize>,
}

/// Checks `options` that a configuration sets for every request to an embedded model with this
/// context. Invalid ones are refused at the start of the server, not later in an answer to a
/// client.
///
/// # Errors
/// A message about the first option that is not supported or is invalid.
pub fn check_options(options: &Map<String, Value>, context: u32) -> Result<(), String> {
    match EngineOptions::read(
        Some(options),
        |_| None,
        usize::try_from(context).unwrap_or(usize::MAX),
    ) {
        Ok(_) => Ok(()),
        Err(BackendError::InvalidRequest { message, .. }) => {
            Err(message.trim_end_matches('.').to_owned())
        }
        Err(other) => Err(other.to_string()),
    }
}

impl EngineOptions {
    /// Reads the options of a request to an engine with this context.
    pub(crate) fn of(
        request: &ChatCompletionRequest,
        context: usize,
    ) -> Result<Self, BackendError> {
        let top_level = |name: &str| request.extra.get(name).filter(|value| !value.is_null());
        Self::read(options_of(request)?, top_level, context)
    }

    fn read<'a>(
        options_field: Option<&Map<String, Value>>,
        top_level: impl Fn(&str) -> Option<&'a Value>,
        context: usize,
    ) -> Result<Self, BackendError> {
        let mut options = Self::none(context);
        for (name, value) in options_field.into_iter().flatten() {
            let is_overruled = TOP_LEVEL.contains(&name.as_str()) && top_level(name).is_some();
            if !(value.is_null() || is_overruled) {
                options.take(
                    name,
                    &OptionValue {
                        value,
                        path: format!("options.{name}"),
                    },
                    context,
                )?;
            }
        }
        for name in TOP_LEVEL {
            if let Some(value) = top_level(name) {
                options.take(
                    name,
                    &OptionValue {
                        value,
                        path: name.to_owned(),
                    },
                    context,
                )?;
            }
        }
        Ok(options)
    }

    /// The options of a request that sets none.
    pub(crate) fn none(context: usize) -> Self {
        Self {
            context,
            temperature: None,
            top_p: None,
            top_k: None,
            min_p: None,
            seed: None,
            num_predict: None,
            stop: None,
            presence_penalty: None,
            frequency_penalty: None,
            repeat_penalty: None,
            repeat_last_n: None,
        }
    }

    fn take(
        &mut self,
        name: &str,
        option: &OptionValue<'_>,
        context: usize,
    ) -> Result<(), BackendError> {
        match name {
            "temperature" => self.temperature = Some(option.number(0.0..=100.0)?),
            "top_p" => self.top_p = Some(option.number(0.0..=1.0)?),
            "min_p" => self.min_p = Some(option.number(0.0..=1.0)?),
            "presence_penalty" => self.presence_penalty = Some(option.number(-100.0..=100.0)?),
            "frequency_penalty" => self.frequency_penalty = Some(option.number(-100.0..=100.0)?),
            "repeat_penalty" => {
                self.repeat_penalty = Some(option.number(0.0..=100.0)?.max(f32::MIN_POSITIVE));
            }
            // 0 and negative numbers disable the limit.
            "top_k" => self.top_k = Some(u32::try_from(option.whole()?.max(0)).unwrap_or(u32::MAX)),
            // -1 lets Ollama choose a seed.
            "seed" => self.seed = Some(option.whole()?).filter(|&seed| seed != -1),
            // With 0 or a negative number, only the context limits the answer.
            "num_predict" => {
                self.num_predict = usize::try_from(option.whole()?)
                    .ok()
                    .filter(|&most| most > 0);
            }
            // -1 means the whole context.
            "repeat_last_n" => {
                self.repeat_last_n = Some(
                    usize::try_from(option.whole()?).map_or(context, |last| last.min(context)),
                );
            }
            "num_ctx" => self.context = option.context(context)?,
            "stop" => self.stop = Some(option.stops()?),
            _ => {
                let message = format!("The option '{name}' is not supported with this model.");
                return Err(option.refused("unsupported_parameter", message));
            }
        }
        Ok(())
    }
}

fn options_of(
    request: &ChatCompletionRequest,
) -> Result<Option<&Map<String, Value>>, BackendError> {
    match request.extra.get("options") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(options)) => Ok(Some(options)),
        Some(value) => Err(OptionValue {
            value,
            path: "options".to_owned(),
        }
        .invalid("must be an object")),
    }
}

/// The value of an option, and its path in the request.
struct OptionValue<'a> {
    value: &'a Value,
    path: String,
}

impl OptionValue<'_> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "an f32 is precise enough for sampling"
    )]
    fn number(&self, range: RangeInclusive<f64>) -> Result<f32, BackendError> {
        let number = self.value.as_f64().filter(|number| range.contains(number));
        let must = || {
            self.invalid(&format!(
                "must be a number from {} to {}",
                range.start(),
                range.end()
            ))
        };
        number.map(|number| number as f32).ok_or_else(must)
    }

    fn whole(&self) -> Result<i64, BackendError> {
        self.value
            .as_i64()
            .ok_or_else(|| self.invalid("must be a whole number"))
    }

    /// Reads `num_ctx`. Memory is reserved at the start, so a request can use less of the context,
    /// but not more.
    fn context(&self, most: usize) -> Result<usize, BackendError> {
        match usize::try_from(self.whole()?) {
            Err(_) | Ok(0) => Err(self.invalid("must be a whole number above 0")),
            Ok(wanted) if wanted > most => Err(self.invalid(&format!(
                "is more than this server's context of {most} tokens"
            ))),
            Ok(wanted) => Ok(wanted),
        }
    }

    fn stops(&self) -> Result<Vec<String>, BackendError> {
        let texts: Option<Vec<&str>> = match self.value {
            Value::String(text) => Some(vec![text]),
            Value::Array(texts) if texts.len() <= MOST_STOPS => {
                texts.iter().map(Value::as_str).collect()
            }
            _ => None,
        };
        let texts = texts.filter(|texts| texts.iter().all(|text| text.len() <= LONGEST_STOP));
        let must = || {
            self.invalid(&format!(
                "must be a string or an array of up to {MOST_STOPS} strings, each of up to {LONGEST_STOP} bytes"
            ))
        };
        let texts = texts.ok_or_else(must)?;
        // An empty stop string has no effect.
        Ok(texts
            .into_iter()
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
            .collect())
    }

    fn invalid(&self, what: &str) -> BackendError {
        self.refused("invalid_value", format!("'{}' {what}.", self.path))
    }

    fn refused(&self, code: &str, message: String) -> BackendError {
        BackendError::InvalidRequest {
            message,
            param: Some(self.path.clone()),
            code: Some(code.to_owned()),
        }
    }
}

#[cfg(test)]
#[expect(
    clippy::needless_pass_by_value,
    reason = "tests pass `json!` values directly"
)]
mod tests {
    use loggia_backend::OptionNames;
    use serde_json::json;

    use super::*;

    fn read(fields: Value) -> Result<EngineOptions, BackendError> {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "x"}]});
        body.as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        EngineOptions::of(&serde_json::from_value(body).unwrap(), 2048)
    }

    fn refused(fields: Value) -> (String, String, String) {
        match read(fields).unwrap_err() {
            BackendError::InvalidRequest {
                message,
                param,
                code,
            } => (param.unwrap(), code.unwrap(), message),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn every_option_that_is_named_is_honoured_and_no_other() {
        let names = OptionNames::Embedded.names();
        for &name in names {
            let option = read(
                json!({"options": {name: if name == "stop" { json!("x") } else { json!(1) }}}),
            )
            .unwrap();
            assert_ne!(option, EngineOptions::none(2048), "{name}");
        }
        assert!(TOP_LEVEL.iter().all(|name| names.contains(name)));
        assert_eq!(
            names.len(),
            12,
            "each of them has its line in `take`, and no other name has"
        );
        let (param, code, message) = refused(json!({"options": {"mirostat": 1}}));
        assert_eq!(
            (param.as_str(), code.as_str()),
            ("options.mirostat", "unsupported_parameter")
        );
        assert_eq!(
            message,
            "The option 'mirostat' is not supported with this model."
        );
    }

    #[test]
    fn what_is_null_is_not_said() {
        let nothing = json!({"options": {"temperature": null, "mirostat": null}, "top_k": null, "num_ctx": null});
        assert_eq!(read(nothing).unwrap(), EngineOptions::none(2048));
        assert_eq!(
            read(json!({"options": null})).unwrap(),
            EngineOptions::none(2048)
        );
    }

    #[test]
    fn what_stands_beside_openais_fields_wins_over_the_same_in_options() {
        let option =
            read(json!({"top_k": 5, "num_ctx": 99, "options": {"top_k": 7, "num_ctx": 1_000_000}}))
                .unwrap();
        assert_eq!((option.top_k, option.context), (Some(5), 99));
        assert_eq!(
            read(json!({"top_k": null, "options": {"top_k": 7}}))
                .unwrap()
                .top_k,
            Some(7)
        );
    }

    #[test]
    fn ollamas_words_for_no_limit_and_no_seed_mean_the_same_here() {
        let option = read(
            json!({"options": {"num_predict": -1, "seed": -1, "repeat_last_n": -1, "top_k": -1}}),
        )
        .unwrap();
        assert_eq!(
            option,
            EngineOptions {
                repeat_last_n: Some(2048),
                top_k: Some(0),
                ..EngineOptions::none(2048)
            }
        );
    }

    #[test]
    fn a_refusal_names_the_place_and_says_what_would_do() {
        let value = |param: &str, message: &str| {
            (
                param.to_owned(),
                "invalid_value".to_owned(),
                message.to_owned(),
            )
        };
        let cases = [
            (
                json!({"num_ctx": 4096}),
                value(
                    "num_ctx",
                    "'num_ctx' is more than this server's context of 2048 tokens.",
                ),
            ),
            (
                json!({"options": {"num_ctx": 4096}}),
                value(
                    "options.num_ctx",
                    "'options.num_ctx' is more than this server's context of 2048 tokens.",
                ),
            ),
            (
                json!({"num_ctx": 0}),
                value("num_ctx", "'num_ctx' must be a whole number above 0."),
            ),
            (
                json!({"top_k": "many"}),
                value("top_k", "'top_k' must be a whole number."),
            ),
            (
                json!({"options": {"top_p": 2}}),
                value(
                    "options.top_p",
                    "'options.top_p' must be a number from 0 to 1.",
                ),
            ),
            (
                json!({"options": []}),
                value("options", "'options' must be an object."),
            ),
        ];
        for (fields, expected) in cases {
            assert_eq!(refused(fields), expected);
        }
        for stops in [
            json!(vec!["x"; 17]),
            json!("x".repeat(513)),
            json!([1]),
            json!(1),
        ] {
            assert_eq!(
                refused(json!({"options": {"stop": stops}})).0,
                "options.stop"
            );
        }
    }
}
