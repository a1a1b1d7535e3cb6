//! Embeddings: parse, find, ask, answer.

use std::pin::pin;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderValue, Request, Response};
use loggia_backend::{
    Abilities, Ability, BackendError, CallHead, EmbeddingCall, Embeddings, WorkKind,
};
use loggia_wire::openai::{
    CompletionUsage, Embedding, EmbeddingList, EmbeddingRequest, EmbeddingUsage, EncodingFormat,
    OnePrompt, Prompt, Vector,
};

use crate::admit::ceilings;
use crate::admit::chat::{between, check_model, tracked};
use crate::admit::engine_options;
use crate::answer::headers::{name_ignored, name_server, refused, within};
use crate::answer::id;
use crate::answer::ignored::listed;
use crate::answer::stream::took_too_long;
use crate::door::read;
use crate::{ApiError, Body, Caller, Door, Ended, Outcome, Policy, RequestId, Strictness};

/// A request that was read: everything about it but what its model can do.
struct Asked {
    request: EmbeddingRequest,
    strictness: Strictness,
    /// The name of the API key that the client used.
    caller: Option<Arc<str>>,
    /// The head of the client's request, where it goes along.
    forwarded: Option<Arc<Parts>>,
    request_id: Option<Arc<str>>,
}

impl Door {
    /// `POST /v1/embeddings`.
    pub(crate) async fn embeddings<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data: Buf, Error: std::fmt::Display> + Send,
    {
        let (parts, body) = request.into_parts();
        let read = read::json_body(&parts.headers, body, &self.policy).await;
        let parsed = read.and_then(|bytes| parse(&bytes, &self.policy));
        let request = match parsed {
            Ok(request) => request,
            Err(error) => return error.under(self.policy.profile).response(),
        };
        let profile = self.policy.profile_of(&request.model);
        let strictness = self.strictness_for(&parts, &request.model);
        let request_id = RequestId::of(&parts);
        let caller = Caller::name_of(&parts);
        let forwarded = self.forwards_head.then(|| Arc::new(parts));
        let mut ignored = String::new();
        let limit = self.policy.ceilings.whole_time;
        let answered = {
            let overdue = || {
                Err(refused(
                    took_too_long(limit.unwrap_or_default()),
                    request_id.as_deref(),
                ))
            };
            let asked = Asked {
                request,
                strictness,
                caller,
                forwarded,
                request_id: request_id.clone(),
            };
            let mut answering = pin!(self.embed(asked, &mut ignored));
            within(limit, &mut answering).await.unwrap_or_else(overdue)
        };
        let mut response = answered.unwrap_or_else(|error| error.under(profile).response());
        name_ignored(&mut response, &ignored);
        response
    }

    async fn embed(&self, asked: Asked, ignored: &mut String) -> Result<Response<Body>, ApiError> {
        let Asked {
            mut request,
            strictness,
            caller,
            forwarded,
            request_id,
        } = asked;
        let failed = |error| refused(error, request_id.as_deref());
        let can = self.abilities(&request.model).await.map_err(failed)?;
        if !can.has(Ability::Embeddings) {
            return Err(failed(BackendError::Unsupported {
                work: WorkKind::Embeddings,
            }));
        }
        let without_effect = settle(&mut request, &can, strictness)?;
        *ignored = listed(&without_effect);
        if let Some(options) = self.policy.options_of(&request.model)
            && can.has(Ability::EngineOptions)
        {
            engine_options::add(&mut request.extra, options);
        }
        let (model, format) = (
            request.model.clone(),
            request.encoding_format.unwrap_or(EncodingFormat::Float),
        );
        let call = EmbeddingCall {
            head: CallHead {
                caller,
                forwarded,
                ..CallHead::new(id::embedding())
            },
            work: Arc::new(request),
        };
        let made = self.backend.embed(call).await.map_err(failed)?;
        response(made, model, format).map_err(failed)
    }
}

/// Parses and checks the body of `POST /v1/embeddings`.
fn parse(body: &[u8], policy: &Policy) -> Result<EmbeddingRequest, ApiError> {
    // To keep track of the path costs time: only where something is wrong.
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

/// None of the inputs may be empty, and there must be one.
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

/// Settles every field of a request: refuses it, or names it (`docs/dialects.md`, part 3). Gives
/// back the names of those without effect.
fn settle(
    request: &mut EmbeddingRequest,
    can: &Abilities,
    strictness: Strictness,
) -> Result<Vec<String>, ApiError> {
    if request.input.is_tokens() && !can.has(Ability::TokenPrompts) {
        let message = "Unsupported value: 'input' does not support tokens with this model, whose engine takes texts alone; send strings.";
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
    engine_options::drop_unsaid(&mut request.extra);
    let known = can.embedding_fields();
    for name in request
        .extra
        .keys()
        .filter(|name| !known.is_some_and(|known| known.contains(*name)))
    {
        // Of Ollama's own fields, those that its `/api/embed` has too.
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

/// The answer, under the name that the client asked for.
fn response(
    made: Embeddings,
    model: String,
    format: EncodingFormat,
) -> Result<Response<Body>, BackendError> {
    let Embeddings {
        served_by,
        vectors,
        prompt_tokens,
    } = made;
    let embedding = |(index, numbers)| Embedding {
        object: "embedding".to_owned(),
        index,
        embedding: Vector::new(numbers, format),
    };
    let list = EmbeddingList {
        object: "list".to_owned(),
        data: vectors.into_iter().enumerate().map(embedding).collect(),
        model,
        usage: EmbeddingUsage {
            prompt_tokens,
            total_tokens: prompt_tokens,
        },
    };
    let json = serde_json::to_vec(&list).map(Bytes::from);
    let json = json.map_err(|_| BackendError::Engine {
        message: "an answer that cannot be written as JSON".to_owned(),
    })?;
    let usage = Some(CompletionUsage::new(prompt_tokens, 0));
    let mut response = Response::new(Body::ending(
        json,
        Ended {
            outcome: Outcome::Complete,
            usage,
        },
    ));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    name_server(&mut response, &served_by);
    Ok(response)
}
