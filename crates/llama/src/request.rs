//! From OpenAI's request to what the engine is asked: a pure translation.

use std::sync::Arc;

use loggia_backend::{BackendError, Profile};
use loggia_wire::openai::{ChatCompletionRequest, Tool};
use serde_json::Value;

use crate::Token;
use crate::engine::Generation;
use crate::grammar::Held;
use crate::sample::Sampling;

/// What the model's size and vocabulary allow.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) vocabulary: usize,
    pub(crate) context: usize,
}

/// What the engine is asked for each of the choices, but for the prompt.
pub(crate) fn generations(
    request: &ChatCompletionRequest,
    profile: Profile,
    prompt: &Arc<[Token]>,
    bounds: Bounds,
    held: Option<Held>,
) -> Result<Vec<Generation>, BackendError> {
    let sampling = sampling(request, profile, bounds)?;
    let generation = Generation {
        prompt: Arc::clone(prompt),
        max_tokens: request.token_limit().map(|most| usize::try_from(most).unwrap_or(0)),
        stop: request.stop.as_ref().map(|stop| stop.0.clone()).unwrap_or_default(),
        sampling,
        held,
        top_logprobs: top_logprobs(request),
    };
    Ok((0..request.choices()).map(|choice| generation.choice(choice)).collect())
}

/// The tools that the template is shown: those that may be called.
pub(crate) fn tools(request: &ChatCompletionRequest) -> Vec<Tool> {
    let callable = request.callable_functions();
    let is_callable = |tool: &&Tool| tool.function.as_ref().is_some_and(|function| callable.contains(&function));
    request.tools.iter().flatten().filter(is_callable).cloned().collect()
}

impl Generation {
    /// The same for another choice: each has a seed of its own, the first the one that was asked for.
    fn choice(&self, choice: usize) -> Self {
        let mut generation = self.clone();
        generation.sampling.seed = self.sampling.seed.map(|seed| seed.wrapping_add(choice as u64));
        generation
    }
}

fn top_logprobs(request: &ChatCompletionRequest) -> Option<usize> {
    let wanted = request.logprobs.unwrap_or(false);
    wanted.then(|| request.top_logprobs.and_then(|top| usize::try_from(top).ok()).unwrap_or(0).min(20))
}

#[expect(clippy::cast_possible_truncation, reason = "sampling needs no more than an f32 holds")]
fn sampling(request: &ChatCompletionRequest, profile: Profile, bounds: Bounds) -> Result<Sampling, BackendError> {
    let usual = Sampling::default();
    let mut sampling = Sampling {
        temperature: request.temperature.map_or(usual.temperature, |value| value as f32),
        top_p: request.top_p.map_or(usual.top_p, |value| value as f32),
        // The bits, so that a negative seed is one too.
        seed: request.seed.map(i64::cast_unsigned),
        presence_penalty: request.presence_penalty.map_or(0.0, |value| value as f32),
        frequency_penalty: request.frequency_penalty.map_or(0.0, |value| value as f32),
        logit_bias: logit_bias(request, bounds.vocabulary)?,
        ..usual
    };
    engine_options(request, bounds, &mut sampling)?;
    if profile == Profile::Original {
        as_the_original_did(request, &mut sampling);
    }
    Ok(sampling)
}

/// `docs/dialects.md`, part 1: what the 2024 middleware made of sampling fields.
fn as_the_original_did(request: &ChatCompletionRequest, sampling: &mut Sampling) {
    if request.temperature.is_some() {
        sampling.temperature *= 2.0;
    }
    if request.seed.is_some() {
        sampling.temperature = 0.0;
    }
    sampling.presence_penalty *= 2.0;
    sampling.frequency_penalty *= 2.0;
}

fn logit_bias(request: &ChatCompletionRequest, vocabulary: usize) -> Result<Vec<(Token, f32)>, BackendError> {
    let entries = request.logit_bias.iter().flatten();
    let read = |(token, &bias): (&String, &f64)| {
        let known =
            token.parse::<Token>().ok().filter(|&token| usize::try_from(token).is_ok_and(|token| token < vocabulary));
        #[expect(clippy::cast_possible_truncation, reason = "a bias is from -100 to 100")]
        known.map(|token| (token, bias as f32)).ok_or_else(|| {
            let message = format!(
                "'{token}' is no token of this model, which has those from 0 to {}.",
                vocabulary.saturating_sub(1)
            );
            invalid(&format!("logit_bias.{token}"), message)
        })
    };
    entries.map(read).collect()
}

/// Fields of Ollama's that clients put beside OpenAI's: `top_k`, `min_p`, `repeat_penalty`, `num_ctx`, or these within `options`.
fn engine_options(
    request: &ChatCompletionRequest,
    bounds: Bounds,
    sampling: &mut Sampling,
) -> Result<(), BackendError> {
    if let Some(options) = request.extra.get("options") {
        let options =
            options.as_object().ok_or_else(|| invalid("options", "'options' must be an object.".to_owned()))?;
        for (name, value) in options {
            if !engine_option(name, value, &format!("options.{name}"), bounds, sampling)? {
                let message = format!("The option '{name}' is not supported with this model.");
                return Err(invalid(&format!("options.{name}"), message));
            }
        }
    }
    for name in ["top_k", "min_p", "repeat_penalty", "num_ctx"] {
        if let Some(value) = request.extra.get(name) {
            engine_option(name, value, name, bounds, sampling)?;
        }
    }
    Ok(())
}

/// Takes one option over. Says whether there is one of this name.
fn engine_option(
    name: &str,
    value: &Value,
    path: &str,
    bounds: Bounds,
    sampling: &mut Sampling,
) -> Result<bool, BackendError> {
    let whole =
        || value.as_u64().ok_or_else(|| invalid(path, format!("'{path}' must be a whole number of 0 or more.")));
    #[expect(clippy::cast_possible_truncation, reason = "sampling needs no more than an f32 holds")]
    let fraction = || {
        let number = value.as_f64().filter(|number| (0.0..=100.0).contains(number));
        number
            .map(|number| number as f32)
            .ok_or_else(|| invalid(path, format!("'{path}' must be a number from 0 to 100.")))
    };
    match name {
        "top_k" => sampling.top_k = u32::try_from(whole()?).unwrap_or(u32::MAX),
        "repeat_last_n" => sampling.repeat_last_n = usize::try_from(whole()?).unwrap_or(usize::MAX).min(bounds.context),
        "min_p" => sampling.min_p = fraction()?.min(1.0),
        "repeat_penalty" => sampling.repeat_penalty = fraction()?.max(f32::MIN_POSITIVE),
        // Memory is reserved at the start: what fits is fine, more is not to be had.
        "num_ctx" if whole()? > bounds.context as u64 => {
            let message = format!("'{path}' is more than this server's context of {} tokens.", bounds.context);
            return Err(invalid(path, message));
        }
        "num_ctx" => {}
        _ => return Ok(false),
    }
    Ok(true)
}

fn invalid(param: &str, message: String) -> BackendError {
    BackendError::InvalidRequest { message, param: Some(param.to_owned()), code: None }
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "tests take `json!` as it comes")]
mod tests {
    use serde_json::json;

    use super::*;

    const BOUNDS: Bounds = Bounds { vocabulary: 1000, context: 2048 };

    fn translate(fields: &Value, profile: Profile) -> Result<Vec<Generation>, BackendError> {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "x"}]});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        generations(&serde_json::from_value(body).unwrap(), profile, &Arc::from([1, 2]), BOUNDS, None)
    }

    fn one(fields: Value) -> Generation {
        translate(&fields, Profile::Openai).unwrap().remove(0)
    }

    fn refused(fields: Value) -> String {
        match translate(&fields, Profile::Openai).unwrap_err() {
            BackendError::InvalidRequest { message, param, .. } => format!("{}: {message}", param.unwrap()),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn what_is_absent_has_openais_defaults() {
        let generation = one(json!({}));
        assert_eq!(generation.sampling, Sampling::default());
        assert_eq!((generation.max_tokens, generation.top_logprobs), (None, None));
    }

    #[test]
    fn every_field_reaches_the_engine() {
        let generation = one(json!({
            "temperature": 0.5, "top_p": 0.25, "seed": 7, "presence_penalty": 1.5, "frequency_penalty": -1, "max_tokens": 5,
            "stop": ["a", "b"], "logit_bias": {"17": -100}, "logprobs": true, "top_logprobs": 3, "top_k": 40,
            "options": {"min_p": 0.125, "repeat_penalty": 1.25, "repeat_last_n": 16}
        }));
        let expected = Sampling {
            temperature: 0.5,
            top_p: 0.25,
            top_k: 40,
            min_p: 0.125,
            seed: Some(7),
            presence_penalty: 1.5,
            frequency_penalty: -1.0,
            repeat_penalty: 1.25,
            repeat_last_n: 16,
            logit_bias: vec![(17, -100.0)],
        };
        assert_eq!(generation.sampling, expected);
        assert_eq!(generation.stop, ["a", "b"]);
        assert_eq!((generation.max_tokens, generation.top_logprobs), (Some(5), Some(3)));
    }

    #[test]
    fn each_choice_has_a_seed_of_its_own() {
        let seeds = |fields| -> Vec<_> {
            translate(&fields, Profile::Openai).unwrap().iter().map(|generation| generation.sampling.seed).collect()
        };
        assert_eq!(seeds(json!({"n": 3, "seed": 5})), [Some(5), Some(6), Some(7)]);
        assert_eq!(seeds(json!({"n": 2})), [None, None]);
    }

    #[test]
    fn a_bias_for_a_token_that_the_model_does_not_have_is_refused() {
        assert_eq!(
            refused(json!({"logit_bias": {"1000": 1}})),
            "logit_bias.1000: '1000' is no token of this model, which has those from 0 to 999."
        );
        assert!(refused(json!({"logit_bias": {"x": 1}})).starts_with("logit_bias.x: "));
    }

    #[test]
    fn engine_options_that_cannot_be_honoured_are_refused() {
        assert!(refused(json!({"options": {"mirostat": 1}})).starts_with("options.mirostat: "));
        assert!(refused(json!({"num_ctx": 4096})).contains("2048"));
        assert!(refused(json!({"top_k": "many"})).starts_with("top_k: "));
    }

    #[test]
    fn the_original_profile_reads_sampling_fields_as_the_original_did() {
        let original = |fields| translate(&fields, Profile::Original).unwrap().remove(0).sampling;
        let sampling = original(json!({"temperature": 0.5, "presence_penalty": 0.25, "frequency_penalty": 0.5}));
        let expected =
            Sampling { temperature: 1.0, presence_penalty: 0.5, frequency_penalty: 1.0, ..Sampling::default() };
        assert_eq!(sampling, expected);
        let sampling = original(json!({"seed": 3}));
        assert_eq!(sampling, Sampling { temperature: 0.0, seed: Some(3), ..Sampling::default() });
    }
}
