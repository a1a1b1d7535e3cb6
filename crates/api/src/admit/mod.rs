//! Parses and checks a request, and compares it with the abilities of its model.
//!
//! Which rule goes where:
//!
//! | the rule is about | it goes into |
//! |---|---|
//! | JSON that cannot be parsed, a missing or duplicate field, a wrong type | `parse.rs`, and the types in `loggia-wire` |
//! | one value alone, whatever the model: a range, a length, a name's letters | `chat.rs`, `completion.rs`, `embedding.rs`, with the shared checks of `checks.rs` |
//! | the order and the roles of messages | `messages.rs` |
//! | a limit that an operator can set | `ceilings.rs` |
//! | two fields that exclude one another, or a value that only `--lenient` accepts | `combinations.rs` |
//! | a field that some model or backend cannot honour | the table in `fields.rs` |
//! | `tool_choice`, reasoning, JSON schemas, Ollama's own fields | `tool_choice.rs`, `reasoning.rs`, `schema.rs`, `engine_options.rs` |
//! | a value that only `--strict` refuses because OpenAI's specification does not list it | `allowed_values.rs` |
//! | a field in the wrong message, a content part that the model cannot take | `misplaced.rs`, `placeholders.rs`, `unpack_files.rs` |
//! | what the 2024 middleware accepted | `original.rs` |
//!
//! The first five do not need the model; a request that fails there is refused before any backend
//! is asked. Everything else runs in [`admit`], once the model's abilities are known.

pub(crate) mod allowed_values;
pub(crate) mod ceilings;
pub(crate) mod chat;
pub(crate) mod checks;
pub(crate) mod combinations;
pub(crate) mod completion;
pub(crate) mod embedding;
pub(crate) mod engine_options;
pub(crate) mod fields;
pub(crate) mod messages;
pub(crate) mod misplaced;
pub(crate) mod original;
pub(crate) mod parse;
pub(crate) mod placeholders;
pub(crate) mod reasoning;
pub(crate) mod schema;
pub(crate) mod tool_choice;
pub(crate) mod unpack_files;

use std::sync::Arc;

use http::request::Parts;
use loggia_backend::{Abilities, Ability, BackendError, CallHead, Profile, WorkKind};
use loggia_wire::Extra;
use loggia_wire::openai::ChatCompletionRequest;

use crate::answer::ended::Progress;
use crate::answer::refusal::Refusals;
use crate::store::Owner;
use crate::stored::files::attach::{attach, names_files};
use crate::wording::Dialect;
use crate::{ApiError, Caller, Ceilings, Door, Policy, Strictness};

/// A request for work by a model: a chat, a completion or embeddings.
pub(crate) trait Ask: Clone + Send + Sync + Sized + 'static {
    /// The kind of work.
    const WORK: WorkKind;

    /// The dialect whose terms its errors use.
    const DIALECT: Dialect;

    /// The ability that a model needs for the work.
    const NEEDS: Ability;

    /// Creates the id of a new answer.
    fn id(profile: Profile) -> Arc<str>;

    /// Returns the model name that the client sent.
    fn model(&self) -> &str;

    /// Returns the fields that OpenAI's API does not have.
    fn extra(&mut self) -> &mut Extra;

    /// Handles fields that exclude each other. Returns the names of the dropped fields.
    fn settle_combinations(&mut self, strictness: Strictness) -> Result<Vec<String>, ApiError>;

    /// Handles every field that the model may not be able to honour: drops it, or refuses the
    /// request. Returns the names of the ignored fields.
    fn settle(&mut self, can: &Abilities, strictness: Strictness) -> Result<Vec<String>, ApiError>;

    /// Returns the chat, whose parts may name files.
    fn chat(&mut self) -> Option<&mut ChatCompletionRequest> {
        None
    }

    /// Replaces the place in the chat that an error is about by the client's name for it.
    fn named_place(&self, error: ApiError) -> ApiError {
        error
    }

    /// Limits the length of the answer, if neither the client nor the configuration limits it.
    fn limit(&mut self, can: &Abilities, ceilings: &Ceilings);
}

/// A request that its body alone says everything about.
pub(crate) trait Parse: Ask {
    /// Parses and checks a body. Returns the request and the profile of its model.
    fn parse(body: &[u8], policy: &Policy) -> Result<(Arc<Self>, Profile), ApiError>;
}

/// A parsed and checked request. Only the abilities of its model are not known yet.
pub(crate) struct ParsedRequest<R> {
    /// The request, not shared yet.
    pub(crate) request: Arc<R>,
    /// The head of its call. It keeps the head of the client's HTTP request only if the backend
    /// needs it, because a request that waits for an engine should use little memory.
    pub(crate) head: CallHead,
    pub(crate) strictness: Strictness,
    pub(crate) refusals: Refusals,
    pub(crate) progress: Progress,
}

impl<R: Ask> ParsedRequest<R> {
    pub(crate) fn new(door: &Door, parts: Parts, request: Arc<R>, profile: Profile) -> Self {
        let strictness = door.strictness_for(&parts, request.model());
        let refusals = Refusals::new(&parts, R::DIALECT);
        let progress = Progress::new(request.model());
        let head = CallHead {
            id: R::id(profile),
            caller: Caller::name_of(&parts),
            profile,
            strict: strictness == Strictness::Strict,
            forwarded: door.forwards_head.then(|| Arc::new(parts)),
        };
        Self {
            request,
            head,
            strictness,
            refusals,
            progress,
        }
    }
}

/// Compares a request with the abilities of its model, and handles the remaining fields. Returns
/// the names of the ignored fields. Waits if the model must be loaded first.
pub(crate) async fn admit<R: Ask>(
    door: &Door,
    asked: &mut ParsedRequest<R>,
) -> Result<Vec<String>, ApiError> {
    let (strictness, refusals) = (asked.strictness, &asked.refusals);
    // The request is not shared yet, so nothing is copied.
    let request = Arc::make_mut(&mut asked.request);
    let mut ignored = request.settle_combinations(strictness)?;
    let can = door.abilities(request.model()).await;
    let can = can.map_err(|error| refusals.refuse(error))?;
    if !can.has(R::NEEDS) {
        return Err(refusals.refuse(BackendError::Unsupported { work: R::WORK }));
    }
    if request.chat().is_some_and(|chat| names_files(chat, &can)) {
        let owner = Owner::new(asked.head.caller.clone());
        // Boxed, because it is rare: every request would reserve the memory for it.
        Box::pin(attach(door, request, &can, owner)).await?;
    }
    ignored.extend(request.settle(&can, strictness)?);
    if can.has(Ability::EngineOptions)
        && let Some(options) = door.policy.options_of(request.model())
    {
        engine_options::add(request.extra(), options);
    }
    request.limit(&can, &door.policy.ceilings);
    Ok(ignored)
}
