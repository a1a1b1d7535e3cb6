//! [`Ask`]: a request for work by a model, and the checks that depend on its kind.

use std::sync::Arc;

use loggia_backend::{Abilities, Ability, Profile, WorkKind};
use loggia_wire::Extra;
use loggia_wire::openai::ChatCompletionRequest;

use crate::wording::{Dialect, Origins};
use crate::{ApiError, Ceilings, Policy, Strictness};

/// A request for work by a model: a chat, a completion or embeddings.
pub(crate) trait Ask: Clone + Send + Sync + Sized + 'static {
    /// The kind of work.
    const WORK: WorkKind;

    /// The dialect in whose terms errors are written.
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

    /// Returns the request as a chat, so that the files that its messages name can be read. `None`
    /// if it is not a chat.
    fn chat(&mut self) -> Option<&mut ChatCompletionRequest> {
        None
    }

    /// Returns whether no client waits for the answer.
    fn is_background(&self) -> bool {
        false
    }

    /// Makes the answer report the service tier that it had. Chats report it in every chunk
    /// instead.
    fn tell_service_tier(&mut self, tier: &'static str) {
        let _ = tier;
    }

    /// Returns where the fields of the chat come from, for the errors of backends.
    fn origins(&self) -> Origins {
        Origins::default()
    }

    /// Replaces the place in the chat that an error is about by the client's name for it.
    fn named_place(&self, error: ApiError) -> ApiError {
        error
    }

    /// Limits the length of the answer, if neither the client nor the configuration limits it.
    fn limit(&mut self, can: &Abilities, ceilings: &Ceilings);
}

/// A request that is parsed from its body alone.
pub(crate) trait Parse: Ask {
    /// Parses and checks a body. Returns the request and the profile of its model.
    fn parse(body: &[u8], policy: &Policy) -> Result<(Arc<Self>, Profile), ApiError>;
}
