//! The loop that sends queued events, and sends them again until their endpoints accept them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use loggia_backend::fetch_images::WebhookSender;
use rand::RngExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{Delivery, StoredEndpoint, as_json, signature};
use crate::Door;
use crate::answer::id;
use crate::store::{
    Change, Claimed, Kind, NeededHold, Object, ObjectRef, Owner, Store, StoreError,
};

/// The interval between two searches for an event.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long the loop rests after a failure of the store.
const REST: Duration = Duration::from_secs(5);

/// How long a delivery is held. One attempt takes half of that at most.
const HELD_FOR: Duration = Duration::from_secs(30);

/// How many events are sent at once: all, and those of one key.
const AT_ONCE: usize = 16;
const AT_ONCE_OF_A_KEY: usize = 4;

/// How long an event waits for other events of its key before it is tried again later.
const WAIT_FOR_OTHERS: Duration = Duration::from_millis(500);

/// When such an event is due again, in seconds from then on.
const LATER_SECONDS: std::ops::Range<u64> = 2..15;

/// How long events are sent again, as at OpenAI: 72 hours.
const GIVEN_UP_AFTER_SECONDS: u64 = 72 * 3600;

/// The longest pause after the first attempt, in seconds. It doubles with each further attempt, up
/// to the longest of all.
const FIRST_PAUSE_SECONDS: u64 = 4;
const LONGEST_PAUSE_SECONDS: u64 = 6 * 3600;

impl Door {
    /// Sends the events of webhooks, forever. It should run on a runtime that outlives the threads
    /// that answer requests. It may be dropped at any time: what was not sent is sent later.
    pub async fn deliver_webhooks(self) {
        let (Some(store), Some(_)) = (&self.store, &self.webhooks) else {
            return;
        };
        let courier = Arc::new(Courier {
            store: Arc::clone(store),
            door: self,
            holder: id::item("webhooks_"),
            owners: Mutex::default(),
        });
        let places = Arc::new(Semaphore::new(AT_ONCE));
        let mut sending = JoinSet::new();
        let mut works = true;
        loop {
            while sending.try_join_next().is_some() {}
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            let store = &courier.store;
            let claimed = store.claim(Kind::WebhookDelivery, &courier.holder, HELD_FOR);
            let claimed = claimed.await;
            if let Err(error) = &claimed
                && works
            {
                tracing::warn!(%error, "webhook events cannot be looked for");
            }
            works = claimed.is_ok();
            match claimed {
                Ok(Some(claimed)) => {
                    let courier = Arc::clone(&courier);
                    sending.spawn(async move {
                        courier.deliver(claimed).await;
                        drop(place);
                    });
                }
                Ok(None) => sleep(LOOK_EVERY).await,
                Err(_) => sleep(REST).await,
            }
        }
    }
}

/// Sends deliveries.
struct Courier {
    store: Arc<dyn Store>,
    /// Has the sender, which may change.
    door: Door,
    holder: String,
    /// The places of the keys that have events on their way.
    owners: Mutex<HashMap<Owner, Arc<Semaphore>>>,
}

/// What happens next with a delivery.
enum Next {
    /// The delivery is deleted.
    Done,
    /// The delivery is tried again after this number of seconds.
    Later(u64),
}

impl Courier {
    /// Sends one event to its endpoint, and stores the result.
    async fn deliver(&self, Claimed { owner, object }: Claimed) {
        let id = object.id.clone();
        let Ok(mut delivery) = serde_json::from_str::<Delivery>(&object.body) else {
            tracing::warn!(id, "a webhook event cannot be read");
            return log(&id, self.delete(&owner, &id).await);
        };
        let next = match self.place(&owner).await {
            None => Next::Later(rand::rng().random_range(LATER_SECONDS)),
            Some(_place) => self.attempt(&owner, &object, &mut delivery).await,
        };
        let stored = match next {
            Next::Done => self.delete(&owner, &id).await,
            Next::Later(seconds) => self.postpone(&owner, &id, &delivery, seconds).await,
        };
        log(&id, stored);
        self.forget_idle_owners();
    }

    async fn delete(&self, owner: &Owner, id: &str) -> Result<(), StoreError> {
        self.store
            .delete(at(owner, Kind::WebhookDelivery, id))
            .await
    }

    /// Sends the event, if its endpoint still exists.
    async fn attempt(&self, owner: &Owner, object: &Object, delivery: &mut Delivery) -> Next {
        let endpoint = match self.endpoint(owner, &delivery.endpoint).await {
            Ok(endpoint) => endpoint,
            // The endpoint was deleted.
            Err(StoreError::NotFound) => return Next::Done,
            Err(error) => {
                tracing::warn!(id = object.id, %error, "the endpoint of a webhook event cannot be read");
                return Next::Later(REST.as_secs());
            }
        };
        let Some(sender) = self.door.current().webhooks else {
            return Next::Later(REST.as_secs());
        };
        let failure = match endpoint.send(&sender, &object.id, &delivery.event).await {
            Ok(status) if status.is_success() => {
                tracing::debug!(
                    id = object.id,
                    endpoint = delivery.endpoint,
                    "a webhook event was sent"
                );
                return Next::Done;
            }
            Ok(status) => format!("it responded with status {}", status.as_u16()),
            Err(reason) => reason,
        };
        delivery.attempts = delivery.attempts.saturating_add(1);
        let pause = pause(delivery.attempts, rand::random());
        let is_last = id::now() + pause > object.created + GIVEN_UP_AFTER_SECONDS;
        tracing::warn!(
            id = object.id,
            endpoint = delivery.endpoint,
            attempts = delivery.attempts,
            reason = failure,
            "a webhook event could not be sent{}",
            if is_last { "; it is given up" } else { "" }
        );
        if is_last {
            Next::Done
        } else {
            Next::Later(pause)
        }
    }

    async fn endpoint(&self, owner: &Owner, id: &str) -> Result<StoredEndpoint, StoreError> {
        let at = at(owner, Kind::WebhookEndpoint, id);
        let object = self.store.object(at).await?;
        // One that cannot be read is as good as deleted.
        serde_json::from_str(&object.body).map_err(|_| StoreError::NotFound)
    }

    /// Stores that a delivery is due later, with the number of its attempts.
    async fn postpone(
        &self,
        owner: &Owner,
        id: &str,
        delivery: &Delivery,
        seconds: u64,
    ) -> Result<(), StoreError> {
        let kind = Kind::WebhookDelivery;
        let changes = vec![
            Change::Replace {
                kind,
                id: id.to_owned(),
                body: as_json(delivery)?,
                items: Vec::new(),
                needs: Some(NeededHold::Of(self.holder.clone())),
            },
            Change::Schedule {
                kind,
                id: id.to_owned(),
                due: Some(id::now() + seconds),
                content: 0,
            },
            Change::Release {
                kind,
                id: id.to_owned(),
                holder: Some(self.holder.clone()),
            },
        ];
        self.store.write(owner, changes).await
    }

    /// Waits for a place among the events of a key.
    async fn place(&self, owner: &Owner) -> Option<OwnedSemaphorePermit> {
        let places = {
            let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
            let places = owners.entry(owner.clone());
            let new = || Arc::new(Semaphore::new(AT_ONCE_OF_A_KEY));
            Arc::clone(places.or_insert_with(new))
        };
        timeout(WAIT_FOR_OTHERS, places.acquire_owned())
            .await
            .ok()?
            .ok()
    }

    /// Forgets the keys that have no event on its way.
    fn forget_idle_owners(&self) {
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        owners.retain(|_, places| Arc::strong_count(places) > 1);
    }
}

impl StoredEndpoint {
    /// Sends an event, signed with the secrets that are valid now.
    pub(super) async fn send(
        &self,
        sender: &WebhookSender,
        id: &str,
        event: &str,
    ) -> Result<http::StatusCode, String> {
        let now = id::now();
        let mut secrets = vec![self.secret.as_str()];
        let earlier = self.earlier.iter().filter(|earlier| earlier.until > now);
        secrets.extend(earlier.map(|earlier| earlier.secret.as_str()));
        let headers = signature::headers(&secrets, id, now, event);
        let headers = headers.ok_or_else(|| "its secret is damaged".to_owned())?;
        let body = event.to_owned().into();
        sender.send(&self.endpoint.url, headers, body).await
    }
}

/// Logs a failure of the store. The hold on the event runs out, and it is sent again.
fn log(id: &str, stored: Result<(), StoreError>) {
    if let Err(error) = stored {
        tracing::warn!(id, %error, "what became of a webhook event was not stored");
    }
}

fn at<'a>(owner: &'a Owner, kind: Kind, id: &'a str) -> ObjectRef<'a> {
    ObjectRef { owner, kind, id }
}

/// Returns the pause after an attempt, in seconds. It grows with the number of attempts, and is
/// reduced by up to half at random, so that many events are not sent again at the same time.
/// `random` is from 0 to 1.
fn pause(attempts: u32, random: f64) -> u64 {
    let doubled = 1_u64
        .checked_shl(attempts.saturating_sub(1))
        .unwrap_or(u64::MAX);
    let longest = FIRST_PAUSE_SECONDS
        .saturating_mul(doubled)
        .min(LONGEST_PAUSE_SECONDS);
    let half = Duration::from_secs(longest) / 2;
    (half + half.mul_f64(random)).as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_with_jitter_up_to_six_hours() {
        let longest: Vec<u64> = (1..=4).map(|attempts| pause(attempts, 1.0)).collect();
        assert_eq!(longest, [4, 8, 16, 32]);
        let shortest: Vec<u64> = (1..=4).map(|attempts| pause(attempts, 0.0)).collect();
        assert_eq!(shortest, [2, 4, 8, 16]);
        assert_eq!(pause(13, 1.0), 16_384);
        for attempts in [14, 64, 65, u32::MAX] {
            assert_eq!(pause(attempts, 1.0), LONGEST_PAUSE_SECONDS, "{attempts}");
        }
    }
}
