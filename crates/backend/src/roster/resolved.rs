//! [`ResolvedModel`]: a name of a model, resolved to a backend.

use std::sync::Arc;

use super::alias::Alias;
use super::member::Member;

/// The result of resolving a name.
pub(super) struct ResolvedModel<'a> {
    pub(super) member: &'a Arc<Member>,
    /// The backend's own name for the model.
    pub(super) model: String,
    /// Whether an alias was applied, exact or with a `*`.
    pub(super) by_alias: bool,
    /// The position of the model's target in the alias, if the alias has several.
    pub(super) order: usize,
}

impl ResolvedModel<'_> {
    /// Returns this result with the aliases that were applied before.
    pub(super) fn after(self, aliases: &[&Alias]) -> Self {
        Self {
            by_alias: !aliases.is_empty(),
            ..self
        }
    }
}
