//! What is particular to the older completions: how a request for them is read, checked and
//! settled. What follows is as with a chat (`chat.rs`).

use std::collections::BTreeSet;
use std::sync::Arc;

use loggia_backend::{Abilities, Ability, Profile};
use loggia_wire::Extra;
use loggia_wire::openai::{CompletionRequest as Request, OnePrompt, Prompt};

use crate::admit::ceilings;
use crate::admit::chat;
use crate::admit::engine_options;
use crate::admit::fields::{self, Field, effect, guarantee};
use crate::{ApiError, Policy, Strictness};

/// The most tokens of a text where the client says nothing: OpenAI's own default.
const USUAL_TOKENS: i64 = 16;

/// What some backend cannot honour; the rest (`temperature`, `stop`, …) all can. What takes more
/// than a look is in `settle_together`.
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

/// Parses and checks the body of `POST /v1/completions`; gives back the profile of its model too.
///
/// # Errors
/// A 400 with the path of the field at fault in `param`.
pub fn parse_completion(body: &[u8], policy: &Policy) -> Result<(Arc<Request>, Profile), ApiError> {
    let profile = chat::profile_of(body, policy);
    let mut request: Request = chat::tracked(body)?;
    chat::check_model(&request.model)?;
    let shared = request.as_chat();
    chat::check_sampling(&shared)?;
    check(&request)?;
    ceilings::check_completion(&request, &shared, &policy.ceilings)?;
    if let Some(stop) = &mut request.stop {
        chat::drop_empty(stop);
    }
    Ok((Arc::new(request), profile))
}

fn check(request: &Request) -> Result<(), ApiError> {
    chat::between("max_tokens", request.max_tokens, 0, i64::from(u32::MAX))?;
    chat::between("logprobs", request.logprobs, 0, 5)?;
    chat::between("best_of", request.best_of, 0, 20)?;
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
        let message = "The 'best_of' parameter is not allowed when 'stream' is enabled: the best is known at the end.";
        return Err(ApiError::invalid("best_of", "invalid_value", message));
    }
    Ok(())
}

/// Settles every field of a request, as `fields::settle` does for a chat. Gives back the names of
/// those without effect.
///
/// # Errors
/// `unsupported_parameter` for the first field that is refused.
pub(crate) fn settle(
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
    // A text has no thoughts before it.
    let think = request
        .extra
        .remove("think")
        .filter(|think| !think.is_null());
    if think.is_some() && strictness == Strictness::Strict {
        return Err(ApiError::unknown("think"));
    }
    ignored.extend(think.map(|_| "think".to_owned()));
    engine_options::drop_unsaid(&mut request.extra);
    ignored.extend(engine_options::settle_context(
        &mut request.extra,
        can,
        strictness,
    )?);
    if request.extra.contains_key("options") {
        let mut shared = request.as_chat();
        ignored.extend(engine_options::settle_outdone(
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

/// What takes more than a look: a prompt that cannot be read is refused whatever the strictness.
/// Gives back the names of what was dropped.
fn settle_together(
    request: &mut Request,
    can: &Abilities,
    strictness: Strictness,
) -> Result<Vec<String>, ApiError> {
    let refused = |param: &str, message: &str| {
        Err(ApiError::invalid(param, "unsupported_parameter", message))
    };
    if request.prompt.as_ref().is_some_and(Prompt::is_tokens) && !can.has(Ability::TokenPrompts) {
        return refused(
            "prompt",
            "Token ids as a 'prompt' are not supported with this model; send text.",
        );
    }
    if can.has(Ability::PromptLogprobs) {
        return Ok(Vec::new());
    }
    if request.max_tokens == Some(0) {
        return refused(
            "max_tokens",
            "'max_tokens' must be at least 1 with this model.",
        );
    }
    if !request.echoes() || request.logprobs.is_none() {
        return Ok(Vec::new());
    }
    if strictness == Strictness::Strict {
        let message = "'echo' together with 'logprobs' is not supported with this model: it does not tell those of the prompt.";
        return refused("echo", message);
    }
    request.logprobs = None;
    Ok(vec!["logprobs".to_owned()])
}

/// How long a text may be where nobody says: neither the client, nor `options`, which may be the
/// configuration's.
pub(crate) fn limit(request: &mut Request) {
    let says_so = |extra: &Extra| {
        extra
            .get("options")
            .and_then(|options| options.get("num_predict"))
            .is_some()
    };
    if request.max_tokens.is_none() && !says_so(&request.extra) {
        request.max_tokens = Some(USUAL_TOKENS);
    }
}
