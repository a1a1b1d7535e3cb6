//! The environment: one that a test brings, and this process's own, whose every variable can be
//! looked at.

/// The environment, so that a test can bring its own.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// This process's environment; a variable that is set to nothing counts as not set.
pub(crate) fn environment(name: &str) -> Option<String> {
    std::env::var(name)
        .ok()
        .filter(|value| !value.trim().is_empty())
}

/// The variables of this process that are set to something.
pub(super) fn variables() -> impl Iterator<Item = (String, String)> {
    let all = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    all.filter(|(_, value)| !value.trim().is_empty())
}
