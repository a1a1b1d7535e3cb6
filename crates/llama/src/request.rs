//! Translates an OpenAI request into the engine's generations. Pure functions.

use loggia_backend::{BackendError, Profile};
use loggia_wire::openai::{ChatCompletionRequest, Tool};

use crate::Token;
use crate::engine::{Generation, Passage, Scope};
use crate::engine_options::EngineOptions;
use crate::grammar::AnswerConstraint;
use crate::sample::Sampling;

/// The settings with which a request is translated.
#[derive(Debug)]
pub(crate) struct RequestSettings<'a> {
    pub(crate) profile: Profile,
    /// The size of the model's vocabulary.
    pub(crate) vocabulary: usize,
    pub(crate) options: &'a EngineOptions,
    /// Whose cached prompts the request uses.
    pub(crate) scope: Scope,
}

/// Builds the engine's generations for a request, one for each choice.
pub(crate) fn generations(
    request: &ChatCompletionRequest,
    settings: &RequestSettings<'_>,
    prompt: &Passage,
    constraint: Option<AnswerConstraint>,
) -> Result<Vec<Generation>, BackendError> {
    let sampling = sampling(request, settings)?;
    let options = settings.options;
    let limit = request
        .token_limit()
        .map(|most| usize::try_from(most).unwrap_or(0));
    let stop = request
        .stop
        .as_ref()
        .map(|stop| &stop.0)
        .or(options.stop.as_ref());
    let generation = Generation {
        prompt: prompt.clone(),
        scope: settings.scope.clone(),
        context: options.context,
        max_tokens: limit.or(options.num_predict),
        stop: stop.cloned().unwrap_or_default(),
        sampling,
        constraint,
        top_logprobs: top_logprobs(request),
        shows_end: false,
        scored: None,
    };
    Ok((0..request.choices())
        .map(|choice| generation.choice(choice))
        .collect())
}

/// The tools that the model may call. The template shows only these.
pub(crate) fn tools(request: &ChatCompletionRequest) -> Vec<Tool> {
    let callable = request.callable_functions();
    let is_callable = |tool: &&Tool| {
        tool.function
            .as_ref()
            .is_some_and(|function| callable.contains(&function))
    };
    request
        .tools
        .iter()
        .flatten()
        .filter(is_callable)
        .cloned()
        .collect()
}

impl Generation {
    /// Returns the same generation for another choice. Each choice has its own seed; the first has
    /// the requested one.
    fn choice(&self, choice: usize) -> Self {
        let mut generation = self.clone();
        generation.sampling.seed = self
            .sampling
            .seed
            .map(|seed| seed.wrapping_add(choice as u64));
        generation
    }
}

fn top_logprobs(request: &ChatCompletionRequest) -> Option<usize> {
    let wanted = request.logprobs.unwrap_or(false);
    wanted.then(|| {
        request
            .top_logprobs
            .and_then(|top| usize::try_from(top).ok())
            .unwrap_or(0)
            .min(20)
    })
}

fn sampling(
    request: &ChatCompletionRequest,
    settings: &RequestSettings<'_>,
) -> Result<Sampling, BackendError> {
    let (usual, options) = (Sampling::default(), settings.options);
    let of_openai = of_openai(request, settings.profile);
    // In this order: OpenAI's own field, Ollama's option, the default.
    let either = |own: Option<f32>, option: Option<f32>, usual| own.or(option).unwrap_or(usual);
    Ok(Sampling {
        temperature: either(
            of_openai.temperature,
            options.temperature,
            usual.temperature,
        ),
        top_p: either(of_openai.top_p, options.top_p, usual.top_p),
        top_k: options.top_k.unwrap_or(usual.top_k),
        min_p: options.min_p.unwrap_or(usual.min_p),
        // The bits are taken unchanged, so that a negative seed is valid.
        seed: request.seed.or(options.seed).map(i64::cast_unsigned),
        presence_penalty: either(
            of_openai.presence_penalty,
            options.presence_penalty,
            usual.presence_penalty,
        ),
        frequency_penalty: either(
            of_openai.frequency_penalty,
            options.frequency_penalty,
            usual.frequency_penalty,
        ),
        repeat_penalty: options.repeat_penalty.unwrap_or(usual.repeat_penalty),
        repeat_last_n: options.repeat_last_n.unwrap_or(usual.repeat_last_n),
        logit_bias: logit_bias(request, settings.vocabulary)?,
    })
}

/// OpenAI's sampling fields, after the profile was applied.
struct OfOpenAi {
    temperature: Option<f32>,
    top_p: Option<f32>,
    presence_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
}

fn of_openai(request: &ChatCompletionRequest, profile: Profile) -> OfOpenAi {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "an f32 is precise enough for sampling"
    )]
    let number = |field: Option<f64>| field.map(|value| value as f32);
    let fields = OfOpenAi {
        temperature: number(request.temperature),
        top_p: number(request.top_p),
        presence_penalty: number(request.presence_penalty),
        frequency_penalty: number(request.frequency_penalty),
    };
    if profile == Profile::Original {
        as_the_original_did(&fields, request.seed.is_some())
    } else {
        fields
    }
}

/// The sampling fields as the Go middleware of 2024 translated them (`docs/dialects.md`, part 1).
fn as_the_original_did(fields: &OfOpenAi, has_seed: bool) -> OfOpenAi {
    let doubled = |field: Option<f32>| field.map(|value| value * 2.0);
    OfOpenAi {
        temperature: if has_seed {
            Some(0.0)
        } else {
            doubled(fields.temperature)
        },
        top_p: fields.top_p,
        presence_penalty: doubled(fields.presence_penalty),
        frequency_penalty: doubled(fields.frequency_penalty),
    }
}

fn logit_bias(
    request: &ChatCompletionRequest,
    vocabulary: usize,
) -> Result<Vec<(Token, f32)>, BackendError> {
    let entries = request.logit_bias.iter().flatten();
    let read = |(token, &bias): (&String, &f64)| {
        let known = token
            .parse::<Token>()
            .ok()
            .filter(|&token| usize::try_from(token).is_ok_and(|token| token < vocabulary));
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a bias is from -100 to 100"
        )]
        known.map(|token| (token, bias as f32)).ok_or_else(|| {
            BackendError::no_such_token(token, u64::try_from(vocabulary).unwrap_or(u64::MAX))
        })
    };
    entries.map(read).collect()
}

#[cfg(test)]
#[expect(
    clippy::needless_pass_by_value,
    reason = "tests pass `json!` values directly"
)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn translate(fields: &Value, profile: Profile) -> Result<Vec<Generation>, BackendError> {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "x"}]});
        body.as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        let request = serde_json::from_value(body).unwrap();
        let options = EngineOptions::of(&request, 2048)?;
        let settings = RequestSettings {
            profile,
            vocabulary: 1000,
            options: &options,
            scope: None,
        };
        generations(&request, &settings, &Passage::from(vec![1, 2]), None)
    }

    fn one(fields: Value) -> Generation {
        translate(&fields, Profile::Openai).unwrap().remove(0)
    }

    fn refused(fields: Value) -> String {
        match translate(&fields, Profile::Openai).unwrap_err() {
            BackendError::InvalidRequest { message, param, .. } => {
                format!("{}: {message}", param.unwrap())
            }
            other => panic!("{other}"),
        }
    }

    #[test]
    fn what_is_absent_has_openais_defaults() {
        let generation = one(json!({}));
        assert_eq!(generation.sampling, Sampling::default());
        assert_eq!(
            (generation.max_tokens, generation.top_logprobs),
            (None, None)
        );
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
        assert_eq!(
            (generation.max_tokens, generation.top_logprobs),
            (Some(5), Some(3))
        );
    }

    #[test]
    fn each_choice_has_a_seed_of_its_own() {
        let seeds = |fields| -> Vec<_> {
            translate(&fields, Profile::Openai)
                .unwrap()
                .iter()
                .map(|generation| generation.sampling.seed)
                .collect()
        };
        assert_eq!(
            seeds(json!({"n": 3, "seed": 5})),
            [Some(5), Some(6), Some(7)]
        );
        assert_eq!(seeds(json!({"n": 2})), [None, None]);
    }

    #[test]
    fn a_bias_for_a_token_that_the_model_does_not_have_is_refused() {
        assert_eq!(
            refused(json!({"logit_bias": {"1000": 1}})),
            "logit_bias.1000: '1000' is not a token of this model; its tokens are 0 to 999."
        );
        assert!(refused(json!({"logit_bias": {"x": 1}})).starts_with("logit_bias.x: "));
    }

    #[test]
    fn openais_own_fields_win_over_the_same_in_options() {
        let options = json!({
            "temperature": 0.5, "top_p": 0.25, "seed": 7, "presence_penalty": 1.5, "frequency_penalty": -1, "num_predict": 5,
            "stop": ["a"], "num_ctx": 100
        });
        let alone = one(json!({"options": options}));
        let sampling = Sampling {
            temperature: 0.5,
            top_p: 0.25,
            seed: Some(7),
            presence_penalty: 1.5,
            frequency_penalty: -1.0,
            ..Sampling::default()
        };
        assert_eq!(alone.sampling, sampling);
        assert_eq!(
            (alone.max_tokens, alone.stop, alone.context),
            (Some(5), vec!["a".to_owned()], 100)
        );
        let both = one(json!({
            "temperature": 1.0, "top_p": 1.0, "seed": 3, "presence_penalty": 0, "frequency_penalty": 0, "max_tokens": 9,
            "stop": "b", "options": options
        }));
        assert_eq!(
            both.sampling,
            Sampling {
                seed: Some(3),
                ..Sampling::default()
            }
        );
        assert_eq!(
            (both.max_tokens, both.stop),
            (Some(9), vec!["b".to_owned()])
        );
    }

    #[test]
    fn the_original_profile_reads_sampling_fields_as_the_original_did() {
        let original = |fields: Value| {
            translate(&fields, Profile::Original)
                .unwrap()
                .remove(0)
                .sampling
        };
        let sampling = original(
            json!({"temperature": 0.5, "presence_penalty": 0.25, "frequency_penalty": 0.5}),
        );
        let expected = Sampling {
            temperature: 1.0,
            presence_penalty: 0.5,
            frequency_penalty: 1.0,
            ..Sampling::default()
        };
        assert_eq!(sampling, expected);
        let sampling = original(json!({"seed": 3}));
        assert_eq!(
            sampling,
            Sampling {
                temperature: 0.0,
                seed: Some(3),
                ..Sampling::default()
            }
        );
        let options = json!({"options": {"temperature": 0.5, "presence_penalty": 0.25}});
        let expected = Sampling {
            temperature: 0.5,
            presence_penalty: 0.25,
            ..Sampling::default()
        };
        assert_eq!(original(options), expected, "options mean what they say");
    }
}
