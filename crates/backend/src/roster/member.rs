//! One backend of a roster, and what it said last about its models.
//!
//! A lookup must not cost a call: what was said is believed for a while, and asked anew behind the
//! caller's back. Whoever asks, there is one call at a time to each backend.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use loggia_wire::openai::Model;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::{Backend, BackendError};

/// How old an answer may be before it is asked for anew, while the old one still serves.
const BELIEVED_FOR: Duration = Duration::from_secs(10);

/// A backend and its name.
pub(super) struct Member {
    pub(super) name: Arc<str>,
    pub(super) backend: Arc<dyn Backend>,
    said: RwLock<Said>,
    asking: Arc<Mutex<()>>,
}

/// What a backend said last.
#[derive(Clone, Default)]
pub(super) struct Said {
    /// And when.
    answer: Option<(Instant, Result<Arc<Models>, BackendError>)>,
    /// What it had when it last answered, although it is down now.
    before: Option<Arc<Models>>,
}

/// The models of a backend.
#[derive(Debug, Default)]
pub(super) struct Models {
    pub(super) list: Vec<Model>,
    names: HashSet<String>,
}

impl Models {
    fn new(list: Vec<Model>) -> Self {
        let names = list.iter().map(|model| model.id.clone()).collect();
        Self { list, names }
    }

    /// The name under which it has this model: as asked.
    pub(super) fn exactly(&self, name: &str) -> Option<String> {
        self.names.get(name).cloned()
    }

    /// The name under which it has this model, read as Ollama reads names: without a tag, the tag
    /// is `latest`.
    pub(super) fn latest(&self, name: &str) -> Option<String> {
        self.names.get(&format!("{name}:latest")).cloned()
    }

    /// The name under which it has this model in another spelling, as the backend reads names.
    fn spelled(&self, name: &str, backend: &dyn Backend) -> Option<String> {
        self.list
            .iter()
            .find(|model| backend.is_called(&model.id, name))
            .map(|model| model.id.clone())
    }
}

impl Said {
    /// What it has, if it answered.
    pub(super) fn up(&self) -> Option<&Arc<Models>> {
        self.answer.as_ref()?.1.as_ref().ok()
    }

    /// What it had, if it does not answer now.
    pub(super) fn down(&self) -> Option<&Arc<Models>> {
        self.error().and(self.before.as_ref())
    }

    /// Why it does not answer.
    pub(super) fn error(&self) -> Option<&BackendError> {
        self.answer.as_ref()?.1.as_ref().err()
    }

    fn age(&self) -> Option<Duration> {
        self.answer.as_ref().map(|(at, _)| at.elapsed())
    }
}

impl Member {
    pub(super) fn new(name: Arc<str>, backend: Arc<dyn Backend>) -> Self {
        Self {
            name,
            backend,
            said: RwLock::default(),
            asking: Arc::default(),
        }
    }

    /// The name under which it has this model in another spelling.
    pub(super) fn spelled(&self, models: &Models, name: &str) -> Option<String> {
        models.spelled(name, &*self.backend)
    }

    /// What it said last, if it was ever asked. Where that is a while ago, it is asked anew, and
    /// nobody waits for it.
    pub(super) fn said(self: &Arc<Self>) -> Said {
        let said = self.recall();
        if said.age().is_some_and(|age| age >= BELIEVED_FOR)
            && let Ok(asking) = Arc::clone(&self.asking).try_lock_owned()
        {
            let member = Arc::clone(self);
            tokio::spawn(async move {
                member.ask().await;
                drop(asking);
            });
        }
        said
    }

    /// Whether it was ever asked.
    pub(super) fn was_asked(&self) -> bool {
        self.said
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .answer
            .is_some()
    }

    /// Asks what it has, unless the last answer is younger than this.
    pub(super) async fn refresh(&self, unless_younger: Duration) {
        let young = || self.recall().age().is_some_and(|age| age < unless_younger);
        if young() {
            return;
        }
        let _asking = self.asking.lock().await;
        // Somebody else may have asked while this one waited.
        if !young() {
            self.ask().await;
        }
    }

    async fn ask(&self) {
        let answer = self
            .backend
            .models()
            .await
            .map(|list| Arc::new(Models::new(list)));
        let mut said = self.said.write().unwrap_or_else(PoisonError::into_inner);
        if let Ok(models) = &answer {
            said.before = Some(Arc::clone(models));
        }
        said.answer = Some((Instant::now(), answer));
    }

    fn recall(&self) -> Said {
        self.said
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
