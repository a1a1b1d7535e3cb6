//! Unloading idle models.

use std::sync::Arc;

use tokio::time::Instant;

use super::Pool;

impl Pool {
    /// Unloads each model when its `keep_alive` is over. Never returns.
    pub(in super::super) async fn unload_the_idle(self: Arc<Self>) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            match self.unload_what_has_expired() {
                Some(next) => drop(tokio::time::timeout_at(next, changed).await),
                None => changed.await,
            }
        }
    }

    /// Unloads expired models, and returns when the next one expires.
    fn unload_what_has_expired(self: &Arc<Self>) -> Option<Instant> {
        let (mut models, now) = (self.lock(), Instant::now());
        let mut next: Option<Instant> = None;
        for (at, entry) in models.iter_mut().enumerate() {
            match entry.expires() {
                Some(end) if end <= now => {
                    self.unload(at, entry, "its keep_alive is over");
                }
                Some(end) => next = Some(next.map_or(end, |next| next.min(end))),
                None => {}
            }
        }
        next
    }
}
