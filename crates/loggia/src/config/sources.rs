//! The sources of settings. The first one that sets a setting wins.

use super::environment::Environment;
use super::error::ConfigError;
use super::origin::{Origin, Set};
use super::table::{Setting, Value};

/// A table whose entries may come from different sources.
pub(super) trait Merge: Default {
    /// Adds the other's entries that are not set here.
    fn or(self, weaker: Self) -> Self;
}

/// The settings of each source, the strongest first.
pub(super) struct Sources<S>(pub(super) Vec<(Origin, S)>);

impl<S> Sources<S> {
    /// The value from the strongest source that sets it.
    pub(super) fn find<T>(&self, of: impl Fn(&S) -> Option<T>) -> Option<Set<T>> {
        self.0.iter().find_map(|(from, settings)| {
            Some(Set {
                value: of(settings)?,
                from: *from,
            })
        })
    }

    pub(super) fn pick<T>(
        &self,
        of: impl Fn(&S) -> Option<T>,
        default: impl FnOnce() -> T,
    ) -> Set<T> {
        self.find(of).unwrap_or_else(|| Set {
            value: default(),
            from: Origin::Default,
        })
    }

    /// The entries of all sources. The origin is the strongest source that sets one.
    pub(super) fn merge<T: Merge>(&self, of: impl Fn(&S) -> Option<T>) -> Set<T> {
        let from = self.find(&of).map_or(Origin::Default, |set| set.from);
        let all = self.0.iter().filter_map(|(_, settings)| of(settings));
        let value = all.fold(T::default(), Merge::or);
        Set { value, from }
    }
}

/// Reads the variable of a setting.
pub(super) fn of_variable<T: Value>(
    env: Environment<'_>,
    setting: &Setting,
) -> Result<Option<T>, ConfigError> {
    let name = setting.variable();
    let Some(text) = env(&name) else {
        return Ok(None);
    };
    let read = T::of_text(text.trim()).map_err(|why| ConfigError::Variable {
        why: format!("{why}; for example {name}={}", (setting.example)()),
        name,
    });
    read.map(Some)
}
