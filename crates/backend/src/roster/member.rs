//! One backend of a roster, with its cached list of models.
//!
//! A lookup must not cost a call. So the list is cached for a while and refreshed in the
//! background. There is at most one request at a time to each backend.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use loggia_wire::openai::Model;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::{Backend, BackendError};

/// The age after which the list is refreshed, while the old list is still used.
const BELIEVED_FOR: Duration = Duration::from_secs(10);

/// A backend and its name.
pub(super) struct Member {
    pub(super) name: Arc<str>,
    pub(super) backend: Arc<dyn Backend>,
    said: RwLock<LastList>,
    asking: Arc<Mutex<()>>,
}

/// The last list of a backend.
#[derive(Clone, Default)]
pub(super) struct LastList {
    /// The last list of models, or the error of the request for it, and the time of that request.
    answer: Option<(Instant, Result<Arc<Models>, BackendError>)>,
    /// The last successful list, if the backend does not answer now.
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

    /// Returns the backend's name for this model if it matches exactly.
    pub(super) fn exactly(&self, name: &str) -> Option<String> {
        self.names.get(name).cloned()
    }

    /// Returns the backend's name for this model, with the default tag `latest`, as Ollama reads
    /// names.
    pub(super) fn latest(&self, name: &str) -> Option<String> {
        self.names.get(&format!("{name}:latest")).cloned()
    }

    /// Returns the backend's own spelling of this name of a model, if the backend accepts it.
    fn spelled(&self, name: &str, backend: &dyn Backend) -> Option<String> {
        self.list
            .iter()
            .find(|model| backend.is_called(&model.id, name))
            .map(|model| model.id.clone())
    }
}

impl LastList {
    /// Returns the models if the backend answers.
    pub(super) fn up(&self) -> Option<&Arc<Models>> {
        self.answer.as_ref()?.1.as_ref().ok()
    }

    /// Returns the last known models if the backend does not answer now.
    pub(super) fn down(&self) -> Option<&Arc<Models>> {
        self.error().and(self.before.as_ref())
    }

    /// Returns the error if the backend does not answer.
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

    /// Returns the backend's own spelling of this name of a model, if the backend accepts the name.
    pub(super) fn spelled(&self, models: &Models, name: &str) -> Option<String> {
        models.spelled(name, &*self.backend)
    }

    /// Returns the last list, if there is one. If it is old, refreshes it in the background.
    pub(super) fn last_list(self: &Arc<Self>) -> LastList {
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

    /// Returns whether the list has ever been requested.
    pub(super) fn was_asked(&self) -> bool {
        self.said
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .answer
            .is_some()
    }

    /// Requests the list, unless the last answer is younger than this.
    pub(super) async fn refresh(&self, unless_younger: Duration) {
        let young = || self.recall().age().is_some_and(|age| age < unless_younger);
        if young() {
            return;
        }
        let _asking = self.asking.lock().await;
        // Another task may have requested the list during the wait.
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

    fn recall(&self) -> LastList {
        self.said
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
