//! Environment variables.

/// Looks up a variable. Tests pass their own.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Looks up a variable of this process. An empty variable counts as not set.
pub(crate) fn environment(name: &str) -> Option<String> {
    std::env::var(name)
        .ok()
        .filter(|value| !value.trim().is_empty())
}

/// All variables of this process that are not empty.
pub(super) fn variables() -> impl Iterator<Item = (String, String)> {
    let all = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    all.filter(|(_, value)| !value.trim().is_empty())
}
