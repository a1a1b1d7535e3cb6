//! What goes out: events become JSON or server-sent events.

pub(crate) mod body;
pub(crate) mod collect;
pub(crate) mod encode;
pub(crate) mod headers;
pub(crate) mod id;
pub(crate) mod ignored;
pub(crate) mod stream;
pub(crate) mod text;
