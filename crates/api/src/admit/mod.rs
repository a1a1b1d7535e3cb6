//! Parses and checks a request, and compares it with the abilities of its model.
//!
//! Which rule goes where:
//!
//! | the rule is about | it goes into |
//! |---|---|
//! | JSON that cannot be parsed, a missing or duplicate field, a wrong type | `parse.rs`, and the types in `loggia-wire` |
//! | one value alone, whatever the model: a range, a length, a name's letters | `chat.rs`, `completion.rs`, `embedding.rs`, with the shared checks of `checks.rs` |
//! | the order and the roles of messages | `messages.rs` |
//! | data of images that is not an image | `images.rs` |
//! | a limit that an operator can set | `ceilings.rs` |
//! | two fields that exclude one another, or a value that only `--lenient` accepts | `combinations.rs` |
//! | a field that some model or backend cannot honour | the table in `fields.rs` |
//! | `tool_choice`, reasoning, JSON schemas, Ollama's own fields | `tool_choice.rs`, `reasoning.rs`, `schema.rs`, `engine_options.rs` |
//! | which requests run first | `service_tier.rs` |
//! | a value that only `--strict` refuses because OpenAI's specification does not list it | `allowed_values.rs` |
//! | a field in the wrong message, a content part that the model cannot take | `misplaced.rs`, `placeholders.rs`, `unpack_files.rs` |
//! | what the 2024 middleware accepted | `original.rs` |
//!
//! The first six do not need the model; a request that fails there is refused before any backend
//! is asked. Everything else runs in [`admit`], once the model's abilities are known.

pub(crate) mod allowed_values;
pub(crate) mod ask;
pub(crate) mod ceilings;
pub(crate) mod chat;
pub(crate) mod checks;
pub(crate) mod combinations;
pub(crate) mod completion;
pub(crate) mod embedding;
pub(crate) mod engine_options;
pub(crate) mod fields;
pub(crate) mod images;
pub(crate) mod messages;
pub(crate) mod misplaced;
pub(crate) mod original;
pub(crate) mod parse;
pub(crate) mod placeholders;
pub(crate) mod reasoning;
pub(crate) mod schema;
pub(crate) mod service_tier;
pub(crate) mod tool_choice;
pub(crate) mod unpack_files;

use std::sync::Arc;

use http::request::Parts;
use loggia_backend::{Ability, BackendError, CallHead, Priority, Profile, Trace};

use crate::admit::ask::Ask;
use crate::answer::ended::Progress;
use crate::answer::refusal::Refusals;
use crate::answer::running::Running;
use crate::documents::{has_documents, read_documents};
use crate::door::meter::LimitReport;
use crate::store::Owner;
use crate::stored::files::attach::{attach, names_files};
use crate::{ApiError, Caller, Door, Strictness};

/// A parsed and checked request. Only the abilities of its model are not known yet.
pub(crate) struct ParsedRequest<R> {
    /// The request, not shared yet.
    pub(crate) request: Arc<R>,
    /// The head of the call to the backend. It keeps the head of the client's HTTP request only if
    /// the backend needs it, because a request that waits for an engine should use little memory.
    pub(crate) head: CallHead,
    pub(crate) strictness: Strictness,
    pub(crate) refusals: Refusals,
    pub(crate) progress: Progress,
    /// Receives the rest of the caller's limits, for headers of the answer.
    pub(crate) report: Option<Arc<LimitReport>>,
    /// Whether the caller may be served before others.
    may_have_priority: bool,
    /// The service tier that the answer reports.
    pub(crate) service_tier: Option<&'static str>,
}

/// Marks the request of a line of a batch: an extension.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OfBatch;

impl<R: Ask> ParsedRequest<R> {
    pub(crate) fn new(door: &Door, parts: Parts, request: Arc<R>, profile: Profile) -> Self {
        let strictness = door.strictness_for(&parts, request.model());
        let refusals = Refusals::with_origins(&parts, R::DIALECT, request.origins());
        let progress = Progress::new(request.model()).shown_in(Running::of(&parts));
        let report = parts.extensions.get::<Arc<LimitReport>>().cloned();
        let caller = parts.extensions.get::<Caller>();
        let may_have_priority = caller.is_some_and(|caller| caller.may_have_priority);
        let is_of_batch = parts.extensions.get::<OfBatch>().is_some();
        let head = CallHead {
            id: R::id(profile),
            caller: Caller::name_of(&parts),
            priority: if is_of_batch || request.is_background() {
                Priority::Background
            } else {
                Priority::Default
            },
            place: None,
            profile,
            strict: strictness == Strictness::Strict,
            trace: Trace::of(&parts.headers),
            forwarded: door.forwards_head.then(|| Arc::new(parts)),
        };
        Self {
            request,
            head,
            strictness,
            refusals,
            progress,
            report,
            may_have_priority,
            service_tier: None,
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
        // Boxed, because this is rare: every request would reserve the memory for it.
        Box::pin(attach(door, request, &can, owner)).await?;
    }
    if request
        .chat()
        .is_some_and(|chat| has_documents(door, chat, &can))
    {
        // Boxed, because this is rare: every request would reserve the memory for it.
        Box::pin(read_documents(door, request, &can)).await?;
    }
    if let Some(chat) = request.chat() {
        let tier = service_tier::settle(chat, &can, asked.may_have_priority);
        let priority = &mut asked.head.priority;
        if *priority != Priority::Background {
            *priority = tier.priority;
        }
        if tier.is_told {
            asked.service_tier = Some(priority.service_tier());
            request.tell_service_tier(priority.service_tier());
        }
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
