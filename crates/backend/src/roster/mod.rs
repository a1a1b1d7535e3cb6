//! Many backends as one: each model's name leads to the backend that has it.
//!
//! How a name is read, in this order:
//! 1. An exact alias (`gpt-4o=smollm2`) is replaced by what it stands for, and that is read anew.
//! 2. `NAME/model` is that model of the backend NAME, whatever else is called so; if NAME does not
//!    have it, it is nowhere.
//! 3. A bare name is the model of the first backend, in the order they were named, that has it;
//!    failing that, of the first that has it as `…:latest`, as Ollama reads names; failing that, of
//!    the first that reads the name as another spelling of one of its own
//!    ([`is_called`](crate::Backend::is_called)): Ollama compares names without case, and fills in
//!    its own host, namespace and tag.
//! 4. An alias with a `*` (`gpt-*=smollm2`), the one with the longest text before the `*` first. A
//!    model that exists is never hidden by a pattern: with `gpt-*`, a real `gpt-oss:20b` is still
//!    itself.
//!
//! Reading order: [`Alias`] (`alias.rs`), `member.rs` (what is known of each backend, and for how
//! long), [`Roster`], [`Survey`].

mod alias;
mod member;
mod names;
mod survey;

pub use alias::{Alias, AliasError};
pub use names::{Roster, RosterError};
pub use survey::{Found, Survey, SurveyedAlias, SurveyedBackend};
