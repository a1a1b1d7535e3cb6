//! Calls for an alias with several targets: the next one is asked while one cannot answer.
//!
//! A call that fails is made again elsewhere only before its answer has begun, and only if the error
//! is about the backend and not about the request.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_core::future::BoxFuture;
use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};

use super::resolved::ResolvedModel;
use crate::{
    Abilities, AudioCall, AudioReply, BackendError, Call, ChatCall, EmbeddingCall, Embeddings,
    KnownFields, OllamaCall, OllamaReply, OllamaRoute, OptionNames, Phase, Reply, RerankCall,
    Reranked, SchemaEngine, TokenCount, ToolSchemas,
};

/// Returns the abilities that all of these models have: whichever model answers, it honours the
/// fields that the API admitted.
pub(super) async fn abilities(
    places: Vec<ResolvedModel<'_>>,
) -> Result<Arc<Abilities>, BackendError> {
    // One that does not answer for its list would cost each request the time to connect.
    let is_up = |place: &ResolvedModel<'_>| place.member.last_list().up().is_some();
    let some_are_up = places.iter().any(is_up);
    let asked = places
        .iter()
        .filter(|place| !some_are_up || is_up(place))
        .map(|place| place.member.backend.abilities(&place.model));
    let mut shared: Option<Arc<Abilities>> = None;
    let mut first_error = None;
    for answer in join_all(asked).await {
        match answer {
            Ok(abilities) => {
                shared = Some(match shared {
                    None => abilities,
                    Some(shared) => Arc::new(shared_by(&shared, &abilities)),
                });
            }
            Err(error) => {
                first_error.get_or_insert(error);
            }
        }
    }
    shared.ok_or_else(|| first_error.unwrap_or(BackendError::NoModels))
}

/// Returns the abilities that both models have.
fn shared_by(one: &Abilities, other: &Abilities) -> Abilities {
    let either = |engine| one.schemas == engine || other.schemas == engine;
    Abilities {
        can: one.can.and(other.can),
        context_length: one
            .context_length
            .into_iter()
            .chain(other.context_length)
            .min(),
        // The engines are ordered by the number of keywords that they enforce, the fewest first.
        schemas: [SchemaEngine::LlamaCpp, SchemaEngine::Llguidance]
            .into_iter()
            .find(|engine| either(*engine))
            .unwrap_or_default(),
        tool_schemas: if one.tool_schemas == other.tool_schemas {
            one.tool_schemas
        } else {
            ToolSchemas::Ollama
        },
        options: if one.options == other.options {
            one.options
        } else {
            OptionNames::None
        },
        vocabulary: one
            .vocabulary
            .filter(|_| one.vocabulary == other.vocabulary),
        template_variables: one
            .template_variables
            .intersection(&other.template_variables)
            .cloned()
            .collect(),
        fields: match (&one.fields, &other.fields) {
            (Some(one), Some(other)) => Some(Arc::new(KnownFields {
                chat: read_by_both(one.chat.as_ref(), other.chat.as_ref()),
                completion: read_by_both(one.completion.as_ref(), other.completion.as_ref()),
                embedding: read_by_both(one.embedding.as_ref(), other.embedding.as_ref()),
            })),
            (one, other) => one.clone().or_else(|| other.clone()),
        },
    }
}

/// Returns the fields that both engines read. `None` if neither is known.
fn read_by_both(
    one: Option<&BTreeSet<String>>,
    other: Option<&BTreeSet<String>>,
) -> Option<BTreeSet<String>> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.intersection(other).cloned().collect()),
        (one, other) => one.or(other).cloned(),
    }
}

/// Starts a call at the first model that can answer. Resolves with the first event.
pub(super) async fn start(
    places: Vec<ResolvedModel<'_>>,
    call: Call,
) -> Result<Reply, BackendError> {
    let mut failures = Failures::default();
    for place in places {
        let mut call = call.clone();
        call.work.set_model(place.model);
        let begun = async {
            let mut reply = place.member.backend.start(call).await?;
            let first = reply.first_word().await?;
            Ok((reply, first))
        };
        match begun.await {
            Ok((mut reply, first)) => {
                let first = stream::iter(first.map(Ok));
                reply.events = first.chain(reply.events).boxed();
                return Ok(reply);
            }
            Err(error) => failures.add(error)?,
        }
    }
    Err(failures.first())
}

/// Computes embeddings by the first model or by one of the same name elsewhere: the vectors of
/// different models cannot be compared.
pub(super) async fn embed(
    places: Vec<ResolvedModel<'_>>,
    call: EmbeddingCall,
) -> Result<Embeddings, BackendError> {
    let mut failures = Failures::default();
    let first = places.iter().min_by_key(|place| place.order);
    let model = first.map(|place| place.model.clone()).unwrap_or_default();
    for place in places.into_iter().filter(|place| place.model == model) {
        let mut call = call.clone();
        Arc::make_mut(&mut call.work).model.clone_from(&model);
        match place.member.backend.embed(call).await {
            Ok(made) => return Ok(made),
            Err(error) => failures.add(error)?,
        }
    }
    Err(failures.first())
}

/// Answers a call of Ollama's own API by the first Ollama server that can answer. For embeddings,
/// only those with the same model are asked.
pub(super) async fn ollama_api(
    mut places: Vec<ResolvedModel<'_>>,
    call: OllamaCall,
) -> Result<Option<OllamaReply>, BackendError> {
    let embeds = matches!(
        call.work.route,
        OllamaRoute::Embed | OllamaRoute::Embeddings
    );
    let first = places.iter().min_by_key(|place| place.order);
    let only = first.filter(|_| embeds).map(|place| place.model.clone());
    places.retain(|place| only.as_ref().is_none_or(|only| *only == place.model));
    let asked = first_able(places, |place| {
        let mut call = call.clone();
        call.work.model = Some(place.model);
        place.member.backend.ollama_api(call)
    });
    match asked.await? {
        Ok(reply) => Ok(Some(reply)),
        Err(failures) => failures.first.map_or(Ok(None), Err),
    }
}

/// Compares documents with a query by the first model that can. `None` if those that answer do not
/// rerank.
pub(super) async fn rerank(
    places: Vec<ResolvedModel<'_>>,
    call: RerankCall,
) -> Result<Option<Reranked>, BackendError> {
    let asked = first_able(places, |place| {
        let mut call = call.clone();
        call.work.model = place.model;
        place.member.backend.rerank(call)
    });
    asked
        .await?
        .map_or_else(Failures::none_able, |reply| Ok(Some(reply)))
}

/// Hears or speaks by the first model that can. `None` if those that answer only chat.
pub(super) async fn audio(
    places: Vec<ResolvedModel<'_>>,
    call: AudioCall,
) -> Result<Option<AudioReply>, BackendError> {
    let asked = first_able(places, |place| {
        let mut call = call.clone();
        call.work.model = place.model;
        place.member.backend.audio(call)
    });
    asked
        .await?
        .map_or_else(Failures::none_able, |reply| Ok(Some(reply)))
}

/// Counts the tokens of a prompt by the first model that can.
pub(super) async fn count_tokens(
    places: Vec<ResolvedModel<'_>>,
    call: ChatCall,
) -> Result<TokenCount, BackendError> {
    let mut failures = Failures::default();
    for place in places {
        let mut call = call.clone();
        Arc::make_mut(&mut call.work).model = place.model;
        match place.member.backend.count_tokens(call).await {
            Ok(count) => return Ok(count),
            Err(error) => failures.add(error)?,
        }
    }
    Err(failures.first())
}

/// Asks one model after the other. A model whose answer is `None` does not do this work.
///
/// # Errors
/// Fails with the error after which no other model may be asked.
async fn first_able<'a, T>(
    places: Vec<ResolvedModel<'a>>,
    ask: impl Fn(ResolvedModel<'a>) -> BoxFuture<'a, Result<Option<T>, BackendError>>,
) -> Result<Result<T, Failures>, BackendError> {
    let mut failures = Failures::default();
    for place in places {
        match ask(place).await {
            Ok(Some(reply)) => return Ok(Ok(reply)),
            Ok(None) => failures.is_unable = true,
            Err(error) => failures.add(error)?,
        }
    }
    Ok(Err(failures))
}

/// The errors of the models that were asked.
#[derive(Default)]
struct Failures {
    first: Option<BackendError>,
    /// Whether the connection broke at a backend.
    was_cut_short: bool,
    /// Whether a backend answered with an error.
    has_refused: bool,
    /// Whether a model does not do this work.
    is_unable: bool,
}

impl Failures {
    /// Notes an error.
    ///
    /// # Errors
    /// Fails with this error if no other model may be asked.
    fn add(&mut self, error: BackendError) -> Result<(), BackendError> {
        let may_go_on = match &error {
            BackendError::Unreachable { .. }
            | BackendError::Tls { .. }
            | BackendError::TimedOut {
                phase: Phase::Connect,
                ..
            }
            | BackendError::Busy { .. }
            | BackendError::RateLimited { .. }
            | BackendError::Credentials { .. }
            | BackendError::ModelNotFound { .. }
            | BackendError::NoModels
            | BackendError::NodeRemoved { .. }
            | BackendError::Unsupported { .. } => true,
            // A crash is retried only once, so that a prompt that crashes an engine crashes at most
            // two.
            BackendError::CutShort { .. } => !std::mem::replace(&mut self.was_cut_short, true),
            _ => false,
        };
        if !may_go_on {
            return Err(error);
        }
        self.has_refused |= !matches!(
            error,
            BackendError::Unreachable { .. }
                | BackendError::Tls { .. }
                | BackendError::TimedOut { .. }
                | BackendError::NodeRemoved { .. }
        );
        self.first.get_or_insert(error);
        Ok(())
    }

    /// Returns the error of the model that was asked first.
    fn first(self) -> BackendError {
        self.first.unwrap_or(BackendError::NoModels)
    }

    /// Returns the result of work that no model has done. `None` lets the API do it in another way:
    /// by a model that answered that it does not do this work, while the others are away.
    fn none_able<T>(self) -> Result<Option<T>, BackendError> {
        match self.first {
            Some(error) if self.has_refused || !self.is_unable => Err(error),
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Ability, AbilitySet};

    #[test]
    fn two_models_share_what_both_can_do() {
        let one = Abilities {
            can: AbilitySet::of(&[Ability::Tools, Ability::Images]),
            context_length: Some(4096),
            schemas: SchemaEngine::Llguidance,
            vocabulary: Some(7),
            ..Abilities::default()
        };
        let other = Abilities {
            can: AbilitySet::of(&[Ability::Tools, Ability::Audio]),
            context_length: Some(2048),
            schemas: SchemaEngine::LlamaCpp,
            vocabulary: Some(8),
            ..Abilities::default()
        };
        let shared = shared_by(&one, &other);
        assert_eq!(shared.can, AbilitySet::of(&[Ability::Tools]));
        assert_eq!(shared.context_length, Some(2048));
        assert_eq!(shared.schemas, SchemaEngine::LlamaCpp);
        assert_eq!(shared.vocabulary, None);
        assert_eq!(shared_by(&one, &one), one);
    }
}
