//! What is let in: a request is parsed, checked, and compared with what the model can do.

pub(crate) mod allowed_values;
pub(crate) mod ceilings;
pub(crate) mod chat;
pub(crate) mod combinations;
pub(crate) mod completion;
pub(crate) mod engine_options;
pub(crate) mod fields;
pub(crate) mod messages;
pub(crate) mod misplaced;
pub(crate) mod original;
pub(crate) mod placeholders;
pub(crate) mod reasoning;
pub(crate) mod schema;
pub(crate) mod tool_choice;
pub(crate) mod unpack_files;
