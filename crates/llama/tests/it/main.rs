//! The embedded engine from outside: each test loads the default model, or one with weights drawn
//! by lot, and asks it.

mod answers;
mod calls;
mod company;
mod completions;
mod draft;
mod embed;
mod families;
mod held;
mod media;
mod scored;
mod support;
