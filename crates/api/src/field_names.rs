//! Replaces the names of a chat's fields by those of the request that the chat was made of. The
//! dialects have the names: `responses/names.rs`, `messages/names.rs`.

use crate::ApiError;

/// Returns the part of the path after `name`, if the path begins with that name.
pub(crate) fn within<'a>(path: &'a str, name: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(name)?;
    (rest.is_empty() || rest.starts_with(['.', '['])).then_some(rest)
}

/// Translates a path into a list. `rest` begins with the index of an entry, which `places` has a
/// path for, or with `[]` for all entries. `respelled` translates what follows.
pub(crate) fn in_list(
    list: &str,
    rest: &str,
    places: &[String],
    respelled: impl FnOnce(&str) -> String,
) -> String {
    let Some((index, rest)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) else {
        return format!("{list}{rest}");
    };
    let rest = respelled(rest);
    if index.is_empty() {
        return format!("{list}[]{rest}");
    }
    let place = index.parse::<usize>().ok().and_then(|at| places.get(at));
    place.map_or_else(|| list.to_owned(), |place| format!("{place}{rest}"))
}

/// Replaces the field names in an error and in a list of fields.
pub(crate) fn named(
    settled: Result<Vec<String>, ApiError>,
    name: impl Fn(&str) -> String,
) -> Result<Vec<String>, ApiError> {
    settled
        .map(|fields| fields.iter().map(|field| name(field)).collect())
        .map_err(|error| renamed(error, &name))
}

/// Replaces the field name in an error, and in its message.
pub(crate) fn renamed(mut error: ApiError, name: impl FnOnce(&str) -> String) -> ApiError {
    let Some(param) = error.error.param.take() else {
        return error;
    };
    let name = name(&param);
    if name != param {
        let (before, after) = (format!("'{param}'"), format!("'{name}'"));
        error.error.message = error.error.message.replace(&before, &after);
    }
    error.about(name)
}
