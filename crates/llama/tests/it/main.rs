//! Tests of the embedded engine through its public interface. Each test loads the default model, or
//! one with random weights.

mod ahead;
mod answers;
mod cache_types;
mod calls;
mod company;
mod completions;
mod conversations;
mod count;
mod draft;
mod embed;
mod families;
mod held;
mod inputs;
mod media;
mod rerank;
mod scored;
mod support;
