//! What the door lets pass: a value that the server makes from its configuration.

use std::collections::HashMap;
use std::time::Duration;

use loggia_backend::Profile;

/// What becomes of fields that a model's backend cannot honour (`docs/dialects.md`, part 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strictness {
    /// Hints and labels without effect, and unknown fields, are refused too.
    Strict,
    /// Hints and labels without effect are named in `x-loggia-ignored`; what would change the answer is refused.
    #[default]
    Plain,
    /// What would change the answer is dropped too, and named in `x-loggia-ignored`.
    Lenient,
}

/// What the door lets pass, and how long it waits.
#[derive(Clone, Debug)]
pub struct Policy {
    /// What becomes of fields that cannot be honoured.
    pub strictness: Strictness,
    /// How sampling fields are read.
    pub profile: Profile,
    /// The same, for some models, by the name that the client asks for.
    pub profiles: HashMap<String, Profile>,
    /// The most bytes of a request's body; past that, 413.
    pub body_limit: usize,
    /// How long a request's body may take to come; past that, 408.
    pub body_within: Duration,
    /// How long a stream waits for the engine before it is begun with 200 and heartbeats. `None`: as long as it takes.
    pub heartbeat_after: Option<Duration>,
    /// How often a heartbeat is sent from then on, while there is nothing else to send.
    pub heartbeat_every: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            strictness: Strictness::default(),
            profile: Profile::default(),
            profiles: HashMap::new(),
            body_limit: 32 << 20,
            body_within: Duration::from_mins(1),
            heartbeat_after: Some(Duration::from_secs(10)),
            heartbeat_every: Duration::from_secs(10),
        }
    }
}

impl Policy {
    /// How sampling fields are read for this model.
    pub fn profile_of(&self, model: &str) -> Profile {
        self.profiles.get(model).copied().unwrap_or(self.profile)
    }
}
