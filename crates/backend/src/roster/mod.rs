//! Combines several backends into one: each model name leads to the backend that has the model.
//!
//! A name is resolved in this order:
//! 1. An exact alias (`gpt-4o=smollm2`) is replaced by its target, which is resolved again.
//! 2. `NAME/model` is that model of the backend NAME, even if another model has that name. If NAME
//!    does not have it, it does not exist.
//! 3. A bare name is the model of the first backend, in configuration order, that has it. Otherwise
//!    it is that of the first backend that has it as `…:latest`, as Ollama reads names. Otherwise
//!    it is that of the first backend that accepts the name as another spelling
//!    ([`is_called`](crate::Backend::is_called)): Ollama ignores case, and adds its default host,
//!    namespace and tag.
//! 4. A pattern alias (`gpt-*=smollm2`) with the longest text before the `*`. A pattern never hides
//!    an existing model: with `gpt-*`, a real `gpt-oss:20b` is still itself.
//!
//! An alias may have several targets (`chat=gpu/big|small`): a call goes to the next one while one
//! cannot answer.
//!
//! Reading order: [`Alias`] (`alias.rs`), `member.rs` (the cached models of each backend),
//! [`Roster`], `fallback.rs` (calls for several targets), [`Survey`].

mod alias;
mod fallback;
mod member;
mod names;
mod resolved;
mod survey;

pub use alias::{Alias, AliasError};
pub use names::{Roster, RosterError};
pub use survey::{Found, Survey, SurveyedAlias, SurveyedBackend};
