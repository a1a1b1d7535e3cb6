//! Parses and checks requests for completions, and handles fields that the model does not support.

use std::collections::BTreeSet;
use std::sync::Arc;

use loggia_backend::{Abilities, Ability, Profile, Work, WorkKind};
use loggia_wire::Extra;
use loggia_wire::openai::{CompletionRequest as Request, OnePrompt, Prompt};

use crate::admit::ask::{Ask, Parse};
use crate::admit::checks::{between, check_model, drop_empty};
use crate::admit::combinations::{settle_stream_options, wants_usage};
use crate::admit::fields::{self, Field, effect, guarantee};
use crate::admit::parse::{profile_of, tracked};
use crate::admit::{ceilings, chat, engine_options};
use crate::answer::id;
use crate::answer::writer::Shape;
use crate::generated::Generate;
use crate::wording::Dialect;
use crate::{ApiError, Ceilings, Policy, Strictness};

/// OpenAI's default for the maximum number of tokens.
const USUAL_TOKENS: i64 = 16;

/// The fields that some backends cannot honour. All backends honour the others (`temperature`,
/// `stop`, …). `settle_together` handles fields that need more than a lookup.
static FIELDS: &[Field<Request>] = &[
    guarantee(
        "suffix",
        Ability::FillInTheMiddle,
        |r| r.suffix().is_some(),
        |r| r.suffix = None,
    ),
    effect("echo", Ability::Echo, Request::echoes, |r| r.echo = None),
    effect(
        "best_of",
        Ability::BestOf,
        |r| r.candidates() > r.choices(),
        |r| r.best_of = None,
    ),
    effect(
        "n",
        Ability::SeveralChoices,
        |r| r.choices() > 1,
        |r| r.n = None,
    ),
    effect(
        "logit_bias",
        Ability::LogitBias,
        |r| r.logit_bias.as_ref().is_some_and(|all| !all.is_empty()),
        |r| r.logit_bias = None,
    ),
    effect(
        "logprobs",
        Ability::Logprobs,
        |r| r.logprobs.is_some(),
        |r| r.logprobs = None,
    ),
    effect(
        "seed",
        Ability::Seed,
        |r| r.seed.is_some(),
        |r| r.seed = None,
    ),
    guarantee(
        "grammar",
        Ability::Grammar,
        |r| fields::has_grammar(&r.extra),
        |r| {
            r.extra.remove("grammar");
        },
    ),
    effect(
        "stream_options.include_obfuscation",
        Ability::HostedFields,
        |r| fields::asks_for_obfuscation(r.stream_options.as_ref()),
        |_| (),
    ),
    effect("user", Ability::HostedFields, |r| r.user.is_some(), |_| ()),
];

impl Parse for Request {
    fn parse(body: &[u8], policy: &Policy) -> Result<(Arc<Self>, Profile), ApiError> {
        parse_completion(body, policy)
    }
}

impl Ask for Request {
    const WORK: WorkKind = WorkKind::Completions;
    const DIALECT: Dialect = Dialect::Completions;
    const NEEDS: Ability = Ability::Chat;

    fn id(profile: Profile) -> Arc<str> {
        id::new(id::COMPLETION, profile)
    }

    fn model(&self) -> &str {
        &self.model
    }

    fn extra(&mut self) -> &mut Extra {
        &mut self.extra
    }

    fn settle_combinations(&mut self, strictness: Strictness) -> Result<Vec<String>, ApiError> {
        settle_stream_options(self.streams(), &mut self.stream_options, strictness)
    }

    fn settle(&mut self, can: &Abilities, strictness: Strictness) -> Result<Vec<String>, ApiError> {
        settle(self, can, strictness)
    }

    /// Sets OpenAI's default limit, unless the request or its `options` (which the configuration
    /// may have set) limit the answer.
    fn limit(&mut self, can: &Abilities, _: &Ceilings) {
        if self.max_tokens.is_none() && !engine_options::limit_the_answer(&self.extra, can) {
            self.max_tokens = Some(USUAL_TOKENS);
        }
    }
}

impl Generate for Request {
    fn streams(&self) -> bool {
        self.streams()
    }

    fn shape(&self) -> Shape {
        Shape::Text {
            echoes: self.echoes(),
        }
    }

    fn choices(&self) -> usize {
        self.prompts() * Request::choices(self)
    }

    fn include_usage(&self) -> bool {
        wants_usage(self.stream_options.as_ref())
    }

    fn work(request: Arc<Self>) -> Work {
        Work::Completion(request)
    }
}

/// Parses and checks the body of `POST /v1/completions`. Returns the request and the profile of its
/// model.
///
/// # Errors
/// Returns a 400 with the path of the invalid field in `param`.
pub fn parse_completion(body: &[u8], policy: &Policy) -> Result<(Arc<Request>, Profile), ApiError> {
    let profile = profile_of(body, policy);
    let mut request: Request = tracked(body)?;
    check_model(&request.model)?;
    let shared = request.as_chat();
    chat::check_sampling(&shared)?;
    check(&request)?;
    ceilings::check_completion(&request, &shared, &policy.ceilings)?;
    if let Some(stop) = &mut request.stop {
        drop_empty(stop);
    }
    Ok((Arc::new(request), profile))
}

fn check(request: &Request) -> Result<(), ApiError> {
    between("max_tokens", request.max_tokens, 0, i64::from(u32::MAX))?;
    between("logprobs", request.logprobs, 0, 5)?;
    between("best_of", request.best_of, 0, 20)?;
    if request.prompts() == 0 {
        return Err(ApiError::invalid(
            "prompt",
            "empty_array",
            "[] is too short - 'prompt'",
        ));
    }
    let is_empty = |one| matches!(one, OnePrompt::Tokens(tokens) if tokens.is_empty());
    if let Some(index) = request
        .prompt
        .iter()
        .flat_map(Prompt::each)
        .position(is_empty)
    {
        let param = format!("prompt[{index}]");
        return Err(ApiError::invalid(
            &param,
            "empty_array",
            format!("[] is too short - '{param}'"),
        ));
    }
    if request
        .best_of
        .is_some_and(|best_of| (1..100).contains(&best_of))
        && request.best_of < request.n
    {
        let message = "Invalid value for 'best_of': it must be at least 'n'.";
        return Err(ApiError::invalid("best_of", "invalid_value", message));
    }
    if request.streams() && request.candidates() > request.choices() {
        let message = "The 'best_of' parameter is not allowed when 'stream' is enabled: which text is best is known only at the end.";
        return Err(ApiError::invalid("best_of", "invalid_value", message));
    }
    Ok(())
}

/// Handles every field that the model may not support, as `fields::settle` does for a chat. Returns
/// the names of the ignored fields.
///
/// # Errors
/// Returns `unsupported_parameter` for the first refused field.
fn settle(
    request: &mut Request,
    can: &Abilities,
    strictness: Strictness,
) -> Result<Vec<String>, ApiError> {
    let known = can.completion_fields();
    let mut ignored = fields::settle_each(FIELDS, request, can, known, strictness)?;
    ignored.extend(settle_together(request, can, strictness)?);
    if let Some(biases) = &mut request.logit_bias {
        ignored.extend(fields::settle_biases(biases, can, strictness)?);
    }
    if can.has(Ability::UnknownFields) {
        ignored.extend(fields::settle_unread(&request.extra, known, strictness)?);
        return Ok(ignored);
    }
    // The model does not reason before it continues a text.
    let think = request
        .extra
        .remove("think")
        .filter(|think| !think.is_null());
    if think.is_some() && strictness == Strictness::Strict {
        return Err(ApiError::unknown("think"));
    }
    ignored.extend(think.map(|_| "think".to_owned()));
    engine_options::drop_nulls(&mut request.extra);
    ignored.extend(engine_options::settle_context(
        &mut request.extra,
        can,
        strictness,
    )?);
    if request.extra.contains_key("options") {
        let mut shared = request.as_chat();
        ignored.extend(engine_options::settle_overridden(
            &mut shared,
            can,
            strictness,
        )?);
        request.extra = shared.extra;
    }
    let mut names: BTreeSet<String> = request.extra.keys().cloned().collect();
    let in_options = request
        .stream_options
        .iter()
        .flat_map(|options| options.extra.keys());
    names.extend(in_options.map(|name| format!("stream_options.{name}")));
    ignored.extend(fields::settle_unknown(
        names,
        &mut request.extra,
        can,
        known,
        strictness,
    )?);
    Ok(ignored)
}

/// Handles fields that need more than a lookup. A prompt that the model cannot read is always
/// refused. Returns the names of the dropped fields.
fn settle_together(
    request: &mut Request,
    can: &Abilities,
    strictness: Strictness,
) -> Result<Vec<String>, ApiError> {
    let refused = |param: &str, message: &str| {
        Err(ApiError::invalid(param, "unsupported_parameter", message))
    };
    let mut dropped = Vec::new();
    if request.prompt.as_ref().is_some_and(Prompt::is_tokens) && !can.has(Ability::TokenPrompts) {
        return refused(
            "prompt",
            "Token ids as a 'prompt' are not supported with this model; send text.",
        );
    }
    if can.has(Ability::PromptLogprobs) {
        return Ok(dropped);
    }
    if request.max_tokens == Some(0) {
        if strictness != Strictness::Lenient {
            let message = "'max_tokens' must be at least 1 with this model.";
            return refused("max_tokens", message);
        }
        request.max_tokens = None;
        dropped.push("max_tokens".to_owned());
    }
    if !request.echoes() || request.logprobs.is_none() {
        return Ok(dropped);
    }
    if strictness == Strictness::Strict {
        let message = "'echo' together with 'logprobs' is not supported with this model: its engine does not return the log-probabilities of the prompt.";
        return refused("echo", message);
    }
    request.logprobs = None;
    dropped.push("logprobs".to_owned());
    Ok(dropped)
}
