//! Changes a stored object so that no other request changes it between the read and the write: the
//! object is held meanwhile.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::answer::id;
use crate::store::{Change, NeededHold, ObjectRef, StoreError};
use crate::{ApiError, Store};

/// How often a change that waits tries to hold the object.
const RETRY_AFTER: Duration = Duration::from_millis(20);

/// An object that will be held.
#[derive(Clone, Copy)]
pub(crate) struct ToHold<'a> {
    pub(crate) store: &'a dyn Store,
    pub(crate) object: ObjectRef<'a>,
    /// How long the hold lasts at most.
    pub(crate) time: Duration,
    /// How long the change waits until another holder has released the object.
    pub(crate) wait: Duration,
}

/// The result of a change.
pub(crate) struct Changed<T> {
    /// The new body of the object.
    pub(crate) body: String,
    /// Other changes that are written with it.
    pub(crate) with: Vec<Change>,
    /// What [`change_held`] returns.
    pub(crate) value: T,
}

/// Holds an object, awaits `change`, which reads and changes it, and writes the result. The hold is
/// also released if one of these steps fails. `refused` words the errors of the store.
pub(crate) async fn change_held<T>(
    to_hold: ToHold<'_>,
    refused: impl Fn(StoreError) -> ApiError,
    change: impl Future<Output = Result<Changed<T>, ApiError>>,
) -> Result<T, ApiError> {
    let ToHold { store, object, .. } = to_hold;
    let holder = to_hold.hold().await.map_err(&refused)?;
    let release = Change::Release {
        kind: object.kind,
        id: object.id.to_owned(),
        holder: Some(holder.clone()),
    };
    let written = async {
        let Changed { body, with, value } = change.await?;
        let replace = Change::Replace {
            kind: object.kind,
            id: object.id.to_owned(),
            body,
            items: Vec::new(),
            needs: Some(NeededHold::Of(holder)),
        };
        let changes = [replace].into_iter().chain(with).chain([release.clone()]);
        let written = store.write(object.owner, changes.collect()).await;
        written.map(|()| value).map_err(refused)
    };
    let written = written.await;
    if written.is_err() {
        // If that fails, the hold runs out.
        let _ = store.write(object.owner, vec![release]).await;
    }
    written
}

impl ToHold<'_> {
    /// Holds the object. Returns the name of the holder.
    async fn hold(self) -> Result<String, StoreError> {
        let holder = id::item("hold_");
        let until = Instant::now() + self.wait;
        loop {
            let hold = Change::Hold {
                kind: self.object.kind,
                id: self.object.id.to_owned(),
                holder: holder.clone(),
                time: self.time,
            };
            match self.store.write(self.object.owner, vec![hold]).await {
                Err(StoreError::InUse) if Instant::now() < until => sleep(RETRY_AFTER).await,
                done => return done.map(|()| holder),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::MemoryStore;
    use crate::store::{Kind, Metadata, Object, Owner};

    const KIND: Kind = Kind::WebhookEndpoint;

    async fn store() -> MemoryStore {
        let store = MemoryStore::default();
        let object = Object {
            kind: KIND,
            id: "one".to_owned(),
            created: 1,
            model: None,
            metadata: Metadata::new(),
            body: "old".to_owned(),
            previous: None,
            is_held: false,
        };
        let created = store.create(&Owner::NOBODY, object, Vec::new()).await;
        created.expect("a new object");
        store
    }

    fn one(store: &MemoryStore) -> ToHold<'_> {
        ToHold {
            store,
            object: ObjectRef {
                owner: &Owner::NOBODY,
                kind: KIND,
                id: "one",
            },
            time: Duration::from_mins(1),
            wait: Duration::ZERO,
        }
    }

    #[expect(clippy::needless_pass_by_value, reason = "made for `map_err`")]
    fn worded(error: StoreError) -> ApiError {
        ApiError::invalid("test", "test", format!("{error:?}"))
    }

    fn changed(body: &str, with: Vec<Change>) -> Changed<()> {
        Changed {
            body: body.to_owned(),
            with,
            value: (),
        }
    }

    /// What a change is refused with.
    fn message(done: Result<(), ApiError>) -> Option<String> {
        done.err().map(|error| error.error.message)
    }

    #[tokio::test]
    async fn an_object_is_held_while_it_is_changed_and_not_afterwards() {
        let store = store().await;
        let to_hold = one(&store);
        let refused = |done, word: &str| {
            let message: Option<String> = message(done);
            assert_eq!(message.as_deref(), Some(word));
        };
        let during = async {
            let other = change_held(to_hold, worded, async { Ok(changed("other", Vec::new())) });
            refused(other.await, "InUse");
            Ok(changed("first", Vec::new()))
        };
        assert_eq!(message(change_held(to_hold, worded, during).await), None);
        // One that cannot be read, and one that cannot be written.
        let unreadable = async { Err(worded(StoreError::NotFound)) };
        refused(change_held(to_hold, worded, unreadable).await, "NotFound");
        let over = Change::Limit { more: 1, most: 0 };
        let too_large = async { Ok(changed("large", vec![over])) };
        refused(change_held(to_hold, worded, too_large).await, "OverLimit");
        let found = store.object(to_hold.object).await.expect("the object");
        assert_eq!((&*found.body, found.is_held), ("first", false));
        let next = change_held(to_hold, worded, async { Ok(changed("next", Vec::new())) });
        assert_eq!(message(next.await), None);
    }

    #[tokio::test]
    async fn a_change_waits_for_another_holder_if_it_may() {
        let store = store().await;
        let waiting = ToHold {
            wait: Duration::from_mins(1),
            ..one(&store)
        };
        let during = async {
            let mut next = Box::pin(change_held(waiting, worded, async {
                Ok(changed("next", Vec::new()))
            }));
            assert!((&mut next).now_or_never().is_none());
            Ok(Changed {
                body: "first".to_owned(),
                with: Vec::new(),
                value: next,
            })
        };
        let next = change_held(one(&store), worded, during).await;
        let next = next.map_err(|error| error.error.message).expect("a change");
        assert_eq!(message(next.await), None);
        let found = store.object(waiting.object).await.expect("the object");
        assert_eq!((&*found.body, found.is_held), ("next", false));
    }
}
