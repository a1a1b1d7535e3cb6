//! Parses and checks requests for embeddings, and handles fields that the model does not support.

use std::sync::Arc;

use loggia_backend::{Abilities, Ability, Profile, WorkKind};
use loggia_wire::Extra;
use loggia_wire::openai::{EmbeddingRequest, OnePrompt, Prompt};

use crate::admit::ask::{Ask, Parse};
use crate::admit::checks::{between, check_model};
use crate::admit::parse::tracked;
use crate::admit::{ceilings, engine_options};
use crate::answer::id;
use crate::wording::Dialect;
use crate::{ApiError, Ceilings, Policy, Strictness};

impl Parse for EmbeddingRequest {
    fn parse(body: &[u8], policy: &Policy) -> Result<(Arc<Self>, Profile), ApiError> {
        let request = parse(body, policy)?;
        let profile = policy.profile_of(&request.model);
        Ok((Arc::new(request), profile))
    }
}

impl Ask for EmbeddingRequest {
    const WORK: WorkKind = WorkKind::Embeddings;
    const DIALECT: Dialect = Dialect::Embeddings;
    const NEEDS: Ability = Ability::Embeddings;

    fn id(_: Profile) -> Arc<str> {
        id::embedding()
    }

    fn model(&self) -> &str {
        &self.model
    }

    fn extra(&mut self) -> &mut Extra {
        &mut self.extra
    }

    fn settle_combinations(&mut self, _: Strictness) -> Result<Vec<String>, ApiError> {
        Ok(Vec::new())
    }

    fn settle(&mut self, can: &Abilities, strictness: Strictness) -> Result<Vec<String>, ApiError> {
        settle(self, can, strictness)
    }

    /// Vectors have no length to limit.
    fn limit(&mut self, _: &Abilities, _: &Ceilings) {}
}

/// Parses and checks the body of `POST /v1/embeddings`.
fn parse(body: &[u8], policy: &Policy) -> Result<EmbeddingRequest, ApiError> {
    // Tracking the path costs time, so it is done only after an error.
    let request: EmbeddingRequest = match serde_json::from_slice(body) {
        Ok(request) => request,
        Err(_) => tracked(body)?,
    };
    check_model(&request.model)?;
    between("dimensions", request.dimensions, 1, i64::from(u32::MAX))?;
    ceilings::check_embedding(&request, &policy.ceilings)?;
    check_input(&request.input)?;
    Ok(request)
}

/// Checks that there is an input and that no input is empty.
fn check_input(input: &Prompt) -> Result<(), ApiError> {
    if input.count() == 0 {
        return Err(ApiError::invalid(
            "input",
            "empty_array",
            "[] is too short - 'input'",
        ));
    }
    let empty = input.each().enumerate().find_map(|(index, one)| match one {
        OnePrompt::Text("") => Some((index, "an empty string", "empty_string")),
        OnePrompt::Tokens([]) => Some((index, "an empty array", "empty_array")),
        _ => None,
    });
    let Some((index, what, code)) = empty else {
        return Ok(());
    };
    let param = if input.count() == 1 {
        "input".to_owned()
    } else {
        format!("input[{index}]")
    };
    let message = format!("Invalid '{param}': input cannot be {what}.");
    Err(ApiError::invalid(param, code, message))
}

/// Handles every field that the model may not support: refuses the request, or returns the names of
/// the ignored fields (`docs/dialects.md`, part 3).
fn settle(
    request: &mut EmbeddingRequest,
    can: &Abilities,
    strictness: Strictness,
) -> Result<Vec<String>, ApiError> {
    if request.input.is_tokens() && !can.has(Ability::TokenPrompts) {
        let message =
            "Unsupported value: 'input' cannot contain token ids with this model; send strings.";
        return Err(ApiError::invalid("input", "unsupported_value", message));
    }
    let mut ignored = Vec::new();
    if request.user.is_some() && !can.has(Ability::HostedFields) {
        if strictness == Strictness::Strict {
            return Err(ApiError::unsupported("user"));
        }
        ignored.push("user".to_owned());
    }
    if can.has(Ability::UnknownFields) {
        return Ok(ignored);
    }
    engine_options::drop_nulls(&mut request.extra);
    let known = can.embedding_fields();
    for name in request
        .extra
        .keys()
        .filter(|name| !known.is_some_and(|known| known.contains(*name)))
    {
        // The fields of Ollama that `/api/embed` has too.
        if matches!(name.as_str(), "options" | "keep_alive")
            && engine_options::is_one(name, &request.extra, can)?
        {
            continue;
        }
        if strictness == Strictness::Strict {
            return Err(ApiError::unknown(name));
        }
        ignored.push(name.clone());
    }
    let unknown = engine_options::unknown(&request.extra, can);
    if let Some(first) = unknown.first().filter(|_| strictness == Strictness::Strict) {
        return Err(ApiError::unknown(first));
    }
    ignored.extend(unknown);
    Ok(ignored)
}
