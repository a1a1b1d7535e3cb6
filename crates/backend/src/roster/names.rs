//! [`Roster`]: finds the backend for a model name and forwards the call.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_core::future::BoxFuture;
use futures_util::future::join_all;
use loggia_wire::openai::Model;
use serde_json::json;
use thiserror::Error;

use super::alias::{Alias, AliasError, Aliases, Choice};
use super::fallback;
use super::member::{LastList, Member, Models};
use super::resolved::ResolvedModel;
use crate::backend::one_ready;
use crate::{
    Abilities, AudioCall, AudioReply, Backend, BackendError, Call, ChatCall, EmbeddingCall,
    Embeddings, NotDeleted, OllamaCall, OllamaReply, OllamaRoute, Reply, RerankCall, Reranked,
    TokenCount,
};

/// The minimum interval between refreshes that an unknown name causes.
const ASKED_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Combines several backends into one.
///
/// ```
/// use std::sync::Arc;
/// use loggia_backend::Backend;
/// use loggia_backend::roster::{Alias, Roster, RosterError};
///
/// /// `gpt-4o` leads to smollm2, wherever that is; `lab/…` only to the second backend.
/// fn both(laptop: Arc<dyn Backend>, lab: Arc<dyn Backend>) -> Result<Roster, RosterError> {
///     let backends = [("laptop".into(), laptop), ("lab".into(), lab)];
///     Roster::new(backends, vec![Alias::new("gpt-4o", "smollm2:135m")?])
/// }
/// # assert!(Roster::new([], vec![]).is_ok());
/// ```
pub struct Roster {
    pub(super) members: Vec<Arc<Member>>,
    pub(super) aliases: Aliases,
    /// Whether an alias has several targets.
    chooses: bool,
    /// The number of choices so far between the targets of aliases.
    turns: AtomicU64,
}

/// The reason why a roster is invalid.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RosterError {
    /// Two backends have the same name.
    #[error("two backends have the name `{0}`; give one of them another name")]
    Twice(String),
    /// The name cannot be used before a slash.
    #[error(
        "`{0}` is not a valid name for a backend: it must not be empty or contain a slash, a star, an equals sign or a space"
    )]
    Name(String),
    /// An alias is invalid.
    #[error(transparent)]
    Alias(#[from] AliasError),
}

impl Roster {
    /// Creates a roster of these backends with their names. If several have a model of the same
    /// name, the first wins.
    pub fn new(
        backends: impl IntoIterator<Item = (Arc<str>, Arc<dyn Backend>)>,
        aliases: Vec<Alias>,
    ) -> Result<Self, RosterError> {
        let mut members: Vec<Arc<Member>> = Vec::new();
        for (name, backend) in backends {
            if name.is_empty()
                || name.contains(|c: char| matches!(c, '/' | '*' | '=') || c.is_whitespace())
            {
                return Err(RosterError::Name(name.to_string()));
            }
            if members.iter().any(|member| member.name == name) {
                return Err(RosterError::Twice(name.to_string()));
            }
            members.push(Arc::new(Member::new(name, backend)));
        }
        let aliases = Aliases::new(aliases)?;
        Ok(Self {
            members,
            chooses: aliases.have_several(),
            aliases,
            turns: AtomicU64::new(0),
        })
    }

    /// Resolves a name. Refreshes the lists of the backends if it is unknown.
    async fn find(&self, name: &str) -> Result<ResolvedModel<'_>, BackendError> {
        // The future is boxed because it is rare and large: every chat would reserve memory for it.
        if !self.members.iter().all(|member| member.was_asked()) {
            Box::pin(self.refresh(Duration::MAX)).await;
        }
        if let Some(place) = self.place(name) {
            return Ok(place);
        }
        Box::pin(self.refresh(ASKED_AGAIN_AFTER)).await;
        self.place(name).ok_or_else(|| self.nobody_has(name))
    }

    /// Refreshes all backends in parallel.
    pub(super) async fn refresh(&self, unless_younger: Duration) {
        join_all(
            self.members
                .iter()
                .map(|member| member.refresh(unless_younger)),
        )
        .await;
    }

    /// Resolves a name with the known lists. Terminates because no alias is applied twice.
    pub(super) fn place(&self, asked: &str) -> Option<ResolvedModel<'_>> {
        let mut name = Cow::Borrowed(asked);
        let mut applied: Vec<&Alias> = Vec::new();
        loop {
            let unused = |alias: &&Alias| !applied.contains(alias);
            let alias = match self.aliases.exact(&name).filter(unused) {
                Some(alias) => Some(alias),
                None => match self.at_backend(&name) {
                    Some((member, model)) => {
                        return place_at(member, model).map(|place| place.after(&applied));
                    }
                    None => match self.place_of_bare(&name) {
                        Some(place) => return Some(place.after(&applied)),
                        None => self.aliases.pattern(&name).filter(unused),
                    },
                },
            };
            let alias = alias?;
            if alias.has_several() {
                return self.places(asked, Choice::AsWritten).into_iter().next();
            }
            let mut targets = alias.targets_for(&name, Choice::AsWritten);
            applied.push(alias);
            name = Cow::Owned(targets.pop()?);
        }
    }

    /// Resolves a name to all models that it can mean; models of backends that answer come first.
    /// `choice` says which target of an alias is the first one.
    pub(super) fn places(&self, asked: &str, choice: Choice) -> Vec<ResolvedModel<'_>> {
        let mut places = Vec::new();
        self.find_places(asked, choice, &mut Vec::new(), &mut places);
        for (order, place) in places.iter_mut().enumerate() {
            place.order = order;
        }
        places.sort_by_key(|place| place.member.last_list().up().is_none());
        places
    }

    /// Terminates because no alias is applied twice.
    fn find_places<'a>(
        &'a self,
        name: &str,
        choice: Choice,
        applied: &mut Vec<&'a Alias>,
        places: &mut Vec<ResolvedModel<'a>>,
    ) {
        let unused = |alias: &&Alias| !applied.contains(alias);
        let exact = self.aliases.exact(name).filter(unused);
        if exact.is_none() {
            let place = match self.at_backend(name) {
                Some((member, model)) => Some(place_at(member, model)),
                None => self.place_of_bare(name).map(Some),
            };
            if let Some(place) = place {
                places.extend(place.map(|place| place.after(applied)));
                return;
            }
        }
        let alias = exact.or_else(|| self.aliases.pattern(name).filter(unused));
        let Some(alias) = alias else {
            return;
        };
        applied.push(alias);
        for target in alias.targets_for(name, choice) {
            self.find_places(&target, choice, applied, places);
        }
        applied.pop();
    }

    /// Returns the models that can stand for a name, in the order in which they are asked. Empty if
    /// there is no choice: [`find`](Self::find) finds the only one.
    pub(super) async fn choices(&self, name: &str, choice: Choice) -> Vec<ResolvedModel<'_>> {
        if !self.chooses {
            return Vec::new();
        }
        // Makes sure that the lists of the backends are known. Its error is found again.
        let _ = Box::pin(self.find(name)).await;
        let places = self.places(name, choice);
        if places.len() > 1 { places } else { Vec::new() }
    }

    /// Returns the choice for a request that any target of an alias may answer: by their shares.
    fn by_shares(&self) -> Choice {
        Choice::Turn(self.turns.fetch_add(1, Ordering::Relaxed))
    }

    /// Splits `NAME/model` if NAME is a backend.
    fn at_backend<'a>(&self, name: &'a str) -> Option<(&Arc<Member>, &'a str)> {
        let (member, model) = name.split_once('/')?;
        self.members
            .iter()
            .find(|one| *one.name == *member)
            .map(|member| (member, model))
    }

    fn place_of_bare(&self, name: &str) -> Option<ResolvedModel<'_>> {
        let first = |has: &dyn Fn(&Member, &LastList) -> Option<String>| {
            let place = |member| {
                Some(ResolvedModel {
                    member,
                    model: has(member, &member.last_list())?,
                    by_alias: false,
                    order: 0,
                })
            };
            self.members.iter().find_map(place)
        };
        let up = |how: Reading| first(&|member, said| how(member, said.up()?, name));
        // Last, backends that had the model and do not answer now. They may be back; if not, their
        // own error is the correct answer.
        let down = |how: Reading| first(&|member, said| how(member, said.down()?, name));
        READINGS
            .into_iter()
            .find_map(up)
            .or_else(|| READINGS.into_iter().find_map(down))
    }

    /// Returns "model not found" only if all backends have answered.
    fn nobody_has(&self, name: &str) -> BackendError {
        if self.at_backend(name).is_some() {
            return BackendError::model_not_found(name);
        }
        let error = self
            .members
            .iter()
            .find_map(|member| member.last_list().error().cloned());
        error.unwrap_or_else(|| BackendError::model_not_found(name))
    }

    /// Returns the first error if no backend answered.
    fn nobody_answers(&self) -> Option<BackendError> {
        let said: Vec<LastList> = self.members.iter().map(Member::last_list).collect();
        if said.iter().any(|said| said.up().is_some()) {
            return None;
        }
        said.iter().find_map(|said| said.error().cloned())
    }

    /// Returns all names: a model by its bare name if that leads to it, otherwise as `NAME/model`,
    /// and exact aliases.
    fn listed(&self) -> Vec<Model> {
        let mut listed = Vec::new();
        for member in &self.members {
            let said = member.last_list();
            for model in said.up().map(|models| &*models.list).unwrap_or_default() {
                let mut model = model.clone();
                if !self.leads_to(&model.id, member, &model.id) {
                    model.id = format!("{}/{}", member.name, model.id);
                }
                listed.push(model);
            }
        }
        let mut aliases: Vec<Model> = self
            .aliases
            .exact_ones()
            .filter_map(|alias| self.as_model(alias))
            .collect();
        aliases.sort_by(|one, other| one.id.cmp(&other.id));
        listed.extend(aliases);
        listed
    }

    /// Returns an alias as a model, if its target exists.
    fn as_model(&self, alias: &Alias) -> Option<Model> {
        let place = self.place(alias.from())?;
        let said = place.member.last_list();
        let mut model = said
            .up()?
            .list
            .iter()
            .find(|model| model.id == place.model)?
            .clone();
        model.extra.insert("alias_of".to_owned(), json!(model.id));
        alias.from().clone_into(&mut model.id);
        Some(model)
    }

    pub(super) fn leads_to(&self, name: &str, member: &Arc<Member>, model: &str) -> bool {
        self.place(name)
            .is_some_and(|place| Arc::ptr_eq(place.member, member) && place.model == model)
    }
}

/// A rule that finds the backend's own name for a requested name.
type Reading = fn(&Member, &Models, &str) -> Option<String>;

/// The rules from the strictest to the most lenient, so that an exact match is never hidden by
/// another.
const READINGS: [Reading; 3] = [
    |_, models, name| models.exactly(name),
    |_, models, name| models.latest(name),
    |member, models, name| member.spelled(models, name),
];

/// Resolves a model of this backend. If the backend does not answer, the call itself is tried. If
/// its list lacks the model, the model does not exist, whatever the engine would answer:
/// llama-server accepts any name for its only model.
fn place_at<'a>(member: &'a Arc<Member>, model: &str) -> Option<ResolvedModel<'a>> {
    let said = member.last_list();
    let model = match said.up() {
        Some(models) => READINGS
            .into_iter()
            .find_map(|how| how(member, models, model))?,
        None => model.to_owned(),
    };
    Some(ResolvedModel {
        member,
        model,
        by_alias: false,
        order: 0,
    })
}

impl Backend for Roster {
    fn abilities<'a>(
        &'a self,
        model: &'a str,
    ) -> BoxFuture<'a, Result<Arc<Abilities>, BackendError>> {
        Box::pin(async move {
            let choices = self.choices(model, Choice::AsWritten).await;
            if !choices.is_empty() {
                return Box::pin(fallback::abilities(choices)).await;
            }
            let place = self.find(model).await?;
            place.member.backend.abilities(&place.model).await
        })
    }

    fn start(&self, mut call: Call) -> BoxFuture<'_, Result<Reply, BackendError>> {
        Box::pin(async move {
            let choices = self.choices(call.work.model(), self.by_shares()).await;
            if !choices.is_empty() {
                return Box::pin(fallback::start(choices, call)).await;
            }
            let place = self.find(call.work.model()).await?;
            if place.model != call.work.model() {
                call.work.set_model(place.model);
            }
            place.member.backend.start(call).await
        })
    }

    fn embed(&self, mut call: EmbeddingCall) -> BoxFuture<'_, Result<Embeddings, BackendError>> {
        Box::pin(async move {
            let choices = self.choices(&call.work.model, Choice::AsWritten).await;
            if !choices.is_empty() {
                return Box::pin(fallback::embed(choices, call)).await;
            }
            let place = self.find(&call.work.model).await?;
            if place.model != call.work.model {
                Arc::make_mut(&mut call.work).model = place.model;
            }
            place.member.backend.embed(call).await
        })
    }

    fn rerank(
        &self,
        mut call: RerankCall,
    ) -> BoxFuture<'_, Result<Option<Reranked>, BackendError>> {
        Box::pin(async move {
            let choices = self.choices(&call.work.model, self.by_shares()).await;
            if !choices.is_empty() {
                return Box::pin(fallback::rerank(choices, call)).await;
            }
            let place = self.find(&call.work.model).await?;
            call.work.model = place.model;
            place.member.backend.rerank(call).await
        })
    }

    fn audio(
        &self,
        mut call: AudioCall,
    ) -> BoxFuture<'_, Result<Option<AudioReply>, BackendError>> {
        Box::pin(async move {
            let choices = self.choices(&call.work.model, self.by_shares()).await;
            if !choices.is_empty() {
                return Box::pin(fallback::audio(choices, call)).await;
            }
            let place = self.find(&call.work.model).await?;
            call.work.model = place.model;
            place.member.backend.audio(call).await
        })
    }

    /// Without a model, the first Ollama server answers. A deletion must use the model's own name, as
    /// in [`delete_model`](Backend::delete_model).
    fn ollama_api(
        &self,
        mut call: OllamaCall,
    ) -> BoxFuture<'_, Result<Option<OllamaReply>, BackendError>> {
        Box::pin(async move {
            let Some(asked) = &call.work.model else {
                for member in &self.members {
                    let reply = member.backend.ollama_api(call.clone()).await?;
                    if reply.is_some() {
                        return Ok(reply);
                    }
                }
                return Ok(None);
            };
            let route = call.work.route;
            if route.generates() {
                let choice = match route {
                    OllamaRoute::Chat | OllamaRoute::Generate => self.by_shares(),
                    _ => Choice::AsWritten,
                };
                let choices = self.choices(asked, choice).await;
                if !choices.is_empty() {
                    return Box::pin(fallback::ollama_api(choices, call)).await;
                }
            }
            let place = self.find(asked).await?;
            if place.by_alias && route == OllamaRoute::Delete {
                return Err(BackendError::NotDeleted {
                    model: asked.clone(),
                    why: NotDeleted::Alias { of: place.model },
                });
            }
            let changes_models = route.changes_models();
            call.work.model = Some(place.model);
            let reply = place.member.backend.ollama_api(call).await;
            if changes_models {
                place.member.refresh(Duration::ZERO).await;
            }
            reply
        })
    }

    /// Of several targets with shares, the one that answers most requests counts, so that a prompt has
    /// the same number of tokens each time.
    fn count_tokens(&self, mut call: ChatCall) -> BoxFuture<'_, Result<TokenCount, BackendError>> {
        Box::pin(async move {
            let choices = self.choices(&call.work.model, Choice::LargestShare).await;
            if !choices.is_empty() {
                return Box::pin(fallback::count_tokens(choices, call)).await;
            }
            let place = self.find(&call.work.model).await?;
            if place.model != call.work.model {
                Arc::make_mut(&mut call.work).model = place.model;
            }
            place.member.backend.count_tokens(call).await
        })
    }

    /// Lists the models of the backends that answer. Fails if none answers.
    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, BackendError>> {
        Box::pin(async move {
            self.refresh(ASKED_AGAIN_AFTER).await;
            self.nobody_answers().map_or_else(|| Ok(self.listed()), Err)
        })
    }

    fn model<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Model, BackendError>> {
        Box::pin(async move {
            let place = self.find(id).await?;
            let mut model = place.member.backend.model(&place.model).await?;
            id.clone_into(&mut model.id);
            Ok(model)
        })
    }

    /// Deletes a model. Aliases are not followed: a deletion must use the model's own name. The list
    /// of models is refreshed immediately, so that it no longer has the model.
    fn delete_model<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), BackendError>> {
        Box::pin(async move {
            let ResolvedModel {
                member,
                model,
                by_alias,
                ..
            } = self.find(id).await?;
            if by_alias {
                return Err(BackendError::NotDeleted {
                    model: id.to_owned(),
                    why: NotDeleted::Alias { of: model },
                });
            }
            let deleted = member.backend.delete_model(&model).await;
            if matches!(deleted, Ok(()) | Err(BackendError::ModelNotFound { .. })) {
                member.refresh(Duration::ZERO).await;
            }
            deleted
        })
    }

    /// The roster is ready if one backend is.
    fn ready(&self) -> BoxFuture<'_, Result<(), BackendError>> {
        Box::pin(one_ready(
            self.members.iter().map(|member| member.backend.ready()),
        ))
    }
}
